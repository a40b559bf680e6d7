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
    pub fn exclude(mut self, fields: &FieldSet) -> Comparison {
        for set in [&mut self.added, &mut self.modified, &mut self.removed] {
            set.prune(fields);
        }
        self
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
    let (old, new) = match (old, new) {
        (None, None) => return (None, Comparison::default()),
        (None, Some(new)) => {
            let added = below(new, node, Twice::Whole);
            return (Some(Change::Added), Comparison { added, ..Comparison::default() });
        }
        (Some(old), None) => {
            let removed = below(old, node, Twice::First);
            return (Some(Change::Removed), Comparison { removed, ..Comparison::default() });
        }
        (Some(old), Some(new)) => (old, new),
    };
    let kind_of = [old, new].map(|value| kind(&node, value));
    if kind_of[0] != kind_of[1] {
        // Only without a schema: an object became a scalar or the reverse. Its members come or go with it.
        let (removed, added) = (below(old, node, Twice::First), below(new, node, Twice::Whole));
        return (Some(Change::Modified), Comparison { added, removed, ..Comparison::default() });
    }
    let none = Map::new();
    let object = |value: &Value| value.as_object().is_some_and(|members| !members.is_empty());
    match kind_of[0] {
        Kind::Object if object(old) || object(new) => {
            (None, objects(old.as_object().unwrap_or(&none), new.as_object().unwrap_or(&none), node))
        }
        Kind::List if !items(old).is_empty() || !items(new).is_empty() => (None, lists(items(old), items(new), node)),
        // What is empty on both sides is a leaf, so that null and empty differ.
        _ => (Some(Change::Modified), Comparison::default()),
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// How items count that nothing tells apart.
#[derive(Clone, Copy, PartialEq)]
enum Twice {
    /// As one, by itself.
    Whole,
    /// As the first of them.
    First,
}

/// Every path under a value that stands on one side only.
fn below(value: &Value, node: Node<'_>, twice: Twice) -> FieldSet {
    let mut set = FieldSet::new();
    match (kind(&node, value), value) {
        (Kind::Object, Value::Object(members)) => {
            for (name, value) in members {
                let element = PathElement::field(name);
                let children = below(value, element.step(&node), twice);
                set.attach(element, true, children);
            }
        }
        (Kind::List, Value::Array(items)) => {
            for item in items {
                let element = PathElement::of_item(&node, item);
                match set.get_mut(&element) {
                    Some(entry) if twice == Twice::Whole => entry.children = FieldSet::new(),
                    Some(_) => {}
                    None => {
                        let children = below(item, node.item(), twice);
                        set.attach(element, true, children);
                    }
                }
            }
        }
        _ => {}
    }
    set
}

fn objects(old: &Map<String, Value>, new: &Map<String, Value>, node: Node<'_>) -> Comparison {
    let mut result = Comparison::default();
    for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
        let element = PathElement::field(name);
        let (own, children) = walk(old.get(name), new.get(name), element.step(&node));
        result.attach(element, own, children);
    }
    result
}

fn lists(old: &[Value], new: &[Value], node: Node<'_>) -> Comparison {
    // Items by what tells them apart; a list that breaks the rule may hold several for one key.
    let mut items: BTreeMap<PathElement, [Vec<&Value>; 2]> = BTreeMap::new();
    for (side, list) in [old, new].into_iter().enumerate() {
        for item in list {
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
            // Among several nothing tells what is in which: they are owned as one, and what was in the only one is gone.
            ([old], _) => {
                let removed = below(old, node.item(), Twice::First);
                (Some(Change::Modified), Comparison { removed, ..Comparison::default() })
            }
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
