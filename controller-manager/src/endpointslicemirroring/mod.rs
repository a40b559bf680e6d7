//! endpointslicemirroring-controller: Endpoints that are kept by hand, shown as EndpointSlices.
//!
//! [`desired`] reads an Endpoints object, [`plan`] compares with the slices there are. Endpoints of Services with a selector
//! have their slices from the endpointslice-controller.

mod desired;
mod plan;

use std::sync::Arc;

use component_base::{
    controller::{self, Action},
    events::{Recorder, Type},
    informer::{Change, ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use kube::{Client, ResourceExt};

use self::desired::Desired;
use crate::{
    common::{
        Result, pod_control, service,
        slices::{self, Changes, Slices},
    },
    context::Context,
};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Endpoints with this label set to `true` have slices from somebody else.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints that are a lock say nothing about a Service.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

pub async fn run(context: Context) {
    let queue = WorkQueue::new("endpoint_slice_mirroring");
    let options = &context.options.mirroring;
    let period = options.mirroring_endpointslice_updates_batch_period.get();
    let controller = Controller {
        services: context.factory.store(Scope::all()),
        endpoints: context.factory.store(Scope::all()),
        slices: Slices::watch(context.factory.store(Scope::all()), MANAGER, slices::batched(&queue, period)),
        endpoints_max: options.mirroring_max_endpoints_per_subset,
        client: context.client.clone(),
        recorder: context.recorder("endpoint-slice-mirroring-controller"),
    };
    let feed = queue.clone();
    controller.endpoints.on_change(move |change| {
        if change.object().is_some_and(|new| is_mirrored(new)) || change.old().is_some_and(|old| is_mirrored(old)) {
            feed.add(change.key());
        }
    });
    let feed = queue.clone();
    controller.services.on_change(move |change| {
        let by_hand = |service: &Arc<Service>| service::selector(service).is_none();
        let concerns = match change {
            Change::Added(service) | Change::Deleted(service) => by_hand(service),
            Change::Updated { old, new } => by_hand(old) != by_hand(new),
            Change::Resync => false,
        };
        if concerns {
            feed.add(change.key());
        }
    });
    tokio::join!(controller.services.synced(), controller.endpoints.synced(), controller.slices.synced());
    // What was left behind by Services and Endpoints that went while nobody looked.
    controller.slices.services().into_iter().for_each(|key| queue.add(key));
    let controller = &controller;
    let workers = context.options.mirroring.mirroring_concurrent_service_endpoint_syncs;
    controller::run(context.name, queue, workers, context.shutdown.clone(), |key| async move {
        controller.reconcile(&key).await
    })
    .await;
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    endpoints.labels().get(SKIP_MIRROR).is_none_or(|skip| skip != "true")
        && !endpoints.annotations().contains_key(LEADER)
}

struct Controller {
    services: Store<Service>,
    endpoints: Store<Endpoints>,
    slices: Slices,
    endpoints_max: usize,
    client: Client,
    recorder: Recorder,
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let by_hand = self.services.get(key).is_some_and(|service| service::selector(&service).is_none());
        let endpoints = self.endpoints.get(key).filter(|endpoints| by_hand && is_mirrored(endpoints));
        if endpoints.is_none() {
            self.slices.forget(key);
        }
        let existing = match self.slices.of(key) {
            Ok(existing) => existing,
            Err(wait) => return Ok(Action::After(wait)),
        };
        let changes = match &endpoints {
            Some(endpoints) => {
                let desired = desired::desired(endpoints, self.endpoints_max);
                self.report(endpoints, &desired);
                plan::plan(endpoints, desired.groups, existing)
            }
            None => Changes { delete: existing, ..Changes::default() },
        };
        match self.slices.write(&self.client, key, changes).await {
            Err(error) if !pod_control::is_namespace_terminating(&error) => Err(error),
            _ => Ok(Action::Done),
        }
    }

    /// Tells about addresses that no slice has.
    fn report(&self, endpoints: &Endpoints, desired: &Desired) {
        let Desired { invalid, surplus, .. } = desired;
        if *invalid > 0 {
            let message = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
            self.recorder.event(endpoints, Type::Warning, "InvalidIPAddress", message);
        }
        if *surplus > 0 {
            let (max, skipped) = (self.endpoints_max, invalid + surplus);
            let message = format!(
                "A max of {max} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} addresses were skipped"
            );
            self.recorder.event(endpoints, Type::Warning, "TooManyAddressesToMirror", message);
        }
    }
}
