//! persistentvolumeclaim-protection-controller and persistentvolume-protection-controller: what is in use does not go.
//!
//! Both work by a finalizer: it is put on every object, and taken off one that is being deleted when nobody uses it.

use std::sync::Arc;

use component_base::{
    controller::{self, Action},
    informer::{Change, Kind, ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde::Serialize;

use crate::{
    common::{Doing, Result, meta, pod},
    context::Context,
};

const PVC_FINALIZER: &str = "kubernetes.io/pvc-protection";
const PV_FINALIZER: &str = "kubernetes.io/pv-protection";

pub async fn run_claims(context: Context) {
    let claims = context.factory.store::<PersistentVolumeClaim>(Scope::all());
    let pods = context.pods();
    let queue = WorkQueue::new("pvcprotection");
    let feed = queue.clone();
    claims.on_change(move |change| {
        if change.object().is_some_and(|claim| needs_work(claim.as_ref(), PVC_FINALIZER)) {
            feed.add(change.key());
        }
    });
    let (feed, store) = (queue.clone(), claims.clone());
    pods.on_change(move |change| {
        // Only a pod that ends can free a claim.
        let ended = match change {
            Change::Deleted(pod) => Some(pod),
            Change::Updated { new, .. } if pod::is_terminal(new) => Some(new),
            _ => None,
        };
        if let Some(pod) = ended {
            for name in claims_of(pod) {
                let key = ObjectKey::namespaced(meta::namespace(pod.as_ref()), name);
                if store.get(&key).is_some_and(|claim| meta::is_deleting(claim.as_ref())) {
                    feed.add(key);
                }
            }
        }
    });
    tokio::join!(claims.synced(), pods.synced());
    let (claims, pods, client) = (&claims, &pods, &context.client);
    controller::run(context.name, queue, 1, context.shutdown, |key: ObjectKey| async move {
        let Some(claim) = claims.get(&key) else { return Ok(Action::Done) };
        let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &key.namespace);
        let uses = |pod: &Pod| is_in_use_by(pod, &key.name);
        if meta::is_deleting(claim.as_ref()) {
            if in_store(pods, &key, uses) {
                return Ok(Action::Done);
            }
            // A pod may have come that the store does not show: the last word is the server's.
            let live: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
            let list = live.list(&ListParams::default()).await.doing(|| format!("list pods that may use {key}"))?;
            if list.items.iter().any(uses) {
                return Ok(Action::Done);
            }
        }
        protect(&api, &claim, PVC_FINALIZER).await
    })
    .await;
}

fn in_store(pods: &Store<Pod>, claim: &ObjectKey, uses: impl Fn(&Pod) -> bool) -> bool {
    pods.by_index(pod::index::NAMESPACE, &claim.namespace).iter().any(|pod| uses(pod))
}

/// Names of the claims that a pod mounts, also those made for it.
fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(source), _) => Some(source.claim_name.clone()),
            (None, Some(_)) => Some(format!("{}-{}", meta::name(pod), volume.name)),
            (None, None) => None,
        })
        .collect()
}

/// A pod that was never given a node, or has ended, holds no volume.
fn is_in_use_by(pod: &Pod, claim: &str) -> bool {
    !pod::is_terminal(pod) && !pod::node_name(pod).is_empty() && claims_of(pod).iter().any(|name| name == claim)
}

pub async fn run_volumes(context: Context) {
    let volumes = context.factory.store::<PersistentVolume>(Scope::all());
    let queue = WorkQueue::new("pvprotection");
    let feed = queue.clone();
    volumes.on_change(move |change| {
        if change.object().is_some_and(|volume| needs_work(volume.as_ref(), PV_FINALIZER)) {
            feed.add(change.key());
        }
    });
    volumes.synced().await;
    let (volumes, api) = (&volumes, &Api::all(context.client.clone()));
    controller::run(context.name, queue, 1, context.shutdown, |key| async move {
        let Some(volume) = volumes.get(&key) else { return Ok(Action::Done) };
        let bound = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        if meta::is_deleting(volume.as_ref()) && bound {
            return Ok(Action::Done);
        }
        protect(api, &volume, PV_FINALIZER).await
    })
    .await;
}

/// The finalizer is there exactly as long as the object is not being deleted.
fn needs_work(object: &impl ResourceExt, finalizer: &str) -> bool {
    let has = object.finalizers().iter().any(|own| own == finalizer);
    has == meta::is_deleting(object)
}

/// Puts the finalizer on, or takes it off what is being deleted.
async fn protect<K: Kind + Serialize>(api: &Api<K>, object: &Arc<K>, finalizer: &str) -> Result {
    if !needs_work(object.as_ref(), finalizer) {
        return Ok(Action::Done);
    }
    let mut finalizers = object.finalizers().to_vec();
    if meta::is_deleting(object.as_ref()) {
        finalizers.retain(|own| own != finalizer);
    } else {
        finalizers.push(finalizer.to_owned());
    }
    // Written as a whole: that is what the controller's role allows.
    let mut updated = K::clone(object);
    updated.meta_mut().finalizers = Some(finalizers);
    let replaced = api.replace(meta::name(object.as_ref()), &PostParams::default(), &updated).await;
    replaced.or_gone(|| format!("change the finalizers of {} {}", K::kind(&()), meta::key(object.as_ref())))?;
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_uses_a_claim() {
        for (node, phase, volumes, uses) in [
            ("n1", "Running", json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]), true),
            ("n1", "Succeeded", json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]), false),
            ("", "Pending", json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]), false),
            ("n1", "Running", json!([{"name": "v", "emptyDir": {}}]), false),
        ] {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": [], "volumes": volumes},
                "status": {"phase": phase},
            }))
            .unwrap();
            assert_eq!(is_in_use_by(&pod, "data"), uses, "{node} {phase}");
        }
        let ephemeral = json!({"metadata": {"name": "p"}, "spec": {"containers": [],
            "volumes": [{"name": "v", "ephemeral": {}}]}});
        assert_eq!(claims_of(&serde_json::from_value(ephemeral).unwrap()), ["p-v"]);
    }

    #[test]
    fn work_is_needed_until_the_finalizer_is_as_it_should_be() {
        for (finalizers, deleting, work) in [
            (json!([]), false, true),
            (json!([PVC_FINALIZER]), false, false),
            (json!([PVC_FINALIZER]), true, true),
            (json!([]), true, false),
        ] {
            let mut claim: PersistentVolumeClaim =
                serde_json::from_value(json!({"metadata": {"finalizers": finalizers}})).unwrap();
            claim.metadata.deletion_timestamp = deleting.then(meta::now);
            assert_eq!(needs_work(&claim, PVC_FINALIZER), work, "{finalizers} {deleting}");
        }
    }
}
