//! What several controllers share: owners and claims, pods and their conditions, expectations, revisions, hashes.
//!
//! Functions and small types only. Nothing in here watches, and nothing decides what a controller wants.

pub mod claim;
pub mod conditions;
pub mod discovery;
pub mod error;
pub mod expectations;
pub mod hash;
pub mod history;
pub mod int_or_percent;
pub mod meta;
pub mod pod;
pub mod pod_control;
pub mod pod_events;
pub mod scale;
pub mod scheduling;
pub mod service;
pub mod slices;
pub mod taints;

pub use error::{Doing, Error, Result};
