//! What the scheduler tells the API server: a pod's node, that there is none, and which pods must go. Runs beside the cycle.

use crate::cluster::PodInfo;
use crate::preemption::Plan;
use component_base::events::{Recorder, Type};
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Error};
use serde_json::json;

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

    /// Writes down that the pod found no node, and which one is being cleared for it.
    pub async fn unschedulable(&self, pod: &PodInfo, message: &str, nominated: Option<&str>) {
        self.recorder.event(&*pod.pod, Type::Warning, "FailedScheduling", message);
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastProbeTime": null, "lastTransitionTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        let mut status = json!({"conditions": [condition]});
        if let Some(node) = nominated {
            status["nominatedNodeName"] = node.into();
        }
        let same = pod.pod.status.as_ref().is_some_and(|s| {
            let there = s.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled");
            there.is_some_and(|c| c.status == "False" && c.message.as_deref() == Some(message))
                && (nominated.is_none() || s.nominated_node_name.as_deref() == nominated)
        });
        if same {
            return;
        }
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
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message,
                "lastProbeTime": null, "lastTransitionTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            });
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
