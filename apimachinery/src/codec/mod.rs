//! Objects as bytes: JSON, YAML, CBOR and protobuf, and the normal form they all decode to.
//!
//! | step | module | cost of a pod |
//! |---|---|---|
//! | bytes → tree, duplicates noted | [`json`], [`yaml`] | one pass |
//! | tree → JSON in upstream's order | [`ordered`] | one pass |
//! | CBOR → tree, tree → CBOR | [`cbor`] | one pass |
//! | tree → normal form, unknown and mistyped members noted | [`normalize`] | one pass |
//! | protobuf → tree, tree → protobuf | [`proto`] | one pass |
//! | the storage envelope `k8s\0` | [`envelope`] | no copy |
//!
//! A decoder never panics, whatever it is given, and its depth is bounded.

pub mod cbor;
pub mod envelope;
pub mod json;
pub mod normalize;
pub mod ordered;
pub mod proto;
pub mod timestamp;
pub mod wire;
pub mod yaml;

pub use normalize::{Report, TypeMismatch, normalize};
pub use ordered::Ordered;

/// Nesting beyond this is refused by every decoder.
pub const MAX_DEPTH: usize = 120;

/// Levels of objects and lists in a value. What is kept must stay below [`MAX_DEPTH`], however it came about: text that nests more
/// than 127 levels is not read again, and managed fields nest a few levels more than the object they are about.
pub fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
