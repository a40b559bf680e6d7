//! Places of a configuration that apply would replace as a whole.

use serde_json::Value;

use super::PathElement;
use crate::schema::{Granularity, Node};

/// The paths of all atomic lists, maps and structs that a configuration sets, in order.
pub fn atomics(config: &Value, node: Node<'_>) -> Vec<String> {
    let mut found = Vec::new();
    walk(config, node, &mut String::new(), &mut found);
    found
}

fn walk(value: &Value, node: Node<'_>, path: &mut String, found: &mut Vec<String>) {
    let leaf = node.granularity() == Granularity::Leaf;
    let mut below = |element: PathElement, value: &Value, node: Node<'_>, found: &mut Vec<String>| {
        let length = path.len();
        *path += &element.to_string();
        walk(value, node, path, found);
        path.truncate(length);
    };
    match value {
        Value::Object(_) | Value::Array(_) if leaf => found.push(path.clone()),
        Value::Object(members) => {
            for (name, value) in members {
                let element = PathElement::field(name);
                let node = element.step(&node);
                below(element, value, node, found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                below(PathElement::Index(index as i64), item, node.item(), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Schema, Shape};
    use serde_json::json;

    #[test]
    fn atomic_places_are_named() {
        let schema = Schema::builtin();
        let shape = Shape::Struct(schema.kind("", "v1", "Pod").unwrap().id);
        for (config, want) in [
            (json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["a"]}}), vec![]),
            (json!({"spec": {"containers": [{"name": "a", "command": ["x"]}]}}), vec![".spec.containers[0].command"]),
            (
                json!({"spec": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "a"}]}}),
                vec![".spec.nodeSelector", ".spec.tolerations"],
            ),
        ] {
            assert_eq!(atomics(&config, Node::root(schema, &shape)), want, "{config}");
        }
    }
}
