//! The fields an object has, and an object without some of its fields.

use serde_json::{Map, Value};

use super::{FieldSet, PathElement};
use crate::schema::{Granularity, Node};

/// The fields that a configuration sets: what its applier owns.
pub fn fields(value: &Value, node: Node<'_>) -> FieldSet {
    walk(value, node).1
}

/// Whether the value at `node` is owned as one, and what is owned under it.
fn walk(value: &Value, node: Node<'_>) -> (bool, FieldSet) {
    let mut set = FieldSet::new();
    match (kind(&node, value), value) {
        (Kind::Object, Value::Object(members)) => {
            for (name, value) in members {
                let element = PathElement::field(name);
                let (own, children) = walk(value, element.step(&node));
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                // Entries of maps are owned beside what is in them; members of structs only through it.
                set.attach(element, own || empty || !is_named(&node, name), children);
            }
            (false, set)
        }
        (Kind::List, Value::Array(items)) => {
            for item in items {
                let children = walk(item, node.item()).1;
                set.attach(PathElement::of_item(&node, item), true, children);
            }
            (false, set)
        }
        (Kind::Leaf, _) => (true, set),
        _ => (false, set),
    }
}

/// The first item of a keyed list or set that stands there twice, with the path to the list.
pub fn duplicate(value: &Value, node: Node<'_>) -> Option<String> {
    match (kind(&node, value), value) {
        (Kind::Object, Value::Object(members)) => members.iter().find_map(|(name, value)| {
            let element = PathElement::field(name);
            duplicate(value, element.step(&node)).map(|path| format!("{element}{path}"))
        }),
        (Kind::List, Value::Array(items)) => {
            let mut elements: Vec<_> = items.iter().map(|item| PathElement::of_item(&node, item)).collect();
            elements.sort();
            if let Some(twice) = elements.windows(2).find(|pair| pair[0] == pair[1]) {
                return Some(twice[0].to_string());
            }
            let inside =
                |item: &Value| Some(format!("{}{}", PathElement::of_item(&node, item), duplicate(item, node.item())?));
            items.iter().find_map(inside)
        }
        _ => None,
    }
}

/// `set` with the members of structs that lead to its paths: owning `spec.replicas` is owning `spec`, if that is a struct.
pub fn with_named(set: &FieldSet, node: Node<'_>) -> FieldSet {
    let mut named = FieldSet::new();
    for entry in set.entries() {
        let is_named = matches!(&entry.element, PathElement::Field(name) if is_named(&node, name));
        let children = with_named(&entry.children, entry.element.step(&node));
        named.attach(entry.element.clone(), entry.member || is_named, children);
    }
    named
}

/// The value without the paths of a set; `None` if nothing is left of it.
pub fn without(value: &Value, set: &FieldSet, node: Node<'_>) -> Option<Value> {
    let keep = |element: &PathElement, value: &Value| match set.get(element) {
        None => Some(value.clone()),
        Some(entry) if entry.member => None,
        Some(entry) => without(value, &entry.children, element.step(&node)),
    };
    match (kind(&node, value), value) {
        (Kind::Leaf, Value::Array(_) | Value::Object(_)) => None,
        (Kind::Object, Value::Object(members)) => {
            let kept = members.iter().filter_map(|(name, v)| Some((name.clone(), keep(&PathElement::field(name), v)?)));
            let kept: Map<_, _> = kept.collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        (Kind::List, Value::Array(items)) => {
            let kept: Vec<_> = items.iter().filter_map(|item| keep(&PathElement::of_item(&node, item), item)).collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        _ => Some(value.clone()),
    }
}

/// What a walk does with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Leaf,
    Object,
    List,
}

/// How the value at a node is walked; where there is no schema, the value decides.
pub(super) fn kind(node: &Node<'_>, value: &Value) -> Kind {
    match node.granularity() {
        Granularity::Leaf => Kind::Leaf,
        Granularity::Object => Kind::Object,
        Granularity::Set | Granularity::Keyed(_) => Kind::List,
        Granularity::Untyped if value.is_object() => Kind::Object,
        Granularity::Untyped => Kind::Leaf,
    }
}

/// Whether `name` is a member that the schema names, not an entry of a map.
fn is_named(node: &Node<'_>, name: &str) -> bool {
    node.names(name)
}

#[cfg(test)]
mod tests {
    use super::super::fieldsv1;
    use super::*;
    use crate::schema::{Schema, Shape};
    use serde_json::json;

    fn with_pod<T>(test: impl Fn(Node<'_>) -> T) -> T {
        let schema = Schema::builtin();
        let shape = Shape::Struct(schema.kind("", "v1", "Pod").unwrap().id);
        test(Node::root(schema, &shape))
    }

    #[test]
    fn each_kind_of_value_is_owned_in_its_way() {
        let config = json!({
            "metadata": {"labels": {"a": "b"}, "finalizers": ["x"]},
            "spec": {
                "containers": [{"name": "c", "ports": [{"containerPort": 80}], "command": ["a", "b"]}],
                "nodeSelector": {"a": "b"}, "securityContext": {}, "hostNetwork": null
            }
        });
        let owned = json!({
            "f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {"v:\"x\"": {}}},
            "f:spec": {
                "f:containers": {"k:{\"name\":\"c\"}": {
                    ".": {}, "f:name": {}, "f:command": {},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}
                }},
                "f:nodeSelector": {}, "f:securityContext": {}, "f:hostNetwork": {}
            }
        });
        assert_eq!(with_pod(|pod| fieldsv1::encode(&fields(&config, pod))), owned);
    }

    #[test]
    fn fields_are_taken_out() {
        let object = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "image": "i"}], "nodeName": "n"}});
        let set = json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}}, "k:{\"name\":\"b\"}": {"f:image": {}}}}});
        let left = with_pod(|pod| without(&object, &fieldsv1::decode(&set).unwrap(), pod));
        assert_eq!(left, Some(json!({"spec": {"containers": [{"name": "b"}], "nodeName": "n"}})));
    }

    #[test]
    fn duplicates_are_found() {
        let object = json!({"spec": {"containers": [{"name": "a"}, {"name": "a"}]}});
        assert_eq!(with_pod(|pod| duplicate(&object, pod)).as_deref(), Some(".spec.containers[name=\"a\"]"));
        let object = json!({"spec": {"containers": [{"name": "a", "args": ["x", "x"]}]}});
        assert_eq!(with_pod(|pod| duplicate(&object, pod)), None);
    }
}
