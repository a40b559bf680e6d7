//! What differs between ReplicaSet and ReplicationController.

use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetStatus},
    core::v1::{PodTemplateSpec, ReplicationController, ReplicationControllerStatus},
};
use kube::{Api, Client, core::Selector};
use serde::Serialize;

use crate::common::{meta, pod_events::PodOwner};

/// A kind that keeps a number of pods.
pub trait ReplicaKind: PodOwner + Serialize {
    /// The queue's name in metrics.
    const QUEUE: &'static str;
    fn api(client: &Client, namespace: &str) -> Api<Self>;
    fn replicas(&self) -> i32;
    fn min_ready_secs(&self) -> i32;
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// The status in the form that both share.
    fn status(&self) -> ReplicaSetStatus;
    fn set_status(&mut self, status: ReplicaSetStatus);
}

impl PodOwner for ReplicaSet {
    fn selector(&self) -> Option<Selector> {
        // One without any requirement would take every pod; validation refuses it.
        meta::selector(&self.spec.as_ref()?.selector).ok().filter(|selector| !selector.selects_all())
    }
}

impl ReplicaKind for ReplicaSet {
    const QUEUE: &'static str = "replicaset";

    fn api(client: &Client, namespace: &str) -> Api<Self> {
        Api::namespaced(client.clone(), namespace)
    }

    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn min_ready_secs(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }

    fn set_status(&mut self, status: ReplicaSetStatus) {
        self.status = Some(status);
    }
}

impl PodOwner for ReplicationController {
    fn selector(&self) -> Option<Selector> {
        let labels = self.spec.as_ref()?.selector.clone().filter(|labels| !labels.is_empty())?;
        Some(labels.into_iter().collect())
    }
}

impl ReplicaKind for ReplicationController {
    const QUEUE: &'static str = "replicationmanager";

    fn api(client: &Client, namespace: &str) -> Api<Self> {
        Api::namespaced(client.clone(), namespace)
    }

    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn min_ready_secs(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn status(&self) -> ReplicaSetStatus {
        let status = self.status.clone().unwrap_or_default();
        ReplicaSetStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|conditions| conditions.into_iter().map(convert::from_rc).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
            terminating_replicas: None,
        }
    }

    fn set_status(&mut self, status: ReplicaSetStatus) {
        self.status = Some(ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|conditions| conditions.into_iter().map(convert::to_rc).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        });
    }
}

mod convert {
    use k8s_openapi::api::{apps::v1::ReplicaSetCondition, core::v1::ReplicationControllerCondition};

    pub fn from_rc(condition: ReplicationControllerCondition) -> ReplicaSetCondition {
        ReplicaSetCondition {
            last_transition_time: condition.last_transition_time,
            message: condition.message,
            reason: condition.reason,
            status: condition.status,
            type_: condition.type_,
        }
    }

    pub fn to_rc(condition: ReplicaSetCondition) -> ReplicationControllerCondition {
        ReplicationControllerCondition {
            last_transition_time: condition.last_transition_time,
            message: condition.message,
            reason: condition.reason,
            status: condition.status,
            type_: condition.type_,
        }
    }
}
