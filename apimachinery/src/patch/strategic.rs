//! Strategic merge patch: a merge patch that knows, from the types, which lists are merged item by item and by which key.
//!
//! | in the patch | does |
//! |---|---|
//! | `"$patch": "replace"`, `"delete"` in an object | the object becomes the patch; becomes empty |
//! | `"$patch": "delete"` in an item | drops the items with this key |
//! | `{"$patch": "replace"}` as an item | the list becomes the other items |
//! | `"$retainKeys": [...]` | drops the members not named |
//! | `"$deleteFromPrimitiveList/f": [...]` | takes values out of list `f` |
//! | `"$setElementOrder/f": [...]` | puts list `f` into this order; items only the server knows keep their place |
//!
//! Source: "Strategic merge patch" in the community's API conventions, and recordings of a real API server.

use serde_json::{Map, Value};

use crate::schema::{Node, PatchTag};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

type Object = Map<String, Value>;

/// Why a strategic merge patch does not apply. All of these are the client's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    #[error("a strategic merge patch must be an object")]
    NotAnObject,
    #[error("unknown $patch type {0:?}: use \"replace\" or \"delete\"")]
    Directive(String),
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    #[error("invalid patch format of retainKeys: every member of the patch must be named in $retainKeys")]
    RetainKeys,
    #[error("{0} must be a list")]
    NotAList(String),
    #[error("{item} does not contain declared merge key: {key}")]
    NoMergeKey { item: String, key: String },
    #[error("cannot merge lists of objects without a merge key")]
    Unmergeable,
    #[error("the items of {0} must be all objects or all scalars")]
    MixedItems(String),
    #[error("the order in the patch list of {0} doesn't match its $setElementOrder list")]
    Order(String),
}

/// Applies `patch` to an object of the kind whose root is `node`.
pub fn strategic_merge_patch(object: &mut Value, patch: Value, node: Node<'_>) -> Result<(), StrategicError> {
    let Value::Object(patch) = patch else { return Err(StrategicError::NotAnObject) };
    let original = std::mem::take(object.as_object_mut().ok_or(StrategicError::NotAnObject)?);
    *object = Value::Object(merge_objects(original, patch, node)?);
    Ok(())
}

fn merge_objects(mut original: Object, mut patch: Object, node: Node<'_>) -> Result<Object, StrategicError> {
    match patch.remove(PATCH) {
        None => {}
        Some(Value::String(directive)) if directive == "replace" => return Ok(patch),
        Some(Value::String(directive)) if directive == "delete" => return Ok(Object::new()),
        Some(other) => return Err(StrategicError::Directive(shown(&other))),
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, node)?;

    for (key, value) in patch {
        if let Some(name) = key.strip_prefix(DELETE_FROM_LIST) {
            delete_from_list(&mut original, name, value)?;
            continue;
        }
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let member = node.member(&key).unwrap_or(Node::Untyped);
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => Some(Value::Object(merge_objects(old, new, member)?)),
            (Some(Value::Array(old)), Value::Array(new)) if member.patch().merge => {
                Some(Value::Array(merge_lists(old, new, &key, member)?))
            }
            (_, new) => without_directives(new),
        };
        if let Some(merged) = merged {
            original.insert(key, merged);
        }
    }
    Ok(original)
}

fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), StrategicError> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let retained = retained.as_array().ok_or(StrategicError::RetainKeys)?;
    let keeps = |key: &String| retained.iter().any(|r| r == key);
    let is_directive = |key: &str| key.starts_with(DELETE_FROM_LIST) || key.starts_with(SET_ORDER);
    if patch.iter().any(|(key, value)| !value.is_null() && !is_directive(key) && !keeps(key)) {
        return Err(StrategicError::RetainKeys);
    }
    original.retain(|key, _| keeps(key));
    Ok(())
}

fn delete_from_list(original: &mut Object, name: &str, values: Value) -> Result<(), StrategicError> {
    let Value::Array(values) = values else {
        return Err(StrategicError::NotAList(format!("{DELETE_FROM_LIST}{name}")));
    };
    if let Some(Value::Array(list)) = original.get_mut(name) {
        list.retain(|item| !values.contains(item));
    }
    Ok(())
}

/// Lists that the patch orders: merged here, together with the patch's list, and taken out of the patch.
fn merge_ordered_lists(original: &mut Object, patch: &mut Object, node: Node<'_>) -> Result<(), StrategicError> {
    let names: Vec<String> = patch.keys().filter_map(|k| k.strip_prefix(SET_ORDER)).map(str::to_owned).collect();
    for name in names {
        let directive = format!("{SET_ORDER}{name}");
        let order = list(patch.remove(&directive), &directive)?.unwrap_or_default();
        let member = node.member(&name).unwrap_or(Node::Untyped);
        let tag = member.patch();
        let delta = match patch.get(&name) {
            Some(Value::Null) => continue,
            _ => list(patch.remove(&name), &name)?,
        };
        let old = list(original.remove(&name), &name)?;
        check_order(delta.as_deref().unwrap_or_default(), &order, &tag, &name)?;
        let server_order = old.clone().unwrap_or_default();
        let merged = match (old, delta) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(without_directives).collect(),
            (Some(old), Some(new)) if tag.merge => merge_lists(old, new, &name, member)?,
            (Some(_), Some(new)) => new,
        };
        let identity = Identity::of(&tag, merged.iter().chain(&order), &name)?;
        original.insert(name, Value::Array(ordered(merged, &order, &server_order, &identity)));
    }
    Ok(())
}

fn list(value: Option<Value>, name: &str) -> Result<Option<Vec<Value>>, StrategicError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(_) => Err(StrategicError::NotAList(name.into())),
    }
}

/// The items of the patch must stand in its `$setElementOrder`, in the same order; deletions need not.
fn check_order(items: &[Value], order: &[Value], tag: &PatchTag, name: &str) -> Result<(), StrategicError> {
    let items: Vec<_> = items.iter().filter(|i| i.get(PATCH).is_none()).collect();
    let identity = Identity::of(tag, items.iter().copied().chain(order), name)?;
    let mut rest = order.iter();
    let in_order = items.iter().all(|item| rest.any(|o| identity.same(o, item)));
    if in_order { Ok(()) } else { Err(StrategicError::Order(name.into())) }
}

/// What makes two items of a list the same.
enum Identity<'a> {
    Value,
    Key(&'a str),
}

impl<'a> Identity<'a> {
    /// Scalars are told apart by value, objects by the merge key, which all of them must have.
    fn of<'v>(
        tag: &PatchTag,
        items: impl Iterator<Item = &'v Value>,
        name: &str,
    ) -> Result<Identity<'a>, StrategicError> {
        let mut items = items.peekable();
        let objects = items.peek().is_some_and(|i| i.is_object());
        if !objects {
            return if items.any(Value::is_object) {
                Err(StrategicError::MixedItems(name.into()))
            } else {
                Ok(Identity::Value)
            };
        }
        let key = tag.key.ok_or(StrategicError::Unmergeable)?;
        for item in items {
            if !item.is_object() {
                return Err(StrategicError::MixedItems(name.into()));
            }
            if item.get(key).is_none() && item[PATCH] != "replace" {
                return Err(StrategicError::NoMergeKey { item: shown(item), key: key.into() });
            }
        }
        Ok(Identity::Key(key))
    }

    fn same(&self, a: &Value, b: &Value) -> bool {
        match self {
            Identity::Value => a == b,
            Identity::Key(key) => a.get(key) == b.get(key),
        }
    }

    fn position(&self, list: &[Value], item: &Value) -> Option<usize> {
        list.iter().position(|other| self.same(other, item))
    }
}

fn merge_lists(old: Vec<Value>, new: Vec<Value>, name: &str, node: Node<'_>) -> Result<Vec<Value>, StrategicError> {
    let identity = Identity::of(&node.patch(), old.iter().chain(&new), name)?;
    let (old, new) = match &identity {
        Identity::Value => (old, new),
        Identity::Key(key) => directives(old, new, key)?,
    };
    let mut merged = old.clone();
    for item in &new {
        match (identity.position(&merged, item), &identity) {
            (Some(i), Identity::Key(_)) => {
                if let (Value::Object(a), Value::Object(b)) = (merged[i].take(), item.clone()) {
                    merged[i] = Value::Object(merge_objects(a, b, node.item())?);
                }
            }
            (Some(_), Identity::Value) => {}
            (None, _) => merged.extend(without_directives(item.clone())),
        }
    }
    Ok(ordered(merged, &new, &old, &identity))
}

/// Carries out the items of a patch that are directives; gives the old items that are left and the items to merge.
fn directives(mut old: Vec<Value>, new: Vec<Value>, key: &str) -> Result<(Vec<Value>, Vec<Value>), StrategicError> {
    let mut plain = Vec::with_capacity(new.len());
    let mut replace = false;
    for item in new {
        match item.get(PATCH).map(|d| d.as_str().unwrap_or_default()) {
            None => plain.push(item),
            Some("delete") => match item.get(key) {
                Some(value) => old.retain(|o| o.get(key) != Some(value)),
                None => return Err(StrategicError::NoMergeKey { item: shown(&item), key: key.into() }),
            },
            Some("replace") => replace = true,
            Some("merge") => return Err(StrategicError::MergeDirective),
            Some(other) => return Err(StrategicError::Directive(other.into())),
        }
    }
    if let Some(item) = plain.iter().find(|i| i.get(key).is_none()) {
        return Err(StrategicError::NoMergeKey { item: shown(item), key: key.into() });
    }
    Ok(if replace { (Vec::new(), plain) } else { (old, plain) })
}

/// Puts items named by the patch into the patch's order, and between them those only the server has, each before the first of the
/// patch's items that follows it in the server's order.
fn ordered(items: Vec<Value>, order: &[Value], server_order: &[Value], identity: &Identity<'_>) -> Vec<Value> {
    let (mut named, server_only): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|item| identity.position(order, item).is_some());
    named.sort_by_key(|item| identity.position(order, item));
    let mut named = named.into_iter().peekable();
    let mut server_only = server_only.into_iter().peekable();
    let mut result = Vec::new();
    loop {
        let server_first = match (server_only.peek(), named.peek()) {
            (None, None) => return result,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(s), Some(n)) => match (identity.position(server_order, s), identity.position(server_order, n)) {
                (Some(s), Some(n)) => s < n,
                _ => false,
            },
        };
        result.extend(if server_first { server_only.next() } else { named.next() });
    }
}

/// A value of the patch that meets nothing in the object: nulls and directives have done their work; `None` if it deletes itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(object) => {
            if object.get(PATCH).is_some_and(|d| d == "delete") {
                return None;
            }
            let is_directive =
                |k: &str| k == PATCH || k == RETAIN_KEYS || k.starts_with(SET_ORDER) || k.starts_with(DELETE_FROM_LIST);
            let kept = object.into_iter().filter(|(k, v)| !v.is_null() && !is_directive(k));
            Some(Value::Object(kept.filter_map(|(k, v)| Some((k, without_directives(v)?))).collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        scalar => Some(scalar),
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Schema, Shape};
    use serde_json::json;

    /// Patches a PodSpec.
    fn patched(object: Value, patch: Value) -> Result<Value, StrategicError> {
        let schema = Schema::builtin();
        let shape = Shape::Struct(schema.by_name("k8s.io.api.core.v1.PodSpec").unwrap().id);
        let mut object = object;
        strategic_merge_patch(&mut object, patch, Node::root(schema, &shape)).map(|()| object)
    }

    fn containers(names: &[&str]) -> Value {
        json!({"containers": names.iter().map(|n| json!({"name": n, "image": "i"})).collect::<Vec<_>>()})
    }

    fn names(object: &Value) -> Vec<&str> {
        object["containers"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn items_merge_by_key_and_new_ones_come_first() {
        let object =
            patched(containers(&["a", "b"]), json!({"containers": [{"name": "b", "image": "2"}, {"name": "c"}]}));
        let object = object.unwrap();
        assert_eq!(names(&object), ["a", "b", "c"]);
        assert_eq!(object["containers"][1], json!({"name": "b", "image": "2"}));
        let object = patched(containers(&["a"]), json!({"containers": [{"name": "new"}]})).unwrap();
        assert_eq!(names(&object), ["new", "a"]);
    }

    #[test]
    fn the_order_of_the_patch_holds() {
        for (live, order, result) in [
            (&["a", "b"][..], &["b", "a"][..], &["b", "a"][..]),
            (&["a", "x", "b"], &["b", "a"], &["x", "b", "a"]),
            (&["x", "a", "b"], &["b", "a"], &["x", "b", "a"]),
        ] {
            let order: Vec<_> = order.iter().map(|n| json!({"name": n})).collect();
            let object = patched(containers(live), json!({"$setElementOrder/containers": order})).unwrap();
            assert_eq!(names(&object), result);
        }
        let wrong = json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]});
        assert!(matches!(patched(containers(&["a"]), wrong), Err(StrategicError::Order(_))));
    }

    #[test]
    fn directives_delete_and_replace() {
        let delete = json!({"containers": [{"name": "a", "$patch": "delete"}]});
        assert_eq!(names(&patched(containers(&["a", "b"]), delete).unwrap()), ["b"]);
        let replace = json!({"containers": [{"name": "c"}, {"$patch": "replace"}]});
        assert_eq!(names(&patched(containers(&["a", "b"]), replace).unwrap()), ["c"]);
        let selector = json!({"nodeSelector": {"a": "1"}});
        let replaced = patched(selector.clone(), json!({"nodeSelector": {"$patch": "replace", "b": "2"}}));
        assert_eq!(replaced.unwrap(), json!({"nodeSelector": {"b": "2"}}));
        let deleted = patched(selector.clone(), json!({"nodeSelector": {"$patch": "delete"}}));
        assert_eq!(deleted.unwrap(), json!({"nodeSelector": {}}));
        let unknown = patched(selector, json!({"nodeSelector": {"$patch": "merge"}}));
        assert_eq!(unknown, Err(StrategicError::Directive("merge".into())));
    }

    #[test]
    fn retained_keys_drop_the_others() {
        let volumes = json!({"volumes": [{"name": "v", "emptyDir": {}}]});
        let patch =
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}]});
        let object = patched(volumes.clone(), patch).unwrap();
        assert_eq!(object, json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}));
        let wrong = json!({"volumes": [{"name": "v", "$retainKeys": ["name"], "secret": {}}]});
        assert_eq!(patched(volumes, wrong), Err(StrategicError::RetainKeys));
    }

    #[test]
    fn lists_of_scalars_merge_and_lose_values() {
        let schema = Schema::builtin();
        let shape = Shape::Struct(schema.by_name("k8s.io.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap().id);
        for (live, patch, result) in [
            (json!(["a", "b"]), json!({"finalizers": ["b", "c"]}), json!(["a", "b", "c"])),
            (json!(["a", "b"]), json!({"$deleteFromPrimitiveList/finalizers": ["a"]}), json!(["b"])),
            (
                json!(["a", "b"]),
                json!({"$setElementOrder/finalizers": ["c", "b", "a"], "finalizers": ["c"]}),
                json!(["c", "b", "a"]),
            ),
        ] {
            let mut object = json!({"finalizers": live});
            strategic_merge_patch(&mut object, patch, Node::root(schema, &shape)).unwrap();
            assert_eq!(object["finalizers"], result);
        }
    }

    #[test]
    fn nulls_remove_and_leave_no_trace() {
        let object = patched(json!({"nodeName": "n"}), json!({"nodeName": null, "affinity": {"podAffinity": null}}));
        assert_eq!(object.unwrap(), json!({"affinity": {}}));
    }

    #[test]
    fn other_lists_are_replaced() {
        let object = patched(json!({"tolerations": [{"key": "a"}]}), json!({"tolerations": [{"key": "b"}]}));
        assert_eq!(object.unwrap(), json!({"tolerations": [{"key": "b"}]}));
    }

    #[test]
    fn items_without_a_key_are_refused() {
        let error = patched(containers(&["a"]), json!({"containers": [{"image": "i"}]})).unwrap_err();
        assert_eq!(error.to_string(), r#"{"image":"i"} does not contain declared merge key: name"#);
    }
}
