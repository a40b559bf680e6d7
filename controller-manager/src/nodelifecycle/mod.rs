//! node-lifecycle-controller: notices nodes that no longer report, and taints nodes by their conditions.
//!
//! - Every `--node-monitor-period`: a node whose kubelet was silent for `--node-monitor-grace-period` gets conditions
//!   Unknown, and its pods are marked as not ready ([`health`]).
//! - Conditions become NoSchedule taints at once, and NoExecute taints at the pace of the node's zone ([`zones`]), so that
//!   trouble of many nodes does not move all pods at once.
//!
//! Pods are evicted by taint-eviction-controller, not here.

mod health;
mod zones;

use std::{collections::HashMap, sync::Arc, time::Instant};

use component_base::{
    controller::{self, Action},
    events::{Recorder, Type},
    informer::{ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use futures::{StreamExt, stream};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod, PodCondition},
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use self::{
    health::{Readiness, Tracker},
    zones::Zones,
};
use crate::{
    common::{
        Doing, Result,
        conditions::{self, Condition},
        meta, pod, taints,
    },
    context::Context,
    options::NodeOptions,
};

const LEASES: &str = "kube-node-lease";
const PARALLEL: usize = 8;

/// A condition of a node, the status in which it taints, and the taint.
const CONDITION_TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", taints::NOT_READY),
    ("Ready", "Unknown", taints::UNREACHABLE),
    ("MemoryPressure", "True", taints::MEMORY_PRESSURE),
    ("DiskPressure", "True", taints::DISK_PRESSURE),
    ("PIDPressure", "True", taints::PID_PRESSURE),
    ("NetworkUnavailable", "True", taints::NETWORK_UNAVAILABLE),
];

pub async fn run(context: Context) {
    let nodes = context.factory.store::<Node>(Scope::all());
    let leases = context.factory.store::<Lease>(Scope::fields(format!("metadata.namespace={LEASES}")));
    let pods = context.pods();
    tokio::join!(nodes.synced(), leases.synced(), pods.synced());

    let queue = WorkQueue::new("node_lifecycle_controller");
    let feed = queue.clone();
    nodes.on_change(move |change| feed.add(change.key()));
    let (store, client) = (nodes.clone(), context.client.clone());
    let taint = controller::run(
        context.name,
        queue,
        context.options.workers.concurrent_node_syncs,
        context.shutdown.clone(),
        |key: ObjectKey| {
            let (store, client) = (store.clone(), client.clone());
            async move {
                let Some(node) = store.get(&key) else { return Ok(Action::Done) };
                let managed = CONDITION_TAINTS.map(|(_, _, taint)| taint);
                let managed = [&managed[..], &[taints::UNSCHEDULABLE]].concat();
                if let Some(taints) = taints::adjusted(&node, taints::NO_SCHEDULE, &managed, &no_schedule(&node)) {
                    taints::write(&client, &node, taints).await?;
                }
                Ok::<_, crate::common::Error>(Action::Done)
            }
        },
    );

    let mut monitor = Monitor {
        nodes,
        leases,
        pods,
        options: context.options.nodes.clone(),
        recorder: context.recorder("node-controller"),
        client: context.client.clone(),
        health: HashMap::new(),
        zones: Zones::default(),
    };
    let watch = async {
        let mut ticks = tokio::time::interval(monitor.options.node_monitor_period.get());
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = context.shutdown.cancelled() => return,
                _ = ticks.tick() => monitor.tick().await,
            }
        }
    };
    tokio::join!(taint, watch);
}

/// The NoSchedule taints that a node's conditions and `spec.unschedulable` call for.
fn no_schedule(node: &Node) -> Vec<&'static str> {
    let status = |kind: &str| condition_status(node, kind);
    let by_condition =
        CONDITION_TAINTS.iter().filter(|(kind, wanted, _)| status(kind) == *wanted).map(|(_, _, taint)| *taint);
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    by_condition.chain(cordoned.then_some(taints::UNSCHEDULABLE)).collect()
}

fn condition_status<'a>(node: &'a Node, kind: &str) -> &'a str {
    let conditions = node.status.as_ref().map(|status| &status.conditions);
    conditions.and_then(|conditions| conditions::get(conditions, kind)).map_or("", |condition| &condition.status)
}

struct Monitor {
    nodes: Store<Node>,
    leases: Store<Lease>,
    pods: Store<Pod>,
    options: NodeOptions,
    recorder: Recorder,
    client: Client,
    health: HashMap<String, Tracker>,
    zones: Zones,
}

impl Monitor {
    async fn tick(&mut self) {
        let nodes = self.nodes.list();
        self.health.retain(|name, _| nodes.iter().any(|node| meta::name(node.as_ref()) == name));
        let now = Instant::now();
        let mut states = Vec::with_capacity(nodes.len());
        for node in nodes {
            let lease = self.leases.get(&ObjectKey::namespaced(LEASES, meta::name(node.as_ref())));
            let is_new = !self.health.contains_key(meta::name(node.as_ref()));
            if is_new {
                let message = format!("Node {} event: Registered Node {0} in Controller", meta::name(node.as_ref()));
                self.recorder.event(node.as_ref(), Type::Normal, "RegisteredNode", message);
            }
            let tracker = self.health.entry(node.name_any()).or_insert_with(|| Tracker::new(now));
            tracker.observe(&node, lease.as_deref(), now);
            let silent = tracker.is_silent(&node, &self.options, now);
            let before = tracker.readiness;
            let readiness = if silent { Readiness::Unknown } else { Readiness::of(&node) };
            tracker.readiness = Some(readiness);
            states.push(Seen { node, silent, readiness, before });
        }
        for seen in &states {
            self.attend(seen).await;
        }
        self.evict(&states, now).await;
    }

    /// Writes what a silent kubelet no longer can.
    async fn attend(&self, seen: &Seen) {
        let name = meta::name(seen.node.as_ref());
        if seen.silent
            && let Some(node) = health::unknown(&seen.node)
        {
            let api: Api<Node> = Api::all(self.client.clone());
            let written = api.replace_status(name, &PostParams::default(), &node).await;
            if let Err(error) = written.or_gone(|| format!("mark node {name} as unknown")) {
                tracing::warn!(%error, "Will try again");
                return;
            }
            tracing::info!(node = name, "Node is unresponsive, its conditions are Unknown now");
        }
        if seen.readiness == Readiness::Ready {
            return;
        }
        if seen.before == Some(Readiness::Ready) {
            let message = format!("Node {name} status is now: NodeNotReady");
            self.recorder.event(seen.node.as_ref(), Type::Normal, "NodeNotReady", message);
        }
        // Until done: each pod is written once, since it is not ready afterwards.
        self.mark_pods_not_ready(name).await;
    }

    /// Services must not send anything to pods whose node cannot say how they are.
    async fn mark_pods_not_ready(&self, node: &str) {
        let pods = self.pods.by_index(pod::index::NODE, node).into_iter().filter(|pod| pod::is_ready(pod));
        stream::iter(pods)
            .for_each_concurrent(PARALLEL, |pod| async move {
                if let Err(error) = self.mark_not_ready(&pod).await {
                    tracing::warn!(pod = %meta::key(pod.as_ref()), %error, "Cannot mark a pod as not ready");
                }
            })
            .await;
    }

    async fn mark_not_ready(&self, pod: &Pod) -> Result<()> {
        let condition = PodCondition { observed_generation: None, ..PodCondition::new("Ready", "False", "", "") };
        let patch = json!({
            "metadata": {"uid": meta::uid(pod)},
            "status": {"conditions": [condition]},
        });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), meta::namespace(pod));
        let patched = api.patch_status(meta::name(pod), &PatchParams::default(), &Patch::Strategic(patch)).await;
        if patched.or_gone(|| format!("mark pod {} as not ready", meta::key(pod)))?.is_some() {
            self.recorder.event(pod, Type::Warning, "NodeNotReady", "Node is not ready");
        }
        Ok(())
    }

    /// NoExecute taints: taken off at once, put on as the zone allows.
    async fn evict(&mut self, states: &[Seen], now: Instant) {
        let readiness = states.iter().map(|seen| (zones::of(&seen.node), seen.readiness == Readiness::Ready));
        self.zones.update(readiness, &self.options, now);
        for seen in states {
            let wanted: &[&str] = match seen.readiness {
                Readiness::Ready => &[],
                Readiness::NotReady => &[taints::NOT_READY],
                Readiness::Unknown => &[taints::UNREACHABLE],
            };
            let managed = [taints::NOT_READY, taints::UNREACHABLE];
            let Some(adjusted) = taints::adjusted(&seen.node, taints::NO_EXECUTE, &managed, wanted) else { continue };
            let tainted = |node: &Node| {
                taints::of(node)
                    .iter()
                    .any(|taint| taint.effect == taints::NO_EXECUTE && managed.contains(&taint.key.as_str()))
            };
            // A node that has one of the two already only changes its kind.
            let paced = !wanted.is_empty() && !tainted(&seen.node);
            if paced && !self.zones.may_evict(&zones::of(&seen.node), now) {
                continue;
            }
            if let Err(error) = taints::write(&self.client, &seen.node, adjusted).await {
                tracing::warn!(%error, "Will try again");
            }
        }
    }
}

/// A node in one round.
struct Seen {
    node: Arc<Node>,
    silent: bool,
    readiness: Readiness,
    before: Option<Readiness>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_become_taints() {
        for (conditions, unschedulable, expected) in [
            (json!([{"type": "Ready", "status": "True"}]), false, &[][..]),
            (json!([{"type": "Ready", "status": "False"}]), false, &[taints::NOT_READY]),
            (json!([{"type": "Ready", "status": "Unknown"}]), true, &[taints::UNREACHABLE, taints::UNSCHEDULABLE]),
            (
                json!([{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]),
                false,
                &[taints::DISK_PRESSURE],
            ),
            (json!([{"type": "MemoryPressure", "status": "Unknown"}]), false, &[]),
        ] {
            let node: Node = serde_json::from_value(json!({
                "metadata": {"name": "n"}, "spec": {"unschedulable": unschedulable},
                "status": {"conditions": conditions.clone()},
            }))
            .unwrap();
            assert_eq!(no_schedule(&node), expected, "{conditions}");
        }
    }
}
