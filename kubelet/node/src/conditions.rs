//! The node's conditions: Ready and the pressures.

use std::time::Instant;

use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};
use pod_lifecycle::Lifecycle;

use super::now;

/// Pressure, (reason, message) when there is none, and when there is.
type Pressure = (&'static str, [&'static str; 2], [&'static str; 2]);
const PRESSURES: [Pressure; 3] = [
    (
        "MemoryPressure",
        ["KubeletHasSufficientMemory", "kubelet has sufficient memory available"],
        ["KubeletHasInsufficientMemory", "kubelet has insufficient memory available"],
    ),
    (
        "DiskPressure",
        ["KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
        ["KubeletHasDiskPressure", "kubelet has disk pressure"],
    ),
    (
        "PIDPressure",
        ["KubeletHasSufficientPID", "kubelet has sufficient PID available"],
        ["KubeletHasInsufficientPID", "kubelet has insufficient PID available"],
    ),
];

/// All conditions, with transition times from `old` where nothing changed. A change is an event too.
pub fn conditions(lifecycle: &Lifecycle, old: Option<&NodeStatus>) -> Vec<NodeCondition> {
    let under = lifecycle.context.pressure.conditions();
    let mut conditions = Vec::with_capacity(PRESSURES.len() + 1);
    for (type_, none, some) in PRESSURES {
        let pressed = under.contains(&type_);
        let [reason, message] = if pressed { some } else { none };
        let status = if pressed { "True" } else { "False" };
        conditions.push(condition(lifecycle, old, type_, status, reason, message, reason));
    }
    match ready(lifecycle) {
        Ok(()) => {
            let message = "kubelet is posting ready status";
            conditions.push(condition(lifecycle, old, "Ready", "True", "KubeletReady", message, "NodeReady"));
        }
        Err(problems) => {
            conditions.push(condition(lifecycle, old, "Ready", "False", "KubeletNotReady", &problems, "NodeNotReady"));
        }
    }
    conditions
}

/// Whether the node can run pods; if not, all that is in the way.
pub fn ready(lifecycle: &Lifecycle) -> Result<(), String> {
    let runtime = lifecycle.context.runtime.read();
    let pleg = lifecycle.pleg.check(Instant::now(), lifecycle.context.started);
    let problems: Vec<String> =
        [runtime.runtime.clone(), runtime.network.clone(), pleg].into_iter().filter_map(Result::err).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join(", ")) }
}

fn condition(
    lifecycle: &Lifecycle,
    old: Option<&NodeStatus>,
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
    event: &str,
) -> NodeCondition {
    let before = old.and_then(|old| old.conditions.as_ref()).into_iter().flatten().find(|c| c.type_ == type_);
    let same = before.filter(|before| before.status == status);
    // Without an old status there is no news: this is the registration.
    if same.is_none() && old.is_some() {
        tracing::info!(condition = type_, status, reason, message, "Node condition changed");
        let message = format!("Node {} status is now: {event}", lifecycle.context.node_name);
        lifecycle.context.node_event("Normal", event, &message);
    }
    NodeCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(now()),
        last_transition_time: same.and_then(|same| same.last_transition_time.clone()).or_else(|| Some(now())),
    }
}
