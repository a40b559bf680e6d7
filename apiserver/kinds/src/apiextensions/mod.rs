//! Kinds of the group `apiextensions.k8s.io`.

mod ca_bundle;
pub mod custom_resource_definition;
pub mod schema;
mod structural;
