//! ConfigMaps.

use apimachinery::Value;
use apimachinery::validation::{Cursor, FieldError, Path, names};

use registry::printing::{AGE, NAME, column, created, name};
use registry::strategy::{Strategy, Table};

/// All keys and values together: what etcd takes in one value, nearly.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;

pub const STRATEGY: Strategy = Strategy {
    validate,
    validate_update,
    table: Some(Table {
        columns: &[NAME, column("Data", ".data"), AGE],
        cells: |map, now| {
            let count = |member: &str| map[member].as_object().map_or(0, |m| m.len());
            vec![name(map), (count("data") + count("binaryData")).to_string().into(), created(map, now)]
        },
    }),
    ..Strategy::GENERIC
};

fn validate(map: &Cursor<'_>) {
    let (data, binary) = (map.field("data"), map.field("binaryData"));
    let mut bytes = 0;
    for (key, value) in data.entries() {
        names::config_map_key(key).into_iter().for_each(|problem| value.invalid_value(key, problem));
        if binary.field(key).exists() {
            value.invalid_value(key, "duplicate of key present in binaryData");
        }
        bytes += value.len();
    }
    for (key, value) in binary.entries() {
        names::config_map_key(key).into_iter().for_each(|problem| value.invalid_value(key, problem));
        bytes += decoded_len(value.str());
    }
    if bytes > DATA_BYTES_MAX {
        map.push(FieldError::too_long(Path::root(), DATA_BYTES_MAX));
    }
}

/// Bytes that a base64 text stands for.
pub fn decoded_len(base64: &str) -> usize {
    base64.trim_end_matches('=').len() * 3 / 4
}

fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>) {
    immutable(new, old, &["data", "binaryData"]);
    validate(new);
}

/// Once `immutable` is set, neither it nor the data change any more.
pub fn immutable(new: &Cursor<'_>, old: &Cursor<'_>, data: &[&str]) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if !old.field("immutable").bool() {
        return;
    }
    if !new.field("immutable").bool() {
        new.field("immutable").forbid(WHY);
    }
    let empty = |v: Option<&Value>| v.and_then(Value::as_object).is_none_or(|m| m.is_empty());
    for name in data {
        let (new, old) = (new.field(name), old.field(name));
        if new.value() != old.value() && !(empty(new.value()) && empty(old.value())) {
            new.forbid(WHY);
        }
    }
}
