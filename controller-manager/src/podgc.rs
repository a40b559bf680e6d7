//! pod-garbage-collector-controller: removes pods that nobody else will.
//!
//! - Finished ones beyond `--terminated-pod-gc-threshold`, oldest first.
//! - Those bound to a node that does not exist (after a quarantine, for nodes may be slow to register).
//! - Those being deleted that were never scheduled: no kubelet will confirm their end.
//! - Those being deleted on a node that is out of service.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use component_base::informer::{ObjectKey, Scope, Store};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;

use crate::{
    common::{Doing, Result, meta, pod},
    context::Context,
};

const PERIOD: Duration = Duration::from_secs(20);
/// How long a node must be missing before its pods are removed.
const QUARANTINE: Duration = Duration::from_secs(40);
const PARALLEL: usize = 8;
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

pub async fn run(context: Context) {
    let nodes = context.factory.store::<Node>(Scope::all());
    let mut collector = Collector {
        pods: context.pods(),
        nodes: nodes.clone(),
        client: context.client.clone(),
        threshold: usize::try_from(context.options.terminated_pod_gc_threshold).ok().filter(|count| *count > 0),
        missing: HashMap::new(),
    };
    tokio::join!(collector.pods.synced(), nodes.synced());
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            _ = ticks.tick() => collector.collect().await,
        }
    }
}

/// Why a pod is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Terminated,
    Orphaned,
    Unscheduled,
    OutOfService,
}

struct Collector {
    pods: Store<Pod>,
    nodes: Store<Node>,
    client: Client,
    threshold: Option<usize>,
    /// Nodes that pods name and that do not exist, since when.
    missing: HashMap<String, Instant>,
}

impl Collector {
    async fn collect(&mut self) {
        let pods = self.pods.list();
        let gone = self.confirmed_missing(&pods).await;
        let victims = victims(&pods, self.threshold, |node| {
            if gone.contains(&node.to_owned()) {
                return Some(Why::Orphaned);
            }
            let node = self.nodes.get(&ObjectKey::cluster(node))?;
            let taints = node.spec.as_ref()?.taints.as_ref()?;
            taints.iter().any(|taint| taint.key == OUT_OF_SERVICE).then_some(Why::OutOfService)
        });
        let client = &self.client;
        stream::iter(victims)
            .for_each_concurrent(PARALLEL, |(pod, why)| async move {
                if let Err(error) = remove(client, &pod, why).await {
                    tracing::error!(pod = %meta::key(pod.as_ref()), ?why, %error, "Cannot remove a pod");
                }
            })
            .await;
    }

    /// Nodes that have been missing for the quarantine, and that the API server does not know either.
    async fn confirmed_missing(&mut self, pods: &[Arc<Pod>]) -> Vec<String> {
        let named = pods.iter().map(|pod| pod::node_name(pod)).filter(|node| !node.is_empty());
        let absent: Vec<&str> = named.filter(|node| self.nodes.get(&ObjectKey::cluster(*node)).is_none()).collect();
        self.missing.retain(|node, _| absent.contains(&node.as_str()));
        for node in absent {
            self.missing.entry(node.to_owned()).or_insert_with(Instant::now);
        }
        let api: Api<Node> = Api::all(self.client.clone());
        let mut confirmed = Vec::new();
        for (node, since) in &self.missing {
            if since.elapsed() >= QUARANTINE && matches!(api.get_metadata_opt(node).await, Ok(None)) {
                confirmed.push(node.clone());
            }
        }
        confirmed
    }
}

/// Pods to remove; `node_trouble` says what is wrong with a node, if anything.
fn victims(
    pods: &[Arc<Pod>],
    threshold: Option<usize>,
    node_trouble: impl Fn(&str) -> Option<Why>,
) -> Vec<(Arc<Pod>, Why)> {
    let mut victims = Vec::new();
    if let Some(threshold) = threshold {
        let mut terminated: Vec<_> = pods.iter().filter(|pod| pod::is_terminal(pod)).collect();
        let surplus = terminated.len().saturating_sub(threshold);
        terminated.sort_by_cached_key(|pod| (meta::created(pod.as_ref()), meta::name(pod.as_ref()).to_owned()));
        victims.extend(terminated.into_iter().take(surplus).map(|pod| (pod.clone(), Why::Terminated)));
    }
    for pod in pods {
        let node = pod::node_name(pod);
        let why = match (node.is_empty(), meta::is_deleting(pod.as_ref())) {
            (true, true) => Some(Why::Unscheduled),
            (true, false) => None,
            (false, deleting) => {
                node_trouble(node).filter(|why| *why == Why::Orphaned || deleting && !pod::is_ready(pod))
            }
        };
        if let Some(why) = why {
            victims.push((pod.clone(), why));
        }
    }
    victims
}

async fn remove(client: &Client, pod: &Pod, why: Why) -> Result<()> {
    let (namespace, name) = (meta::namespace(pod), meta::name(pod));
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let what = || format!("remove pod {namespace}/{name} ({why:?})");
    // A pod that is not finished is failed first: its owner must be able to count it.
    if !pod::is_terminal(pod) {
        let mut status = json!({"phase": "Failed"});
        if matches!(why, Why::Orphaned) {
            let message = "PodGC: node no longer exists";
            let condition = pod::condition_patch(pod, "DisruptionTarget", "True", "DeletionByPodGC", message);
            status["conditions"] = json!([condition]);
        }
        let patch = Patch::Strategic(json!({"metadata": {"uid": meta::uid(pod)}, "status": status}));
        api.patch_status(name, &PatchParams::default(), &patch).await.or_gone(what)?;
    }
    let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
    let now = DeleteParams { grace_period_seconds: Some(0), preconditions: Some(preconditions), ..Default::default() };
    api.delete(name, &now).await.or_gone(what)?;
    tracing::info!(pod = %meta::key(pod), ?why, "Removed a pod");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, node: &str, phase: &str, deleting: bool, created_secs: i64) -> Arc<Pod> {
        let mut metadata = json!({
            "name": name, "namespace": "default",
            "creationTimestamp": jiff::Timestamp::from_second(created_secs).unwrap().to_string(),
        });
        if deleting {
            metadata["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
        }
        let mut pod = json!({"metadata": metadata, "spec": {"containers": []}, "status": {"phase": phase}});
        if !node.is_empty() {
            pod["spec"]["nodeName"] = json!(node);
        }
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn who_is_removed_and_why() {
        let pods = [
            pod("old", "n1", "Succeeded", false, 1),
            pod("newer", "n1", "Failed", false, 2),
            pod("running", "n1", "Running", false, 3),
            pod("pending", "", "Pending", false, 4),
            pod("unscheduled", "", "Pending", true, 5),
            pod("lost", "gone", "Running", false, 6),
            pod("stuck", "broken", "Running", true, 7),
            pod("working", "broken", "Running", false, 8),
        ];
        let trouble = |node: &str| match node {
            "gone" => Some(Why::Orphaned),
            "broken" => Some(Why::OutOfService),
            _ => None,
        };
        let names: Vec<_> = victims(&pods, Some(1), trouble)
            .into_iter()
            .map(|(pod, why)| (meta::name(pod.as_ref()).to_owned(), why))
            .collect();
        let expected = [
            ("old", Why::Terminated),
            ("unscheduled", Why::Unscheduled),
            ("lost", Why::Orphaned),
            ("stuck", Why::OutOfService),
        ];
        assert_eq!(names, expected.map(|(name, why)| (name.to_owned(), why)));
        assert_eq!(victims(&pods, None, |_| None).len(), 1);
    }
}
