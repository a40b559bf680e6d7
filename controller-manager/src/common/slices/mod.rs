//! EndpointSlices as their controllers write them: whose they are, and writes that the store does not show yet.

mod tracker;

use std::sync::Arc;

use component_base::{
    informer::{Change, ObjectKey, Store},
    queue::WorkQueue,
};
use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};
use kube::{Api, Client, ResourceExt, api::PostParams};

pub use self::tracker::Tracker;
use super::{Doing, Error, Result, meta};

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Writes at once for one Service.
const PARALLEL: usize = 8;

/// What is to be written for one Service.
#[derive(Debug, Default)]
pub struct Changes {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<Arc<EndpointSlice>>,
}

/// The slices of one manager.
#[derive(Clone)]
pub struct Slices {
    store: Store<EndpointSlice>,
    manager: &'static str,
    tracker: Tracker,
}

impl Slices {
    /// Feeds `feed` with the Services whose slices were changed by somebody else.
    pub fn watch(
        store: Store<EndpointSlice>,
        manager: &'static str,
        feed: impl Fn(ObjectKey) + Send + Sync + 'static,
    ) -> Self {
        store.add_index(manager, move |slice| {
            service_of(slice, manager).map(|key| key.to_string()).into_iter().collect()
        });
        let tracker = Tracker::default();
        let seen = tracker.clone();
        store.on_change(move |change| {
            let now = change.object().and_then(|slice| service_of(slice, manager));
            let before = change.old().and_then(|slice| service_of(slice, manager));
            if let Some(before) = before.filter(|before| now.as_ref() != Some(before)) {
                feed(before);
            }
            let Some(key) = now else { return };
            // Own writes come back too: only what was not expected needs a look.
            let expected = match change {
                Change::Added(slice) | Change::Updated { new: slice, .. } => seen.saw(&key, slice),
                Change::Deleted(slice) => seen.saw_deletion(&key, slice),
                Change::Resync => false,
            };
            if !expected {
                feed(key);
            }
        });
        Self { store, manager, tracker }
    }

    pub async fn synced(&self) {
        self.store.synced().await;
    }

    /// The keys of every Service that has a slice, more than once for more than one.
    pub fn services(&self) -> Vec<ObjectKey> {
        self.store.list().iter().filter_map(|slice| service_of(slice, self.manager)).collect()
    }

    /// The slices of a Service; the time to wait if the store is known to be behind.
    pub fn of(&self, service: &ObjectKey) -> Result<Vec<Arc<EndpointSlice>>, std::time::Duration> {
        let slices = self.store.by_index(self.manager, &service.to_string());
        match self.tracker.pending(service, &slices) {
            Some(wait) => Err(wait),
            None => Ok(slices),
        }
    }

    /// Nothing more is expected of this Service's slices.
    pub fn forget(&self, service: &ObjectKey) {
        self.tracker.forget(service);
    }

    pub async fn write(&self, client: &Client, service: &ObjectKey, changes: Changes) -> Result<()> {
        let api: &Api<EndpointSlice> = &Api::namespaced(client.clone(), &service.namespace);
        let params = &PostParams::default();
        let creates = stream::iter(changes.create).map(|slice| async move {
            let created = api.create(params, &slice).await.doing(|| format!("create a slice of Service {service}"))?;
            self.tracker.wrote(service, &created);
            Ok(())
        });
        let updates = stream::iter(changes.update).map(|slice| async move {
            let name = slice.name_any();
            let updated = api.replace(&name, params, &slice).await.doing(|| format!("update EndpointSlice {name}"))?;
            self.tracker.wrote(service, &updated);
            Ok(())
        });
        let deletes = stream::iter(changes.delete).map(|slice| async move {
            let name = slice.name_any();
            self.tracker.deleting(service, &slice);
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

async fn collect(results: impl Stream<Item = Result<()>>, errors: &mut Vec<Error>) {
    let mut results = std::pin::pin!(results);
    while let Some(result) = results.next().await {
        errors.extend(result.err());
    }
}

/// The Service whose slice this is, if `manager` keeps it.
fn service_of(slice: &EndpointSlice, manager: &str) -> Option<ObjectKey> {
    let labels = slice.labels();
    if labels.get(MANAGED_BY).is_none_or(|own| own != manager) {
        return None;
    }
    Some(ObjectKey::namespaced(meta::namespace(slice), labels.get(SERVICE_NAME).filter(|name| !name.is_empty())?))
}

/// Ports without regard to their order and to what the API server fills in.
pub fn normal(ports: &[EndpointPort]) -> Vec<(String, i32, String, Option<String>)> {
    let mut ports: Vec<_> = ports
        .iter()
        .map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            (port.name.clone().unwrap_or_default(), port.port.unwrap_or(0), protocol, port.app_protocol.clone())
        })
        .collect();
    ports.sort();
    ports
}

/// Feeds `queue` after a while, so that changes that come together are worked on together.
pub fn batched(
    queue: &WorkQueue<ObjectKey>,
    period: std::time::Duration,
) -> impl Fn(ObjectKey) + Send + Sync + 'static {
    let queue = queue.clone();
    move |key| if period.is_zero() { queue.add(key) } else { queue.add_after(key, period) }
}
