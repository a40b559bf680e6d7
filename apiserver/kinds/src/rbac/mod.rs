//! Kinds of the group `rbac.authorization.k8s.io`: their names may be anything that fits a path.

pub mod binding;
pub mod role;

/// The group that users, groups and roles are of.
const GROUP: &str = "rbac.authorization.k8s.io";
