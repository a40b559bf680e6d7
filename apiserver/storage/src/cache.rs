//! All objects of one resource, as of the last revision seen, with the changes that led there.
//!
//! A reader takes a [`Snapshot`]: an immutable set that shares its structure with the next one, so it costs a few reference
//! counts and holds no lock. The recent changes are kept too: a watch resumes from them, and a list at an older version undoes
//! them on a snapshot.

use super::Revision;
use super::freshness::Progress;
use super::history::History;
use super::object::{Event, EventType, Layout, Object};
use super::own::OwnWrites;
use super::signature::{Entry, Signature};
use super::watchers::{Scope, Subscription, Watchers};
use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use imbl::OrdSet;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::time::Instant;

/// Names of versions that are kept once.
const VERSIONS_MAX: usize = 64;

/// The objects of a resource at one revision.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub objects: OrdSet<Entry>,
    pub revision: Revision,
}

impl Snapshot {
    pub fn get(&self, key: &str) -> Option<&Arc<Object>> {
        self.objects.get(key).map(|e| &e.0)
    }

    /// Objects whose key starts with `prefix` and comes after `after`.
    pub fn range<'a>(&'a self, prefix: &str, after: &str) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        self.select(prefix, after, Signature::default())
    }

    /// Objects whose key starts with `prefix` (empty or ending in a slash), comes after `after`, and which can have what `wanted`
    /// demands; in order.
    pub fn select<'a>(
        &'a self,
        prefix: &str,
        after: &str,
        wanted: Signature,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        use std::ops::Bound;
        let from = if after > prefix { Bound::Excluded(after) } else { Bound::Included(prefix) };
        // What follows the slash in the alphabet ends the range, so that no object need be looked at to know that it is over.
        let end = prefix.strip_suffix('/').map(|namespace| format!("{namespace}0"));
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.objects.range::<_, str>((from, to)).filter(move |e| e.may_have(wanted)).map(|e| &e.0)
    }
}

/// Why a version cannot be served from here.
#[derive(Debug, PartialEq, Eq)]
pub enum NotKept {
    /// Older than the history reaches.
    Expired,
    /// Later than anything seen yet.
    Future,
}

/// A change of one object in etcd.
pub struct Change {
    /// Below the resource's prefix.
    pub key: Box<str>,
    pub revision: Revision,
    /// `None` when it is gone.
    pub object: Option<Arc<Object>>,
}

struct State {
    snapshot: Snapshot,
    history: History,
    loaded: bool,
}

/// Brings an object as it was written once to what it would be if it were written today: defaults of fields that came later,
/// and no members that the schema has given up. Readers then find every object complete, at no cost to them.
///
/// False says that the object has members which its version does not know and another may: it must not be read as it is.
pub type Completion = Arc<dyn Fn(&mut Value) -> bool + Send + Sync>;

/// The cache of one resource.
pub struct Cache {
    /// etcd prefix with a slash at the end: `/registry/pods/`.
    pub prefix: String,
    pub layout: Layout,
    /// Which of them watchers are indexed by.
    pub indexed_field: Option<usize>,
    /// What is done to everything that comes from etcd before it is an object here.
    completion: Completion,
    state: RwLock<State>,
    /// Held while a watcher joins and while events go out, so that it neither misses one nor hears it twice.
    joining: Mutex<()>,
    pub watchers: Watchers,
    /// Changes on their way from this server to itself.
    pub own: OwnWrites,
    /// What the dispatcher has seen of all resources.
    progress: Arc<Progress>,
    /// The versions that stored objects are in, each text kept once; none if all are in one.
    versions: Option<Mutex<Vec<Arc<str>>>>,
}

impl Cache {
    pub fn new(prefix: String, layout: Layout, indexed_field: Option<usize>, progress: Arc<Progress>) -> Cache {
        Cache {
            prefix,
            layout,
            indexed_field,
            completion: Arc::new(|_| true),
            state: RwLock::new(State {
                snapshot: Snapshot::default(),
                history: History::new(progress.history.clone()),
                loaded: false,
            }),
            joining: Mutex::new(()),
            watchers: Watchers::default(),
            own: OwnWrites::default(),
            progress,
            versions: None,
        }
    }

    /// Remembers of each object in which version it is stored.
    pub fn with_versions(self) -> Cache {
        Cache { versions: Some(Mutex::default()), ..self }
    }

    /// The version that a stored tree says it is in.
    fn version_of(&self, tree: &Value) -> Option<Arc<str>> {
        let mut versions = self.versions.as_ref()?.lock();
        let (_, version) = GroupVersionKind::split_api_version(tree["apiVersion"].as_str()?);
        if let Some(known) = versions.iter().find(|v| &***v == version) {
            return Some(known.clone());
        }
        let new: Arc<str> = version.into();
        // What is stored may name any version; a definition has few.
        if versions.len() < VERSIONS_MAX {
            versions.push(new.clone());
        }
        Some(new)
    }

    pub fn with_completion(self, completion: Completion) -> Cache {
        Cache { completion, ..self }
    }

    /// The objects now. Its revision is the last one that any resource reached, since this one did not change in between.
    pub fn snapshot(&self) -> Snapshot {
        let seen = self.progress.seen(); // before the clone: what is cloned is at least this new
        let mut snapshot = self.state.read().snapshot.clone();
        snapshot.revision = snapshot.revision.max(seen);
        snapshot
    }

    /// The revision of the last change of this resource itself: the same number, the same objects.
    pub fn last_change(&self) -> Revision {
        self.state.read().snapshot.revision
    }

    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.state.read().snapshot.get(key).cloned()
    }

    /// Makes an object of a stored tree.
    pub fn object(&self, key: &str, revision: Revision, mut tree: Value) -> Arc<Object> {
        let version = self.version_of(&tree);
        let fits = (self.completion)(&mut tree);
        let version = if fits { version } else { Some("".into()) };
        Arc::new(Object::new(key, revision, tree, &self.layout).in_version(version))
    }

    /// Makes an object of a tree that was written just now: of built-in resources it is complete.
    pub fn made(&self, key: &str, revision: Revision, tree: Value) -> Arc<Object> {
        if self.versions.is_some() {
            return self.object(key, revision, tree);
        }
        Arc::new(Object::new(key, revision, tree, &self.layout))
    }

    /// Puts in place everything that etcd held at `revision`. Watches that ran are ended: what they missed is not known.
    pub fn load(&self, objects: impl Iterator<Item = Arc<Object>>, revision: Revision) {
        let _joining = self.joining.lock();
        self.own.clear(); // what comes after a gap is not waited for
        let snapshot = Snapshot { objects: objects.map(Entry::new).collect(), revision };
        let mut state = self.state.write();
        state.snapshot = snapshot;
        state.history.restart(revision);
        state.loaded = true;
        drop(state);
        self.watchers.close();
    }

    /// Takes in changes, in their order, and tells the watchers.
    pub fn apply(&self, changes: Vec<Change>) {
        let _joining = self.joining.lock();
        let events: Vec<_> = changes.into_iter().filter_map(|change| self.take_in(change)).collect();
        self.watchers.publish(&events, self.indexed_field);
    }

    /// What a change changes; nothing if it is known already.
    fn take_in(&self, Change { key, revision, object }: Change) -> Option<Arc<Event>> {
        let previous = {
            let state = self.state.read();
            if !state.loaded || revision <= state.history.start() {
                return None; // the load already saw it
            }
            state.snapshot.get(&key).cloned()
        };
        let event = Arc::new(Event::of_change(revision, object, previous)?);
        let mut state = self.state.write();
        // An entry equal by key stays on insert, so the old one goes first.
        if event.previous.is_some() {
            state.snapshot.objects.remove(&*key);
        }
        if event.kind != EventType::Deleted {
            state.snapshot.objects.insert(Entry::new(event.object.clone()));
        }
        state.snapshot.revision = revision;
        state.history.push(&event, Instant::now());
        drop(state);
        // From now on it is part of the history only, which keeps what was stored and no other form of it.
        if let Some(previous) = &event.previous {
            previous.forget_proto();
        }
        Some(event)
    }

    /// The history starts at a change of this resource, and not at a load.
    pub fn history_starts_at_change(&self) -> bool {
        self.state.read().history.starts_at_change()
    }

    /// Bytes that the history takes.
    pub fn history_bytes(&self) -> usize {
        self.state.read().history.bytes()
    }

    /// Forgets changes that are too old, and of the others the oldest `excess_bytes`.
    pub fn expire_history(&self, excess_bytes: usize) {
        self.state.write().history.expire(Instant::now(), excess_bytes);
    }

    /// The objects as they were at exactly `revision`.
    pub fn at(&self, revision: Revision) -> Result<Snapshot, NotKept> {
        let seen = self.progress.seen();
        let state = self.state.read();
        if revision > state.snapshot.revision.max(seen) {
            return Err(NotKept::Future);
        }
        if revision < state.history.start().max(self.progress.compacted()) {
            return Err(NotKept::Expired);
        }
        let mut snapshot = state.snapshot.clone();
        for event in state.history.after(revision).rev() {
            snapshot.objects.remove(&*event.object.key);
            if let Some(previous) = &event.previous {
                snapshot.objects.insert(Entry::new(previous.clone()));
            }
        }
        snapshot.revision = revision;
        Ok(snapshot)
    }

    /// Starts a watch after `revision`: the changes since then, and everything that follows.
    pub fn watch_from(&self, revision: Revision, scope: Scope) -> Result<(Vec<Arc<Event>>, Subscription), NotKept> {
        let _joining = self.joining.lock();
        let state = self.state.read();
        if revision < state.history.start() {
            return Err(NotKept::Expired);
        }
        // Copies, so that the forms in which they are sent go with the watch.
        let missed = state.history.after(revision).map(|event| Arc::new(event.bare())).collect();
        Ok((missed, self.watchers.subscribe(scope)))
    }

    /// Starts a watch with the state there is: a snapshot, and everything that follows it.
    pub fn watch_with_state(&self, scope: Scope) -> (Snapshot, Subscription) {
        let _joining = self.joining.lock();
        (self.snapshot(), self.watchers.subscribe(scope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, n: i64) -> Option<Value> {
        Some(json!({"metadata": {"name": name, "namespace": "a"}, "n": n}))
    }

    impl Cache {
        fn put(&self, key: &str, revision: Revision, tree: Option<Value>) {
            let object = tree.map(|tree| self.object(key, revision, tree));
            self.apply(vec![Change { key: key.into(), revision, object }]);
        }
    }

    fn cache() -> Cache {
        let cache = Cache::new("/registry/pods/".into(), Layout::default(), None, Arc::default());
        cache.load(std::iter::empty(), 10);
        cache
    }

    #[test]
    fn a_snapshot_does_not_see_later_changes() {
        let cache = cache();
        cache.put("a/x", 11, pod("x", 1));
        let before = cache.snapshot();
        cache.put("a/x", 12, pod("x", 2));
        assert_eq!(before.get("a/x").unwrap().revision, 11);
        assert_eq!(cache.get("a/x").unwrap().revision, 12);
    }

    #[test]
    fn an_older_version_is_found_by_undoing_changes() {
        let cache = cache();
        cache.put("a/x", 11, pod("x", 1));
        cache.put("a/y", 12, pod("y", 1));
        cache.put("a/x", 13, None);
        let keys = |at| cache.at(at).map(|s| s.objects.iter().map(|e| e.0.key.to_string()).collect::<Vec<_>>());
        assert_eq!(keys(10), Ok(vec![]));
        assert_eq!(keys(12), Ok(vec!["a/x".to_string(), "a/y".into()]));
        assert_eq!(keys(13), Ok(vec!["a/y".to_string()]));
        assert_eq!(keys(9), Err(NotKept::Expired));
        assert_eq!(keys(14), Err(NotKept::Future));
    }

    #[test]
    fn a_watch_resumes_without_a_gap() {
        let cache = cache();
        cache.put("a/x", 11, pod("x", 1));
        cache.put("a/x", 12, pod("x", 2));
        let (missed, mut live) = cache.watch_from(11, Scope::All).unwrap();
        assert_eq!(missed.iter().map(|e| e.revision).collect::<Vec<_>>(), [12]);
        cache.put("a/x", 13, None);
        let last = live.try_next().unwrap();
        assert_eq!((last.kind, last.revision), (EventType::Deleted, 13));
        assert!(cache.watch_from(9, Scope::All).is_err());
    }

    #[test]
    fn a_watcher_hears_only_of_its_namespace() {
        let cache = cache();
        let (_, mut other) = cache.watch_from(10, Scope::Namespace("b".into())).unwrap();
        let (_, mut same) = cache.watch_from(10, Scope::Namespace("a".into())).unwrap();
        cache.put("a/x", 11, pod("x", 1));
        assert!(other.try_next().is_none());
        assert!(same.try_next().is_some());
    }

    #[test]
    fn a_range_starts_after_a_key_and_stays_in_its_namespace() {
        let cache = cache();
        for (i, key) in ["a/x", "a/y", "ab/z"].iter().enumerate() {
            cache.put(key, 11 + i as u64, Some(json!({"metadata": {}})));
        }
        let snapshot = cache.snapshot();
        let keys = |prefix, after| snapshot.range(prefix, after).map(|o| o.key.to_string()).collect::<Vec<_>>();
        assert_eq!(keys("a/", ""), ["a/x", "a/y"]);
        assert_eq!(keys("a/", "a/x"), ["a/y"]);
        assert_eq!(keys("", "a/y"), ["ab/z"]);
    }
}
