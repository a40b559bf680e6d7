//! ephemeral-volume-controller: a pod's volumes of kind `ephemeral` are claims of its own, made from the templates in its spec and
//! deleted with it. (KEP-1698)

use component_base::{
    controller::{self, Action},
    events::{Recorder, Type},
    informer::{Change, ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimTemplate, Pod};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

use crate::{
    common::{Doing, Error, Result, meta, pod, pod_control},
    context::Context,
};

pub async fn run(context: Context) {
    let controller = Controller {
        pods: context.pods(),
        claims: context.factory.store(Scope::all()),
        client: context.client.clone(),
        recorder: context.recorder("ephemeral_volume"),
    };
    let queue = WorkQueue::new("ephemeral_volume");
    let feed = queue.clone();
    controller.pods.on_change(move |change| {
        if let Change::Added(pod) | Change::Updated { new: pod, .. } = change
            && is_concerned(pod)
        {
            feed.add(change.key());
        }
    });
    let feed = queue.clone();
    controller.claims.on_change(move |change| {
        // One that goes too early is made anew.
        if let Change::Deleted(claim) = change
            && let Some(owner) = meta::controller_of(claim.as_ref()).filter(|owner| owner.kind == "Pod")
        {
            feed.add(ObjectKey::namespaced(meta::namespace(claim.as_ref()), &owner.name));
        }
    });
    tokio::join!(controller.pods.synced(), controller.claims.synced());
    let controller = &controller;
    let workers = context.options.workers.concurrent_ephemeralvolume_syncs;
    controller::run(
        context.name,
        queue,
        workers,
        context.shutdown,
        |key| async move { controller.reconcile(&key).await },
    )
    .await;
}

/// The names of a pod's ephemeral volumes, with their templates.
fn volumes(pod: &Pod) -> impl Iterator<Item = (&str, &PersistentVolumeClaimTemplate)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|own| Some((own.name.as_str(), own.ephemeral.as_ref()?.volume_claim_template.as_ref()?)))
}

fn is_concerned(pod: &Pod) -> bool {
    pod::is_active(pod) && volumes(pod).next().is_some()
}

/// The claim of a volume: its name follows from the pod's and the volume's.
fn claim(pod: &Pod, volume: &str, template: &PersistentVolumeClaimTemplate) -> PersistentVolumeClaim {
    let own = template.metadata.clone().unwrap_or_default();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(format!("{}-{volume}", meta::name(pod))),
            namespace: pod.metadata.namespace.clone(),
            labels: own.labels,
            annotations: own.annotations,
            owner_references: Some(vec![meta::controller_ref(pod)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    }
}

struct Controller {
    pods: Store<Pod>,
    claims: Store<PersistentVolumeClaim>,
    client: Client,
    recorder: Recorder,
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let Some(pod) = self.pods.get(key).filter(|pod| is_concerned(pod)) else { return Ok(Action::Done) };
        for (volume, template) in volumes(&pod) {
            match self.provide(&pod, claim(&pod, volume, template)).await {
                Err(error) if !pod_control::is_namespace_terminating(&error) => {
                    let message = format!("ephemeral volume {volume}: {}", error.reason());
                    self.recorder.event(pod.as_ref(), Type::Warning, "FailedBinding", message);
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(Action::Done)
    }

    /// Makes a claim if it is not there. One of that name that is not the pod's is nobody's to use.
    async fn provide(&self, pod: &Pod, wanted: PersistentVolumeClaim) -> Result<()> {
        let key = meta::key(&wanted);
        if let Some(claim) = self.claims.get(&key) {
            return owned(&claim, pod);
        }
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.create(&PostParams::default(), &wanted).await.doing(|| format!("create claim {key}")) {
            // It is there although the store does not show it yet.
            Err(error) if error.code() == Some(409) => {
                let claim = api.get_opt(&key.name).await.doing(|| format!("read claim {key}"))?;
                claim.map_or(Err(error), |claim| owned(&claim, pod))
            }
            made => made.map(drop),
        }
    }
}

fn owned(claim: &PersistentVolumeClaim, pod: &Pod) -> Result<()> {
    if meta::is_controlled_by(claim, pod) {
        return Ok(());
    }
    let (name, owner) = (meta::name(claim), meta::name(pod));
    Err(Error::Invalid(format!("PVC {name:?} was not created for pod {owner:?} (pod is not owner)")))
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_the_pods_and_as_its_template_says() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [], "volumes": [{"name": "plain", "emptyDir": {}}, {"name": "scratch", "ephemeral": {
                "volumeClaimTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"storageClassName": "fast"}}}}]},
        }))
        .unwrap();
        let claims: Vec<_> = volumes(&pod).map(|(volume, template)| claim(&pod, volume, template)).collect();
        assert_eq!(claims.len(), 1);
        assert_eq!((claims[0].name_any().as_str(), claims[0].labels()["a"].as_str()), ("p-scratch", "b"));
        assert!(meta::is_controlled_by(&claims[0], &pod));
        assert_eq!(claims[0].spec.as_ref().unwrap().storage_class_name.as_deref(), Some("fast"));
    }

    #[test]
    fn only_pods_that_may_run_get_claims() {
        let volume = json!({"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}});
        for (volumes, phase, deleted, concerned) in [
            (json!([volume]), "Pending", json!(null), true),
            (json!([volume]), "Succeeded", json!(null), false),
            (json!([volume]), "Pending", json!("2024-01-01T00:00:00Z"), false),
            (json!([{"name": "v", "emptyDir": {}}]), "Pending", json!(null), false),
        ] {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"deletionTimestamp": deleted},
                "spec": {"containers": [], "volumes": volumes}, "status": {"phase": phase}}))
            .unwrap();
            assert_eq!(is_concerned(&pod), concerned, "{pod:?}");
        }
    }
}
