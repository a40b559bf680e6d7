//! Mirror pods: the API server's image of a static pod, so that `kubectl` and the scheduler see it. The static pod rules;
//! its mirror is made again when it is deleted or of another version.

use std::sync::Arc;
use std::time::Duration;

use component_base::controller::{self, Action};
use cri_client::names;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use pod_state::spec;
use tokio_util::sync::CancellationToken;

use crate::Lifecycle;

/// Wait after an answer that only time can change: no API server, no namespace, no node object yet.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps mirrors in line until shutdown. Keys of the queue are full names.
pub async fn run(lifecycle: Arc<Lifecycle>, shutdown: CancellationToken) {
    let Some(client) = lifecycle.context.client.clone() else { return };
    tokio::select! {
        () = async { lifecycle.context.api.wait().await.pods.synced().await } => {}
        () = shutdown.cancelled() => return,
    }
    let queue = lifecycle.mirrors.clone();
    controller::run("mirror-pod", queue, 1, shutdown, |full_name: String| {
        let (lifecycle, client) = (lifecycle.clone(), client.clone());
        async move {
            match reconcile(&lifecycle, client, &full_name).await {
                Ok(action) => Ok::<_, kube::Error>(action),
                Err(error) => {
                    tracing::debug!(pod = full_name, %error, "Mirror pod is not in line yet");
                    Ok(Action::After(RETRY))
                }
            }
        }
    })
    .await;
}

async fn reconcile(lifecycle: &Lifecycle, client: kube::Client, full_name: &str) -> Result<Action, kube::Error> {
    let Some((name, namespace)) = full_name.split_once('_') else { return Ok(Action::Done) };
    let api: Api<Pod> = Api::namespaced(client, namespace);
    let wanted = lifecycle.pods.static_by_full_name(full_name);
    let present = lifecycle.context.mirror_of(full_name);
    match (wanted, present) {
        (None, None) => Ok(Action::Done),
        // A static pod that is still being stopped keeps its mirror; its end adds the key again.
        (None, Some(_)) if lifecycle.pods.by_name(namespace, name).is_some_and(|pod| spec::is_static(&pod)) => {
            Ok(Action::Done)
        }
        (None, Some(mirror)) => delete(&api, &mirror).await,
        (Some(wanted), Some(mirror)) => {
            let same = spec::annotation(&mirror, names::CONFIG_MIRROR) == spec::annotation(&wanted, names::CONFIG_HASH);
            if !same || mirror.metadata.deletion_timestamp.is_some() {
                return delete(&api, &mirror).await;
            }
            lifecycle.statuses.kick(spec::uid(&wanted));
            Ok(Action::Done)
        }
        (Some(wanted), None) => match api.create(&PostParams::default(), &mirror(lifecycle, &wanted)).await {
            Ok(_) => Ok(Action::Done),
            // The watch is behind; it adds the key again.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Action::After(RETRY)),
            Err(error) => Err(error),
        },
    }
}

async fn delete(api: &Api<Pod>, mirror: &Pod) -> Result<Action, kube::Error> {
    let preconditions = Preconditions { uid: mirror.metadata.uid.clone(), resource_version: None };
    let params =
        DeleteParams { grace_period_seconds: Some(0), preconditions: Some(preconditions), ..Default::default() };
    match api.delete(spec::name(mirror), &params).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Action::Done),
        // Another object by now, which the watch will show, or a write came between.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Action::After(RETRY)),
        other => other.map(|_| Action::Done),
    }
}

/// The object to create.
fn mirror(lifecycle: &Lifecycle, pod: &Pod) -> Pod {
    let mut mirror = pod.clone();
    let hash = spec::annotation(pod, names::CONFIG_HASH).unwrap_or_default().to_owned();
    mirror.metadata.uid = None;
    mirror.metadata.annotations.get_or_insert_default().insert(names::CONFIG_MIRROR.into(), hash);
    mirror.status = Some(PodStatus::default());
    if let Some(node) = lifecycle.context.node() {
        // NodeRestriction demands the node as owner, so that the mirror goes with it.
        mirror.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: lifecycle.context.node_name.clone(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }]);
    }
    mirror
}
