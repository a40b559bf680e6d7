//! What a pod is, by its object and by what the runtime has of it: questions about its spec, the instances of its
//! containers, the status that follows, the downward API.
//!
//! This crate reads the runtime and the files that containers leave. It changes nothing, decides nothing, and knows no API
//! server, no other pod and no node beyond the values it is handed.

pub mod field;
pub mod json;
pub mod log;
pub mod runtime;
pub mod spec;
pub mod status;
