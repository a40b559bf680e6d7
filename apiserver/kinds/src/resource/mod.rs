//! Kinds of the group `resource.k8s.io` (dynamic resource allocation).

pub mod claim;
mod common;
mod device;
pub mod device_class;
pub mod device_taint_rule;
mod selector;
pub mod slice;
