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
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod flowcontrol;
#[cfg(test)]
mod golden;
pub mod networking;
pub mod node;
pub mod policy;
pub mod rbac;
pub mod resource;
pub mod rows;
#[cfg(test)]
mod rules;
pub mod scheduling;
pub mod storage;
pub mod storagemigration;
pub mod strategies;
