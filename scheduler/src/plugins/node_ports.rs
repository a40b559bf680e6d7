//! Two pods cannot have the same port of a host.

use crate::cluster::{Cluster, NodeInfo, PodInfo};
use crate::framework::{Events, Plugin, PreFilter, Rejection, State, Verdict};

pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn events(&self) -> Events {
        Events::NODE_ADDED.and(Events::POD_REMOVED)
    }

    fn pre_filter(&self, pod: &PodInfo, _: &Cluster) -> Result<PreFilter, Rejection> {
        Ok(if pod.ports.is_empty() { PreFilter::Skip } else { PreFilter::Run(None) })
    }

    fn filter(&self, _: &State, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        if pod.ports.iter().any(|own| node.ports.iter().any(|taken| own.conflicts(taken))) {
            return Err(Rejection::new("node(s) didn't have free ports for the requested pod ports"));
        }
        Ok(())
    }
}
