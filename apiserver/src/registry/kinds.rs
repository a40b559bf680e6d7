//! Which file holds what is special to which row. A kind that is not named here is generic.

use super::core;
use super::strategy::Strategy;

/// The strategy of a resource.
pub fn strategy(group: &str, _version: &str, plural: &str) -> &'static Strategy {
    match (group, plural) {
        ("", "configmaps") => &core::config_map::STRATEGY,
        ("", "endpoints") => &core::endpoints::STRATEGY,
        ("" | "events.k8s.io", "events") => &core::event::STRATEGY,
        ("", "limitranges") => &core::limit_range::STRATEGY,
        ("", "namespaces") => &core::namespace::STRATEGY,
        ("", "nodes") => &core::node::STRATEGY,
        ("", "persistentvolumeclaims") => &core::persistent_volume_claim::STRATEGY,
        ("", "persistentvolumes") => &core::persistent_volume::STRATEGY,
        ("", "pods") => &core::pod::STRATEGY,
        ("", "podtemplates") => &core::pod_template::STRATEGY,
        ("", "replicationcontrollers") => &core::replication_controller::STRATEGY,
        ("", "resourcequotas") => &core::resource_quota::STRATEGY,
        ("", "secrets") => &core::secret::STRATEGY,
        ("", "serviceaccounts") => &core::service_account::STRATEGY,
        ("", "services") => &core::service::STRATEGY,
        _ => &Strategy::GENERIC,
    }
}
