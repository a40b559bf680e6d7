//! Conversions between typed objects and JSON values, by way of text.
//!
//! serde_json's own `to_value` and `from_value` would compile the code of every API type a second time, megabytes of a
//! process that is meant to be small; the text is what the client compiles it for anyway. Nothing here is on a hot path.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The value of a typed object.
pub fn to_value<T: Serialize>(object: &T) -> serde_json::Result<Value> {
    serde_json::from_str(&serde_json::to_string(object)?)
}

/// The fields of a typed object; none, if it is not written as an object.
pub fn fields<T: Serialize>(object: &T) -> Map<String, Value> {
    match to_value(object) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// The typed object of a value.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> serde_json::Result<T> {
    serde_json::from_str(&value.to_string())
}
