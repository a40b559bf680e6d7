//! The three patches that turn an object into another: JSON patch, merge patch and strategic merge patch.
//!
//! Each takes the object as the client sees it and gives a tree that the caller brings back into normal form. Server-side apply is
//! not a patch in this sense, see [`crate::apply`].

pub mod json;
pub mod merge;
pub mod strategic;

pub use json::{JsonPatchError, json_patch};
pub use merge::merge_patch;
pub use strategic::{StrategicError, strategic_merge_patch};
