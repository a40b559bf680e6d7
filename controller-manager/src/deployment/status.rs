//! What a Deployment reports: counts, and the conditions Available, Progressing and ReplicaFailure.

use std::time::Duration;

use component_base::controller::Action;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetStatus};
use kube::{ResourceExt, api::PostParams};

use super::{
    Controller, Rollout,
    plan::{self, Limits, Size},
};
use crate::common::{
    Doing, Result,
    conditions::{self, Condition},
    meta,
};

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";

fn deadline_secs(deployment: &Deployment) -> Option<i64> {
    let secs = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds);
    // The largest number means none.
    secs.filter(|secs| *secs != i32::MAX).map(i64::from)
}

pub(super) fn has_deadline(deployment: &Deployment) -> bool {
    deadline_secs(deployment).is_some()
}

/// The counts of `rollout`, with the conditions as they are.
pub(super) fn counts(rollout: &Rollout) -> DeploymentStatus {
    let status = |set: &ReplicaSet| set.status.clone().unwrap_or_default();
    let sum = |count: fn(&ReplicaSetStatus) -> i32| -> i32 { rollout.sets().map(|set| count(&status(set))).sum() };
    let available = sum(|status| status.available_replicas.unwrap_or(0));
    let asked: i32 = rollout.sets().map(|set| Size::of(set).spec).sum();
    DeploymentStatus {
        observed_generation: rollout.deployment.metadata.generation,
        replicas: Some(sum(|status| status.replicas)),
        updated_replicas: Some(rollout.new.as_ref().map_or(0, |set| status(set).replicas)),
        ready_replicas: Some(sum(|status| status.ready_replicas.unwrap_or(0))),
        available_replicas: Some(available),
        unavailable_replicas: Some((asked - available).max(0)),
        terminating_replicas: Some(sum(|status| status.terminating_replicas.unwrap_or(0))),
        ..rollout.deployment.status.clone().unwrap_or_default()
    }
}

pub(super) fn is_complete(deployment: &Deployment, new: &DeploymentStatus) -> bool {
    let all = Some(plan::replicas(deployment));
    new.updated_replicas == all
        && new.replicas == all
        && new.available_replicas == all
        && new.observed_generation >= deployment.metadata.generation
}

fn is_progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let outdated = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
    new.updated_replicas.unwrap_or(0) > old.updated_replicas.unwrap_or(0)
        || outdated(new) < outdated(old)
        || new.ready_replicas.unwrap_or(0) > old.ready_replicas.unwrap_or(0)
        || new.available_replicas.unwrap_or(0) > old.available_replicas.unwrap_or(0)
}

/// Seconds until the deadline of progress; negative if it has passed. `None` if no clock runs.
fn deadline_left_secs(deployment: &Deployment, condition: Option<&DeploymentCondition>) -> Option<i64> {
    let condition = condition.filter(|condition| {
        !matches!(condition.reason(), "NewReplicaSetAvailable" | "ProgressDeadlineExceeded" | "DeploymentPaused")
    })?;
    let since = condition.last_update_time.as_ref().or(condition.last_transition_time.as_ref())?;
    Some(deadline_secs(deployment)? - meta::since(since).as_secs())
}

fn availability(limits: Limits, available: i32) -> DeploymentCondition {
    if available >= limits.replicas - limits.max_unavailable {
        let message = "Deployment has minimum availability.";
        DeploymentCondition::new(AVAILABLE, "True", "MinimumReplicasAvailable", message)
    } else {
        let message = "Deployment does not have minimum availability.";
        DeploymentCondition::new(AVAILABLE, "False", "MinimumReplicasUnavailable", message)
    }
}

/// The condition of progress that follows, or `None` if it stays as it is.
fn progress(rollout: &Rollout, old: &DeploymentStatus, new: &DeploymentStatus) -> Option<DeploymentCondition> {
    let deployment = &rollout.deployment;
    let current = conditions::get(&new.conditions, PROGRESSING);
    let subject = match &rollout.new {
        Some(set) => format!("ReplicaSet {:?}", set.name_any()),
        None => format!("Deployment {:?}", deployment.name_any()),
    };
    let is_done = current.is_some_and(|current| current.reason() == "NewReplicaSetAvailable");
    if is_done && new.replicas == new.updated_replicas {
        return None;
    }
    if is_complete(deployment, new) {
        let message = format!("{subject} has successfully progressed.");
        Some(DeploymentCondition::new(PROGRESSING, "True", "NewReplicaSetAvailable", &message))
    } else if is_progressing(old, new) {
        let message = format!("{subject} is progressing.");
        let mut condition = DeploymentCondition::new(PROGRESSING, "True", "ReplicaSetUpdated", &message);
        if let Some(current) = current.filter(|current| current.status() == "True") {
            condition.last_transition_time = current.last_transition_time.clone();
        }
        Some(condition)
    } else if deadline_left_secs(deployment, current).is_some_and(|left| left <= 0) {
        let message = format!("{subject} has timed out progressing.");
        Some(DeploymentCondition::new(PROGRESSING, "False", "ProgressDeadlineExceeded", &message))
    } else {
        None
    }
}

impl Controller {
    /// Writes the status if it changed, and comes back when the deadline of progress passes.
    pub(super) async fn report(&self, rollout: &mut Rollout) -> Result {
        let deployment = &rollout.deployment;
        let old = deployment.status.clone().unwrap_or_default();
        let mut new = counts(rollout);
        let limits = Limits::of(deployment);
        conditions::set(&mut new.conditions, availability(limits, new.available_replicas.unwrap_or(0)));
        if !has_deadline(deployment) {
            conditions::remove(&mut new.conditions, PROGRESSING);
        } else if let Some(condition) = progress(rollout, &old, &new) {
            // The time of the last update is the deadline's start: it moves with each step, even to the same reason.
            conditions::remove(&mut new.conditions, PROGRESSING);
            new.conditions.get_or_insert_default().push(condition);
        }
        // The current set's failure says more than that of an old one.
        let failure = rollout
            .new
            .iter()
            .chain(&rollout.old)
            .find_map(|set| conditions::get(&set.status.as_ref()?.conditions, REPLICA_FAILURE).cloned());
        match failure {
            Some(failure) => {
                let (status, reason) = (failure.status(), failure.reason());
                let condition = DeploymentCondition::new(REPLICA_FAILURE, status, reason, failure.message());
                conditions::set(&mut new.conditions, condition);
            }
            None => conditions::remove(&mut new.conditions, REPLICA_FAILURE),
        }

        let left = deadline_left_secs(deployment, conditions::get(&new.conditions, PROGRESSING));
        let complete = is_complete(deployment, &new);
        if normal(&new) != normal(&old) {
            rollout.deployment.status = Some(new);
            rollout.deployment = self.write_status(&rollout.deployment).await?;
        }
        match left {
            Some(secs) if !complete => Ok(Action::After(Duration::from_secs(u64::try_from(secs).unwrap_or(0) + 1))),
            _ => Ok(Action::Done),
        }
    }

    pub(super) async fn write_status(&self, deployment: &Deployment) -> Result<Deployment> {
        let name = deployment.name_any();
        let what = || format!("update the status of Deployment {}", meta::key(deployment));
        self.api(meta::namespace(deployment))
            .replace_status(&name, &PostParams::default(), deployment)
            .await
            .doing(what)
    }
}

/// Absent counts are zeros.
fn normal(status: &DeploymentStatus) -> DeploymentStatus {
    let zero = |count: Option<i32>| Some(count.unwrap_or(0));
    DeploymentStatus {
        available_replicas: zero(status.available_replicas),
        ready_replicas: zero(status.ready_replicas),
        replicas: zero(status.replicas),
        terminating_replicas: zero(status.terminating_replicas),
        unavailable_replicas: zero(status.unavailable_replicas),
        updated_replicas: zero(status.updated_replicas),
        ..status.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(replicas: i32, updated: i32, ready: i32, available: i32) -> DeploymentStatus {
        DeploymentStatus {
            replicas: Some(replicas),
            updated_replicas: Some(updated),
            ready_replicas: Some(ready),
            available_replicas: Some(available),
            ..DeploymentStatus::default()
        }
    }

    #[test]
    fn progress_is_any_step_towards_the_goal() {
        for (old, new, progressing) in [
            (status(3, 0, 3, 3), status(4, 1, 3, 3), true),
            (status(4, 1, 3, 3), status(3, 1, 3, 3), true),
            (status(4, 1, 3, 3), status(4, 1, 4, 3), true),
            (status(4, 1, 3, 3), status(4, 1, 3, 4), true),
            (status(4, 1, 3, 3), status(4, 1, 3, 3), false),
            (status(4, 1, 3, 3), status(4, 1, 2, 2), false),
        ] {
            assert_eq!(is_progressing(&old, &new), progressing, "{old:?} -> {new:?}");
        }
    }

    #[test]
    fn available_down_to_the_limit() {
        let limits = |replicas, unavailable| {
            let value = serde_json::json!({"metadata": {}, "spec": {
                "replicas": replicas, "selector": {}, "template": {},
                "strategy": {"rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": 0}},
            }});
            Limits::of(&serde_json::from_value(value).unwrap())
        };
        for (replicas, unavailable, available, expected) in [(3, 1, 2, "True"), (3, 1, 1, "False"), (0, 1, 0, "True")] {
            assert_eq!(availability(limits(replicas, unavailable), available).status, expected);
        }
    }
}
