//! deployment-controller: rolls from one ReplicaSet to the next.
//!
//! A Deployment never touches pods: it makes one ReplicaSet per pod template and moves replicas between them.
//! [`plan`] is the arithmetic, without I/O; [`revision`] finds, makes and numbers ReplicaSets; [`status`] reports.

mod annotations;
mod plan;
mod revision;
mod status;

use std::sync::Arc;

use component_base::{
    controller::{self, Action},
    events::{Recorder, Type},
    informer::{Change, ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use futures::future;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use kube::{Api, Client, ResourceExt, api::PostParams};

use self::plan::Size;
use crate::{
    common::{Doing, Error, Result, claim, meta, pod, pod_events::PodOwner},
    context::Context,
};

/// ReplicaSets by the uid of the Deployment that controls them; orphans under their namespace.
const BY_OWNER: &str = "deployment";

pub async fn run(context: Context) {
    let workers = context.options.workers.concurrent_deployment_syncs;
    let controller = Controller {
        deployments: context.factory.store(Scope::all()),
        sets: context.factory.store(Scope::all()),
        pods: context.pods(),
        recorder: context.recorder("deployment-controller"),
        client: context.client.clone(),
    };
    controller.sets.add_index(BY_OWNER, |set| {
        vec![match meta::controller_of(set) {
            Some(owner) => owner.uid.clone(),
            None => pod::orphans(meta::namespace(set)),
        }]
    });
    let queue = WorkQueue::new("deployment");
    controller.watch(&queue);
    tokio::join!(controller.deployments.synced(), controller.sets.synced(), controller.pods.synced());
    let controller = &controller;
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
    deployments: Store<Deployment>,
    sets: Store<ReplicaSet>,
    pods: Store<Pod>,
    recorder: Recorder,
    client: Client,
}

/// A Deployment and its ReplicaSets, while one reconcile works on them.
struct Rollout {
    deployment: Deployment,
    /// The one of the current template, if it exists.
    new: Option<ReplicaSet>,
    /// Those of earlier templates, oldest first.
    old: Vec<ReplicaSet>,
}

impl Rollout {
    /// All sets, the current one last.
    fn sets(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(&self.new)
    }

    fn sizes(&self) -> Vec<Size> {
        self.sets().map(Size::of).collect()
    }
}

impl Controller {
    fn watch(&self, queue: &WorkQueue<ObjectKey>) {
        let own = queue.clone();
        self.deployments.on_change(move |change| own.add(change.key()));

        let (deployments, sets_queue) = (self.deployments.clone(), queue.clone());
        self.sets.on_change(move |change| {
            for set in change.object().into_iter().chain(change.old()) {
                match meta::controller_of(set.as_ref()) {
                    Some(owner) if owner.kind == "Deployment" => {
                        sets_queue.add(ObjectKey::namespaced(meta::namespace(set.as_ref()), &owner.name));
                    }
                    Some(_) => {}
                    None => adopters(&deployments, set).for_each(|key| sets_queue.add(key)),
                }
            }
        });

        // Only Recreate waits for pods: the last one's end is what it goes on after.
        let (deployments, sets, queue) = (self.deployments.clone(), self.sets.clone(), queue.clone());
        self.pods.on_change(move |change| {
            let Change::Deleted(pod) = change else { return };
            let set = meta::controller_of(pod.as_ref()).filter(|owner| owner.kind == "ReplicaSet");
            let set = set.and_then(|set| sets.get(&ObjectKey::namespaced(meta::namespace(pod.as_ref()), &set.name)));
            let owner = set.as_deref().and_then(meta::controller_of);
            if let Some(owner) = owner {
                let key = ObjectKey::namespaced(meta::namespace(pod.as_ref()), &owner.name);
                if deployments.get(&key).is_some_and(|deployment| plan::is_recreate(&deployment)) {
                    queue.add(key);
                }
            }
        });
    }

    fn api(&self, namespace: &str) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn sets_api(&self, namespace: &str) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let Some(deployment) = self.deployments.get(key) else { return Ok(Action::Done) };
        let Some(selector) = deployment.selector() else {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.event(deployment.as_ref(), Type::Warning, "SelectingAll", message);
            return Ok(Action::Done);
        };
        let mut candidates = self.sets.by_index(BY_OWNER, meta::uid(deployment.as_ref()));
        candidates.extend(self.sets.by_index(BY_OWNER, &pod::orphans(&key.namespace)));
        let (api, sets_api) = (self.api(&key.namespace), self.sets_api(&key.namespace));
        let mut sets = claim::claim(&api, deployment.as_ref(), &selector, &sets_api, candidates).await?;
        sets.sort_by_key(|set| (meta::created(set.as_ref()), set.name_any()));

        let deployment = Arc::unwrap_or_clone(deployment);
        let (new, old) = revision::split(&deployment, sets.into_iter().map(Arc::unwrap_or_clone).collect());
        let mut rollout = Rollout { deployment, new, old };
        if meta::is_deleting(&rollout.deployment) {
            return self.report(&mut rollout).await;
        }
        self.note_pause(&mut rollout).await?;
        if plan::is_paused(&rollout.deployment) || plan::is_scaling(&rollout.deployment, rollout.sets()) {
            self.adjust_new(&mut rollout, false).await?;
            self.scale_all(&mut rollout).await?;
            if plan::is_paused(&rollout.deployment) {
                self.clean_up(&mut rollout).await?;
            }
            return self.report(&mut rollout).await;
        }
        if plan::is_recreate(&rollout.deployment) {
            self.recreate(&mut rollout).await
        } else {
            self.roll(&mut rollout).await
        }
    }

    /// Replaces everything at once: the old pods are gone before the first new one comes.
    async fn recreate(&self, rollout: &mut Rollout) -> Result {
        self.adjust_new(rollout, false).await?;
        let down: Vec<_> = (0..rollout.old.len()).filter(|index| Size::of(&rollout.old[*index]).spec > 0).collect();
        if !down.is_empty() {
            self.resize_old(rollout, down.into_iter().map(|index| (index, 0)).collect()).await?;
            return self.report(rollout).await;
        }
        if self.old_pods_run(rollout) {
            return self.report(rollout).await;
        }
        self.adjust_new(rollout, true).await?;
        self.resize_new(rollout, plan::replicas(&rollout.deployment)).await?;
        self.finish(rollout).await
    }

    fn old_pods_run(&self, rollout: &Rollout) -> bool {
        let pods = rollout.old.iter().flat_map(|set| self.pods.by_index(pod::index::CONTROLLER, meta::uid(set)));
        pods.into_iter().any(|pod| !pod::is_terminal(&pod))
    }

    /// One step of a rolling update: up if there is room, else down.
    async fn roll(&self, rollout: &mut Rollout) -> Result {
        self.adjust_new(rollout, true).await?;
        let limits = plan::Limits::of(&rollout.deployment);
        let sizes = rollout.sizes();
        let current = rollout.new.as_ref().map(Size::of).unwrap_or_default();
        if self.resize_new(rollout, limits.new_size(&sizes, current.spec)).await? {
            return self.report(rollout).await;
        }
        let old: Vec<_> = rollout.old.iter().map(Size::of).collect();
        let down = limits.old_sizes(&old, current);
        if !down.is_empty() {
            self.resize_old(rollout, down).await?;
            return self.report(rollout).await;
        }
        self.finish(rollout).await
    }

    async fn finish(&self, rollout: &mut Rollout) -> Result {
        if status::is_complete(&rollout.deployment, &status::counts(rollout)) {
            self.clean_up(rollout).await?;
        }
        self.report(rollout).await
    }

    /// Scales without rolling: all sets that run keep their share.
    async fn scale_all(&self, rollout: &mut Rollout) -> Result<()> {
        let sizes = rollout.sizes();
        let has_new = rollout.new.is_some();
        let changes = plan::Limits::of(&rollout.deployment).scaled(&sizes, has_new);
        let new_index = rollout.old.len();
        let (new, old): (Vec<_>, Vec<_>) = changes.into_iter().partition(|(index, _)| has_new && *index == new_index);
        if let [(_, size)] = new[..] {
            self.resize_new(rollout, size).await?;
        }
        self.resize_old(rollout, old).await
    }

    /// Gives the current set its size; returns whether it had another one.
    async fn resize_new(&self, rollout: &mut Rollout, size: i32) -> Result<bool> {
        let Some(set) = rollout.new.take() else { return Ok(false) };
        let before = Size::of(&set).spec;
        rollout.new = Some(self.resize(&rollout.deployment, set, size).await?);
        Ok(before != size)
    }

    async fn resize_old(&self, rollout: &mut Rollout, sizes: Vec<(usize, i32)>) -> Result<()> {
        for (index, size) in sizes {
            let set = rollout.old[index].clone();
            rollout.old[index] = self.resize(&rollout.deployment, set, size).await?;
        }
        Ok(())
    }

    async fn resize(&self, deployment: &Deployment, mut set: ReplicaSet, size: i32) -> Result<ReplicaSet> {
        let before = Size::of(&set).spec;
        let annotated = annotations::set_sizes(&mut set, deployment);
        if before == size && !annotated {
            return Ok(set);
        }
        set.spec.get_or_insert_default().replicas = Some(size);
        let (namespace, name) = (meta::namespace(&set).to_owned(), set.name_any());
        let what = || format!("scale ReplicaSet {namespace}/{name} to {size}");
        let set = self.sets_api(&namespace).replace(&name, &PostParams::default(), &set).await.doing(what)?;
        if before != size {
            let direction = if size > before { "up" } else { "down" };
            let message = format!("Scaled {direction} replica set {name} from {before} to {size}");
            self.recorder.event(deployment, Type::Normal, "ScalingReplicaSet", message);
        }
        Ok(set)
    }

    /// Deletes the oldest sets beyond `revisionHistoryLimit` that hold nothing.
    async fn clean_up(&self, rollout: &mut Rollout) -> Result<()> {
        let limit = rollout.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let mut alive: Vec<_> = rollout.old.iter().filter(|set| !meta::is_deleting(*set)).collect();
        let surplus = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        alive.sort_by_key(|set| annotations::revision(*set));
        let idle = |set: &&ReplicaSet| {
            let status = set.status.clone().unwrap_or_default();
            let observed = set.metadata.generation.unwrap_or(0) <= status.observed_generation.unwrap_or(0);
            status.replicas == 0 && Size::of(set).spec == 0 && observed
        };
        let deletions = alive.into_iter().take(surplus).filter(idle).map(|set| async move {
            let name = set.name_any();
            let what = || format!("delete old ReplicaSet {name}");
            self.sets_api(meta::namespace(set)).delete(&name, &meta::delete_exactly(set)).await.or_gone(what)
        });
        let results = future::join_all(deletions).await;
        Error::join(results.into_iter().filter_map(Result::err).collect())
    }
}

/// Deployments whose selector matches an orphaned set.
fn adopters<'a>(deployments: &Store<Deployment>, set: &'a ReplicaSet) -> impl Iterator<Item = ObjectKey> + use<'a> {
    deployments.list().into_iter().filter_map(move |deployment| {
        let same = meta::namespace(deployment.as_ref()) == meta::namespace(set);
        let matches = same && deployment.selector().is_some_and(|selector| meta::matches(&selector, set));
        matches.then(|| meta::key(deployment.as_ref()))
    })
}
