//! disruption-controller: how many pods of a PodDisruptionBudget may be evicted now. The API server's eviction
//! subresource takes from what is allowed here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use component_base::{
    controller::{self, Action},
    events::{Recorder, Type},
    informer::{ObjectKey, Scope, Store},
    queue::WorkQueue,
};
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
        recorder: context.recorder("controllermanager"),
        client: context.client.clone(),
    };
    let queue = WorkQueue::new("disruption");
    let feed = queue.clone();
    controller.budgets.on_change(move |change| feed.add(change.key()));
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
    controller::run(context.name, queue, 1, context.shutdown, |key| async move { controller.reconcile(&key).await })
        .await;
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
    recorder: Recorder,
    client: Client,
}

/// What a budget asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Goal {
    expected: i32,
    desired: i32,
}

/// `pods` is how many there are, `scale` how many there should be.
fn goal(spec: &PodDisruptionBudgetSpec, pods: i32, scale: impl FnOnce() -> Result<i32>) -> Result<Goal> {
    let share = |value: &IntOrString, of: i32| {
        resolve(value, of, Round::Up)
            .ok_or_else(|| Error::Invalid(format!("{value:?} is neither a number nor a percentage")))
    };
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(unavailable), _) => {
            let expected = scale()?;
            Ok(Goal { expected, desired: (expected - share(unavailable, expected)?).max(0) })
        }
        (None, Some(IntOrString::Int(available))) => Ok(Goal { expected: pods, desired: *available }),
        (None, Some(available)) => {
            let expected = scale()?;
            Ok(Goal { expected, desired: share(available, expected)? })
        }
        (None, None) => Ok(Goal { expected: pods, desired: 0 }),
    }
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
        let goal = match goal(&spec, count, || self.scale(&pods)) {
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

    /// How many pods the controllers of these should have, each counted once. Pods without one are not counted.
    fn scale(&self, pods: &[Arc<Pod>]) -> Result<i32> {
        let mut scales: BTreeMap<String, i32> = BTreeMap::new();
        for pod in pods {
            let Some(owner) = meta::controller_of(pod.as_ref()) else { continue };
            if let Some((uid, replicas)) = self.scale_of(meta::namespace(pod.as_ref()), owner)? {
                scales.insert(uid, replicas);
            }
        }
        Ok(scales.values().fold(0, |sum: i32, replicas| sum.saturating_add(*replicas)))
    }

    /// Uid and size of a controller, or of what controls it; `None` if it is gone.
    fn scale_of(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<(String, i32)>> {
        let key = ObjectKey::namespaced(namespace, &owner.name);
        let replicas = match owner.kind.as_str() {
            "ReplicaSet" => {
                let Some(set) = self.replica_sets.get(&key) else { return Ok(None) };
                if let Some(parent) = meta::controller_of(set.as_ref()).filter(|parent| parent.kind == "Deployment") {
                    return self.scale_of(namespace, parent);
                }
                set.spec.as_ref().and_then(|spec| spec.replicas)
            }
            "Deployment" => match self.deployments.get(&key) {
                Some(deployment) => deployment.spec.as_ref().and_then(|spec| spec.replicas),
                None => return Ok(None),
            },
            "ReplicationController" => match self.replication_controllers.get(&key) {
                Some(controller) => controller.spec.as_ref().and_then(|spec| spec.replicas),
                None => return Ok(None),
            },
            "StatefulSet" => match self.stateful_sets.get(&key) {
                Some(set) => set.spec.as_ref().and_then(|spec| spec.replicas),
                None => return Ok(None),
            },
            kind => {
                let message = format!("{kind} {key} has no scale that is known, use a number as minAvailable instead");
                return Err(Error::Invalid(message));
            }
        };
        Ok(Some((owner.uid.clone(), replicas.unwrap_or(1))))
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
            let found = goal(&spec, pods, || Ok(scale)).unwrap();
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
