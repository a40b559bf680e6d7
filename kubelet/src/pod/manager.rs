//! From what the sources want to one worker per pod.
//!
//! The manager is the only one to start workers and to change a pod's desired state; everyone else reads (`Pods`). It
//! admits pods one after the other, so two can't both take the last of a resource.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use component_base::informer::{Change, Store, Subscription};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::spec::{self, Uid};
use super::status::Reason;
use super::worker::{Desired, End, Worker};
use super::{admission, status};
use crate::cri::names;
use crate::kubelet::Kubelet;

/// How often the runtime and the disk are searched for pods that nobody wants.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

struct Entry {
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
}

/// All pods of the node, for reading. A mirror pod is not among them; the static pod it mirrors is.
#[derive(Default)]
pub struct Pods {
    entries: RwLock<HashMap<Uid, Entry>>,
    /// Where evictions are asked for; the manager carries them out.
    evictions: RwLock<Option<mpsc::Sender<EvictionRequest>>>,
}

/// The pod, why, and the grace that replaces its own.
type EvictionRequest = (Uid, Reason, Option<Duration>);

impl Pods {
    pub fn list(&self) -> Vec<Arc<Pod>> {
        self.entries.read().values().map(|entry| entry.desired.borrow().pod.clone()).collect()
    }

    pub fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        self.entries.read().get(uid).map(|entry| entry.desired.borrow().pod.clone())
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

    /// Asks for a pod to be evicted. `grace` replaces its own.
    pub async fn evict(&self, uid: &str, reason: Reason, grace: Option<Duration>) {
        let sender = self.evictions.read().clone();
        if let Some(sender) = sender {
            let _ = sender.send((uid.to_owned(), reason, grace)).await;
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
    kubelet: Arc<Kubelet>,
    workers: JoinSet<Uid>,
    /// Static pods that wait for an older one of the same name to end.
    successors: HashMap<String, Arc<Pod>>,
    api_synced: bool,
    statics_seen: bool,
}

/// Runs the API server's pods and static ones (`statics`, `None` until all have been read once) until shutdown, and
/// leaves them running then.
pub async fn run(
    kubelet: Arc<Kubelet>,
    mut statics: watch::Receiver<Option<Vec<Arc<Pod>>>>,
    shutdown: CancellationToken,
) {
    let mut changes: Option<(Store<Pod>, Subscription<Pod>)> = None;
    let (sender, mut evictions) = mpsc::channel(16);
    *kubelet.pods.evictions.write() = Some(sender);
    let mut manager = Manager {
        api_synced: kubelet.client.is_none(),
        kubelet: kubelet.clone(),
        workers: JoinSet::new(),
        successors: HashMap::new(),
        statics_seen: false,
    };
    let mut connected = false;
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
            api = kubelet.api.wait(), if !connected => {
                connected = true;
                changes = Some((api.pods.clone(), api.pods.subscribe()));
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
            Some((uid, reason, grace)) = evictions.recv() => manager.kubelet.pods.change(&uid, |desired| {
                desired.end.get_or_insert(End::Evicted { reason, grace });
            }),
            Some(finished) = manager.workers.join_next() => manager.finished(finished),
            _ = ticks.tick() => manager.housekeeping().await,
        }
    }
}

impl Manager {
    fn set_api(&mut self, mut pods: Vec<Arc<Pod>>) {
        // Older pods have the older claim to the node.
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let wanted: HashSet<&str> = pods.iter().map(|pod| spec::uid(pod)).collect();
        let present = self.kubelet.pods.list();
        for pod in present.iter().filter(|pod| !spec::is_static(pod) && !wanted.contains(spec::uid(pod))) {
            self.kubelet.pods.change(spec::uid(pod), |desired| desired.end = Some(End::Gone));
        }
        for pod in &pods {
            self.upsert_api(pod);
        }
        self.api_synced = true;
    }

    fn upsert_api(&mut self, pod: &Arc<Pod>) {
        if spec::is_mirror(pod) {
            self.kubelet.mirrors.add(spec::full_name(pod));
            return;
        }
        let pod = with_source(pod);
        self.kubelet.statuses.observed(&pod);
        if self.kubelet.pods.contains(spec::uid(&pod)) {
            self.kubelet.pods.replace(pod);
        } else {
            self.admit(pod);
        }
    }

    fn remove_api(&mut self, pod: &Arc<Pod>) {
        if spec::is_mirror(pod) {
            self.kubelet.mirrors.add(spec::full_name(pod));
            return;
        }
        self.kubelet.pods.change(spec::uid(pod), |desired| {
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
        let present = self.kubelet.pods.list();
        for pod in present.iter().filter(|pod| spec::is_static(pod) && !wanted.contains(spec::uid(pod))) {
            self.kubelet.pods.change(spec::uid(pod), |desired| desired.end = Some(End::Gone));
        }
        for pod in pods {
            let same_name =
                |other: &Arc<Pod>| spec::is_static(other) && spec::full_name(other) == spec::full_name(&pod);
            if self.kubelet.pods.contains(spec::uid(&pod)) {
                continue;
            } else if self.kubelet.pods.list().iter().any(same_name) {
                // Both would want the same ports and data.
                self.successors.insert(spec::full_name(&pod), pod);
            } else {
                self.start(pod);
            }
        }
        self.statics_seen = true;
    }

    /// Starts a pod of the API server, or reports why this node can't run it.
    fn admit(&mut self, pod: Arc<Pod>) {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let settled = matches!(phase, Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some();
        // What ran before this kubelet started was admitted then.
        if settled || self.kubelet.pleg.has(spec::uid(&pod)) {
            return self.start(pod);
        }
        match admission::admit(&self.kubelet, &pod) {
            Ok(()) => self.start(pod),
            Err(reason) => {
                self.kubelet.event(&pod, None, "Warning", &reason.reason, &reason.message);
                let status = status::rejected(&pod, &reason, jiff::Timestamp::now());
                self.kubelet.statuses.set(&pod, status.clone());
                let mut rejected = Pod::clone(&pod);
                rejected.status = Some(status);
                self.start(Arc::new(rejected));
            }
        }
    }

    fn start(&mut self, pod: Arc<Pod>) {
        self.spawn(Desired { pod: pod.clone(), end: None });
        if spec::is_static(&pod) {
            self.kubelet.mirrors.add(spec::full_name(&pod));
        }
    }

    fn spawn(&mut self, desired: Desired) {
        let uid = spec::uid(&desired.pod).to_owned();
        let wake = Arc::new(Notify::new());
        let (sender, receiver) = watch::channel(desired);
        let worker = Worker::new(self.kubelet.clone(), receiver, wake.clone());
        self.kubelet.pods.entries.write().insert(uid.clone(), Entry { desired: sender, wake });
        self.workers.spawn(async move {
            worker.run().await;
            uid
        });
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
        self.kubelet.pleg.forget(&uid);
        let entry = self.kubelet.pods.entries.write().remove(&uid);
        if let Some(entry) = entry {
            let pod = entry.desired.borrow().pod.clone();
            tracing::info!(pod = spec::key(&pod), uid, "Pod is gone from this node");
            let full_name = spec::full_name(&pod);
            if let Some(successor) = self.successors.remove(&full_name).filter(|_| spec::is_static(&pod)) {
                self.start(successor);
            }
            self.kubelet.mirrors.add(full_name);
        }
        self.weigh();
    }

    /// Tells the cgroup of Burstable pods what they have asked for in sum.
    fn weigh(&self) {
        let pods = self.kubelet.pods.list();
        let burstable = pods.iter().filter(|pod| spec::qos_class(pod) == spec::QosClass::Burstable);
        self.kubelet.cgroups.weigh_burstable(burstable.map(|pod| spec::request(pod, "cpu")).sum());
    }

    /// Ends what runs or lies around without anyone wanting it, once all sources have spoken.
    async fn housekeeping(&mut self) {
        let Some(known) = self.kubelet.pleg.known() else { return };
        if !self.api_synced || !self.statics_seen {
            return;
        }
        for uid in known {
            if !self.kubelet.pods.contains(&uid) {
                tracing::info!(uid, "The runtime has a pod that is not wanted here, ending it");
                let pod = orphan(&self.kubelet, &uid).await;
                self.spawn(Desired { pod: Arc::new(pod), end: Some(End::Gone) });
            }
        }
        let mut directories = VecDeque::new();
        if let Ok(mut entries) = tokio::fs::read_dir(self.kubelet.root_dir.join("pods")).await {
            while let Ok(Some(entry)) = entries.next_entry().await {
                directories.push_back(entry.file_name().to_string_lossy().into_owned());
            }
        }
        for uid in directories.into_iter().chain(self.kubelet.cgroups.pods()) {
            if !self.kubelet.pods.contains(&uid) && !self.kubelet.pleg.has(&uid) {
                tracing::info!(uid, "Removing what a pod left on disk and in cgroups");
                self.kubelet.cgroups.remove_pod(&uid);
                if let Err(error) = crate::volumes::teardown(self.kubelet.pod_dir(&uid)).await {
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
async fn orphan(kubelet: &Kubelet, uid: &str) -> Pod {
    let sandboxes = kubelet.cri.list_pod_sandboxes(&[(names::POD_UID, uid)]).await.unwrap_or_default();
    let metadata = sandboxes.into_iter().find_map(|sandbox| sandbox.metadata).unwrap_or_default();
    let mut pod = Pod::default();
    pod.metadata.name = Some(metadata.name);
    pod.metadata.namespace = Some(metadata.namespace);
    pod.metadata.uid = Some(uid.to_owned());
    pod
}
