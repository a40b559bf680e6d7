//! What the scheduler tells the API server: a pod's node, that there is none, and which pods must go. Runs beside the cycle.

use crate::cluster::PodInfo;
use crate::preemption::Plan;
use component_base::events::{Recorder, Type};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Error};
use serde_json::{Value, json};

/// What becomes of `status.nominatedNodeName` of a pod that found no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nominated<'a> {
    /// Victims of an earlier plan are still on their way out.
    Keep,
    /// Nothing makes room anywhere.
    Clear,
    /// Room is being made there.
    Node(&'a str),
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// A condition for a strategic merge patch: its transition time stays if its status does.
fn condition_patch(pod: &Pod, kind: &str, status: &str, reason: &str, message: &str) -> Value {
    let same = condition(pod, kind).filter(|before| before.status == status);
    let since = same.and_then(|before| before.last_transition_time.clone());
    json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastProbeTime": null,
        "lastTransitionTime": since.unwrap_or_else(|| Time(Timestamp::now())),
        "observedGeneration": pod.metadata.generation,
    })
}

/// Writes for pods.
#[derive(Clone)]
pub struct Binder {
    pub client: Client,
    pub recorder: Recorder,
}

impl Binder {
    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Gives the pod its node.
    pub async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), Error> {
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(pod.name.clone()),
                namespace: Some(pod.namespace.clone()),
                uid: Some(pod.uid.clone()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".into()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let body = serde_json::to_vec(&binding).map_err(Error::SerdeError)?;
        let path = format!("/api/v1/namespaces/{}/pods/{}/binding", pod.namespace, pod.name);
        let request = http::Request::post(path).header(http::header::CONTENT_TYPE, "application/json").body(body);
        let request = request.map_err(|e| Error::BuildRequest(kube::core::request::Error::BuildRequest(e)))?;
        let _: serde_json::Value = self.client.request(request).await?;
        let message = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
        self.recorder.event(&*pod.pod, Type::Normal, "Scheduled", message);
        Ok(())
    }

    /// Writes down that the pod found no node, and what that means for the node that was being cleared for it.
    pub async fn unschedulable(&self, pod: &PodInfo, message: &str, nominated: Nominated<'_>) {
        self.recorder.event(&*pod.pod, Type::Warning, "FailedScheduling", message);
        let status = pod.pod.status.as_ref();
        let before = status.and_then(|status| status.nominated_node_name.as_deref());
        let node = match nominated {
            Nominated::Keep => before,
            Nominated::Clear => None,
            Nominated::Node(node) => Some(node),
        };
        let there = condition(&pod.pod, "PodScheduled");
        let same = there.is_some_and(|c| {
            c.status == "False" && c.reason.as_deref() == Some("Unschedulable") && c.message.as_deref() == Some(message)
        });
        if same && node == before {
            return;
        }
        let condition = condition_patch(&pod.pod, "PodScheduled", "False", "Unschedulable", message);
        let status = json!({"conditions": [condition], "nominatedNodeName": node});
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid}, "status": status}));
        if let Err(error) = self.pods(&pod.namespace).patch_status(&pod.name, &PatchParams::default(), &patch).await {
            tracing::debug!(pod = pod.name, %error, "the pod's condition could not be written");
        }
    }

    /// Ends the victims of a plan.
    pub async fn preempt(&self, pod: &PodInfo, plan: &Plan) {
        for victim in &plan.victims {
            let message = format!(
                "{}: preempting to accommodate a higher priority pod",
                pod.pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref()).unwrap_or("default-scheduler")
            );
            let condition = condition_patch(&victim.pod, "DisruptionTarget", "True", "PreemptionByScheduler", &message);
            let patch =
                Patch::Strategic(json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}}));
            let pods = self.pods(&victim.namespace);
            if let Err(error) = pods.patch_status(&victim.name, &PatchParams::default(), &patch).await {
                tracing::debug!(pod = victim.name, %error, "a victim's condition could not be written");
            }
            let only_it = DeleteParams {
                preconditions: Some(Preconditions { uid: Some(victim.uid.clone()), resource_version: None }),
                ..DeleteParams::default()
            };
            match pods.delete(&victim.name, &only_it).await {
                Ok(_) => self.recorder.event(
                    &*victim.pod,
                    Type::Normal,
                    "Preempted",
                    format!("Preempted by pod {} on node {}", pod.uid, plan.node),
                ),
                Err(Error::Api(status)) if status.code == 404 || status.code == 409 => {}
                Err(error) => tracing::warn!(pod = victim.name, %error, "a pod could not be preempted"),
            }
        }
    }

    /// Pods as the API has them now, to find out what became of a binding whose answer was lost.
    pub async fn get(&self, pod: &PodInfo) -> Result<Option<Pod>, Error> {
        self.pods(&pod.namespace).get_opt(&pod.name).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_transition_time_while_its_status_stays() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"generation": 2}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "lastTransitionTime": "2024-01-01T00:00:00Z"}]}}))
        .unwrap();
        for (kind, kept) in [("PodScheduled", true), ("DisruptionTarget", false)] {
            let patch = condition_patch(&pod, kind, "False", "R", "m");
            assert_eq!(patch["lastTransitionTime"] == "2024-01-01T00:00:00Z", kept, "{kind}");
            assert_eq!((&patch["reason"], &patch["observedGeneration"]), (&json!("R"), &json!(2)));
        }
    }
}
