//! The plugins, one file each, and the table of those that are on by default with their weights.

mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_balanced_allocation;
mod node_resources_fit;
mod node_unschedulable;
mod pod_topology_spread;
mod scheduling_gates;
mod taint_toleration;
mod volume_binding;

use crate::config;
use crate::framework::{Plugin, Profile};
use component_base::informer::Store;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

/// Objects that some plugins read besides nodes and pods.
#[derive(Clone)]
pub struct Stores {
    pub claims: Store<PersistentVolumeClaim>,
    pub volumes: Store<PersistentVolume>,
}

/// A plugin with its weight at scoring; 0: it does not score. In the order in which they filter: cheap and decisive ones first.
type Row = (Box<dyn Plugin>, i64);

fn all(stores: &Stores, profile: &config::Profile) -> Vec<Row> {
    vec![
        (Box::new(scheduling_gates::SchedulingGates), 0),
        (Box::new(node_unschedulable::NodeUnschedulable), 0),
        (Box::new(node_name::NodeName), 0),
        (Box::new(taint_toleration::TaintToleration), 3),
        (Box::new(node_affinity::NodeAffinity), 2),
        (Box::new(node_ports::NodePorts), 0),
        (Box::new(node_resources_fit::Fit::new(profile.args("NodeResourcesFit"))), 1),
        (Box::new(volume_binding::VolumeBinding::new(stores.clone())), 0),
        (Box::new(pod_topology_spread::PodTopologySpread), 2),
        (Box::new(inter_pod_affinity::InterPodAffinity), 2),
        (Box::new(node_resources_balanced_allocation::BalancedAllocation), 1),
        (Box::new(image_locality::ImageLocality), 1),
    ]
}

/// The profile that a configuration describes.
pub fn profile(stores: &Stores, config: &config::Profile) -> Profile {
    let entries = all(stores, config)
        .into_iter()
        .map(|(plugin, default)| {
            let name = plugin.name();
            let scores = default > 0 && !config.disables(name, &config.plugins.score);
            let weight = if scores { config.weight(name).unwrap_or(default) } else { 0 };
            crate::framework::profile_entry(plugin, weight, !config.disables(name, &config.plugins.filter))
        })
        .collect();
    Profile { scheduler_name: config.scheduler_name.clone(), entries }
}
