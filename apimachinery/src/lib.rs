//! What Kubernetes API objects are, and how they are written, compared, selected, patched and merged.
//!
//! This crate is pure: values go in, values come out. It does no I/O, starts no task, reads no clock and keeps no global
//! state but the table of built-in types. Everything generic about the API is derived from one [`schema::Schema`].
//!
//! An object in hand is a [`serde_json::Value`] in *normal form*: exactly the tree that upstream would send as JSON
//! (empty `omitempty` members gone, required members present, quantities and times canonical). [`codec::normalize`] makes it so.

#![forbid(unsafe_code)]

pub mod apply;
pub mod codec;
pub mod jsonpath;
pub mod patch;
pub mod quantity;
pub mod quota;
pub mod schema;
pub mod selector;
pub mod time;
pub mod validation;

pub use serde_json::{Map, Value};
