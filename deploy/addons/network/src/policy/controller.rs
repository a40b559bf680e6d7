//! Follows policies, namespaces and pods, and applies what changed.
//!
//! Watches note what changed; a round brings the tracker up to date and hands nft one script, which it applies as a whole or not
//! at all. After a failure everything is applied anew in one transaction, so no packet meets half the rules.

use super::compile::compile;
use super::model::{Key, PodFacts};
use super::tracker::Tracker;
use crate::health::Health;
use crate::nft;
use component_base::informer::{Factory, ObjectKey, Scope, Store};
use component_base::metrics::{self, Histogram, IntCounter, IntGaugeVec};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Resource;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// At most one round in this time. A change after a quiet time is applied at once.
const ROUND_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Everything is applied anew this often: somebody else may have touched the table.
const RESYNC_INTERVAL: Duration = Duration::from_secs(3600);
/// Longest wait after a failure; the first is a second.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// What a round has to look at again. Bounded by the number of objects.
#[derive(Default)]
struct Changed {
    namespaces: Mutex<BTreeSet<Key>>,
    policies: Mutex<BTreeSet<Key>>,
    pods: Mutex<BTreeSet<Key>>,
    wake: Notify,
}

struct Metrics {
    rounds: Histogram,
    failures: IntCounter,
    objects: IntGaugeVec,
}

pub struct Controller {
    node: String,
    namespaces: Store<Namespace>,
    policies: Store<NetworkPolicy>,
    pods: Store<Pod>,
    changed: Arc<Changed>,
    tracker: Tracker,
    /// The table is not known to be what the tracker says.
    dirty: bool,
    health: Arc<Health>,
    metrics: Metrics,
}

fn follow<K>(store: &Store<K>, changed: &Arc<Changed>, which: fn(&Changed) -> &Mutex<BTreeSet<Key>>)
where
    K: Resource + Send + Sync + 'static,
{
    let changed = changed.clone();
    store.on_change(move |change| {
        let key = change.key();
        which(&changed).lock().insert((key.namespace, key.name));
        changed.wake.notify_one();
    });
}

/// Leaves of a Pod what [`PodFacts`] reads: all pods of the cluster are kept in memory.
fn trim(pod: &mut Pod) {
    pod.metadata.annotations = None;
    pod.metadata.owner_references = None;
    if let Some(spec) = &mut pod.spec {
        let named = |containers: &mut Vec<k8s_openapi::api::core::v1::Container>| {
            let ports =
                containers.drain(..).flat_map(|c| c.ports.unwrap_or_default()).filter(|port| port.name.is_some());
            let ports: Vec<_> = ports.collect();
            if !ports.is_empty() {
                containers.push(k8s_openapi::api::core::v1::Container { ports: Some(ports), ..Default::default() });
            }
            containers.shrink_to_fit();
        };
        named(&mut spec.containers);
        if let Some(containers) = &mut spec.init_containers {
            named(containers);
        }
        let (node_name, host_network) = (spec.node_name.take(), spec.host_network);
        let (containers, init_containers) = (std::mem::take(&mut spec.containers), spec.init_containers.take());
        *spec = Default::default();
        (spec.node_name, spec.host_network) = (node_name, host_network);
        (spec.containers, spec.init_containers) = (containers, init_containers);
    }
    if let Some(status) = &mut pod.status {
        let (phase, pod_ips) = (status.phase.take(), status.pod_ips.take());
        *status = Default::default();
        (status.phase, status.pod_ips) = (phase, pod_ips);
    }
}

impl Controller {
    pub fn new(node: &str, factory: &Factory, health: Arc<Health>) -> Controller {
        let namespaces = factory.store_with::<Namespace>(Scope::all(), |n| n.metadata.annotations = None);
        let policies = factory.store_with::<NetworkPolicy>(Scope::all(), |p| p.metadata.annotations = None);
        let pods = factory.store_with::<Pod>(Scope::all(), trim);
        let changed = Arc::new(Changed::default());
        follow(&namespaces, &changed, |c| &c.namespaces);
        follow(&policies, &changed, |c| &c.policies);
        follow(&pods, &changed, |c| &c.pods);
        let metrics = Metrics {
            rounds: metrics::histogram(
                "cluster_network_policy_sync_duration_seconds",
                "Time of a round that makes the rules be what policies and pods ask for.",
                &[0.001, 0.01, 0.1, 1.0, 10.0],
            ),
            failures: metrics::int_counter(
                "cluster_network_policy_sync_failures_total",
                "Rounds of policies that failed.",
            ),
            objects: metrics::int_gauge_vec(
                "cluster_network_policy_objects",
                "Policies that select a pod of this node, and the sets and elements that they take.",
                &["kind"],
            ),
        };
        let (node, tracker) = (node.to_owned(), Tracker::new());
        Controller { node, namespaces, policies, pods, changed, tracker, dirty: true, health, metrics }
    }

    /// Works until `shutdown`, and calls `applied` once the rules are there for the first time. They stay when it ends.
    pub async fn run(
        mut self,
        factory: Factory,
        applied: impl FnOnce(),
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        // Half the pods would make half the rules, and drop what is allowed.
        tokio::select! { () = factory.synced() => {}, () = shutdown.cancelled() => return Ok(()) }
        let mut applied = Some(applied);
        let mut retry = Duration::from_secs(1);
        let mut resync_at = Instant::now() + RESYNC_INTERVAL;
        loop {
            let started = Instant::now();
            self.health.begin();
            let rest = match self.round().await {
                Ok(()) => {
                    self.health.succeed(None);
                    if let Some(applied) = applied.take() {
                        applied();
                    }
                    retry = Duration::from_secs(1);
                    ROUND_INTERVAL_MIN.saturating_sub(started.elapsed())
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, retry_in = ?retry, "Policies could not be applied; all of them will be, from scratch");
                    self.metrics.failures.inc();
                    self.dirty = true;
                    self.changed.wake.notify_one();
                    let rest = retry;
                    retry = (retry * 2).min(RETRY_INTERVAL_MAX);
                    rest
                }
            };
            self.metrics.rounds.observe(started.elapsed().as_secs_f64());
            tokio::select! { () = tokio::time::sleep(rest) => {}, () = shutdown.cancelled() => return Ok(()) }
            tokio::select! {
                result = timeout(resync_at.saturating_duration_since(Instant::now()), self.changed.wake.notified()) => if result.is_err() {
                    self.dirty = true;
                    resync_at = Instant::now() + RESYNC_INTERVAL;
                },
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        for key in std::mem::take(&mut *self.changed.namespaces.lock()) {
            let namespace = self.namespaces.get(&ObjectKey::cluster(&key.1));
            self.tracker.set_namespace(&key.1, namespace.map(|n| n.metadata.labels.clone().unwrap_or_default()));
        }
        // Policies after namespaces and before pods: what a policy says of the pods there are is worked out once.
        for key in std::mem::take(&mut *self.changed.policies.lock()) {
            let policy = self.policies.get(&ObjectKey::namespaced(&key.0, &key.1));
            let (compiled, wrong) = policy.map(|policy| compile(&key.0, &policy)).unwrap_or_default();
            for reason in wrong {
                tracing::warn!(
                    namespace = key.0,
                    policy = key.1,
                    reason,
                    "Part of a policy is not understood; it allows nothing"
                );
            }
            self.tracker.set_policy(&key, compiled);
        }
        for key in std::mem::take(&mut *self.changed.pods.lock()) {
            let pod = self.pods.get(&ObjectKey::namespaced(&key.0, &key.1));
            self.tracker.set_pod(&key, pod.and_then(|pod| PodFacts::of(&pod, &self.node)));
        }
        let script = if self.dirty { self.tracker.rules.full() } else { self.tracker.rules.script() };
        if !script.is_empty() {
            nft::apply(&script).await?;
            tracing::debug!(bytes = script.len(), all = self.dirty, "policies applied");
            let (sets, elements) = self.tracker.rules.size();
            for (kind, count) in [("policies", self.tracker.policies_in_use()), ("sets", sets), ("elements", elements)]
            {
                self.metrics.objects.with_label_values(&[kind]).set(count as i64);
            }
        }
        self.dirty = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_trimmed_pod_says_the_same() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"labels": {"app": "web"}, "annotations": {"a": "b"}},
            "spec": {"nodeName": "a", "containers": [
                {"name": "c", "image": "i", "ports": [{"containerPort": 80, "name": "http"}]}, {"name": "d"}],
                "initContainers": [{"name": "e", "ports": [{"containerPort": 81, "name": "admin"}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "message": "m"},
        }))
        .unwrap();
        let before = PodFacts::of(&pod, "a");
        trim(&mut pod);
        assert!(before.is_some());
        assert_eq!(PodFacts::of(&pod, "a"), before);
        assert!(pod.status.unwrap().message.is_none());
    }
}
