//! From what the sources want to one worker per pod.
//!
//! The manager is the only one to start workers and to change a pod's desired state; everyone else reads (`Pods`). It
//! admits pods one after the other, so two can't both take the last of a resource.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use component_base::informer::{Change, Store, Subscription};
use cri_client::names;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;
use pod_state::spec::{self, Uid};
use pod_state::status::Reason;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Lifecycle;
use crate::admission;
use crate::statuses::Statuses;
use crate::worker::{Desired, End, Eviction, Worker};

/// How often the runtime and the disk are searched for pods that nobody wants.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

struct Entry {
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
    /// Cancelled once nothing of the pod runs any more.
    stopped: CancellationToken,
}

/// All pods of the node, for reading. A mirror pod is not among them; the static pod it mirrors is.
#[derive(Default)]
pub struct Pods {
    entries: RwLock<HashMap<Uid, Entry>>,
    /// Where evictions are asked for; the manager carries them out.
    evictions: RwLock<Option<mpsc::Sender<EvictionRequest>>>,
}

/// The pod, and how it is to end.
type EvictionRequest = (Uid, Eviction);

impl Pods {
    pub fn list(&self) -> Vec<Arc<Pod>> {
        self.entries.read().values().map(|entry| entry.desired.borrow().pod.clone()).collect()
    }

    pub fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        self.entries.read().get(uid).map(|entry| entry.desired.borrow().pod.clone())
    }

    /// The pod is on its way out.
    pub fn is_ending(&self, uid: &str) -> bool {
        self.entries.read().get(uid).is_some_and(|entry| entry.desired.borrow().must_end())
    }

    /// The pods that use what they asked for: those that may still run, and those that are on their way out.
    pub fn active(&self, statuses: &Statuses) -> Vec<Arc<Pod>> {
        // Taken out first: the statuses have a lock of their own.
        let unstopped: Vec<Desired> = {
            let entries = self.entries.read();
            let unstopped = entries.values().filter(|entry| !entry.stopped.is_cancelled());
            unstopped.map(|entry| entry.desired.borrow().clone()).collect()
        };
        let active = unstopped.into_iter().filter(|desired| {
            let uid = spec::uid(&desired.pod);
            let known = statuses.get(uid).or_else(|| desired.pod.status.clone());
            let terminal = matches!(known.and_then(|s| s.phase).as_deref(), Some("Succeeded" | "Failed"));
            !matches!(desired.end, Some(End::Rejected(_))) && (!terminal || desired.must_end())
        });
        active.map(|desired| desired.pod).collect()
    }

    /// The pod of that name; of several, one that is not on its way out.
    pub fn by_name(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let found = |pod: &Arc<Pod>| spec::namespace(pod) == namespace && spec::name(pod) == name;
        let mut pods: Vec<Arc<Pod>> = self.list().into_iter().filter(found).collect();
        pods.sort_by_key(|pod| pod.metadata.deletion_timestamp.is_some());
        pods.into_iter().next()
    }

    /// The static pod with this "name_namespace" that is to run.
    pub fn static_by_full_name(&self, full_name: &str) -> Option<Arc<Pod>> {
        let entries = self.entries.read();
        let running = entries.values().map(|entry| entry.desired.borrow()).filter(|desired| desired.end.is_none());
        running.map(|desired| desired.pod.clone()).find(|pod| spec::is_static(pod) && spec::full_name(pod) == full_name)
    }

    /// Tells a pod's worker to look at the runtime.
    pub fn wake(&self, uid: &str) {
        if let Some(entry) = self.entries.read().get(uid) {
            entry.wake.notify_one();
        }
    }

    pub fn contains(&self, uid: &str) -> bool {
        self.entries.read().contains_key(uid)
    }

    /// Asks for a pod to be evicted.
    pub async fn evict(&self, uid: &str, eviction: Eviction) {
        let sender = self.evictions.read().clone();
        if let Some(sender) = sender {
            let _ = sender.send((uid.to_owned(), eviction)).await;
        }
    }

    /// Takes the pod's new object. Its worker is woken only by what concerns it: most updates are the echo of its own
    /// status.
    fn replace(&self, pod: Arc<Pod>) {
        if let Some(entry) = self.entries.read().get(spec::uid(&pod)) {
            entry.desired.send_if_modified(|desired| {
                let news = concerns_worker(&desired.pod, &pod);
                desired.pod = pod;
                news
            });
        }
    }

    fn change(&self, uid: &str, change: impl FnOnce(&mut Desired)) {
        if let Some(entry) = self.entries.read().get(uid) {
            entry.desired.send_modify(change);
        }
    }
}

struct Manager {
    lifecycle: Arc<Lifecycle>,
    workers: JoinSet<Uid>,
    /// Static pods that wait for an older one of the same name to end.
    successors: HashMap<String, Arc<Pod>>,
    api_synced: bool,
    statics_seen: bool,
}

/// Runs the API server's pods and static ones (`statics`, `None` until all have been read once) until shutdown, and
/// leaves them running then.
pub async fn run(
    lifecycle: Arc<Lifecycle>,
    mut statics: watch::Receiver<Option<Vec<Arc<Pod>>>>,
    shutdown: CancellationToken,
) {
    let mut changes: Option<(Store<Pod>, Subscription<Pod>)> = None;
    let (sender, mut evictions) = mpsc::channel(16);
    *lifecycle.pods.evictions.write() = Some(sender);
    let mut manager = Manager {
        api_synced: lifecycle.context.client.is_none(),
        lifecycle: lifecycle.clone(),
        workers: JoinSet::new(),
        successors: HashMap::new(),
        statics_seen: false,
    };
    let mut connected = false;
    let mut listening: Option<BoxFuture<'static, _>> = None;
    let mut ticks = tokio::time::interval(HOUSEKEEPING);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let next_change = async {
            match &mut changes {
                Some((_, changes)) => changes.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            api = lifecycle.context.api.wait(), if !connected => {
                connected = true;
                let (lifecycle, pods) = (lifecycle.clone(), api.pods.clone());
                // Admission looks at the node's labels and taints.
                listening = Some(Box::pin(async move {
                    lifecycle.context.node_synced().await;
                    (pods.clone(), pods.subscribe())
                }));
            }
            subscribed = async { listening.as_mut().expect("is there").await }, if listening.is_some() => {
                listening = None;
                changes = Some(subscribed);
            }
            change = next_change => match (change, &changes) {
                (Some(Change::Resync), Some((store, _))) => manager.set_api(store.list()),
                (Some(Change::Added(pod) | Change::Updated { new: pod, .. }), _) => manager.upsert_api(&pod),
                (Some(Change::Deleted(pod)), _) => manager.remove_api(&pod),
                _ => changes = None,
            },
            Ok(()) = statics.changed() => {
                let pods = statics.borrow_and_update().clone();
                if let Some(pods) = pods {
                    manager.set_statics(pods);
                }
            }
            Some((uid, eviction)) = evictions.recv() => manager.lifecycle.pods.change(&uid, |desired| {
                desired.end.get_or_insert(End::Evicted(eviction));
            }),
            Some(finished) = manager.workers.join_next() => manager.finished(finished),
            _ = ticks.tick() => manager.housekeeping().await,
        }
    }
}

impl Manager {
    fn set_api(&mut self, mut pods: Vec<Arc<Pod>>) {
        // What was let in before keeps its place; of the rest older pods have the older claim to the node.
        pods.sort_by_key(|pod| (!self.was_admitted(pod), pod.metadata.creation_timestamp.as_ref().map(|time| time.0)));
        let wanted: HashSet<&str> = pods.iter().map(|pod| spec::uid(pod)).collect();
        let present = self.lifecycle.pods.list();
        for pod in present.iter().filter(|pod| !spec::is_static(pod) && !wanted.contains(spec::uid(pod))) {
            self.lifecycle.pods.change(spec::uid(pod), |desired| desired.end = Some(End::Gone));
        }
        for pod in &pods {
            self.upsert_api(pod);
        }
        self.api_synced = true;
    }

    fn upsert_api(&mut self, pod: &Arc<Pod>) {
        if spec::is_mirror(pod) {
            self.lifecycle.mirrors.add(spec::full_name(pod));
            return;
        }
        let pod = with_source(pod);
        self.lifecycle.statuses.observed(&pod);
        if self.lifecycle.pods.contains(spec::uid(&pod)) {
            self.lifecycle.pods.replace(pod);
        } else {
            self.admit(pod);
        }
    }

    fn remove_api(&mut self, pod: &Arc<Pod>) {
        if spec::is_mirror(pod) {
            self.lifecycle.mirrors.add(spec::full_name(pod));
            return;
        }
        self.lifecycle.pods.change(spec::uid(pod), |desired| {
            // The last state has the grace period that the deletion was made with.
            if pod.metadata.deletion_timestamp.is_some() {
                desired.pod = with_source(pod);
            }
            desired.end = Some(End::Gone);
        });
    }

    fn set_statics(&mut self, pods: Vec<Arc<Pod>>) {
        let wanted: HashSet<&str> = pods.iter().map(|pod| spec::uid(pod)).collect();
        self.successors.retain(|_, pod| wanted.contains(spec::uid(pod)));
        let present = self.lifecycle.pods.list();
        for pod in present.iter().filter(|pod| spec::is_static(pod) && !wanted.contains(spec::uid(pod))) {
            self.lifecycle.pods.change(spec::uid(pod), |desired| desired.end = Some(End::Gone));
        }
        for pod in pods {
            let same_name =
                |other: &Arc<Pod>| spec::is_static(other) && spec::full_name(other) == spec::full_name(&pod);
            if self.lifecycle.pods.contains(spec::uid(&pod)) {
                continue;
            } else if self.lifecycle.pods.list().iter().any(same_name) {
                // Both would want the same ports and data.
                self.successors.insert(spec::full_name(&pod), pod);
            } else {
                self.admit(pod);
            }
        }
        self.statics_seen = true;
    }

    /// The pod was let in before this kubelet started: it runs, or its status was written.
    fn was_admitted(&self, pod: &Pod) -> bool {
        self.lifecycle.pleg.has(spec::uid(pod)) || pod.status.as_ref().is_some_and(|status| status.start_time.is_some())
    }

    /// Starts a pod, or reports why this node can't run it.
    fn admit(&mut self, pod: Arc<Pod>) {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let settled = matches!(phase, Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some();
        if settled || self.was_admitted(&pod) {
            return self.spawn(Desired { pod, end: None }, Vec::new());
        }
        let others = self.lifecycle.pods.active(&self.lifecycle.statuses);
        match admission::admit(&self.lifecycle.context, &pod, &others) {
            Ok(admitted) => {
                let after = admitted.preempted.iter().filter_map(|victim| self.preempt(victim)).collect();
                self.spawn(Desired { pod, end: None }, after);
            }
            Err(reason) => {
                tracing::info!(
                    pod = spec::key(&pod),
                    reason = reason.reason,
                    message = reason.message,
                    "Pod is refused"
                );
                self.lifecycle.context.event(&pod, None, "Warning", &reason.reason, &reason.message);
                self.spawn(Desired { pod, end: Some(End::Rejected(reason)) }, Vec::new());
            }
        }
    }

    /// Ends a pod to make room for a critical one; returns what tells that it has stopped.
    fn preempt(&self, pod: &Pod) -> Option<CancellationToken> {
        let message = "Preempted in order to admit critical pod";
        self.lifecycle.context.event(pod, None, "Warning", "Preempting", message);
        let eviction = Eviction {
            reason: Reason::new("Preempting", message),
            grace: None,
            disruption: "Pod was preempted by Kubelet to accommodate a critical pod.".into(),
        };
        self.lifecycle.pods.change(spec::uid(pod), |desired| {
            desired.end.get_or_insert(End::Evicted(eviction));
        });
        self.lifecycle.pods.entries.read().get(spec::uid(pod)).map(|entry| entry.stopped.clone())
    }

    /// Starts the pod's worker; it waits for the pods of `after` to have stopped.
    fn spawn(&mut self, desired: Desired, after: Vec<CancellationToken>) {
        let uid = spec::uid(&desired.pod).to_owned();
        let (wake, stopped) = (Arc::new(Notify::new()), CancellationToken::new());
        let mirrored = spec::is_static(&desired.pod).then(|| spec::full_name(&desired.pod));
        let (sender, receiver) = watch::channel(desired);
        let worker = Worker::new(self.lifecycle.clone(), receiver, wake.clone(), stopped.clone());
        self.lifecycle.pods.entries.write().insert(uid.clone(), Entry { desired: sender, wake, stopped });
        self.workers.spawn(async move {
            worker.run(after).await;
            uid
        });
        if let Some(full_name) = mirrored {
            self.lifecycle.mirrors.add(full_name);
        }
        self.weigh();
    }

    fn finished(&mut self, finished: Result<Uid, tokio::task::JoinError>) {
        let uid = match finished {
            Ok(uid) => uid,
            Err(error) => {
                // Its entry stays, so the pod is not run twice; a restart of the kubelet takes it up again.
                tracing::error!(%error, "A pod's worker broke off");
                return;
            }
        };
        // What was seen of it before it went is no reason to take it for an orphan.
        self.lifecycle.pleg.forget(&uid);
        let entry = self.lifecycle.pods.entries.write().remove(&uid);
        if let Some(entry) = entry {
            let pod = entry.desired.borrow().pod.clone();
            tracing::info!(pod = spec::key(&pod), uid, "Pod is gone from this node");
            let full_name = spec::full_name(&pod);
            if let Some(successor) = self.successors.remove(&full_name).filter(|_| spec::is_static(&pod)) {
                self.admit(successor);
            }
            self.lifecycle.mirrors.add(full_name);
        }
        self.weigh();
    }

    /// Tells the cgroup of Burstable pods what they have asked for in sum.
    fn weigh(&self) {
        let pods = self.lifecycle.pods.list();
        let burstable = pods.iter().filter(|pod| spec::qos_class(pod) == spec::QosClass::Burstable);
        self.lifecycle.context.cgroups.weigh_burstable(burstable.map(|pod| spec::request(pod, "cpu")).sum());
    }

    /// Ends what runs or lies around without anyone wanting it, once all sources have spoken.
    async fn housekeeping(&mut self) {
        let Some(known) = self.lifecycle.pleg.known() else { return };
        if !self.api_synced || !self.statics_seen {
            return;
        }
        for uid in known {
            if !self.lifecycle.pods.contains(&uid) {
                tracing::info!(uid, "The runtime has a pod that is not wanted here, ending it");
                let pod = orphan(&self.lifecycle, &uid).await;
                self.spawn(Desired { pod: Arc::new(pod), end: Some(End::Gone) }, Vec::new());
            }
        }
        let mut directories = VecDeque::new();
        if let Ok(mut entries) = tokio::fs::read_dir(self.lifecycle.context.root_dir.join("pods")).await {
            while let Ok(Some(entry)) = entries.next_entry().await {
                directories.push_back(entry.file_name().to_string_lossy().into_owned());
            }
        }
        for uid in directories.into_iter().chain(self.lifecycle.context.cgroups.pods()) {
            if !self.lifecycle.pods.contains(&uid) && !self.lifecycle.pleg.has(&uid) {
                tracing::info!(uid, "Removing what a pod left on disk and in cgroups");
                self.lifecycle.context.cgroups.remove_pod(&uid);
                if let Err(error) = volumes::teardown(self.lifecycle.context.pod_dir(&uid)).await {
                    tracing::warn!(uid, %error, "Can't remove a pod's directory yet");
                }
            }
        }
    }
}

/// Whether an update changes anything that a worker acts on.
fn concerns_worker(old: &Pod, new: &Pod) -> bool {
    let metadata = |pod: &Pod| {
        let metadata = &pod.metadata;
        (
            metadata.labels.clone(),
            metadata.annotations.clone(),
            metadata.deletion_timestamp.clone(),
            metadata.deletion_grace_period_seconds,
        )
    };
    // Others set the conditions that readiness gates name.
    let gated = spec::spec(new).readiness_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    old.spec != new.spec || metadata(old) != metadata(new) || (gated && old.status != new.status)
}

/// The pod, with the mark of a static pod taken from one that pretends to be: only this node's sources may set it.
fn with_source(pod: &Arc<Pod>) -> Arc<Pod> {
    if spec::annotation(pod, names::CONFIG_SOURCE).is_none() {
        return pod.clone();
    }
    let mut pod = Pod::clone(pod);
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(names::CONFIG_SOURCE.into(), "api".into());
    Arc::new(pod)
}

/// As much of a pod as its labels in the runtime tell.
async fn orphan(lifecycle: &Lifecycle, uid: &str) -> Pod {
    let sandboxes = lifecycle.context.cri.list_pod_sandboxes(&[(names::POD_UID, uid)]).await.unwrap_or_default();
    let metadata = sandboxes.into_iter().find_map(|sandbox| sandbox.metadata).unwrap_or_default();
    let mut pod = Pod::default();
    pod.metadata.name = Some(metadata.name);
    pod.metadata.namespace = Some(metadata.namespace);
    pod.metadata.uid = Some(uid.to_owned());
    pod
}
