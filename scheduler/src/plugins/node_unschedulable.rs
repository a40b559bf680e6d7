//! Cordoned nodes take no pods but those that tolerate it.

use super::taint_toleration::tolerates;
use crate::cluster::{NodeInfo, PodInfo};
use crate::framework::{Events, Plugin, Rejection, State, Verdict};
use k8s_openapi::api::core::v1::Taint;

pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn events(&self) -> Events {
        Events::NODE_ADDED.and(Events::NODE_TAINTS).and(Events::OWN_UPDATE)
    }

    fn filter(&self, _: &State, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        if !node.is_unschedulable() {
            return Ok(());
        }
        let taint =
            Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
        if tolerates(pod, &taint) { Ok(()) } else { Err(Rejection::final_("node(s) were unschedulable")) }
    }
}
