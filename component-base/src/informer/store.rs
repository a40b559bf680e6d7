//! What is known of one kind, its indexes, and who is told of changes.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use kube::{Resource, runtime::watcher::Event};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, watch};

use super::ObjectKey;

/// Changes a [`Subscription`] may lag behind before it is told to look at everything again.
const SUBSCRIPTION_LAG_MAX: usize = 1024;

/// What happened to an object.
#[derive(Debug)]
pub enum Change<K> {
    Added(Arc<K>),
    Updated {
        old: Arc<K>,
        new: Arc<K>,
    },
    /// With the last state that was seen.
    Deleted(Arc<K>),
    /// Only to subscriptions: changes were missed, look at the whole store. The first thing each is told.
    Resync,
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Added(object) => Self::Added(object.clone()),
            Self::Updated { old, new } => Self::Updated { old: old.clone(), new: new.clone() },
            Self::Deleted(object) => Self::Deleted(object.clone()),
            Self::Resync => Self::Resync,
        }
    }
}

impl<K> Change<K> {
    /// The object as it is now, or was last; `None` for [`Change::Resync`].
    pub fn object(&self) -> Option<&Arc<K>> {
        match self {
            Self::Added(object) | Self::Deleted(object) | Self::Updated { new: object, .. } => Some(object),
            Self::Resync => None,
        }
    }

    /// The object as it was before, if that differs from [`object`](Self::object).
    pub fn old(&self) -> Option<&Arc<K>> {
        match self {
            Self::Updated { old, .. } => Some(old),
            _ => None,
        }
    }
}

impl<K: Resource> Change<K> {
    /// The object's key; an empty one for [`Change::Resync`].
    pub fn key(&self) -> ObjectKey {
        self.object().map(|object| ObjectKey::of(object.as_ref())).unwrap_or_default()
    }
}

type IndexFn<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;
type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

struct Index<K> {
    values: IndexFn<K>,
    keys: HashMap<String, HashSet<ObjectKey>>,
}

impl<K> Index<K> {
    fn insert(&mut self, key: &ObjectKey, object: &K) {
        for value in (self.values)(object) {
            self.keys.entry(value).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &ObjectKey, object: &K) {
        for value in (self.values)(object) {
            if let Some(keys) = self.keys.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&value);
                }
            }
        }
    }
}

struct Objects<K> {
    by_key: HashMap<ObjectKey, Arc<K>>,
    indexes: HashMap<&'static str, Index<K>>,
}

impl<K> Objects<K> {
    fn put(&mut self, key: ObjectKey, object: Arc<K>) -> Option<Arc<K>> {
        let old = self.by_key.insert(key.clone(), object.clone());
        for index in self.indexes.values_mut() {
            if let Some(old) = &old {
                index.remove(&key, old);
            }
            index.insert(&key, &object);
        }
        old
    }

    fn take(&mut self, key: &ObjectKey) -> Option<Arc<K>> {
        let old = self.by_key.remove(key)?;
        for index in self.indexes.values_mut() {
            index.remove(key, &old);
        }
        Some(old)
    }
}

/// Who is told. Locked while a change is applied and told, so that whoever joins misses nothing and hears nothing twice.
struct Audience<K> {
    handlers: Vec<Handler<K>>,
    subscribers: Option<broadcast::Sender<Change<K>>>,
    /// Keys seen since the running relist began.
    listed: Option<HashSet<ObjectKey>>,
}

impl<K> Audience<K> {
    fn tell(&self, change: Change<K>) {
        for handler in &self.handlers {
            handler(&change);
        }
        if let Some(subscribers) = &self.subscribers {
            // An error means that nobody is subscribed now.
            let _ = subscribers.send(change);
        }
    }
}

struct Shared<K> {
    objects: RwLock<Objects<K>>,
    audience: Mutex<Audience<K>>,
    synced: watch::Sender<bool>,
}

/// A handle to the objects of one kind; clones share them.
pub struct Store<K>(Arc<Shared<K>>);

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Default for Store<K> {
    /// An empty store that nothing fills: for tests, with [`Store::apply`].
    fn default() -> Self {
        let objects = Objects { by_key: HashMap::new(), indexes: HashMap::new() };
        let audience = Audience { handlers: Vec::new(), subscribers: None, listed: None };
        Self(Arc::new(Shared {
            objects: RwLock::new(objects),
            audience: Mutex::new(audience),
            synced: watch::Sender::new(false),
        }))
    }
}

impl<K> Store<K> {
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.0.objects.read().by_key.get(key).cloned()
    }

    /// Every object, in no particular order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.0.objects.read().by_key.values().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.0.objects.read().by_key.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every object's key, in no particular order.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.0.objects.read().by_key.keys().cloned().collect()
    }

    /// Lets objects be found by `values`, with [`by_index`](Self::by_index). An index of that name stays as it is.
    pub fn add_index(&self, name: &'static str, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) {
        let mut objects = self.0.objects.write();
        let Objects { by_key, indexes } = &mut *objects;
        indexes.entry(name).or_insert_with(|| {
            let mut index = Index { values: Box::new(values), keys: HashMap::new() };
            for (key, object) in by_key {
                index.insert(key, object);
            }
            index
        });
    }

    /// The objects that index `name` files under `value`, in no particular order; none if there is no such index.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        let objects = self.0.objects.read();
        let keys = objects.indexes.get(name).and_then(|index| index.keys.get(value));
        keys.into_iter().flatten().filter_map(|key| objects.by_key.get(key).cloned()).collect()
    }

    /// Calls `handler` with every object there is (as added) and then with every change, in order, from the task that
    /// reads the watch: it must be quick, usually putting a key into a queue. It may read stores, not add handlers.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let mut audience = self.0.audience.lock();
        for object in self.list() {
            handler(&Change::Added(object));
        }
        audience.handlers.push(Box::new(handler));
    }

    /// A stream of changes for a task of its own. It begins with [`Change::Resync`].
    pub fn subscribe(&self) -> Subscription<K> {
        let mut audience = self.0.audience.lock();
        let sender = audience.subscribers.get_or_insert_with(|| broadcast::channel(SUBSCRIPTION_LAG_MAX).0);
        Subscription { receiver: sender.subscribe(), synced: self.0.synced.subscribe(), resync: true }
    }

    /// Waits until the first list is complete.
    pub async fn synced(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.synced.subscribe().wait_for(|synced| *synced).await;
    }

    pub fn has_synced(&self) -> bool {
        *self.0.synced.borrow()
    }
}

impl<K: Resource> Store<K> {
    /// Takes in what the watch said.
    pub fn apply(&self, event: Event<K>) {
        let mut audience = self.0.audience.lock();
        match event {
            Event::Init => audience.listed = Some(HashSet::new()),
            Event::InitApply(object) => {
                if let Some(listed) = &mut audience.listed {
                    listed.insert(ObjectKey::of(&object));
                }
                self.put(&audience, object);
            }
            Event::InitDone => {
                let listed = audience.listed.take().unwrap_or_default();
                for key in self.keys().into_iter().filter(|key| !listed.contains(key)) {
                    self.take(&audience, &key);
                }
                self.0.synced.send_replace(true);
            }
            Event::Apply(object) => self.put(&audience, object),
            Event::Delete(object) => {
                let key = ObjectKey::of(&object);
                // The last state, which says why it went, is the one to tell.
                self.0.objects.write().take(&key);
                audience.tell(Change::Deleted(Arc::new(object)));
            }
        }
    }

    fn put(&self, audience: &Audience<K>, object: K) {
        let new = Arc::new(object);
        let old = self.0.objects.write().put(ObjectKey::of(new.as_ref()), new.clone());
        match old {
            None => audience.tell(Change::Added(new)),
            Some(old) if old.meta().resource_version == new.meta().resource_version => {}
            // Deleted and created again while the watch was away: two objects that share a name.
            Some(old) if old.meta().uid != new.meta().uid => {
                audience.tell(Change::Deleted(old));
                audience.tell(Change::Added(new));
            }
            Some(old) => audience.tell(Change::Updated { old, new }),
        }
    }

    fn take(&self, audience: &Audience<K>, key: &ObjectKey) {
        let old = self.0.objects.write().take(key);
        if let Some(old) = old {
            audience.tell(Change::Deleted(old));
        }
    }
}

/// A bounded stream of changes; see [`Store::subscribe`].
pub struct Subscription<K> {
    receiver: broadcast::Receiver<Change<K>>,
    synced: watch::Receiver<bool>,
    resync: bool,
}

impl<K> Subscription<K> {
    /// The next change, or [`Change::Resync`] first (once the store is complete) and whenever some were missed. `None`
    /// when the store is gone. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Change<K>> {
        if self.resync {
            self.synced.wait_for(|synced| *synced).await.ok()?;
            self.resync = false;
            // Whatever is buffered is in the store already.
            self.receiver = self.receiver.resubscribe();
            return Some(Change::Resync);
        }
        match self.receiver.recv().await {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Change::Resync),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::ObjectMeta;

    use super::*;

    fn object(name: &str, uid: &str, version: &str) -> ConfigMap {
        let metadata = ObjectMeta {
            name: Some(name.into()),
            namespace: Some("default".into()),
            uid: Some(uid.into()),
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    fn recorded(store: &Store<ConfigMap>) -> Arc<Mutex<Vec<String>>> {
        let log = Arc::new(Mutex::new(Vec::new()));
        let writer = log.clone();
        store.on_change(move |change| {
            let kind = match change {
                Change::Added(_) => "added",
                Change::Updated { .. } => "updated",
                Change::Deleted(_) => "deleted",
                Change::Resync => "resync",
            };
            writer.lock().push(format!("{kind} {}", change.key().name));
        });
        log
    }

    #[test]
    fn a_relist_tells_only_what_changed() {
        let store = Store::default();
        for event in [
            Event::Init,
            Event::InitApply(object("a", "1", "1")),
            Event::InitApply(object("b", "2", "2")),
            Event::InitApply(object("c", "3", "3")),
            Event::InitDone,
        ] {
            store.apply(event);
        }
        assert!(store.has_synced());
        let log = recorded(&store);
        log.lock().clear();
        for event in [
            Event::Init,
            Event::InitApply(object("a", "1", "1")),
            Event::InitApply(object("b", "9", "9")),
            Event::InitDone,
        ] {
            store.apply(event);
        }
        assert_eq!(*log.lock(), ["deleted b", "added b", "deleted c"]);
    }

    #[test]
    fn late_handlers_hear_what_is_there() {
        let store = Store::default();
        store.apply(Event::Apply(object("a", "1", "1")));
        let log = recorded(&store);
        store.apply(Event::Apply(object("a", "1", "2")));
        store.apply(Event::Delete(object("a", "1", "3")));
        assert_eq!(*log.lock(), ["added a", "updated a", "deleted a"]);
    }

    #[test]
    fn indexes_follow_changes() {
        let store = Store::default();
        store.apply(Event::Apply(object("a", "1", "1")));
        store.add_index("version", |object: &ConfigMap| object.metadata.resource_version.iter().cloned().collect());
        let found = |value| store.by_index("version", value).len();
        assert_eq!((found("1"), found("2")), (1, 0));
        store.apply(Event::Apply(object("a", "1", "2")));
        assert_eq!((found("1"), found("2")), (0, 1));
        store.apply(Event::Delete(object("a", "1", "3")));
        assert_eq!((found("1"), found("2")), (0, 0));
    }

    #[tokio::test]
    async fn a_subscription_starts_with_a_resync_and_gets_one_when_it_lags() {
        let store = Store::default();
        let mut changes = store.subscribe();
        store.apply(Event::Init);
        store.apply(Event::InitApply(object("a", "1", "1")));
        store.apply(Event::InitDone);
        assert!(matches!(changes.next().await, Some(Change::Resync)));
        for version in 0..SUBSCRIPTION_LAG_MAX + 5 {
            store.apply(Event::Apply(object("a", "1", &version.to_string())));
        }
        assert!(matches!(changes.next().await, Some(Change::Resync)));
        assert!(matches!(changes.next().await, Some(Change::Updated { .. })));
        drop(store);
    }
}
