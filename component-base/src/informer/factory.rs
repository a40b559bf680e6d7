//! One store per kind, and the task that fills it.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt::Debug,
    pin::pin,
    sync::Arc,
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream};
use kube::{
    Api, Client, Resource,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::Store;
use super::lenient::Lenient;
use crate::client;

/// Which objects of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// As `fieldSelector`, such as `spec.nodeName=n1`.
    pub fields: Option<String>,
    /// As `labelSelector`.
    pub labels: Option<String>,
}

impl Scope {
    pub fn all() -> Self {
        Self::default()
    }

    pub fn fields(selector: impl Into<String>) -> Self {
        Self { fields: Some(selector.into()), ..Self::default() }
    }

    pub fn labels(selector: impl Into<String>) -> Self {
        Self { labels: Some(selector.into()), ..Self::default() }
    }

    fn watch_config(&self) -> watcher::Config {
        watcher::Config {
            field_selector: self.fields.clone(),
            label_selector: self.labels.clone(),
            ..watcher::Config::default()
        }
    }
}

/// A kind that the API can address without a namespace: every one of k8s-openapi.
pub trait Kind: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}
impl<K> Kind for K where K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}

/// Makes stores and owns the tasks that fill them.
#[derive(Clone)]
pub struct Factory(Arc<Inner>);

struct Inner {
    client: Client,
    shutdown: CancellationToken,
    stores: Mutex<HashMap<(TypeId, Scope), Entry>>,
}

struct Entry {
    store: Box<dyn Any + Send + Sync>,
    synced: Box<dyn Fn() -> BoxFuture<'static, ()> + Send>,
}

impl Factory {
    /// Watches end with `shutdown`.
    pub fn new(client: Client, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Inner { client, shutdown, stores: Mutex::default() }))
    }

    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// The store of a kind in all namespaces. The first call begins the watch; it must be made inside the runtime.
    pub fn store<K: Kind>(&self, scope: Scope) -> Store<K> {
        self.store_with(scope, |_| {})
    }

    /// As [`store`](Self::store), changing each object before it is kept: drop what nobody reads. All callers of one
    /// kind and scope must want the same; the first one's `trim` counts.
    pub fn store_with<K: Kind>(&self, scope: Scope, trim: fn(&mut K)) -> Store<K> {
        let config = scope.watch_config();
        let objects = |client| events(Api::<Lenient<K>>::all(client), config).map(|event| event.map(plain));
        self.entry(scope, objects, trim)
    }

    /// Only the metadata of a kind: for who needs no more than labels, owners or existence.
    pub fn metadata<K: Kind>(&self, scope: Scope) -> Store<PartialObjectMeta<K>> {
        let config = scope.watch_config();
        self.entry(scope, |client| events(Api::<PartialObjectMeta<K>>::all(client), config), |_| {})
    }

    /// Waits until every store made so far has its first list.
    pub async fn synced(&self) {
        let waits: Vec<_> = self.0.stores.lock().values().map(|entry| (entry.synced)()).collect();
        futures::future::join_all(waits).await;
    }

    /// Whether every store made so far has its first list.
    pub fn has_synced(&self) -> bool {
        self.0.stores.lock().values().all(|entry| (entry.synced)().now_or_never().is_some())
    }

    fn entry<K, W>(&self, scope: Scope, watch: impl FnOnce(Client) -> W, trim: fn(&mut K)) -> Store<K>
    where
        K: Resource + Clone + Send + Sync + 'static,
        W: Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    {
        let mut stores = self.0.stores.lock();
        let id = (TypeId::of::<K>(), scope);
        if let Some(store) = stores.get(&id).and_then(|entry| entry.store.downcast_ref::<Store<K>>()) {
            return store.clone();
        }
        let store = Store::default();
        let waiting = store.clone();
        let synced = Box::new(move || {
            let store = waiting.clone();
            async move { store.synced().await }.boxed()
        });
        stores.insert(id, Entry { store: Box::new(store.clone()), synced });
        // The task ends with the factory's token.
        tokio::spawn(fill(store.clone(), watch(self.0.client.clone()), trim, self.0.shutdown.clone()));
        store
    }
}

/// What happens to the objects of `api`: a list, then a watch that is resumed with backoff, and listed again when the
/// server no longer has the version where it stopped.
pub fn events<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let start = move || watcher::watcher(api.clone(), config.clone()).default_backoff().boxed();
    stream::unfold((start(), start), |(mut events, start)| async move {
        let event = events.next().await?;
        // kube lists again if the watch says so, and would ask for ever if the answer to its request does.
        if matches!(&event, Err(error @ watcher::Error::WatchStartFailed(_)) if is_expired(error)) {
            events = start();
        }
        Some((event, (events, start)))
    })
}

/// An event about objects, out of one about objects as they were read.
fn plain<K>(event: Event<Lenient<K>>) -> Event<K> {
    match event {
        Event::Apply(Lenient(object)) => Event::Apply(object),
        Event::Delete(Lenient(object)) => Event::Delete(object),
        Event::Init => Event::Init,
        Event::InitApply(Lenient(object)) => Event::InitApply(object),
        Event::InitDone => Event::InitDone,
    }
}

/// 410: the version to start from is too old, or was never there (etcd was restored from a backup).
fn is_expired(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status) => status.code == 410,
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
    }
}

/// Keeps `store` as `watch` (see [`events`]) says, until `shutdown`. What it holds stays while the watch is broken.
pub async fn fill<K>(
    store: Store<K>,
    watch: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    trim: fn(&mut K),
    shutdown: CancellationToken,
) where
    K: Resource + Send + Sync + 'static,
{
    let name = std::any::type_name::<K>();
    let kind = name.rsplit("::").next().unwrap_or(name);
    let mut watch = pin!(watch);
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = watch.next() => event,
        };
        match event {
            Some(Ok(event)) => store.apply(event.modify(|object| {
                object.meta_mut().managed_fields = None;
                trim(object);
            })),
            Some(Err(error)) if is_expired(&error) => tracing::debug!(kind, "Watch expired, listing again"),
            Some(Err(error)) => tracing::warn!(kind, error = describe(&error), "Failed to watch, will retry"),
            None => return,
        }
    }
}

fn describe(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(cause) => format!("list: {}", client::describe(cause)),
        watcher::Error::WatchStartFailed(cause) | watcher::Error::WatchFailed(cause) => client::describe(cause),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}
