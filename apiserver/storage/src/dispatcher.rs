//! The one watch on etcd, and who gets what it brings.
//!
//! Watching every key on one stream gives all resources one order, and every revision shows up on it: when the stream has
//! brought revision N, all caches are complete up to N.

use super::cache::{Cache, Change};
use super::etcd::Etcd;
use super::freshness::Progress;
use super::object::Object;
use super::{Revision, StorageError, codec, encodings};
use etcd_client::{EventType, WatchResponse};
use futures::FutureExt;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

/// Keys read at once while loading.
const PAGE: i64 = 500;

/// How often histories are looked through for changes that are too old.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(15);

/// Changes that are taken in together.
const CHANGES_AT_ONCE: usize = 256;

/// Changes that have come, by the resource they are of, each in its order.
#[derive(Default)]
struct Changes {
    by_cache: Vec<(Arc<Cache>, Vec<Change>)>,
    count: usize,
    /// The last revision among them, also of those that concern no cache.
    last: Revision,
}

impl Changes {
    fn push(&mut self, cache: Arc<Cache>, change: Change) {
        self.count += 1;
        // A handful of resources change in a moment: no need for a map.
        match self.by_cache.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &cache)) {
            Some((_, changes)) => changes.push(change),
            None => self.by_cache.push((cache, vec![change])),
        }
    }
}

/// Feeds the caches.
pub struct Dispatcher {
    etcd: Etcd,
    progress: Arc<Progress>,
    /// By the part of the key between the etcd prefix and the object: `pods`, `services/specs`.
    caches: RwLock<HashMap<String, Arc<Cache>>>,
    /// Held while changes are put into caches, and while a cache is loaded beside them.
    applying: tokio::sync::Mutex<()>,
}

impl Dispatcher {
    pub fn new(etcd: Etcd, progress: Arc<Progress>) -> Arc<Dispatcher> {
        Arc::new(Dispatcher { etcd, progress, caches: RwLock::default(), applying: tokio::sync::Mutex::new(()) })
    }

    /// Adds a cache before [`Dispatcher::run`] loads it.
    pub fn add(&self, name: &str, cache: Arc<Cache>) {
        self.caches.write().insert(name.to_owned(), cache);
    }

    /// Adds a cache while the watch runs, and loads it.
    pub async fn add_and_load(&self, name: &str, cache: Arc<Cache>) -> Result<(), StorageError> {
        let _applying = self.applying.lock().await;
        self.load(&cache, 0).await?;
        self.caches.write().insert(name.to_owned(), cache);
        Ok(())
    }

    /// Stops feeding a cache and ends its watches.
    pub fn remove(&self, name: &str) {
        if let Some(cache) = self.caches.write().remove(name) {
            cache.watchers.close();
        }
    }

    /// Forgets changes that are too old, and where all resources together hold too many those of the resources that hold most.
    fn expire_history(&self) {
        let mut caches: Vec<Arc<Cache>> = self.caches.read().values().cloned().collect();
        caches.sort_by_key(|cache| std::cmp::Reverse(cache.history_bytes()));
        for cache in caches {
            cache.expire_history(self.progress.history.excess_bytes());
        }
    }

    /// Loads everything, then follows etcd until `shutdown`; connects again as often as it takes.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut after: Option<Revision> = None;
        let mut backoff = Duration::from_millis(50);
        let expiring = self.clone();
        let _expiring = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                tokio::time::sleep(EXPIRY_INTERVAL).await;
                expiring.expire_history();
                encodings::expire();
            }
        }));
        while !shutdown.is_cancelled() {
            let result = tokio::select! {
                r = self.follow(&mut after) => r,
                () = shutdown.cancelled() => return,
            };
            match result {
                Ok(()) => backoff = Duration::from_millis(50),
                Err(StorageError::Compacted) => {
                    warn!("etcd has compacted what the watch still needed; loading everything again");
                    after = None;
                }
                Err(e) => {
                    warn!(error = %e, "the watch on etcd broke; connecting again");
                    tokio::select! { () = tokio::time::sleep(backoff) => {}, () = shutdown.cancelled() => return }
                    backoff = (backoff * 2).min(Duration::from_secs(2));
                }
            }
        }
    }

    /// One watch, from its start to its end. `after` is the last revision taken in; none loads first.
    async fn follow(&self, after: &mut Option<Revision>) -> Result<(), StorageError> {
        let start = match *after {
            Some(revision) => revision,
            None => {
                let revision = self.load_all().await?;
                *after = Some(revision);
                revision
            }
        };
        let mut stream = self.etcd.watch(start).await?;
        loop {
            let message = stream.message().await;
            let _applying = self.applying.lock().await;
            let mut changes = Changes::default();
            let mut read = self.read(message, &mut changes);
            // What has come by now as well goes along, so that under load watchers are woken once for many changes.
            while read.is_ok()
                && changes.count < CHANGES_AT_ONCE
                && let Some(message) = stream.message().now_or_never()
            {
                read = self.read(message, &mut changes);
            }
            for (cache, changes) in changes.by_cache {
                cache.apply(changes);
            }
            if changes.last > 0 {
                *after = Some(changes.last);
                self.progress.advance(changes.last);
            }
            read?;
        }
    }

    /// Notes the changes in a message of the watch.
    fn read(
        &self,
        message: Result<Option<WatchResponse>, etcd_client::Error>,
        changes: &mut Changes,
    ) -> Result<(), StorageError> {
        let message = message.map_err(|e| StorageError::Unavailable(e.to_string()))?;
        let Some(message) = message else {
            return Err(StorageError::Unavailable("etcd ended the watch".into()));
        };
        if message.compact_revision() > 0 {
            return Err(StorageError::Compacted);
        }
        if message.canceled() {
            return Err(StorageError::Unavailable(message.cancel_reason().to_owned()));
        }
        for event in message.0.events {
            let Some(kv) = event.kv else { continue };
            let revision = kv.mod_revision as Revision;
            changes.last = changes.last.max(revision);
            let deleted = event.r#type == EventType::Delete as i32;
            if let Some((cache, change)) = self.change(&kv.key, revision, (!deleted).then_some(&kv.value)) {
                changes.push(cache, change);
            }
        }
        Ok(())
    }

    /// A change of a key as a change of an object; `None` if the key is nobody's or its value cannot be read.
    fn change(&self, key: &[u8], revision: Revision, value: Option<&Vec<u8>>) -> Option<(Arc<Cache>, Change)> {
        let key = std::str::from_utf8(key).ok()?;
        let path = key.strip_prefix(&self.etcd.prefix)?.strip_prefix('/')?;
        let (cache, rest) = self.find(path)?;
        match value.map(|bytes| object(&cache, key, rest, revision, bytes)).transpose() {
            Ok(object) => {
                let change = Change { key: rest.into(), revision, object };
                Some((cache, change))
            }
            Err(e) => {
                error!(key, error = %e, "skipping an object that cannot be read; delete it in etcd to be rid of it");
                None
            }
        }
    }

    /// The cache of a path, and what remains of the path below it. Prefixes have one or two segments.
    fn find<'a>(&self, path: &'a str) -> Option<(Arc<Cache>, &'a str)> {
        let caches = self.caches.read();
        let first = path.find('/')?;
        if let Some(second) = path[first + 1..].find('/').map(|i| first + 1 + i)
            && let Some(cache) = caches.get(&path[..second])
        {
            return Some((cache.clone(), &path[second + 1..]));
        }
        caches.get(&path[..first]).map(|c| (c.clone(), &path[first + 1..]))
    }

    /// Every cache as of one revision.
    async fn load_all(&self) -> Result<Revision, StorageError> {
        let _applying = self.applying.lock().await;
        let revision = self.etcd.current_revision().await?;
        let caches: Vec<Arc<Cache>> = self.caches.read().values().cloned().collect();
        let mut objects = 0;
        for cache in caches {
            objects += self.load(&cache, revision).await?;
        }
        self.progress.advance(revision);
        info!(objects, revision, "the watch cache is loaded");
        Ok(revision)
    }

    /// Reads one resource at `revision` (0: whatever is current).
    async fn load(&self, cache: &Cache, mut revision: Revision) -> Result<usize, StorageError> {
        let mut objects: Vec<Arc<Object>> = Vec::new();
        let mut start = cache.prefix.clone().into_bytes();
        loop {
            let page = self.etcd.page(&cache.prefix, &start, PAGE, revision).await?;
            if revision == 0 {
                revision = page.revision;
            }
            if let Some(last) = page.items.last() {
                start = last.key.clone();
                start.push(0);
            }
            for item in page.items {
                let Ok(key) = std::str::from_utf8(&item.key) else { continue };
                match codec::decode(key, &item.value) {
                    Ok(tree) => objects.push(cache.object(&key[cache.prefix.len()..], item.revision, tree)),
                    Err(e) => {
                        error!(key, error = %e, "skipping an object that cannot be read; delete it in etcd to be rid of it")
                    }
                }
            }
            if !page.more {
                break;
            }
        }
        let count = objects.len();
        cache.load(objects.into_iter(), revision);
        Ok(count)
    }
}

/// The object in the bytes of a change: as it was written, if we wrote it, else decoded.
fn object(cache: &Cache, key: &str, rest: &str, revision: Revision, bytes: &[u8]) -> Result<Arc<Object>, StorageError> {
    let own = cache
        .own
        .take(rest, bytes)
        .and_then(|write| write.object(revision, |key, tree| cache.made(key, revision, tree)));
    if let Some(object) = own {
        debug_assert_eq!(
            String::from_utf8_lossy(&object.json),
            String::from_utf8_lossy(&cache.object(rest, revision, codec::decode(key, bytes)?).json),
            "what is written must be what is read"
        );
        return Ok(object);
    }
    Ok(cache.object(rest, revision, codec::decode(key, bytes)?))
}
