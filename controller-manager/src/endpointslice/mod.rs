//! endpointslice-controller: the addresses behind every Service that has a selector, in slices.
//!
//! [`desired`] is what should be, [`layout`] spreads it over the slices there are with few writes.

mod desired;
mod layout;

use component_base::{
    controller::{self, Action},
    events::{Recorder, Type},
    informer::{ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::Client;

use crate::{
    common::{
        Result, meta, pod_control, service,
        slices::{self, Slices},
    },
    context::Context,
};

const MANAGER: &str = "endpointslice-controller.k8s.io";

pub async fn run(context: Context) {
    let queue = WorkQueue::new("endpoint_slice");
    let period = context.options.network.endpointslice_updates_batch_period.get();
    let controller = Controller {
        services: context.factory.store(Scope::all()),
        pods: context.pods(),
        nodes: context.factory.store(Scope::all()),
        slices: Slices::watch(context.factory.store(Scope::all()), MANAGER, slices::batched(&queue, period)),
        slice_max: context.options.network.max_endpoints_per_slice.max(1),
        client: context.client.clone(),
        recorder: context.recorder("endpoint-slice-controller"),
    };
    service::watch(&controller.services, &controller.pods, &queue, period);
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

struct Controller {
    services: Store<Service>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    slices: Slices,
    slice_max: usize,
    client: Client,
    recorder: Recorder,
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let Some(service) = self.services.get(key) else {
            // The garbage collector takes the slices: they are owned by the Service.
            self.slices.forget(key);
            return Ok(Action::Done);
        };
        if service::selector(&service).is_none() || meta::is_deleting(service.as_ref()) {
            return Ok(Action::Done);
        }
        let existing = match self.slices.of(key) {
            Ok(existing) => existing,
            Err(wait) => return Ok(Action::After(wait)),
        };
        let pods = service::pods(&service, &self.pods);
        let groups = desired::groups(&service, &pods, |node| self.nodes.get(&ObjectKey::cluster(node)));
        let changes = layout::plan(&service, groups, existing, self.slice_max);
        if let Err(error) = self.slices.write(&self.client, key, changes).await {
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
}
