//! Label and field selectors: reading them, showing them, matching with them.
//!
//! Matching takes a lookup function, so that a caller can match against whatever holds the labels. No selector keeps an object.

pub mod field;
pub mod label;

pub use field::FieldSelector;
pub use label::{LabelSelector, Operator, Requirement, SelectorError};
