//! The authorizers that `--authorization-mode` names. Each is a file; [`handlers::api::authorization`] says how they are asked.

pub mod always;
pub mod node;
pub mod rbac;
