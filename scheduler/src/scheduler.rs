//! The loop: work off what changed, try the next pod, hand it to binding.

use crate::binding::{Binder, Nominated};
use crate::cluster::{Cluster, NodeInfo, PodInfo};
use crate::config::Configuration;
use crate::cycle::{NoNode, Search};
use crate::framework::{Events, Profile};
use crate::plugins::{self, Stores};
use crate::preemption;
use crate::queue::Queue;
use component_base::informer::{Factory, ObjectKey, Scope, Store};
use component_base::metrics;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{Selector, SelectorExt};
use parking_lot::Mutex;
use prometheus::{Histogram, IntCounterVec, IntGaugeVec, Opts};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Bindings under way at once.
const BINDINGS_MAX: usize = 128;

/// What watches have marked: keys to look at again. Bounded by the number of objects.
#[derive(Default)]
struct Marked {
    pods: Mutex<HashSet<ObjectKey>>,
    nodes: Mutex<HashSet<String>>,
    volumes: Mutex<bool>,
    wake: Notify,
}

/// How a binding ended.
struct Bound {
    pod: Arc<PodInfo>,
    ok: bool,
}

struct Metrics {
    attempts: IntCounterVec,
    duration: Histogram,
    pending: IntGaugeVec,
}

impl Metrics {
    fn new() -> Metrics {
        /// A name that prometheus refuses would be a mistake in this file.
        fn own<T>(e: prometheus::Error) -> T {
            panic!("a metric of our own: {e}")
        }
        let attempts = Opts::new("scheduler_schedule_attempts_total", "Attempts to schedule pods, by result.");
        let pending = Opts::new("scheduler_pending_pods", "Pods that wait, by queue.");
        Metrics {
            attempts: metrics::register(IntCounterVec::new(attempts, &["result", "profile"]).unwrap_or_else(own)),
            duration: metrics::histogram(
                "scheduler_scheduling_algorithm_duration_seconds",
                "Time to find a node.",
                &prometheus::exponential_buckets(0.00001, 2.0, 20).unwrap_or_else(own),
            ),
            pending: metrics::register(IntGaugeVec::new(pending, &["queue"]).unwrap_or_else(own)),
        }
    }
}

pub struct Scheduler {
    cluster: Cluster,
    queue: Queue,
    search: Search,
    profiles: Vec<Profile>,
    /// Pods that a cycle placed and the watch has not shown on their node yet.
    assumed: HashMap<String, String>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    budgets: Store<PodDisruptionBudget>,
    /// Uid of the pod last seen under a key: a new pod may take an old one's name.
    seen: HashMap<ObjectKey, String>,
    marked: Arc<Marked>,
    binder: Binder,
    places: Arc<Semaphore>,
    metrics: Metrics,
}

impl Scheduler {
    pub fn new(configuration: &Configuration, factory: &Factory, binder: Binder) -> Scheduler {
        let pods = factory.store::<Pod>(Scope::fields("status.phase!=Succeeded,status.phase!=Failed"));
        let nodes = factory.store::<Node>(Scope::all());
        let stores = Stores { claims: factory.store(Scope::all()), volumes: factory.store(Scope::all()) };
        let marked = Arc::new(Marked::default());
        let mark = marked.clone();
        pods.on_change(move |change| {
            mark.pods.lock().insert(change.key());
            mark.wake.notify_one();
        });
        let mark = marked.clone();
        nodes.on_change(move |change| {
            mark.nodes.lock().insert(change.key().name);
            mark.wake.notify_one();
        });
        let mark = marked.clone();
        let volumes = move || {
            *mark.volumes.lock() = true;
            mark.wake.notify_one();
        };
        stores.claims.on_change({
            let volumes = volumes.clone();
            move |_| volumes()
        });
        stores.volumes.on_change(move |_| volumes());
        Scheduler {
            cluster: Cluster::default(),
            queue: Queue::new(
                Duration::from_secs(configuration.pod_initial_backoff_seconds),
                Duration::from_secs(configuration.pod_max_backoff_seconds),
                configuration.unschedulable_max,
            ),
            search: Search::new(configuration.percentage_of_nodes_to_score, SmallRng::from_os_rng()),
            profiles: configuration.profiles.iter().map(|p| plugins::profile(&stores, p)).collect(),
            assumed: HashMap::new(),
            budgets: factory.store(Scope::all()),
            seen: HashMap::new(),
            pods,
            nodes,
            marked,
            binder,
            places: Arc::new(Semaphore::new(BINDINGS_MAX)),
            metrics: Metrics::new(),
        }
    }

    /// Works until `shutdown`.
    pub async fn run(mut self, factory: Factory, shutdown: CancellationToken) {
        tokio::select! { () = factory.synced() => {}, () = shutdown.cancelled() => return }
        let (done, mut bound) = mpsc::channel::<Bound>(BINDINGS_MAX);
        while !shutdown.is_cancelled() {
            self.work_off_changes();
            while let Ok(result) = bound.try_recv() {
                self.after_binding(result);
            }
            let now = Instant::now();
            match self.queue.pop(now) {
                Some(waiting) => {
                    // All places taken: the API server is the bottleneck, and more cycles would only assume more.
                    let place = tokio::select! {
                        place = self.places.clone().acquire_owned() => place,
                        () = shutdown.cancelled() => return,
                    };
                    let Ok(place) = place else { return };
                    if let Some((pod, node)) = self.cycle(&waiting.pod).await {
                        let (binder, done) = (self.binder.clone(), done.clone());
                        tokio::spawn(async move {
                            let ok = bind(&binder, &pod, &node).await;
                            drop(place);
                            let _ = done.send(Bound { pod, ok }).await; // the loop has ended
                        });
                    }
                    // Watches share the thread with this loop.
                    tokio::task::yield_now().await;
                }
                None => {
                    self.show_queue();
                    let due = self.queue.next_due().unwrap_or(now + Duration::from_secs(60));
                    tokio::select! {
                        () = self.marked.wake.notified() => {}
                        result = bound.recv() => if let Some(result) = result { self.after_binding(result) },
                        () = tokio::time::sleep_until(due.into()) => {}
                        () = shutdown.cancelled() => return,
                    }
                }
            }
        }
    }

    fn show_queue(&self) {
        for (name, length) in ["active", "backoff", "unschedulable"].iter().zip(self.queue.lengths()) {
            self.metrics.pending.with_label_values(&[name]).set(length as i64);
        }
    }

    /// Brings the cluster and the queue up to what the watches have seen.
    fn work_off_changes(&mut self) {
        let nodes = std::mem::take(&mut *self.marked.nodes.lock());
        for name in nodes {
            self.node_changed(&name);
        }
        let pods = std::mem::take(&mut *self.marked.pods.lock());
        let mut events = Events::NONE;
        for key in pods {
            events = events.and(self.pod_changed(&key));
        }
        if std::mem::take(&mut *self.marked.volumes.lock()) {
            events = events.and(Events::VOLUMES);
        }
        if events != Events::NONE {
            self.queue.happened(events, Instant::now());
        }
    }

    fn node_changed(&mut self, name: &str) {
        let Some(node) = self.nodes.get(&ObjectKey::cluster(name)) else {
            self.cluster.remove_node(name);
            return;
        };
        let before = self.cluster.by_name(name).map(|(_, info)| info.node.clone());
        self.cluster.put_node(&node);
        let event = match before.flatten() {
            None => Events::NODE_ADDED,
            Some(before) => node_events(&before, &node),
        };
        if event != Events::NONE {
            self.queue.happened(event, Instant::now());
        }
    }

    fn pod_changed(&mut self, key: &ObjectKey) -> Events {
        let now = Instant::now();
        let pod = self.pods.get(key);
        let uid = pod.as_ref().and_then(|p| p.metadata.uid.clone());
        let mut events = Events::NONE;
        // Another pod of this name, or none: the old one is gone.
        if let Some(old) = self.seen.get(key).filter(|old| Some(*old) != uid.as_ref()).cloned() {
            self.queue.remove(&old);
            self.assumed.remove(&old);
            if self.cluster.remove_pod(&old) {
                events = events.and(Events::POD_REMOVED);
            }
            self.seen.remove(key);
        }
        let (Some(pod), Some(uid)) = (pod, uid) else { return events };
        let info = Arc::new(PodInfo::new(pod.clone()));
        self.seen.insert(key.clone(), uid.clone());
        let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or("");
        if !node.is_empty() {
            self.queue.remove(&uid);
            self.assumed.remove(&uid);
            let new = self.cluster.node_of(&uid) != Some(node);
            self.cluster.put_pod(node, info);
            return if new { events.and(Events::POD_ADDED) } else { events };
        }
        let ours = self.profile(&info).is_some();
        if !ours || info.is_terminating() || self.assumed.contains_key(&uid) {
            if info.is_terminating() {
                self.queue.remove(&uid);
            }
            return events;
        }
        let gate =
            self.profile(&info).and_then(|p| p.pre_enqueue(&info).err().map(|(plugin, _)| p.events(1 << plugin)));
        match gate {
            Some(wanted) if !self.queue.contains(&uid) => self.queue.put_gated(info, wanted, now),
            Some(_) => {}
            None => self.queue.put(info, true, now),
        }
        events
    }

    fn profile(&self, pod: &PodInfo) -> Option<&Profile> {
        self.profiles.iter().find(|p| p.scheduler_name == pod.scheduler_name())
    }

    /// One pod through the cycle; its node if it found one, and it counts there from now on.
    async fn cycle(&mut self, pod: &Arc<PodInfo>) -> Option<(Arc<PodInfo>, String)> {
        let name = pod.scheduler_name();
        let profile = self.profiles.iter().find(|p| p.scheduler_name == name)?;
        let started = Instant::now();
        let result = self.search.find(profile, pod, &mut self.cluster);
        self.metrics.duration.observe(started.elapsed().as_secs_f64());
        let outcome = if result.is_ok() { "scheduled" } else { "unschedulable" };
        self.metrics.attempts.with_label_values(&[outcome, name]).inc();
        match result {
            Ok(slot) => {
                let node = self.cluster.get(slot)?.name.clone();
                self.cluster.put_pod(&node, pod.clone());
                self.assumed.insert(pod.uid.clone(), node.clone());
                Some((pod.clone(), node))
            }
            Err(failed) => {
                self.no_node(pod, failed);
                None
            }
        }
    }

    /// Looks for pods that could make room, writes down why there is no node, and lets the pod wait.
    fn no_node(&mut self, pod: &Arc<PodInfo>, failed: NoNode) {
        let Some(profile) = self.profiles.iter().find(|p| p.scheduler_name == pod.scheduler_name()) else { return };
        // While victims of an earlier plan are on their way out, a new one would end more than needed.
        let nominated = pod.pod.status.as_ref().and_then(|s| s.nominated_node_name.as_deref());
        let clearing =
            nominated.and_then(|n| self.cluster.by_name(n)).is_some_and(|(_, node)| is_clearing(node, pod.priority));
        let budgets = self.budgets.list();
        let protected = |victim: &PodInfo| budgets.iter().any(|b| forbids(b, victim));
        let plan = if clearing { None } else { preemption::plan(profile, pod, &self.cluster, &failed, protected) };
        let message = match &plan {
            Some(plan) => format!(
                "{} preemption: {} pod(s) on node {} make room.",
                failed.message(),
                plan.victims.len(),
                plan.node
            ),
            None => format!(
                "{} preemption: 0/{n} nodes are available: {n} No preemption victims found for incoming pod.",
                failed.message(),
                n = failed.nodes
            ),
        };
        let events = profile.events(failed.turned_down_by);
        self.queue.give_back(&pod.uid, failed.turned_down_by, events, Instant::now());
        let (binder, pod) = (self.binder.clone(), pod.clone());
        tokio::spawn(async move {
            let nominated = match &plan {
                Some(plan) => Nominated::Node(&plan.node),
                None if clearing => Nominated::Keep,
                None => Nominated::Clear,
            };
            binder.unschedulable(&pod, &message, nominated).await;
            if let Some(plan) = plan {
                binder.preempt(&pod, &plan).await;
            }
        });
    }

    fn after_binding(&mut self, result: Bound) {
        if result.ok {
            return; // the watch will show it
        }
        let uid = &result.pod.uid;
        if self.assumed.remove(uid).is_some() {
            self.cluster.remove_pod(uid);
            self.queue.happened(Events::POD_REMOVED, Instant::now());
        }
        self.queue.give_back(uid, 0, Events::NONE, Instant::now());
    }
}

/// Binds, and finds out what happened when the answer was lost.
async fn bind(binder: &Binder, pod: &PodInfo, node: &str) -> bool {
    let Err(error) = binder.bind(pod, node).await else { return true };
    match binder.get(pod).await {
        Ok(None) => return true,
        Ok(Some(now)) if now.metadata.uid.as_deref() != Some(&pod.uid) => return true,
        Ok(Some(now)) if now.spec.as_ref().and_then(|s| s.node_name.as_deref()).is_some_and(|n| !n.is_empty()) => {
            return true;
        }
        _ => {}
    }
    tracing::warn!(pod = format!("{}/{}", pod.namespace, pod.name), node, %error, "the pod could not be bound");
    false
}

/// Pods of lower priority are already ending on a node.
fn is_clearing(node: &NodeInfo, priority: i32) -> bool {
    node.pods.iter().any(|p| p.priority < priority && p.is_terminating())
}

/// Whether ending a pod breaks a budget.
fn forbids(budget: &PodDisruptionBudget, pod: &PodInfo) -> bool {
    let Some(spec) = &budget.spec else { return false };
    let selector: Option<Selector> = spec.selector.clone().and_then(|s| s.try_into().ok());
    budget.metadata.namespace.as_deref() == Some(&pod.namespace)
        && selector.is_some_and(|s| s.matches(pod.labels()))
        && budget.status.as_ref().is_some_and(|s| s.disruptions_allowed <= 0)
}

/// What of a node changed that may help pods.
fn node_events(before: &Node, after: &Node) -> Events {
    let mut events = Events::NONE;
    let allocatable = |n: &Node| n.status.as_ref().and_then(|s| s.allocatable.clone());
    let taints = |n: &Node| n.spec.as_ref().map(|s| (s.taints.clone(), s.unschedulable));
    if allocatable(before) != allocatable(after) {
        events = events.and(Events::NODE_ALLOCATABLE);
    }
    if before.metadata.labels != after.metadata.labels {
        events = events.and(Events::NODE_LABELS);
    }
    if taints(before) != taints(after) {
        events = events.and(Events::NODE_TAINTS);
    }
    events
}
