//! What changed between two objects, path by path.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::extract::{Kind, kind};
use super::{FieldSet, PathElement};
use crate::schema::Node;

/// The paths that differ between an old and a new object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

impl Comparison {
    /// What the new object sets: added or modified.
    pub fn set(&self) -> FieldSet {
        self.added.union(&self.modified)
    }

    /// The same, of a comparison that is needed no more.
    pub fn into_set(mut self) -> FieldSet {
        self.added.absorb(self.modified);
        self.added
    }

    /// Without the paths of `fields` and what lies under them.
    pub fn exclude(self, fields: &FieldSet) -> Comparison {
        if fields.is_empty() {
            return self;
        }
        Comparison {
            added: self.added.recursive_difference(fields),
            modified: self.modified.recursive_difference(fields),
            removed: self.removed.recursive_difference(fields),
        }
    }

    fn attach(&mut self, element: PathElement, own: Option<Change>, children: Comparison) {
        let parts = [
            (&mut self.added, Change::Added, children.added),
            (&mut self.modified, Change::Modified, children.modified),
            (&mut self.removed, Change::Removed, children.removed),
        ];
        for (set, change, children) in parts {
            if own == Some(change) || !children.is_empty() {
                set.attach(element.clone(), own == Some(change), children);
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Added,
    Modified,
    Removed,
}

/// Compares two objects of the kind at `node`.
pub fn compare(old: &Value, new: &Value, node: Node<'_>) -> Comparison {
    walk(Some(old), Some(new), node).1
}

/// What happened to the value itself, and to what lies under it.
fn walk(old: Option<&Value>, new: Option<&Value>, node: Node<'_>) -> (Option<Change>, Comparison) {
    if old == new {
        return (None, Comparison::default());
    }
    let kinds = [old, new].map(|v| v.map(|v| kind(&node, v)));
    match kinds {
        [Some(a), Some(b)] if a != b => {
            // Only without a schema: an object became a scalar or the reverse. Its members come or go with it.
            let mut children = walk(old, None, node).1;
            children.added = walk(None, new, node).1.added;
            (Some(Change::Modified), children)
        }
        [Some(kind), _] | [None, Some(kind)] => {
            // What is empty on both sides is a leaf, so that null, empty and absent differ.
            let empty = |v: Option<&Value>| match v {
                Some(Value::Object(members)) => members.is_empty(),
                Some(Value::Array(items)) => items.is_empty(),
                _ => true,
            };
            if kind == Kind::Leaf || empty(old) && empty(new) {
                return (Some(change(old, new).unwrap_or(Change::Modified)), Comparison::default());
            }
            let children = if kind == Kind::Object { objects(old, new, node) } else { lists(old, new, node) };
            (change(old, new), children)
        }
        [None, None] => (None, Comparison::default()),
    }
}

/// Whether the value as such came or went.
fn change(old: Option<&Value>, new: Option<&Value>) -> Option<Change> {
    match (old, new) {
        (None, Some(_)) => Some(Change::Added),
        (Some(_), None) => Some(Change::Removed),
        _ => None,
    }
}

fn objects(old: Option<&Value>, new: Option<&Value>, node: Node<'_>) -> Comparison {
    let none = Map::new();
    let (old, new) = (old.and_then(Value::as_object).unwrap_or(&none), new.and_then(Value::as_object).unwrap_or(&none));
    let mut result = Comparison::default();
    for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
        let element = PathElement::field(name);
        let (own, children) = walk(old.get(name), new.get(name), element.step(&node));
        result.attach(element, own, children);
    }
    result
}

fn lists(old: Option<&Value>, new: Option<&Value>, node: Node<'_>) -> Comparison {
    // Items by what tells them apart; a list that breaks the rule may hold several for one key.
    let mut items: BTreeMap<PathElement, [Vec<&Value>; 2]> = BTreeMap::new();
    for (side, list) in [old, new].into_iter().enumerate() {
        for item in list.and_then(Value::as_array).into_iter().flatten() {
            items.entry(PathElement::of_item(&node, item)).or_default()[side].push(item);
        }
    }
    let mut result = Comparison::default();
    for (element, [old, new]) in items {
        let (own, children) = match (old.as_slice(), new.as_slice()) {
            ([], [new]) => walk(None, Some(new), node.item()),
            ([old], []) => walk(Some(old), None, node.item()),
            ([old], [new]) => walk(Some(old), Some(new), node.item()),
            ([], _) => (Some(Change::Added), Comparison::default()),
            ([old, ..], []) => walk(Some(old), None, node.item()),
            (old, new) if old == new => (None, Comparison::default()),
            _ => (Some(Change::Modified), Comparison::default()),
        };
        result.attach(element, own, children);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::fieldsv1;
    use super::*;
    use crate::schema::{Schema, Shape};
    use serde_json::json;

    fn compared(old: Value, new: Value) -> [Value; 3] {
        let schema = Schema::builtin();
        let shape = Shape::Struct(schema.kind("", "v1", "Pod").unwrap().id);
        let Comparison { added, modified, removed } = compare(&old, &new, Node::root(schema, &shape));
        [added, modified, removed].map(|set| fieldsv1::encode(&set))
    }

    #[test]
    fn members_of_new_maps_come_with_the_map() {
        let [added, modified, removed] = compared(json!({"metadata": {}}), json!({"metadata": {"labels": {"a": "b"}}}));
        assert_eq!(added, json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}));
        assert_eq!((modified, removed), (json!({}), json!({})));
    }

    #[test]
    fn items_are_told_apart_by_key() {
        let old = json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}]}});
        let new = json!({"spec": {"containers": [{"name": "c"}, {"name": "a", "image": "2"}]}});
        let [added, modified, removed] = compared(old, new);
        let item = |name: &str, fields: Value| json!({"f:spec": {"f:containers": {format!("k:{{\"name\":\"{name}\"}}"): fields}}});
        assert_eq!(added, item("c", json!({".": {}, "f:name": {}})));
        assert_eq!(modified, item("a", json!({"f:image": {}})));
        assert_eq!(removed, item("b", json!({".": {}, "f:name": {}})));
    }

    #[test]
    fn what_is_atomic_changes_as_one() {
        let with = |value: &str| json!({"spec": {"nodeSelector": {"a": value}, "containers": null}});
        let [added, modified, removed] = compared(with("1"), with("2"));
        assert_eq!((added, modified, removed), (json!({}), json!({"f:spec": {"f:nodeSelector": {}}}), json!({})));
    }

    #[test]
    fn empty_objects_are_leaves() {
        let [added, _, _] = compared(json!({"spec": {}}), json!({"spec": {"securityContext": {}}}));
        assert_eq!(added, json!({"f:spec": {"f:securityContext": {}}}));
    }
}
