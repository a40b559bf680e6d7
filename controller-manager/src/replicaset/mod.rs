//! replicaset-controller and replicationcontroller-controller: as many pods as the object asks for.
//!
//! Both kinds are run by the same code; [`kind`] is what differs, [`ranking`] decides which pods go first, [`status`] is
//! what is reported. Rolling from one set to another is the Deployment's business, not this one's.

mod kind;
mod ranking;
mod status;

use std::sync::Arc;

use component_base::{
    controller::{self, Action},
    informer::{ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Pod, ReplicationController},
};
use kube::Api;

use self::kind::ReplicaKind;
use crate::{
    common::{
        Result, claim,
        error::Error,
        expectations::Expectations,
        meta, pod,
        pod_control::{self, PodControl},
        pod_events,
    },
    context::Context,
};

/// Pods created or deleted for one object before it is looked at again.
const BURST_MAX: usize = 500;

pub async fn run_replica_sets(context: Context) {
    let workers = context.options.workers.concurrent_replicaset_syncs;
    Controller::<ReplicaSet>::run(context, "replicaset-controller", workers).await;
}

pub async fn run_replication_controllers(context: Context) {
    let workers = context.options.workers.concurrent_rc_syncs;
    Controller::<ReplicationController>::run(context, "replication-controller", workers).await;
}

struct Controller<O> {
    owners: Store<O>,
    pods: Store<Pod>,
    control: PodControl,
    expectations: Arc<Expectations>,
}

impl<O: ReplicaKind> Controller<O> {
    async fn run(context: Context, component: &'static str, workers: usize) {
        let controller = Self {
            owners: context.factory.store::<O>(Scope::all()),
            pods: context.pods(),
            control: context.pod_control(component),
            expectations: Arc::default(),
        };
        let queue = WorkQueue::new(O::QUEUE);
        pod_events::watch_owners(&controller.owners, &queue);
        pod_events::watch(&controller.pods, &controller.owners, &queue, &controller.expectations);
        tokio::join!(controller.owners.synced(), controller.pods.synced());
        let controller = &controller;
        controller::run(context.name, queue, workers, context.shutdown, |key| async move {
            controller.reconcile(&key).await
        })
        .await;
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let Some(owner) = self.owners.get(key) else {
            self.expectations.forget(key);
            return Ok(Action::Done);
        };
        let owner = owner.as_ref();
        let Some(selector) = owner.selector() else {
            return Err(Error::Invalid(format!("{} {key} has no valid selector", O::kind(&()))));
        };
        let settled = self.expectations.satisfied(key);
        let owners: Api<O> = O::api(&self.control.client, &key.namespace);
        let mut candidates = self.pods.by_index(pod::index::CONTROLLER, meta::uid(owner));
        candidates.extend(self.pods.by_index(pod::index::CONTROLLER, &pod::orphans(&key.namespace)));
        let api = self.control.api(&key.namespace);
        let pods = claim::claim(&owners, owner, &selector, &api, candidates).await?;

        let failure = if settled && !meta::is_deleting(owner) {
            let active: Vec<_> = pods.iter().filter(|pod| pod::is_active(pod)).cloned().collect();
            self.scale(key, owner, active).await.err()
        } else {
            None
        };

        let now = Timestamp::now();
        let new = status::calculate(owner, &pods, failure.as_ref(), now);
        status::update(&owners, owner, new).await?;
        match failure {
            Some(failure) => Err(failure.error),
            None => {
                let pods = pods.iter().map(AsRef::as_ref).filter(|pod| pod::is_active(pod));
                let wait = pod::next_availability(pods, owner.min_ready_secs(), now);
                Ok(wait.map_or(Action::Done, Action::After))
            }
        }
    }

    async fn scale(&self, key: &ObjectKey, owner: &O, active: Vec<Arc<Pod>>) -> Result<(), ScaleFailure> {
        let wanted = usize::try_from(owner.replicas()).unwrap_or(0);
        if active.len() < wanted {
            let count = (wanted - active.len()).min(BURST_MAX);
            tracing::debug!(owner = %key, need = wanted, creating = count, "Too few replicas");
            self.create(key, owner, count).await.map_err(|error| ScaleFailure { reason: "FailedCreate", error })
        } else if active.len() > wanted {
            let count = (active.len() - wanted).min(BURST_MAX);
            tracing::debug!(owner = %key, need = wanted, deleting = count, "Too many replicas");
            let victims = ranking::victims(active, self.pods_nearby(key, owner), count, Timestamp::now());
            self.delete(key, owner, victims).await.map_err(|error| ScaleFailure { reason: "FailedDelete", error })
        } else {
            Ok(())
        }
    }

    async fn create(&self, key: &ObjectKey, owner: &O, count: usize) -> Result<()> {
        let Some(template) = owner.template() else {
            return Err(Error::Invalid(format!("{} {key} has no pod template", O::kind(&()))));
        };
        let template = &pod_control::from_template(owner, template);
        self.expectations.expect(key, count, []);
        let (created, error) =
            pod_control::slow_start(count, |_| async move { self.control.create(owner, template).await.map(drop) })
                .await;
        // Those that failed or were never asked for will not be seen.
        (created..count).for_each(|_| self.expectations.created(key));
        match error {
            Some(error) if !pod_control::is_namespace_terminating(&error) => Err(error),
            _ => Ok(()),
        }
    }

    async fn delete(&self, key: &ObjectKey, owner: &O, victims: Vec<Arc<Pod>>) -> Result<()> {
        self.expectations.expect(key, 0, victims.iter().map(|pod| meta::uid(pod.as_ref()).to_owned()));
        let deletions = victims.iter().map(|pod| async move {
            let deleted = self.control.delete(owner, pod).await;
            if deleted.is_err() {
                self.expectations.deleted(key, meta::uid(pod.as_ref()));
            }
            deleted
        });
        let results = futures::future::join_all(deletions).await;
        Error::join(results.into_iter().filter_map(Result::err).collect())
    }

    /// Active pods of this owner and of all that share its own controller (the sets of one Deployment), for spreading.
    fn pods_nearby(&self, key: &ObjectKey, owner: &O) -> Vec<Arc<Pod>> {
        let related = match meta::controller_of(owner) {
            Some(parent) => self
                .owners
                .list()
                .into_iter()
                .filter(|other| meta::namespace(other.as_ref()) == key.namespace)
                .filter(|other| meta::controller_of(other.as_ref()).is_some_and(|owner| owner.uid == parent.uid))
                .map(|other| meta::uid(other.as_ref()).to_owned())
                .collect(),
            None => vec![meta::uid(owner).to_owned()],
        };
        let pods = related.iter().flat_map(|uid| self.pods.by_index(pod::index::CONTROLLER, uid));
        pods.filter(|pod| pod::is_active(pod)).collect()
    }
}

/// Scaling failed; `reason` is that of the condition ReplicaFailure.
struct ScaleFailure {
    reason: &'static str,
    error: Error,
}
