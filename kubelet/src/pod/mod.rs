//! Pods: one task per pod owns it (`worker`), decides by pure functions of spec and runtime state (`actions`, `status`),
//! and carries the decisions out (`start`, `kill`). `manager` turns what the sources want into workers; `pleg` wakes them
//! when the runtime reports a change.
//!
//! No two tasks ever act on one pod, and nothing outside a pod's worker starts, stops or removes its containers.

pub mod actions;
pub mod admission;
mod backoff;
mod hooks;
mod kill;
pub mod manager;
pub mod mirror;
pub mod pleg;
pub mod runtime;
pub mod spec;
mod start;
pub mod status;
pub mod worker;
