//! daemonset-controller: one pod on every node that should have one.
//!
//! [`eligibility`] decides about nodes, [`update`] about the order of a rolling update; both are pure. Pods are bound by
//! the scheduler: they carry an affinity to their node's name.

mod eligibility;
mod status;
mod update;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use component_base::{
    controller::{self, Action},
    events::Type,
    informer::{Change, ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use futures::future;
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    core::v1::{Node, Pod},
};
use kube::{Api, ResourceExt, core::Selector};
use parking_lot::Mutex;
use serde_json::json;

use self::eligibility::Verdict;
use crate::{
    common::{
        Error, Result, claim,
        expectations::Expectations,
        history::{self, Current, Recipe},
        meta, pod,
        pod_control::{self, PodControl},
        pod_events::{self, PodOwner},
    },
    context::Context,
};

pub(super) const HASH_LABEL: &str = "controller-revision-hash";
const GENERATION_LABEL: &str = "pod-template-generation";
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";
/// Pods created or deleted for one DaemonSet before it is looked at again.
const BURST_MAX: usize = 250;
/// A pod that fails at once is replaced ever more slowly.
const FAILED_BACKOFF_MIN: Duration = Duration::from_secs(1);
const FAILED_BACKOFF_MAX: Duration = Duration::from_secs(900);

impl PodOwner for DaemonSet {
    fn selector(&self) -> Option<Selector> {
        meta::selector(&self.spec.as_ref()?.selector).ok().filter(|selector| !selector.selects_all())
    }
}

pub async fn run(context: Context) {
    let controller = Controller {
        sets: context.factory.store(Scope::all()),
        pods: context.pods(),
        nodes: context.factory.store(Scope::all()),
        revisions: context.factory.store(Scope::all()),
        control: context.pod_control("daemonset-controller"),
        expectations: Arc::default(),
        failed: Mutex::default(),
    };
    history::add_index(&controller.revisions);
    let queue = WorkQueue::new("daemonset");
    pod_events::watch_owners(&controller.sets, &queue);
    pod_events::watch(&controller.pods, &controller.sets, &queue, &controller.expectations);
    let (feed, sets) = (queue.clone(), controller.sets.clone());
    controller.nodes.on_change(move |change| {
        // Heartbeats are no news.
        if let Change::Updated { old, new } = change
            && eligibility::looks_same(old, new)
        {
            return;
        }
        sets.keys().into_iter().for_each(|key| feed.add(key));
    });
    tokio::join!(
        controller.sets.synced(),
        controller.pods.synced(),
        controller.nodes.synced(),
        controller.revisions.synced()
    );
    let controller = &controller;
    let workers = context.options.workers.concurrent_daemonset_syncs;
    controller::run(
        context.name,
        queue,
        workers,
        context.shutdown,
        |key| async move { controller.reconcile(&key).await },
    )
    .await;
}

struct Controller {
    sets: Store<DaemonSet>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    revisions: Store<ControllerRevision>,
    control: PodControl,
    expectations: Arc<Expectations>,
    /// Per DaemonSet's uid and node: when a failed pod was replaced last, and how long the next one has to wait.
    failed: Mutex<HashMap<(String, String), (Instant, Duration)>>,
}

/// A DaemonSet in one reconcile.
struct View {
    set: Arc<DaemonSet>,
    /// The hash of the current revision.
    hash: String,
    nodes: Vec<Arc<Node>>,
    /// Pods by the node they run on, or are meant for.
    by_node: BTreeMap<String, Vec<Arc<Pod>>>,
    now: Timestamp,
}

/// What is to be done about pods.
#[derive(Default)]
struct Plan {
    create_on: Vec<String>,
    delete: Vec<Arc<Pod>>,
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let Some(set) = self.sets.get(key) else {
            self.expectations.forget(key);
            return Ok(Action::Done);
        };
        let Some(selector) = set.selector() else {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.control.recorder.event(set.as_ref(), Type::Warning, "SelectingAll", message);
            return Ok(Action::Done);
        };
        if meta::is_deleting(set.as_ref()) {
            return Ok(Action::Done);
        }
        let api: Api<DaemonSet> = Api::namespaced(self.control.client.clone(), &key.namespace);
        let revisions = history::list(&self.control.client, &self.revisions, &api, set.as_ref(), &selector).await?;
        let recipe = recipe(&set);
        let current = match history::current(&self.control.client, set.as_ref(), &revisions, recipe).await? {
            Current::Found(revision) => revision,
            Current::Collision => return Err(status::count_collision(&api, &set).await?),
        };
        let hash = current.labels().get(HASH_LABEL).cloned().unwrap_or_default();

        let mut view = View {
            set,
            hash,
            nodes: self.nodes.list(),
            by_node: self.pods_by_node(key, &api, &selector).await?,
            now: Timestamp::now(),
        };
        let mut wait = None;
        let mut failure = None;
        if self.expectations.satisfied(key) {
            let (plan, retry) = self.manage(&view);
            wait = retry;
            failure = self.carry_out(key, &view, plan).await.err();
        }
        if failure.is_none() && self.expectations.satisfied(key) && update::is_rolling(&view.set) {
            view.by_node = self.pods_by_node(key, &api, &selector).await?;
            let plan = update::plan(&view);
            failure = self.carry_out(key, &view, plan).await.err();
        }
        if failure.is_none() {
            failure = self.clean_up(&view, &revisions).await.err();
        }
        status::update(&api, &view).await?;
        match failure {
            Some(error) => Err(error),
            None => {
                let pods = view.by_node.values().flatten().map(AsRef::as_ref);
                let ready = pod::next_availability(pods, update::min_ready_secs(&view.set), view.now);
                Ok([wait, ready].into_iter().flatten().min().map_or(Action::Done, Action::After))
            }
        }
    }

    async fn pods_by_node(
        &self,
        key: &ObjectKey,
        api: &Api<DaemonSet>,
        selector: &Selector,
    ) -> Result<BTreeMap<String, Vec<Arc<Pod>>>> {
        let Some(set) = self.sets.get(key) else { return Ok(BTreeMap::new()) };
        let mut candidates = self.pods.by_index(pod::index::CONTROLLER, meta::uid(set.as_ref()));
        candidates.extend(self.pods.by_index(pod::index::CONTROLLER, &pod::orphans(&key.namespace)));
        let pods_api = self.control.api(&key.namespace);
        let pods = claim::claim(api, set.as_ref(), selector, &pods_api, candidates).await?;
        let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in pods {
            if let Some(node) = eligibility::target_node(&pod) {
                by_node.entry(node).or_default().push(pod);
            }
        }
        Ok(by_node)
    }

    /// A pod where one should be and is not; none where none should be.
    fn manage(&self, view: &View) -> (Plan, Option<Duration>) {
        let mut plan = Plan::default();
        let mut wait: Option<Duration> = None;
        for node in &view.nodes {
            let name = meta::name(node.as_ref());
            let pods = view.by_node.get(name).map(Vec::as_slice).unwrap_or_default();
            match eligibility::node_should_run(&view.set, node) {
                Verdict::Run if pods.is_empty() => plan.create_on.push(name.to_owned()),
                Verdict::Run | Verdict::Tolerate => {
                    let retry = self.tend(view, name, pods, &mut plan);
                    wait = [wait, retry].into_iter().flatten().min();
                }
                Verdict::Leave => {
                    let alive = pods.iter().filter(|pod| !meta::is_deleting(pod.as_ref()));
                    plan.delete.extend(alive.cloned());
                }
            }
        }
        // The node is gone, and the pod was never bound to it: nobody else would remove it.
        let known = |name: &String| view.nodes.iter().any(|node| meta::name(node.as_ref()) == name);
        let stranded = view.by_node.iter().filter(|(node, _)| !known(node)).flat_map(|(_, pods)| pods);
        plan.delete
            .extend(stranded.filter(|pod| pod::node_name(pod).is_empty() && !meta::is_deleting(pod.as_ref())).cloned());
        (plan, wait)
    }

    /// On a node that may keep its pod: finished ones go, and all but the oldest of several.
    fn tend(&self, view: &View, node: &str, pods: &[Arc<Pod>], plan: &mut Plan) -> Option<Duration> {
        let mut running = Vec::new();
        let mut wait = None;
        for pod in pods.iter().filter(|pod| !meta::is_deleting(pod.as_ref())) {
            let (reason, kind, verb) = match pod::phase(pod) {
                "Failed" => ("FailedDaemonPod", Type::Warning, "failed"),
                "Succeeded" => ("SucceededDaemonPod", Type::Normal, "succeeded"),
                _ => {
                    running.push(pod.clone());
                    continue;
                }
            };
            if reason == "FailedDaemonPod"
                && let Some(left) = self.failed_backoff(meta::uid(view.set.as_ref()), node)
            {
                wait = Some(left);
                continue;
            }
            let message = format!(
                "Found {verb} daemon pod {} on node {node}, will try to {} it",
                meta::key(pod.as_ref()),
                if verb == "failed" { "kill" } else { "delete" }
            );
            self.control.recorder.event(view.set.as_ref(), kind, reason, message);
            plan.delete.push(pod.clone());
        }
        plan.delete.extend(update::superfluous(view, running));
        wait
    }

    /// How long a failed pod must stay yet; `None` if it may be replaced, which is noted.
    fn failed_backoff(&self, uid: &str, node: &str) -> Option<Duration> {
        let mut failed = self.failed.lock();
        let now = Instant::now();
        failed.retain(|_, (at, delay)| now - *at < *delay * 2);
        let entry = failed.entry((uid.to_owned(), node.to_owned()));
        let (at, delay) = entry.or_insert((now - FAILED_BACKOFF_MAX, Duration::ZERO));
        let left = delay.saturating_sub(now - *at);
        if left.is_zero() {
            *delay = (*delay * 2).clamp(FAILED_BACKOFF_MIN, FAILED_BACKOFF_MAX);
            *at = now;
            return None;
        }
        Some(left)
    }

    async fn carry_out(&self, key: &ObjectKey, view: &View, mut plan: Plan) -> Result<()> {
        plan.create_on.truncate(BURST_MAX);
        plan.delete.truncate(BURST_MAX);
        if plan.create_on.is_empty() && plan.delete.is_empty() {
            return Ok(());
        }
        let uids = plan.delete.iter().map(|pod| meta::uid(pod.as_ref()).to_owned());
        self.expectations.expect(key, plan.create_on.len(), uids);

        let template = &pod_for(view);
        let nodes = &plan.create_on;
        let (created, error) = pod_control::slow_start(nodes.len(), |index| async move {
            let mut pod = template.clone();
            eligibility::pin(&mut pod, &nodes[index]);
            self.control.create(view.set.as_ref(), &pod).await.map(drop)
        })
        .await;
        (created..nodes.len()).for_each(|_| self.expectations.created(key));

        let deletions = plan.delete.iter().map(|pod| async move {
            let deleted = self.control.delete(view.set.as_ref(), pod).await;
            if deleted.is_err() {
                self.expectations.deleted(key, meta::uid(pod.as_ref()));
            }
            deleted
        });
        let results = future::join_all(deletions).await;
        let mut errors: Vec<Error> = results.into_iter().filter_map(Result::err).collect();
        errors.extend(error.filter(|error| !pod_control::is_namespace_terminating(error)));
        Error::join(errors)
    }

    async fn clean_up(&self, view: &View, revisions: &[ControllerRevision]) -> Result<()> {
        let limit = view.set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let live: Vec<_> = view.by_node.values().flatten().filter_map(|pod| pod.labels().get(HASH_LABEL)).collect();
        let in_use = |revision: &ControllerRevision| {
            let hash = revision.labels().get(HASH_LABEL);
            hash == Some(&view.hash) || hash.is_some_and(|hash| live.contains(&hash))
        };
        history::truncate(&self.control.client, revisions, usize::try_from(limit).unwrap_or(0), in_use).await
    }
}

/// A revision remembers the pod template, as a patch that replaces it.
fn recipe(set: &DaemonSet) -> Recipe<'static> {
    let spec = set.spec.as_ref();
    let mut template = spec.map(|spec| json!(spec.template)).unwrap_or_default();
    if let Some(template) = template.as_object_mut() {
        template.insert("$patch".into(), "replace".into());
    }
    let labels = spec.and_then(|spec| spec.template.metadata.as_ref()?.labels.clone());
    Recipe {
        hash_label: HASH_LABEL,
        labels: labels.unwrap_or_default(),
        data: json!({"spec": {"template": template}}),
        collisions: set.status.as_ref().and_then(|status| status.collision_count),
    }
}

/// The pod of the current template, for no node yet.
fn pod_for(view: &View) -> Pod {
    let template = view.set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = pod_control::from_template(view.set.as_ref(), &template);
    let labels = pod.labels_mut();
    labels.insert(HASH_LABEL.into(), view.hash.clone());
    if let Some(generation) = view.set.annotations().get(GENERATION_ANNOTATION) {
        labels.insert(GENERATION_LABEL.into(), generation.clone());
    }
    eligibility::tolerate_node_conditions(pod.spec.get_or_insert_default());
    pod
}
