//! Whether a configuration fits its schema. Apply merges nothing that it has no schema for, so a member that is not declared is
//! an error there, whatever else the client lets pass.

use super::PathElement;
use crate::schema::structural::Kind;
use crate::schema::{Granularity, Node, Shape};
use serde_json::Value;

/// Errors kept of one configuration.
const ERRORS_MAX: usize = 100;

/// The members of `value` that its schema does not declare, as `.spec.containers[name="c"].bogus: field not declared in schema`.
pub fn undeclared(value: &Value, node: Node<'_>) -> Vec<String> {
    let mut errors = Vec::new();
    walk(value, node, &Place::Root, &mut errors);
    errors
}

/// Where a walk is: a list through the stack frames that lead there, so that a path costs nothing until there is an error.
enum Place<'p> {
    Root,
    Member(&'p Place<'p>, &'p str),
    Item(&'p Place<'p>, &'p Node<'p>, usize, &'p Value),
}

impl Place<'_> {
    fn text(&self) -> String {
        match self {
            Place::Root => String::new(),
            Place::Member(parent, name) => parent.text() + &PathElement::field(name).to_string(),
            Place::Item(parent, list, index, item) => {
                let element = match list.granularity() {
                    Granularity::Keyed(_) | Granularity::Set => PathElement::of_item(list, item),
                    _ => PathElement::Index(*index as i64),
                };
                parent.text() + &element.to_string()
            }
        }
    }
}

fn walk(value: &Value, node: Node<'_>, place: &Place<'_>, errors: &mut Vec<String>) {
    match value {
        Value::Object(members) if takes_members(&node) => {
            for (name, value) in members {
                let place = Place::Member(place, name);
                match node.member(name) {
                    Some(node) => walk(value, node, &place, errors),
                    None if errors.len() < ERRORS_MAX => {
                        errors.push(format!("{}: field not declared in schema", place.text()));
                    }
                    None => return,
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, node.item(), &Place::Item(place, &node, index, item), errors);
            }
        }
        _ => {}
    }
}

/// Whether an object belongs here at all; where it does not, its type is what is wrong with it.
fn takes_members(node: &Node<'_>) -> bool {
    match node {
        Node::Builtin { shape, .. } => matches!(
            shape,
            Shape::Struct(_)
                | Shape::Map(_)
                | Shape::SchemaOrArray(_)
                | Shape::SchemaOrBool(_)
                | Shape::SchemaOrStringArray(_)
        ),
        Node::Structural { schema, whole } => *whole || schema.kind == Kind::Object,
        Node::Untyped => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;
    use serde_json::json;

    #[test]
    fn undeclared_members_are_named_with_the_keys_on_their_way() {
        let node = Node::of_type(Schema::builtin().kind("apps", "v1", "Deployment").unwrap().id);
        let container = json!({"name": "c", "bogus": 1, "args": ["x"], "resources": {"limits": {"any": "1"}}});
        let value = json!({"metadata": {"name": "d", "unknown": {}, "labels": {"any": "x"}},
            "spec": {"template": {"spec": {"containers": [container], "nodeName": {"wrong": "type"}}}}, "odd": 1});
        let mut errors = undeclared(&value, node);
        errors.sort();
        let want = [
            ".metadata.unknown: field not declared in schema",
            ".odd: field not declared in schema",
            ".spec.template.spec.containers[name=\"c\"].bogus: field not declared in schema",
        ];
        assert_eq!(errors, want);
    }

    #[test]
    fn what_has_no_schema_may_hold_anything() {
        let node = Node::of_type(Schema::builtin().kind("apps", "v1", "ControllerRevision").unwrap().id);
        assert!(undeclared(&json!({"data": {"any": [{"thing": 1}]}}), node).is_empty());
    }
}
