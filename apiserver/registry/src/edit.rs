//! Small edits of objects, of which defaulting is made.

use apimachinery::schema::GroupVersionKind;
use apimachinery::{Map, Value};

/// Sets a member that is absent or null. What is no object stays as it is.
pub fn default(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(members) = object.as_object_mut()
        && members.get(name).is_none_or(Value::is_null)
    {
        members.insert(name.into(), value.into());
    }
}

/// The same for a member that counts as unset when it is the empty string.
pub fn default_text(object: &mut Value, name: &str, value: &str) {
    if object.get(name).and_then(Value::as_str) == Some("") {
        remove(object, name);
    }
    default(object, name, value);
}

/// The same for a member that counts as unset when it is 0.
pub fn default_number(object: &mut Value, name: &str, value: i64) {
    if object.get(name).and_then(Value::as_i64) == Some(0) {
        remove(object, name);
    }
    default(object, name, value);
}

/// The member as it is, made an empty object first if it is absent.
pub fn object<'a>(parent: &'a mut Value, name: &str) -> &'a mut Value {
    default(parent, name, Map::new());
    // Only a parent that is no object has no such member now.
    if parent.is_object() { &mut parent[name] } else { parent }
}

/// The value some members down, if it is there: `at(pod, "spec.securityContext")`.
pub fn at<'a>(object: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(object, |value, name| value.get_mut(name)).filter(|v| !v.is_null())
}

/// Runs over the items of the list `name`, if there is one.
pub fn each(object: &mut Value, name: &str, edit: impl FnMut(&mut Value)) {
    object.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten().for_each(edit);
}

pub fn remove(object: &mut Value, name: &str) -> Option<Value> {
    object.as_object_mut()?.remove(name)
}

/// Makes a member what it is in another object, absent included.
pub fn copy(to: &mut Value, from: &Value, name: &str) {
    match from.get(name) {
        Some(value) => {
            if let Some(members) = to.as_object_mut() {
                members.insert(name.into(), value.clone());
            }
        }
        None => drop(remove(to, name)),
    }
}

/// The string some members down; empty if there is none.
pub fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    get(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The value some members down.
pub fn get<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, name| value.get(name))
}

/// The number some members down; 0 if there is none.
pub fn number(object: &Value, path: &str) -> i64 {
    get(object, path).and_then(Value::as_i64).unwrap_or_default()
}

/// The items of a list some members down.
pub fn items<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    get(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Puts `kind` and `apiVersion` into an object.
pub fn typed(mut tree: Value, kind: &GroupVersionKind) -> Value {
    if let Some(members) = tree.as_object_mut() {
        members.insert("kind".into(), kind.kind.as_str().into());
        members.insert("apiVersion".into(), kind.api_version().into());
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_keep_what_is_set() {
        let mut value = json!({"a": 1, "b": null, "c": "", "d": 0});
        default(&mut value, "a", 2);
        default(&mut value, "b", 2);
        default_text(&mut value, "c", "x");
        default_number(&mut value, "d", 5);
        object(&mut value, "e")["f"] = json!(1);
        assert_eq!(value, json!({"a": 1, "b": 2, "c": "x", "d": 5, "e": {"f": 1}}));
        assert_eq!((text(&value, "c"), number(&value, "e.f"), items(&value, "x").len()), ("x", 1, 0));
    }
}
