//! A live object with an applied configuration laid over it.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::PathElement;
use super::extract::{Kind, kind};
use crate::schema::Node;

/// Merges: what the configuration says replaces what the live object has, member by member and item by item.
pub fn merge(live: &Value, config: &Value, node: Node<'_>) -> Value {
    match (kind(&node, config), live, config) {
        (Kind::Object, Value::Object(live), Value::Object(config)) if !(live.is_empty() && config.is_empty()) => {
            let mut merged = Map::new();
            for (name, value) in live {
                let value = config
                    .get(name)
                    .map_or_else(|| value.clone(), |new| merge(value, new, PathElement::field(name).step(&node)));
                merged.insert(name.clone(), value);
            }
            for (name, value) in config.iter().filter(|(name, _)| !live.contains_key(*name)) {
                merged.insert(name.clone(), value.clone());
            }
            Value::Object(merged)
        }
        (Kind::Object, Value::Object(live), Value::Null) if !live.is_empty() => Value::Object(live.clone()),
        (Kind::List, Value::Array(live), Value::Array(config)) => Value::Array(merge_lists(live, config, node)),
        (Kind::List, Value::Array(live), Value::Null) if !live.is_empty() => Value::Array(live.clone()),
        _ => config.clone(),
    }
}

/// Items of the configuration keep its order; items only the live list has stay where they stood between the shared ones.
fn merge_lists(live: &[Value], config: &[Value], node: Node<'_>) -> Vec<Value> {
    let live_elements: Vec<_> = live.iter().map(|i| PathElement::of_item(&node, i)).collect();
    let config_elements: Vec<_> = config.iter().map(|i| PathElement::of_item(&node, i)).collect();
    let find = |elements: &[PathElement]| -> HashMap<String, usize> {
        elements.iter().enumerate().rev().map(|(i, e)| (e.to_key(), i)).collect()
    };
    let (in_live, in_config) = (find(&live_elements), find(&config_elements));
    // The shared items in the configuration's order.
    let mut shared = config_elements.iter().filter(|e| in_live.contains_key(&e.to_key())).peekable();
    let mut merged = Vec::new();
    let mut taken = vec![false; config.len()];
    let take = |at: usize| match in_live.get(&config_elements[at].to_key()) {
        Some(old) => merge(&live[*old], &config[at], node.item()),
        None => config[at].clone(),
    };
    let (mut l, mut c) = (0, 0);
    while l < live.len() || c < config.len() {
        if l < live.len() {
            match in_config.get(&live_elements[l].to_key()) {
                None => {
                    merged.push(live[l].clone());
                    l += 1;
                    continue;
                }
                // Placed already, or to be placed later by the configuration's order.
                Some(&at) if taken[at] || shared.peek().is_some_and(|next| **next != live_elements[l]) => {
                    l += 1;
                    continue;
                }
                Some(_) => {}
            }
        }
        if c < config.len() {
            if shared.peek().is_some_and(|next| **next == config_elements[c]) {
                shared.next();
            }
            merged.push(take(c));
            taken[c] = true;
            c += 1;
        } else {
            l += 1;
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Schema, Shape};
    use serde_json::json;

    fn merged(live: Value, config: Value) -> Value {
        let schema = Schema::builtin();
        let shape = Shape::Struct(schema.kind("", "v1", "Pod").unwrap().id);
        merge(&live, &config, Node::root(schema, &shape))
    }

    #[test]
    fn configuration_wins_member_by_member() {
        let live = json!({"metadata": {"labels": {"a": "1", "b": "1"}}, "spec": {"nodeSelector": {"x": "1"}, "nodeName": "n"}});
        let config = json!({"metadata": {"labels": {"b": "2"}}, "spec": {"nodeSelector": {"y": "1"}}});
        assert_eq!(
            merged(live, config),
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"nodeSelector": {"y": "1"}, "nodeName": "n"}})
        );
    }

    #[test]
    fn lists_keep_the_order_of_the_configuration() {
        let finalizers = |list: &[&str]| json!({"metadata": {"finalizers": list}});
        for (live, config, result) in [
            (&["a", "b"][..], &["c"][..], &["a", "b", "c"][..]),
            (&["a", "b"], &["b", "a"], &["b", "a"]),
            (&["a", "x", "b"], &["b", "a"], &["x", "b", "a"]),
            (&["a", "x", "b", "y"], &["a", "c", "b"], &["a", "x", "c", "b", "y"]),
            (&[], &["a"], &["a"]),
            (&["a"], &[], &["a"]),
        ] {
            assert_eq!(merged(finalizers(live), finalizers(config)), finalizers(result), "{live:?} {config:?}");
        }
    }

    #[test]
    fn items_with_a_key_are_merged() {
        let live = json!({"spec": {"containers": [{"name": "a", "image": "1", "tty": true}]}});
        let config = json!({"spec": {"containers": [{"name": "a", "image": "2"}]}});
        assert_eq!(merged(live, config), json!({"spec": {"containers": [{"name": "a", "image": "2", "tty": true}]}}));
    }
}
