//! Follows Nodes and the kernel, and applies what changed.
//!
//! A round computes what should be and does the steps from what there is. What there is stays in mind from one round to the
//! next; the kernel is asked again at the start, after a failure, when it says that a link, an address or a route of ours has
//! changed, and every few minutes. While the API server is away the last nodes that were seen count.

use crate::flags::Flags;
use crate::health::Health;
use crate::kernel::{self, Kernel, Observed};
use crate::state::{self, Desired, Peer, Route};
use crate::{cni, masquerade, nft, sysctl};
use component_base::informer::{Change, Factory, Scope};
use component_base::metrics;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use metrics::{Histogram, IntCounter, IntGaugeVec};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// At most one round in this time: a storm of pods makes a storm of links. A change after a quiet time is applied at once.
const ROUND_INTERVAL_MIN: Duration = Duration::from_millis(500);
/// The kernel is asked at least this often: it does not tell of everything that it drops.
const RESYNC_INTERVAL: Duration = Duration::from_secs(300);
/// Longest wait after a failure; the first is a second.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// What the watches have seen and no round has looked at.
#[derive(Default)]
struct Seen {
    /// Nodes by name. Bounded by the number of nodes.
    peers: Mutex<BTreeMap<String, Peer>>,
    /// The kernel has told of a change.
    kernel: AtomicBool,
    /// The policies of this node have been applied.
    policies: AtomicBool,
    wake: Notify,
}

impl Seen {
    fn node(&self, change: &Change<Node>) {
        let Some(node) = change.object() else { return };
        let peer = peer(node);
        let mut peers = self.peers.lock();
        let changed = match change {
            Change::Deleted(_) => peers.remove(&peer.name).is_some(),
            // A node's status is written every few minutes without anything that matters here.
            _ if peers.get(&peer.name) == Some(&peer) => false,
            _ => {
                peers.insert(peer.name.clone(), peer);
                true
            }
        };
        if changed {
            self.wake.notify_one();
        }
    }
}

/// What of a Node matters here.
fn peer(node: &Node) -> Peer {
    let spec = node.spec.as_ref();
    // podCIDRs has podCIDR as its first; only a client of long ago leaves it out.
    let ranges = spec.and_then(|s| s.pod_cidrs.clone()).or_else(|| spec.and_then(|s| Some(vec![s.pod_cidr.clone()?])));
    let addresses = node.status.as_ref().and_then(|s| s.addresses.as_ref()).into_iter().flatten();
    Peer {
        name: node.metadata.name.clone().unwrap_or_default(),
        ranges: ranges.into_iter().flatten().filter_map(|range| range.parse::<IpNet>().ok()).collect(),
        addresses: addresses.filter(|a| a.type_ == "InternalIP").filter_map(|a| a.address.parse().ok()).collect(),
    }
}

struct Metrics {
    rounds: Histogram,
    failures: IntCounter,
    steps: IntCounter,
    routes: IntGaugeVec,
}

impl Metrics {
    fn new() -> Metrics {
        Metrics {
            rounds: metrics::histogram(
                "cluster_network_sync_duration_seconds",
                "Time of a round that makes the kernel have what the nodes ask for.",
                &[0.001, 0.01, 0.1, 1.0, 10.0],
            ),
            failures: metrics::int_counter("cluster_network_sync_failures_total", "Rounds that failed."),
            steps: metrics::int_counter(
                "cluster_network_kernel_changes_total",
                "Changes of links, routes and neighbours.",
            ),
            routes: metrics::int_gauge_vec(
                "cluster_network_pod_ranges",
                "Pod ranges of nodes by the way there: local, direct, tunnel, or none.",
                &["way"],
            ),
        }
    }

    fn show(&self, desired: &Desired) {
        let count = |matches: fn(&Route) -> bool| desired.state.routes.values().filter(|route| matches(route)).count();
        for (way, count) in [
            ("local", count(|route| matches!(route, Route::Unreachable))),
            ("direct", count(|route| matches!(route, Route::Direct { .. }))),
            ("tunnel", count(|route| matches!(route, Route::Tunnel { .. }))),
            ("none", desired.unreachable.len()),
        ] {
            self.routes.with_label_values(&[way]).set(count as i64);
        }
    }
}

pub struct Agent {
    flags: Flags,
    seen: Arc<Seen>,
    kernel: Kernel,
    /// What the kernel has; nothing if it has to be asked.
    observed: Option<Observed>,
    /// The rules that are applied; nothing if they are not known to be there.
    rules: Option<String>,
    /// Nodes without a way, as they were told last.
    told: Vec<(String, &'static str)>,
    health: Arc<Health>,
    metrics: Metrics,
}

impl Agent {
    pub fn new(flags: Flags, factory: &Factory, health: Arc<Health>) -> anyhow::Result<Agent> {
        let nodes = factory.store_with::<Node>(Scope::all(), |node| {
            // What is kept of each node is in `Seen`; the store only has to tell changes apart.
            node.metadata.annotations = None;
            node.metadata.labels = None;
            if let Some(status) = &mut node.status {
                let addresses = status.addresses.take();
                *status = Default::default();
                status.addresses = addresses;
            }
        });
        let seen = Arc::new(Seen::default());
        let told = seen.clone();
        nodes.on_change(move |change| told.node(change));
        let kernel = Kernel::connect()?;
        let metrics = Metrics::new();
        Ok(Agent { flags, seen, kernel, observed: None, rules: None, told: Vec::new(), health, metrics })
    }

    /// To be called once the policies of this node are applied. Before that no pod is started that was not there.
    pub fn policies_applied(&self) -> impl FnOnce() + use<> {
        let seen = self.seen.clone();
        move || {
            seen.policies.store(true, Ordering::Relaxed);
            seen.wake.notify_one();
        }
    }

    /// Works until `shutdown`. Routes and rules stay when it ends: what runs keeps running.
    pub async fn run(mut self, factory: Factory, shutdown: CancellationToken) -> anyhow::Result<()> {
        // Before everything is listed, routes of nodes that are still there would be taken for stale ones.
        tokio::select! { () = factory.synced() => {}, () = shutdown.cancelled() => return Ok(()) }
        let seen = self.seen.clone();
        let _watch = kernel::watch(move || {
            seen.kernel.store(true, Ordering::Relaxed);
            seen.wake.notify_one();
        })?;
        let mut retry = Duration::from_secs(1);
        let mut resync_at = Instant::now() + RESYNC_INTERVAL;
        loop {
            let started = Instant::now();
            self.health.begin();
            let rest = match self.round().await {
                Ok(waits_for) => {
                    self.health.succeed(waits_for);
                    retry = Duration::from_secs(1);
                    ROUND_INTERVAL_MIN.saturating_sub(started.elapsed())
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, retry_in = ?retry, "The network is not as it should be");
                    self.metrics.failures.inc();
                    (self.observed, self.rules) = (None, None);
                    self.seen.wake.notify_one();
                    let rest = retry;
                    retry = (retry * 2).min(RETRY_INTERVAL_MAX);
                    rest
                }
            };
            self.metrics.rounds.observe(started.elapsed().as_secs_f64());
            tokio::select! { () = tokio::time::sleep(rest) => {}, () = shutdown.cancelled() => return Ok(()) }
            tokio::select! {
                result = timeout(resync_at.saturating_duration_since(Instant::now()), self.seen.wake.notified()) => if result.is_err() {
                    // Somebody else may have touched what is ours.
                    (self.observed, self.rules) = (None, None);
                    resync_at = Instant::now() + RESYNC_INTERVAL;
                },
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }

    /// Makes everything as it should be, or says what that waits for.
    async fn round(&mut self) -> anyhow::Result<Option<String>> {
        if self.seen.kernel.swap(false, Ordering::Relaxed) {
            self.observed = None;
        }
        let peers = self.seen.peers.lock().clone();
        let name = &self.flags.node_name;
        // Nothing is taken down where the node is gone or has no range: its pods may still run.
        let Some(own) = peers.get(name) else {
            return Ok(Some(format!("there is no Node {name}; --node-name must be what the kubelet registers")));
        };
        if own.ranges.is_empty() {
            let how = "kube-controller-manager gives it one with --allocate-node-cidrs and --cluster-cidr";
            return Ok(Some(format!("the Node {name} has no podCIDR; {how}")));
        }
        sysctl::forward(own.ranges.iter().any(|range| matches!(range, IpNet::V6(_))))?;
        let mut observed = match self.observed.take() {
            Some(observed) => observed,
            None => self.kernel.observe().await?,
        };
        let desired = state::desired(own, peers.values(), &observed.links, self.flags.vxlan_port);
        let steps = state::steps(&observed.state, &desired.state);
        self.kernel.apply(&steps, &observed).await?;
        self.metrics.steps.inc_by(steps.len() as u64);
        if !steps.is_empty() {
            tracing::info!(steps = steps.len(), ranges = desired.state.routes.len(), "Routes applied");
        }
        // A new device has an index that is not known yet: asked for in the next round that has something to do.
        let same_device =
            desired.state.tunnel.as_ref().map(|t| &t.device) == observed.state.tunnel.as_ref().map(|t| &t.device);
        self.observed = {
            observed.state = desired.state.clone();
            same_device.then_some(observed)
        };
        self.metrics.show(&desired);
        let rules = masquerade::script(&own.ranges, &self.flags.cluster_cidr);
        if self.rules.as_ref() != Some(&rules) {
            nft::apply(&rules).await?;
            self.rules = Some(rules);
        }
        if !self.seen.policies.load(Ordering::Relaxed) {
            return Ok(Some("the network policies are not applied yet".into()));
        }
        // Last: from here on the runtime starts pods.
        let bandwidth = self.flags.cni_bin_dir.join("bandwidth").exists();
        let conflist = cni::conflist(&own.ranges, desired.pod_mtu, bandwidth);
        if cni::write(&self.flags.cni_conf_dir, &conflist)? {
            tracing::info!(folder = %self.flags.cni_conf_dir.display(), ranges = ?own.ranges, mtu = desired.pod_mtu, "CNI configuration written");
        }
        if self.told != desired.unreachable {
            for (node, reason) in &desired.unreachable {
                tracing::warn!(node, reason, "There is no way to a node's pods");
            }
            self.told = desired.unreachable;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matters_of_a_node_wakes() {
        let node = |text: &str| serde_json::from_str::<Node>(text).unwrap();
        let first = node(
            r#"{"metadata": {"name": "a"}, "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00::/64"]},
               "status": {"addresses": [{"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": "192.0.2.1"}]}}"#,
        );
        let seen = Seen::default();
        let woken = |change| {
            seen.node(&change);
            use futures::FutureExt;
            seen.wake.notified().now_or_never().is_some()
        };
        assert!(woken(Change::Added(Arc::new(first.clone()))));
        let peer = seen.peers.lock()["a"].clone();
        assert_eq!((peer.ranges.len(), peer.addresses), (2, vec!["192.0.2.1".parse().unwrap()]));
        let mut beat = first.clone();
        beat.metadata.resource_version = Some("2".into());
        let updated = |new: Node| Change::Updated { old: Arc::new(first.clone()), new: Arc::new(new) };
        assert!(!woken(updated(beat)));
        let mut moved = first.clone();
        moved.status.as_mut().unwrap().addresses.as_mut().unwrap()[1].address = "192.0.2.2".into();
        assert!(woken(updated(moved)));
        assert!(woken(Change::Deleted(Arc::new(first.clone()))));
        assert!(!woken(Change::Deleted(Arc::new(first.clone()))));
    }
}
