//! Server-side apply and the tracking of who owns which field (KEP-555).
//!
//! | module | what |
//! |---|---|
//! | [`element`] | one step of a path: a member, an item by key or by value |
//! | [`fieldset`] | a set of paths as a tree |
//! | [`fieldsv1`] | the set as `managedFields` carries it |
//! | [`extract`] | the fields an object has; an object without some of its fields |
//! | [`compare`] | what was added, changed and removed between two objects |
//! | [`atomic`] | what of a configuration would replace more than it names |
//! | [`merge`](merge::merge) | a live object with an applied configuration laid over it |
//! | [`typed`] | what of a configuration its schema does not declare |
//! | [`last_applied`] | the annotation in which client-side apply keeps what it applied |
//! | [`managed`] | the entries of `metadata.managedFields`, and what an update or an apply does to them |
//!
//! All of it walks values beside a [`crate::schema::Node`]; nothing is known here of single kinds.

pub mod atomic;
pub mod compare;
pub mod element;
pub mod extract;
pub mod fieldset;
pub mod fieldsv1;
pub mod last_applied;
pub mod managed;
pub mod merge;
pub mod typed;

pub use atomic::atomics;
pub use element::PathElement;
pub use fieldset::FieldSet;
pub use managed::{ApplyError, Conflict, FieldManager, decode as decode_managed_fields};
pub use merge::merge;
