//! node-lifecycle-controller: notices nodes that no longer report, and taints nodes by their conditions.
//!
//! - Every `--node-monitor-period`: a node whose kubelet was silent for `--node-monitor-grace-period` gets conditions
//!   Unknown, and its pods are marked as not ready ([`health`]); so are pods that come to a node which is not ready.
//! - Conditions become NoSchedule taints at once, and NoExecute taints at the pace of the node's zone ([`zones`]), so that
//!   trouble of many nodes does not move all pods at once.
//!
//! Pods are evicted by taint-eviction-controller, not here.

mod health;
mod zones;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use component_base::{
    controller::{self, Action},
    events::{Recorder, Type},
    informer::{Change, ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use futures::{StreamExt, stream};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, ObjectReference, Pod},
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
/// Nodes with this label do not tell whether their zone is in trouble.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

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

    let marker =
        Marker { pods: pods.clone(), recorder: context.recorder("node-controller"), client: context.client.clone() };
    let assigned = WorkQueue::new("noexec_taint_pod");
    let feed = assigned.clone();
    pods.on_change(move |change| {
        let before = change.old().map_or("", |pod| pod::node_name(pod));
        if change.object().is_some_and(|pod| pod::node_name(pod) != before) && !matches!(change, Change::Deleted(_)) {
            feed.add(change.key());
        }
    });
    let (store, new) = (nodes.clone(), &marker);
    let mark = controller::run(context.name, assigned, PARALLEL, context.shutdown.clone(), |key: ObjectKey| {
        let store = store.clone();
        async move {
            let Some(pod) = new.pods.get(&key) else { return Ok(Action::Done) };
            let node = store.get(&ObjectKey::cluster(pod::node_name(&pod)));
            let readiness = node.and_then(|node| Readiness::of(&node));
            if readiness.is_some_and(|readiness| readiness != Readiness::Ready) {
                new.mark_not_ready(&pod).await?;
            }
            Ok::<_, crate::common::Error>(Action::Done)
        }
    });

    let mut monitor = Monitor {
        marker: &marker,
        unmarked: HashSet::new(),
        nodes,
        leases,
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
    tokio::join!(taint, mark, watch);
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

struct Monitor<'a> {
    marker: &'a Marker,
    /// Nodes that were found silent and whose pods are not all marked as not ready.
    unmarked: HashSet<String>,
    nodes: Store<Node>,
    leases: Store<Lease>,
    options: NodeOptions,
    recorder: Recorder,
    client: Client,
    /// Each node by its name, with its uid for the event of its end.
    health: HashMap<String, (String, Tracker)>,
    zones: Zones,
}

impl Monitor<'_> {
    async fn tick(&mut self) {
        let nodes = self.nodes.list();
        let there: HashSet<&str> = nodes.iter().map(|node| meta::name(node.as_ref())).collect();
        self.unmarked.retain(|name| there.contains(name.as_str()));
        self.health.retain(|name, (uid, _)| {
            let stays = there.contains(name.as_str());
            if !stays {
                let message = format!("Node {name} event: Removing Node {name} from Controller");
                self.recorder.event_on(reference(name, uid), Type::Normal, "RemovingNode", message);
            }
            stays
        });
        let now = Instant::now();
        let mut states = Vec::with_capacity(nodes.len());
        for node in &nodes {
            let name = meta::name(node.as_ref());
            let lease = self.leases.get(&ObjectKey::namespaced(LEASES, name));
            let (_, tracker) = self.health.entry(name.to_owned()).or_insert_with(|| {
                let message = format!("Node {name} event: Registered Node {name} in Controller");
                self.recorder.event(node.as_ref(), Type::Normal, "RegisteredNode", message);
                (meta::uid(node.as_ref()).to_owned(), Tracker::new(now))
            });
            tracker.observe(node, lease.as_deref(), now);
            let silent = tracker.is_silent(node, &self.options, now);
            let readiness = if silent { Some(Readiness::Unknown) } else { Readiness::of(node) };
            states.push(Seen { node: node.clone(), silent, readiness });
        }
        for seen in &states {
            self.attend(seen).await;
        }
        self.evict(&states, now).await;
    }

    /// Writes what a silent kubelet no longer can. A kubelet that says itself that its node is not ready also says what its
    /// pods are.
    async fn attend(&mut self, seen: &Seen) {
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
            if Readiness::of(&seen.node) == Some(Readiness::Ready) {
                let message = format!("Node {name} status is now: NodeNotReady");
                self.recorder.event(seen.node.as_ref(), Type::Normal, "NodeNotReady", message);
                self.unmarked.insert(name.to_owned());
            }
        }
        if seen.readiness == Some(Readiness::Ready) || self.unmarked.contains(name) && self.marker.mark(name).await {
            self.unmarked.remove(name);
        }
    }

    /// NoExecute taints: taken off at once, put on as the zone allows.
    async fn evict(&mut self, states: &[Seen], now: Instant) {
        let counted = states.iter().filter(|seen| !seen.node.labels().contains_key(EXCLUDED));
        let readiness = counted.map(|seen| (zones::of(&seen.node), seen.readiness == Some(Readiness::Ready)));
        self.zones.update(readiness, &self.options, now);
        for seen in states {
            let wanted: &[&str] = match seen.readiness {
                None => continue,
                Some(Readiness::Ready) => &[],
                Some(Readiness::NotReady) => &[taints::NOT_READY],
                Some(Readiness::Unknown) => &[taints::UNREACHABLE],
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
    readiness: Option<Readiness>,
}

/// A node that is gone, for an event about it.
fn reference(name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Node".into()),
        name: Some(name.into()),
        uid: Some(uid.into()),
        ..ObjectReference::default()
    }
}

/// Services must not send anything to pods whose node cannot say how they are.
struct Marker {
    pods: Store<Pod>,
    recorder: Recorder,
    client: Client,
}

impl Marker {
    /// Marks the pods of a node as not ready; whether that is done for all.
    async fn mark(&self, node: &str) -> bool {
        let marks = stream::iter(self.pods.by_index(pod::index::NODE, node)).map(|pod| async move {
            let marked = self.mark_not_ready(&pod).await;
            marked.inspect_err(|error| tracing::warn!(%error, "Will try again")).is_ok()
        });
        marks.buffer_unordered(PARALLEL).fold(true, |all, marked| async move { all && marked }).await
    }

    /// Marks a pod as not ready, if it says that it is.
    async fn mark_not_ready(&self, pod: &Pod) -> Result<()> {
        let Some(ready) = pod::condition(pod, "Ready").filter(|ready| ready.status != "False") else { return Ok(()) };
        let (reason, message) = (ready.reason(), ready.message());
        let patch = json!({
            "metadata": {"uid": meta::uid(pod)},
            "status": {"conditions": [pod::condition_patch(pod, "Ready", "False", reason, message)]},
        });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), meta::namespace(pod));
        let patched = api.patch_status(meta::name(pod), &PatchParams::default(), &Patch::Strategic(patch)).await;
        if patched.or_gone(|| format!("mark pod {} as not ready", meta::key(pod)))?.is_some() {
            self.recorder.event(pod, Type::Warning, "NodeNotReady", "Node is not ready");
        }
        Ok(())
    }
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
