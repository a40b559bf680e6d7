//! What a set reports about its pods.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ReplicaSetCondition, ReplicaSetStatus},
    core::v1::Pod,
};
use kube::{Api, ResourceExt, api::PostParams, core::Selector};

use super::{ScaleFailure, kind::ReplicaKind};
use crate::common::{
    Doing, Result,
    conditions::{self, Condition},
    meta, pod,
};

/// Why scaling does not get on, as a condition of the set.
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// The status that `owner` should have, by the pods it owns.
pub(super) fn calculate<O: ReplicaKind>(
    owner: &O,
    pods: &[Arc<Pod>],
    failure: Option<&ScaleFailure>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let template_labels = owner.template().and_then(|template| template.metadata.as_ref()?.labels.clone());
    let template_selector: Selector = template_labels.unwrap_or_default().into_iter().collect();
    let count = |test: &dyn Fn(&Pod) -> bool| -> i32 {
        let active = pods.iter().filter(|pod| pod::is_active(pod));
        i32::try_from(active.filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
    };
    let terminating = pods.iter().filter(|pod| pod::is_terminating(pod)).count();

    let mut status = owner.status();
    status.replicas = count(&|_| true);
    status.fully_labeled_replicas = Some(count(&|pod| meta::matches(&template_selector, pod)));
    status.ready_replicas = Some(count(&pod::is_ready));
    status.available_replicas = Some(count(&|pod| pod::is_available(pod, owner.min_ready_secs(), now)));
    status.terminating_replicas = i32::try_from(terminating).ok();
    status.observed_generation = owner.meta().generation;
    match failure {
        Some(failure) => {
            let message = failure.error.reason();
            let condition = ReplicaSetCondition::new(REPLICA_FAILURE, "True", failure.reason, &message);
            conditions::set(&mut status.conditions, condition);
        }
        None => conditions::remove(&mut status.conditions, REPLICA_FAILURE),
    }
    status
}

/// Writes the status if it differs. A conflict leads to another look with a fresh object.
pub(super) async fn update<O: ReplicaKind>(owners: &Api<O>, owner: &O, status: ReplicaSetStatus) -> Result<()> {
    let mut updated = owner.clone();
    updated.set_status(status);
    if updated.status_is(owner) {
        return Ok(());
    }
    let name = owner.name_any();
    let what = || format!("update the status of {} {}", O::kind(&()), meta::key(owner));
    owners.replace_status(&name, &PostParams::default(), &updated).await.or_gone(what).map(drop)
}

trait SameStatus {
    fn status_is(&self, other: &Self) -> bool;
}

impl<O: ReplicaKind> SameStatus for O {
    /// Absent numbers are zeros: an object that has just been created need not be written to say so... unless its
    /// generation was never observed.
    fn status_is(&self, other: &Self) -> bool {
        let normal = |status: ReplicaSetStatus| ReplicaSetStatus {
            available_replicas: Some(status.available_replicas.unwrap_or(0)),
            fully_labeled_replicas: Some(status.fully_labeled_replicas.unwrap_or(0)),
            ready_replicas: Some(status.ready_replicas.unwrap_or(0)),
            terminating_replicas: Some(status.terminating_replicas.unwrap_or(0)),
            ..status
        };
        normal(self.status()) == normal(other.status())
    }
}
