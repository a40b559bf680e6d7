//! taint-eviction-controller: deletes pods that do not tolerate a NoExecute taint of their node, at once or when their
//! toleration runs out.

use std::time::Duration;

use component_base::{
    controller::{self, Action},
    events::{Recorder, Type},
    informer::{Change, ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    common::{Doing, Result, meta, pod, scheduling, taints},
    context::Context,
};

const WORKERS: usize = 8;

pub async fn run(context: Context) {
    let controller = Controller {
        nodes: context.factory.store(Scope::all()),
        pods: context.pods(),
        client: context.client.clone(),
        recorder: context.recorder("taint-eviction-controller"),
    };
    let queue = WorkQueue::new("taint_eviction");
    let (feed, nodes) = (queue.clone(), controller.nodes.clone());
    controller.pods.on_change(move |change| {
        // Only what its node has and what it tolerates decide; a node without such taints needs no look.
        let tainted = |pod: &Pod| {
            let node = nodes.get(&ObjectKey::cluster(pod::node_name(pod)));
            node.is_some_and(|node| !evicting(&node).is_empty())
        };
        if let Change::Added(pod) | Change::Updated { new: pod, .. } = change
            && tainted(pod)
        {
            feed.add(change.key());
        }
    });
    let (feed, pods) = (queue.clone(), controller.pods.clone());
    controller.nodes.on_change(move |change| {
        let (node, before) = match change {
            Change::Added(node) => (node, Vec::new()),
            Change::Updated { old, new } => (new, evicting(old)),
            _ => return,
        };
        if evicting(node) != before {
            let on_node = pods.by_index(pod::index::NODE, meta::name(node.as_ref()));
            on_node.iter().for_each(|pod| feed.add(meta::key(pod.as_ref())));
        }
    });
    tokio::join!(controller.nodes.synced(), controller.pods.synced());
    let controller = &controller;
    controller::run(
        context.name,
        queue,
        WORKERS,
        context.shutdown,
        |key| async move { controller.reconcile(&key).await },
    )
    .await;
}

struct Controller {
    nodes: Store<Node>,
    pods: Store<Pod>,
    client: Client,
    recorder: Recorder,
}

fn evicting(node: &Node) -> Vec<Taint> {
    taints::of(node).iter().filter(|taint| taint.effect == taints::NO_EXECUTE).cloned().collect()
}

/// When a pod has to go; `None` if it may stay as long as its node is as it is. The shortest toleration counts.
fn deadline(taints: &[Taint], tolerations: &[Toleration], now: Timestamp) -> Option<Timestamp> {
    let mut deadline: Option<Timestamp> = None;
    for taint in taints {
        let bearing: Vec<_> =
            tolerations.iter().filter(|toleration| scheduling::tolerates(toleration, taint)).collect();
        if bearing.is_empty() {
            return Some(now);
        }
        let limits = bearing.iter().filter_map(|toleration| toleration.toleration_seconds);
        if let Some(secs) = limits.min() {
            let added = taint.time_added.as_ref().map_or(now, |time| time.0);
            let until = added.checked_add(jiff::SignedDuration::from_secs(secs.max(0))).unwrap_or(Timestamp::MAX);
            deadline = Some(deadline.map_or(until, |earlier| earlier.min(until)));
        }
    }
    deadline
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let Some(pod) = self.pods.get(key).filter(|pod| !meta::is_deleting(pod.as_ref())) else {
            return Ok(Action::Done);
        };
        let Some(node) = self.nodes.get(&ObjectKey::cluster(pod::node_name(&pod))) else { return Ok(Action::Done) };
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        let now = Timestamp::now();
        match deadline(&evicting(&node), tolerations, now) {
            None => Ok(Action::Done),
            Some(at) if at <= now => self.evict(&pod).await,
            Some(at) => {
                let left_ms = u64::try_from(at.duration_since(now).as_millis()).unwrap_or(0);
                Ok(Action::After(Duration::from_millis(left_ms + 1)))
            }
        }
    }

    async fn evict(&self, pod: &Pod) -> Result {
        let (namespace, name) = (meta::namespace(pod), meta::name(pod));
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let what = || format!("evict pod {namespace}/{name}");
        self.recorder.event(
            pod,
            Type::Normal,
            "TaintManagerEviction",
            format!("Marking for deletion Pod {namespace}/{name}"),
        );
        let message = "Taint manager: deleting due to NoExecute taint";
        let condition = pod::condition_patch(pod, "DisruptionTarget", "True", "DeletionByTaintManager", message);
        let patch = json!({"metadata": {"uid": meta::uid(pod)}, "status": {"conditions": [condition]}});
        api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await.or_gone(what)?;
        api.delete(name, &meta::delete_exactly(pod)).await.or_gone(what)?;
        Ok(Action::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_toleration_counts() {
        let now = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(1000);
        let taints: Vec<Taint> = serde_json::from_value(json!([
            {"key": "a", "effect": "NoExecute", "timeAdded": "1970-01-01T00:15:00Z"},
            {"key": "b", "effect": "NoExecute", "timeAdded": "1970-01-01T00:16:00Z"},
        ]))
        .unwrap();
        let exists =
            |key: &str, secs: Option<i64>| json!({"key": key, "operator": "Exists", "tolerationSeconds": secs});
        for (tolerations, expected) in [
            (json!([]), Some(1000)),
            (json!([exists("a", None)]), Some(1000)),
            (json!([exists("a", None), exists("b", None)]), None),
            (json!([exists("a", Some(300)), exists("b", None)]), Some(1200)),
            (json!([exists("a", Some(300)), exists("b", Some(30))]), Some(990)),
            (json!([{"operator": "Exists"}]), None),
        ] {
            let parsed: Vec<Toleration> = serde_json::from_value(tolerations.clone()).unwrap();
            let found = deadline(&taints, &parsed, now).map(Timestamp::as_second);
            assert_eq!(found, expected, "{tolerations}");
        }
        assert_eq!(deadline(&[], &[], now), None);
    }
}
