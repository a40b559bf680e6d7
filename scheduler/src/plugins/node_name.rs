//! A pod that names its node fits no other.

use crate::cluster::{Cluster, NodeInfo, PodInfo};
use crate::framework::{Events, Plugin, PreFilter, Rejection, State, Verdict};

pub struct NodeName;

fn wanted(pod: &PodInfo) -> Option<&str> {
    pod.pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn events(&self) -> Events {
        Events::NODE_ADDED
    }

    fn pre_filter(&self, pod: &PodInfo, _: &Cluster) -> Result<PreFilter, Rejection> {
        Ok(if wanted(pod).is_some() { PreFilter::Run(None) } else { PreFilter::Skip })
    }

    fn filter(&self, _: &State, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        match wanted(pod) {
            Some(name) if name != node.name => Err(Rejection::final_("node(s) didn't match the requested node name")),
            _ => Ok(()),
        }
    }
}
