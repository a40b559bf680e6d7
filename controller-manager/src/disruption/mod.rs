//! disruption-controller: how many pods of a PodDisruptionBudget may be evicted now. The API server's eviction
//! subresource takes from what is allowed here. [`stale`] corrects pods that were to be evicted and were not.

mod stale;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use component_base::{
    controller::{self, Action},
    events::{Recorder, Type},
    informer::{ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        core::v1::{Pod, ReplicationController},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::{
        apis::meta::v1::{Condition, OwnerReference, Time},
        util::intstr::IntOrString,
    },
};
use kube::{Api, Client, ResourceExt, api::PostParams};

use crate::{
    common::{
        Doing, Error, Result,
        int_or_percent::{Round, resolve},
        meta, pod,
        scale::Scales,
    },
    context::Context,
};

/// An eviction that was granted and does not happen within this time is given back.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(120);
const CONDITION: &str = "DisruptionAllowed";

pub async fn run(context: Context) {
    let controller = Controller {
        budgets: context.factory.store(Scope::all()),
        pods: context.pods(),
        deployments: context.factory.store(Scope::all()),
        replica_sets: context.factory.store(Scope::all()),
        replication_controllers: context.factory.store(Scope::all()),
        stateful_sets: context.factory.store(Scope::all()),
        scales: Scales::new(context.client.clone()),
        recorder: context.recorder("controllermanager"),
        client: context.client.clone(),
    };
    let queue = WorkQueue::new("disruption");
    let feed = queue.clone();
    controller.budgets.on_change(move |change| feed.add(change.key()));
    let disrupted = WorkQueue::new("stale_pod_disruption");
    let feed = disrupted.clone();
    controller.pods.on_change(move |change| {
        if change.object().is_some_and(|pod| stale::left(pod, Timestamp::now()).is_some()) {
            feed.add(change.key());
        }
    });
    let (feed, budgets) = (queue.clone(), controller.budgets.clone());
    controller.pods.on_change(move |change| {
        for pod in change.object().into_iter().chain(change.old()) {
            for budget in budgets.list().into_iter().filter(|budget| covers(budget, pod)) {
                feed.add(meta::key(budget.as_ref()));
            }
        }
    });
    tokio::join!(
        controller.budgets.synced(),
        controller.pods.synced(),
        controller.deployments.synced(),
        controller.replica_sets.synced(),
        controller.replication_controllers.synced(),
        controller.stateful_sets.synced()
    );
    let controller = &controller;
    let budgets = controller::run(context.name, queue, 1, context.shutdown.clone(), |key| async move {
        controller.reconcile(&key).await
    });
    let pods = controller::run(context.name, disrupted, 1, context.shutdown, |key| async move {
        match controller.pods.get(&key) {
            Some(pod) => stale::reconcile(&controller.client, &pod).await,
            None => Ok(Action::Done),
        }
    });
    tokio::join!(budgets, pods);
}

/// Whether a budget is about a pod. Without a selector it is about none, with an empty one about all of its namespace.
fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    meta::namespace(budget) == meta::namespace(pod)
        && selector.is_some_and(|selector| meta::selector(selector).is_ok_and(|selector| meta::matches(&selector, pod)))
}

struct Controller {
    budgets: Store<PodDisruptionBudget>,
    pods: Store<Pod>,
    deployments: Store<Deployment>,
    replica_sets: Store<ReplicaSet>,
    replication_controllers: Store<ReplicationController>,
    stateful_sets: Store<StatefulSet>,
    /// Of every other kind.
    scales: Scales,
    recorder: Recorder,
    client: Client,
}

/// What a budget asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Goal {
    expected: i32,
    desired: i32,
}

/// Whether a budget depends on how many pods there should be, not only on how many there are.
fn needs_scale(spec: &PodDisruptionBudgetSpec) -> bool {
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// `expected` is how many pods there should be, or are, as [`needs_scale`] says.
fn goal(spec: &PodDisruptionBudgetSpec, expected: i32) -> Result<Goal> {
    let share = |value: &IntOrString, of: i32| {
        resolve(value, of, Round::Up)
            .ok_or_else(|| Error::Invalid(format!("{value:?} is neither a number nor a percentage")))
    };
    let desired = match (&spec.max_unavailable, &spec.min_available) {
        (Some(unavailable), _) => (expected - share(unavailable, expected)?).max(0),
        (None, Some(available)) => share(available, expected)?,
        (None, None) => 0,
    };
    Ok(Goal { expected, desired })
}

/// Granted evictions whose pod is still there, and when the first of them is given back.
fn pending(granted: &BTreeMap<String, Time>, pods: &[Arc<Pod>]) -> (BTreeMap<String, Time>, Option<Duration>) {
    let mut kept = BTreeMap::new();
    let mut wait: Option<Duration> = None;
    for pod in pods.iter().filter(|pod| !meta::is_deleting(pod.as_ref())) {
        let name = meta::name(pod.as_ref());
        let Some(at) = granted.get(name) else { continue };
        let age = Duration::try_from(meta::since(at)).unwrap_or_default();
        if age < EVICTION_TIMEOUT {
            let left = EVICTION_TIMEOUT - age;
            wait = Some(wait.map_or(left, |wait| wait.min(left)));
            kept.insert(name.to_owned(), at.clone());
        }
    }
    (kept, wait)
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let Some(budget) = self.budgets.get(key) else { return Ok(Action::Done) };
        let spec = budget.spec.clone().unwrap_or_default();
        let all = self.pods.by_index(pod::index::NAMESPACE, &key.namespace);
        let pods: Vec<_> = all.into_iter().filter(|pod| covers(&budget, pod)).collect();
        let before = budget.status.clone().unwrap_or_default();
        if pods.is_empty() {
            self.recorder.event(budget.as_ref(), Type::Normal, "NoPods", "No matching pods found");
        }
        let count = i32::try_from(pods.len()).unwrap_or(i32::MAX);
        let expected = if needs_scale(&spec) { self.scale(&budget, &pods).await } else { Ok(count) };
        let goal = match expected.and_then(|expected| goal(&spec, expected)) {
            Ok(goal) => goal,
            Err(error) => {
                let message = format!("Failed to calculate the number of expected pods: {error}");
                self.recorder.event(budget.as_ref(), Type::Warning, "CalculateExpectedPodCountFailed", message);
                // In doubt nothing may be evicted.
                let status = PodDisruptionBudgetStatus { disruptions_allowed: 0, ..before };
                self.write(&budget, conditioned(status, Some(&error), &budget)).await?;
                return Err(error);
            }
        };
        let (disrupted, wait) = pending(&before.disrupted_pods.clone().unwrap_or_default(), &pods);
        let healthy = pods.iter().filter(|pod| {
            pod::is_ready(pod) && !meta::is_deleting(pod.as_ref()) && !disrupted.contains_key(meta::name(pod.as_ref()))
        });
        let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
        let allowed = if goal.expected <= 0 { 0 } else { (healthy - goal.desired).max(0) };
        let status = PodDisruptionBudgetStatus {
            observed_generation: budget.metadata.generation,
            current_healthy: healthy,
            desired_healthy: goal.desired,
            expected_pods: goal.expected,
            disruptions_allowed: allowed,
            disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
            conditions: before.conditions,
        };
        self.write(&budget, conditioned(status, None, &budget)).await?;
        Ok(wait.map_or(Action::Done, Action::After))
    }

    /// How many pods the controllers of these should have, each counted once. Pods without one are told of, and not counted.
    async fn scale(&self, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Result<i32> {
        let mut scales: BTreeMap<&str, (String, i32)> = BTreeMap::new();
        let mut unmanaged = false;
        for pod in pods {
            let Some(owner) = meta::controller_of(pod.as_ref()) else {
                unmanaged = true;
                continue;
            };
            if scales.contains_key(owner.uid.as_str()) {
                continue;
            }
            let found = self.scale_of(meta::namespace(pod.as_ref()), owner).await?;
            let none = || Error::Invalid(format!("found no controllers for pod {:?}", meta::name(pod.as_ref())));
            scales.insert(&owner.uid, found.ok_or_else(none)?);
        }
        if unmanaged {
            let message = "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.";
            self.recorder.event(budget, Type::Warning, "UnmanagedPods", message);
        }
        // Several ReplicaSets of a Deployment share its size.
        let sizes: BTreeMap<String, i32> = scales.into_values().collect();
        Ok(sizes.values().fold(0, |sum: i32, replicas| sum.saturating_add(*replicas)))
    }

    /// Uid and size of a controller, or of what controls it; `None` if it is gone.
    async fn scale_of(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<(String, i32)>> {
        let key = ObjectKey::namespaced(namespace, &owner.name);
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let found = match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => {
                let Some(set) = self.replica_sets.get(&key).filter(|set| is(set.as_ref(), owner)) else {
                    return Ok(None);
                };
                let parent = meta::controller_of(set.as_ref()).filter(|parent| parent.kind == "Deployment");
                match parent
                    .map(|parent| (self.deployments.get(&ObjectKey::namespaced(namespace, &parent.name)), parent))
                {
                    Some((Some(deployment), parent)) if is(deployment.as_ref(), parent) => {
                        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
                        return Ok(Some((parent.uid.clone(), replicas.unwrap_or(1))));
                    }
                    Some(_) => return Ok(None),
                    None => set.spec.as_ref().and_then(|spec| spec.replicas),
                }
            }
            ("", "ReplicationController") => {
                let found = self.replication_controllers.get(&key).filter(|found| is(found.as_ref(), owner));
                let Some(found) = found else { return Ok(None) };
                found.spec.as_ref().and_then(|spec| spec.replicas)
            }
            ("apps", "StatefulSet") => {
                let found = self.stateful_sets.get(&key).filter(|found| is(found.as_ref(), owner));
                let Some(found) = found else { return Ok(None) };
                found.spec.as_ref().and_then(|spec| spec.replicas)
            }
            _ => return self.scale_of_any(namespace, owner).await,
        };
        Ok(Some((owner.uid.clone(), found.unwrap_or(1))))
    }

    /// The same of any kind, by its scale subresource.
    async fn scale_of_any(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<(String, i32)>> {
        let (version, kind, name) = (&owner.api_version, &owner.kind, &owner.name);
        match self.scales.get(namespace, version, kind, name).await? {
            Some((scale, _)) if is(&scale, owner) => {
                let replicas = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
                Ok(Some((owner.uid.clone(), replicas)))
            }
            Some(_) => Ok(None),
            None => {
                let resource = self.scales.resource(version, kind).await?;
                let group = if resource.group.is_empty() { String::new() } else { format!(".{}", resource.group) };
                if self.scales.is_scalable(&resource).await? {
                    return Ok(None);
                }
                let what = format!("{}{group} does not implement the scale subresource", resource.plural);
                Err(Error::Invalid(what))
            }
        }
    }

    async fn write(&self, budget: &PodDisruptionBudget, status: PodDisruptionBudgetStatus) -> Result<()> {
        if budget.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut updated = budget.clone();
        updated.status = Some(status);
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), meta::namespace(budget));
        let what = || format!("update the status of PodDisruptionBudget {}", meta::key(budget));
        // An eviction may have been granted since: then this is refused, and counted again.
        api.replace_status(&budget.name_any(), &PostParams::default(), &updated).await.or_gone(what).map(drop)
    }
}

/// Whether a reference means this very object.
fn is(object: &impl kube::Resource, owner: &OwnerReference) -> bool {
    meta::uid(object) == owner.uid
}

/// The status with its condition.
fn conditioned(
    mut status: PodDisruptionBudgetStatus,
    failure: Option<&Error>,
    budget: &PodDisruptionBudget,
) -> PodDisruptionBudgetStatus {
    let (state, reason, message) = match failure {
        Some(error) => ("False", "SyncFailed", error.to_string()),
        None if status.disruptions_allowed > 0 => ("True", "SufficientPods", String::new()),
        None => ("False", "InsufficientPods", String::new()),
    };
    let conditions = status.conditions.get_or_insert_default();
    let old =
        conditions.iter().position(|condition| condition.type_ == CONDITION).map(|index| conditions.remove(index));
    let since = old.filter(|old| old.status == state).map(|old| old.last_transition_time);
    conditions.push(Condition {
        type_: CONDITION.into(),
        status: state.into(),
        reason: reason.into(),
        message,
        observed_generation: budget.metadata.generation,
        last_transition_time: since.unwrap_or_else(meta::now),
    });
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals() {
        let percent = |text: &str| Some(IntOrString::String(text.into()));
        let number = |number| Some(IntOrString::Int(number));
        for (unavailable, available, pods, scale, expected, desired) in [
            (number(1), None, 2, 3, 3, 2),
            (percent("30%"), None, 10, 10, 10, 7),
            (percent("100%"), None, 3, 3, 3, 0),
            (number(5), None, 3, 3, 3, 0),
            (None, number(2), 3, 9, 3, 2),
            (None, percent("50%"), 1, 5, 5, 3),
        ] {
            let spec = PodDisruptionBudgetSpec {
                max_unavailable: unavailable.clone(),
                min_available: available.clone(),
                ..PodDisruptionBudgetSpec::default()
            };
            let found = goal(&spec, if needs_scale(&spec) { scale } else { pods }).unwrap();
            assert_eq!(found, Goal { expected, desired }, "{unavailable:?} {available:?} of {scale}");
        }
    }

    #[test]
    fn granted_evictions_run_out() {
        let pod = |name: &str| -> Arc<Pod> {
            Arc::new(serde_json::from_value(serde_json::json!({"metadata": {"name": name}})).unwrap())
        };
        let ago = |secs| Time(jiff::Timestamp::now() - jiff::SignedDuration::from_secs(secs));
        let granted = [("new".to_owned(), ago(10)), ("old".to_owned(), ago(200)), ("gone".to_owned(), ago(10))].into();
        let (kept, wait) = pending(&granted, &[pod("new"), pod("old"), pod("other")]);
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["new"]);
        assert!(wait.is_some_and(|wait| wait <= EVICTION_TIMEOUT));
    }
}
