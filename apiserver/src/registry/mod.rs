//! Every kind the server knows: a row in `resources.txt`, and for what is special to it a file `<group>/<kind>.rs`.
//!
//! No handler is written per kind: a kind's file holds data and pure functions, never I/O.

pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
pub mod apiserverinternal;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod conversion;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod edit;
pub mod flowcontrol;
pub mod gated_fields;
#[cfg(test)]
mod golden;
pub mod kinds;
pub mod networking;
pub mod node;
pub mod policy;
pub mod printing;
pub mod rbac;
pub mod resource;
#[cfg(test)]
mod rules;
pub mod scheduling;
pub mod storage;
pub mod storagemigration;
pub mod strategy;
pub mod table;
