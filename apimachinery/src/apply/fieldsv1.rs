//! A set of paths as `managedFields[].fieldsV1` carries it.
//!
//! Members become keys (`f:spec`, `k:{"name":"c"}`, …); an empty object is a path of the set; `.` inside an object says that the path
//! to the object itself is in the set as well.

use serde_json::{Map, Value};

use super::{FieldSet, PathElement};

/// A key that is none of `.`, `f:`, `k:`, `v:`, `i:`, or a value that is no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fieldsV1 has an unreadable part: {0}")]
pub struct FieldsV1Error(String);

/// Reads a `fieldsV1` object. Its depth is bounded by the decoder that made the value.
pub fn decode(fields: &Value) -> Result<FieldSet, FieldsV1Error> {
    let fields = fields.as_object().ok_or_else(|| FieldsV1Error(fields.to_string()))?;
    let mut set = FieldSet::new();
    for (key, value) in fields.iter().filter(|(key, _)| *key != ".") {
        let element = PathElement::parse(key).ok_or_else(|| FieldsV1Error(key.clone()))?;
        let children = decode(value)?;
        let member = children.is_empty() || value.get(".").is_some();
        set.attach(element, member, children);
    }
    Ok(set)
}

/// Writes a `fieldsV1` object.
pub fn encode(set: &FieldSet) -> Value {
    Value::Object(members(set, false))
}

/// The members that stand for a set; `own`: the path to it is in the set as well.
fn members(set: &FieldSet, own: bool) -> Map<String, Value> {
    let own = own.then(|| (".".to_owned(), Value::Object(Map::new())));
    let below = set.entries().iter().map(|entry| {
        let own = entry.member && !entry.children.is_empty();
        (entry.element.to_key(), Value::Object(members(&entry.children, own)))
    });
    // Collected at once, not inserted one by one: they are sorted already.
    own.into_iter().chain(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sets_are_read_and_written() {
        for fields in [
            json!({}),
            json!({"f:data": {"f:a": {}, "f:b": {}}}),
            json!({"f:data": {".": {}, "f:a": {}}}),
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}}}}}),
            json!({"f:metadata": {"f:finalizers": {"v:\"a.b/c\"": {}}}}),
        ] {
            assert_eq!(encode(&decode(&fields).unwrap()), fields);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for fields in [json!([]), json!({"x": {}}), json!({"f:a": 1}), json!({"k:x": {}})] {
            assert!(decode(&fields).is_err(), "{fields}");
        }
    }
}
