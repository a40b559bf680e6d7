//! Whether a node still reports, measured on this process's own clock: the node's may be wrong.

use std::time::Instant;

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, NodeCondition},
};

use super::condition_status;
use crate::{
    common::{
        conditions::{self, Condition},
        meta,
    },
    options::NodeOptions,
};

/// Conditions that only the kubelet can know.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    NotReady,
    Unknown,
}

impl Readiness {
    /// As the node's conditions say; `None` if nobody has said anything yet, which is no reason to evict.
    pub fn of(node: &Node) -> Option<Self> {
        match condition_status(node, "Ready") {
            "" => None,
            "True" => Some(Self::Ready),
            "Unknown" => Some(Self::Unknown),
            _ => Some(Self::NotReady),
        }
    }
}

/// The last sign of life of one node.
#[derive(Debug)]
pub(super) struct Tracker {
    heartbeat: Option<jiff::Timestamp>,
    renewed: Option<jiff::Timestamp>,
    alive: Instant,
}

impl Tracker {
    pub fn new(now: Instant) -> Self {
        Self { heartbeat: None, renewed: None, alive: now }
    }

    /// A changed heartbeat or lease is a sign of life, whatever time it names.
    pub fn observe(&mut self, node: &Node, lease: Option<&Lease>, now: Instant) {
        let ready = node.status.as_ref().and_then(|status| conditions::get(&status.conditions, "Ready"));
        let heartbeat = ready.and_then(|ready| Some(ready.last_heartbeat_time.as_ref()?.0));
        let renewed = lease.and_then(|lease| Some(lease.spec.as_ref()?.renew_time.as_ref()?.0));
        if heartbeat != self.heartbeat || renewed > self.renewed {
            self.alive = now;
        }
        self.heartbeat = heartbeat;
        self.renewed = renewed.or(self.renewed);
    }

    /// Whether the node has been silent for longer than it may.
    pub fn is_silent(&self, node: &Node, options: &NodeOptions, now: Instant) -> bool {
        let reported = !condition_status(node, "Ready").is_empty();
        let grace = if reported { options.node_monitor_grace_period } else { options.node_startup_grace_period };
        now.duration_since(self.alive) > grace.get()
    }
}

/// The node with all that its kubelet reports set to Unknown; `None` if it is so already.
pub(super) fn unknown(node: &Node) -> Option<Node> {
    let mut node = node.clone();
    let created = node.metadata.creation_timestamp.clone();
    let conditions = &mut node.status.get_or_insert_default().conditions;
    let mut changed = false;
    for kind in REPORTED {
        let list = conditions.get_or_insert_default();
        match list.iter_mut().find(|condition| condition.type_ == kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".into();
                condition.reason = Some("NodeStatusUnknown".into());
                condition.message = Some("Kubelet stopped posting node status.".into());
                condition.last_transition_time = Some(meta::now());
                changed = true;
            }
            None => {
                let message = "Kubelet never posted node status.";
                let condition = NodeCondition::new(kind, "Unknown", "NodeStatusNeverUpdated", message);
                list.push(NodeCondition { last_heartbeat_time: created.clone(), ..condition });
                changed = true;
            }
        }
    }
    changed.then_some(node)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::options::Options;

    fn node(heartbeat: &str) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"conditions": [
            {"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat},
        ]}}))
        .unwrap()
    }

    fn lease(renewed: &str) -> Lease {
        serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"renewTime": renewed}})).unwrap()
    }

    #[test]
    fn silence_is_measured_from_the_last_change() {
        let options: Options = component_base::cli::try_parse("kcm", ["kcm"]).unwrap();
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let mut tracker = Tracker::new(start);
        tracker.observe(&node("2020-01-01T00:00:00Z"), None, start);
        assert!(!tracker.is_silent(&node("2020-01-01T00:00:00Z"), &options.nodes, after(50)));
        assert!(tracker.is_silent(&node("2020-01-01T00:00:00Z"), &options.nodes, after(51)));
        tracker.observe(&node("2020-01-01T00:00:00Z"), Some(&lease("2020-01-01T00:00:40.000000Z")), after(40));
        assert!(!tracker.is_silent(&node("2020-01-01T00:00:00Z"), &options.nodes, after(90)));
        assert!(
            tracker.is_silent(&Node::default(), &options.nodes, after(101)),
            "one that never reported has a minute"
        );
    }

    #[test]
    fn a_silent_node_is_unknown_in_all_that_it_reports() {
        let silent = unknown(&node("2020-01-01T00:00:00Z")).unwrap();
        let conditions = silent.status.as_ref().unwrap().conditions.as_ref().unwrap();
        assert_eq!(conditions.len(), REPORTED.len());
        assert!(conditions.iter().all(|condition| condition.status == "Unknown"));
        assert_eq!(conditions[0].reason.as_deref(), Some("NodeStatusUnknown"));
        assert_eq!(conditions[1].reason.as_deref(), Some("NodeStatusNeverUpdated"));
        assert!(unknown(&silent).is_none());
    }
}
