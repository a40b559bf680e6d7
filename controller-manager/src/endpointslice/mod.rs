//! endpointslice-controller: the addresses behind every Service that has a selector, in slices.
//!
//! [`desired`] is what should be, [`layout`] spreads it over the slices there are with few writes, [`tracker`] bridges the
//! time until the store shows what was written.

mod desired;
mod layout;
mod tracker;

use component_base::{
    controller::{self, Action},
    events::{Recorder, Type},
    informer::{Change, ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use futures::{StreamExt, stream};
use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Client, ResourceExt, api::PostParams};

use self::{layout::Changes, tracker::Tracker};
use crate::{
    common::{Doing, Error, Result, meta, pod_control, service},
    context::Context,
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Slices by the key of their Service.
const BY_SERVICE: &str = "service";
/// Writes at once for one Service.
const PARALLEL: usize = 8;

pub async fn run(context: Context) {
    let controller = Controller {
        services: context.factory.store(Scope::all()),
        pods: context.pods(),
        nodes: context.factory.store(Scope::all()),
        slices: context.factory.store(Scope::all()),
        tracker: Tracker::default(),
        slice_max: context.options.network.max_endpoints_per_slice.max(1),
        client: context.client.clone(),
        recorder: context.recorder("endpoint-slice-controller"),
    };
    let queue = WorkQueue::new("endpoint_slice");
    controller.slices.add_index(BY_SERVICE, |slice| service_of(slice).map(|key| key.to_string()).into_iter().collect());
    service::watch(&controller.services, &controller.pods, &queue);
    let (feed, tracker) = (queue.clone(), controller.tracker.clone());
    controller.slices.on_change(move |change| {
        let Some(key) = change.object().and_then(|slice| service_of(slice)) else { return };
        // Own writes come back too: only what was not expected needs a look.
        let expected = match change {
            Change::Added(slice) | Change::Updated { new: slice, .. } => tracker.saw(&key, slice),
            Change::Deleted(slice) => tracker.saw_deletion(&key, slice),
            Change::Resync => false,
        };
        if !expected {
            feed.add(key);
        }
    });
    tokio::join!(
        controller.services.synced(),
        controller.pods.synced(),
        controller.nodes.synced(),
        controller.slices.synced()
    );
    let controller = &controller;
    let workers = context.options.workers.concurrent_service_endpoint_syncs;
    controller::run(
        context.name,
        queue,
        workers,
        context.shutdown,
        |key| async move { controller.reconcile(&key).await },
    )
    .await;
}

/// The Service whose slice this is, if we manage it.
fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let labels = slice.labels();
    if labels.get(MANAGED_BY).is_none_or(|manager| manager != MANAGER) {
        return None;
    }
    Some(ObjectKey::namespaced(meta::namespace(slice), labels.get(SERVICE_NAME)?))
}

struct Controller {
    services: Store<Service>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    slices: Store<EndpointSlice>,
    tracker: Tracker,
    slice_max: usize,
    client: Client,
    recorder: Recorder,
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let Some(service) = self.services.get(key) else {
            // The garbage collector takes the slices: they are owned by the Service.
            self.tracker.forget(key);
            return Ok(Action::Done);
        };
        if service::selector(&service).is_none() || meta::is_deleting(service.as_ref()) {
            return Ok(Action::Done);
        }
        let existing = self.slices.by_index(BY_SERVICE, &key.to_string());
        if let Some(wait) = self.tracker.pending(key, &existing) {
            return Ok(Action::After(wait));
        }
        let pods = service::pods(&service, &self.pods);
        let groups = desired::groups(&service, &pods, |node| self.nodes.get(&ObjectKey::cluster(node)));
        let changes = layout::plan(&service, groups, existing, self.slice_max);
        if let Err(error) = self.write(key, changes).await {
            if pod_control::is_namespace_terminating(&error) {
                return Ok(Action::Done);
            }
            if error.code() != Some(409) {
                let message = format!("Error updating Endpoint Slices for Service {key}: {}", error.reason());
                self.recorder.event(service.as_ref(), Type::Warning, "FailedToUpdateEndpointSlices", message);
            }
            return Err(error);
        }
        Ok(Action::Done)
    }

    async fn write(&self, key: &ObjectKey, changes: Changes) -> Result<()> {
        let api: &Api<EndpointSlice> = &Api::namespaced(self.client.clone(), &key.namespace);
        let params = &PostParams::default();
        let creates = stream::iter(changes.create).map(|slice| async move {
            let created = api.create(params, &slice).await.doing(|| format!("create a slice of Service {key}"))?;
            self.tracker.wrote(key, &created);
            Ok(())
        });
        let updates = stream::iter(changes.update).map(|slice| async move {
            let name = slice.name_any();
            let updated = api.replace(&name, params, &slice).await.doing(|| format!("update EndpointSlice {name}"))?;
            self.tracker.wrote(key, &updated);
            Ok(())
        });
        let deletes = stream::iter(changes.delete).map(|slice| async move {
            let name = slice.name_any();
            self.tracker.deleting(key, &slice);
            let deleted = api.delete(&name, &meta::delete_exactly(slice.as_ref())).await;
            deleted.or_gone(|| format!("delete EndpointSlice {name}")).map(drop)
        });
        let mut errors = Vec::new();
        collect(creates.buffer_unordered(PARALLEL), &mut errors).await;
        collect(updates.buffer_unordered(PARALLEL), &mut errors).await;
        collect(deletes.buffer_unordered(PARALLEL), &mut errors).await;
        Error::join(errors)
    }
}

async fn collect(results: impl stream::Stream<Item = Result<()>>, errors: &mut Vec<Error>) {
    let mut results = std::pin::pin!(results);
    while let Some(result) = results.next().await {
        errors.extend(result.err());
    }
}
