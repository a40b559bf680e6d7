//! Objects as bytes: JSON, YAML and protobuf, and the normal form they all decode to.
//!
//! | step | module | cost of a pod |
//! |---|---|---|
//! | bytes → tree, duplicates noted | [`json`] | one pass |
//! | tree → normal form, unknown and mistyped members noted | [`normalize`] | one pass |
//! | protobuf → tree, tree → protobuf | [`proto`] | one pass |
//! | the storage envelope `k8s\0` | [`envelope`] | no copy |
//!
//! A decoder never panics, whatever it is given, and its depth is bounded.

pub mod envelope;
pub mod json;
pub mod normalize;
pub mod proto;
pub mod timestamp;
pub mod wire;

pub use normalize::{Report, TypeMismatch, normalize};

/// Nesting beyond this is refused by every decoder.
pub const MAX_DEPTH: usize = 120;
