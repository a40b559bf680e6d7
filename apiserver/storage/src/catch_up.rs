//! A watch from a revision that the history has forgotten: etcd tells what it still has, until the watch has reached the start of
//! the history and joins the stream of the cache.
//!
//! Where it may join is clear because some change that etcd tells has exactly the revision at which the history starts, or a later
//! one: a change of the resource itself, if it was the last to be forgotten, else of any key, for then the history starts at a load.

use super::cache::Cache;
use super::etcd::Etcd;
use super::object::{Event, Object};
use super::watchers::{Scope, Subscription};
use super::{Revision, StorageError, codec};
use etcd_client::{EventType, WatchStream};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::error;

/// Watches that read from etcd at once. Each may hold a message, which etcd cuts at about its limit of a write (1.5 MiB).
const CATCH_UPS_MAX: usize = 16;

/// How long a watch waits for a place among them.
const PLACE_TIME_MAX: Duration = Duration::from_secs(3);

/// How long one may take, whether or not its client reads: nobody keeps others waiting for longer.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(60);

/// Changes that are decoded in one go, between which other tasks run.
const CHANGES_AT_ONCE: usize = 64;

static PLACES: Semaphore = Semaphore::const_new(CATCH_UPS_MAX);

/// A place among the watches that read from etcd; none if none becomes free in time.
pub async fn place() -> Option<SemaphorePermit<'static>> {
    timeout(PLACE_TIME_MAX, PLACES.acquire()).await.ok()?.ok()
}

/// What comes next.
pub enum Step {
    Events(Vec<Arc<Event>>),
    /// The history goes on from here: what it has, and everything that follows.
    Joined(Vec<Arc<Event>>, Subscription),
}

/// A watch that is behind the history, as its client's end sees it. Dropping it ends the reading.
pub struct CatchUp {
    steps: mpsc::Receiver<Result<Step, StorageError>>,
    _task: AbortOnDropHandle<()>,
}

impl CatchUp {
    /// Starts after `revision`. Events come of what `scope` can tell by the key alone, and are to be selected from further.
    pub async fn start(
        etcd: &Etcd,
        cache: Arc<Cache>,
        revision: Revision,
        scope: Scope,
        place: SemaphorePermit<'static>,
    ) -> Result<CatchUp, StorageError> {
        let reader = Reader::start(etcd, cache, revision, scope).await?;
        let (sender, steps) = mpsc::channel(1);
        let task = AbortOnDropHandle::new(tokio::spawn(run(reader, sender, place)));
        Ok(CatchUp { steps, _task: task })
    }

    /// The next events, or the way into the cache's stream; `None` when the client was too slow for the time there is.
    ///
    /// # Errors
    /// `Compacted` when the client must list anew, also because etcd could not tell everything in time.
    pub async fn next(&mut self) -> Option<Result<Step, StorageError>> {
        self.steps.recv().await
    }
}

/// Reads until the history is reached, an error, or the end of the time.
async fn run(mut reader: Reader, steps: mpsc::Sender<Result<Step, StorageError>>, _place: SemaphorePermit<'static>) {
    let reading = async {
        loop {
            let step = reader.next().await;
            let is_last = !matches!(step, Ok(Step::Events(_)));
            if steps.send(step).await.is_err() || is_last {
                return;
            }
        }
    };
    if timeout(CATCH_UP_TIME_MAX, reading).await.is_err() {
        // With room for this it was etcd that took too long, and resuming would take as long again. Without, it was the client.
        let _ = steps.try_send(Err(StorageError::Compacted));
    }
}

/// Reads changes from etcd.
struct Reader {
    cache: Arc<Cache>,
    scope: Scope,
    stream: WatchStream,
    /// It watches all keys, not only those of the resource.
    all_keys: bool,
    /// What has come and is not decoded yet.
    pending: VecDeque<etcd_client::proto::PbEvent>,
    /// The last revision of which everything has come.
    received: Revision,
}

impl Reader {
    async fn start(etcd: &Etcd, cache: Arc<Cache>, revision: Revision, scope: Scope) -> Result<Reader, StorageError> {
        let all_keys = !cache.history_starts_at_change();
        let stream = etcd.watch_older((!all_keys).then_some(&*cache.prefix), revision).await?;
        Ok(Reader { cache, scope, stream, all_keys, pending: VecDeque::new(), received: revision })
    }

    async fn next(&mut self) -> Result<Step, StorageError> {
        loop {
            if self.pending.is_empty() {
                if let Ok((missed, live)) = self.cache.watch_from(self.received, self.scope.clone()) {
                    return Ok(Step::Joined(missed, live));
                }
                if !self.all_keys && !self.cache.history_starts_at_change() {
                    // No change of the resource may ever tell that the new start is reached.
                    return Err(StorageError::Unavailable("the watch cache was loaded anew".into()));
                }
                self.receive().await?;
            }
            let count = self.pending.len().min(CHANGES_AT_ONCE);
            let (cache, scope) = (&self.cache, &self.scope);
            let events: Vec<_> = self.pending.drain(..count).map(|event| read(cache, scope, event)).collect();
            let events: Vec<_> = events.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
            if !events.is_empty() {
                return Ok(Step::Events(events));
            }
            tokio::task::yield_now().await;
        }
    }

    async fn receive(&mut self) -> Result<(), StorageError> {
        let unavailable = |why: &str| StorageError::Unavailable(why.to_owned());
        let message = self.stream.message().await.map_err(|e| StorageError::Unavailable(e.to_string()))?;
        let message = message.ok_or_else(|| unavailable("etcd ended the watch"))?;
        if message.compact_revision() > 0 {
            return Err(StorageError::Compacted);
        }
        if message.canceled() {
            return Err(unavailable(message.cancel_reason()));
        }
        // One revision may be of many keys (a lease that ends takes all of its own along), and a message may be cut between them.
        let is_cut = message.0.fragment;
        let last = message.0.events.last().and_then(|event| event.kv.as_ref()).map(|kv| kv.mod_revision as Revision);
        self.pending.extend(message.0.events);
        if let Some(last) = last.filter(|_| !is_cut) {
            self.received = self.received.max(last);
        }
        Ok(())
    }
}

/// A change that etcd tells, as an event; none if the watch is not about its key or it cannot be read.
///
/// # Errors
/// `Compacted` when what was there before is compacted away: nobody can say then what the change was to a selector.
fn read(cache: &Cache, scope: &Scope, event: etcd_client::proto::PbEvent) -> Result<Option<Arc<Event>>, StorageError> {
    let Some(kv) = event.kv else { return Ok(None) };
    let deleted = event.r#type == EventType::Delete as i32;
    let Some(key) = std::str::from_utf8(&kv.key).ok().and_then(|key| key.strip_prefix(&*cache.prefix)) else {
        return Ok(None);
    };
    if !concerns(scope, key) {
        return Ok(None);
    }
    if event.prev_kv.is_none() && (deleted || kv.create_revision != kv.mod_revision) {
        return Err(StorageError::Compacted);
    }
    let now = (!deleted).then_some(&kv.value[..]);
    let before = event.prev_kv.as_ref().map(|kv| (kv.mod_revision as Revision, &kv.value[..]));
    Ok(change(cache, key, kv.mod_revision as Revision, now, before).map(Arc::new))
}

/// The event of a key's change from what was stored to what is. What cannot be read is passed over, as the cache does.
fn change(
    cache: &Cache,
    key: &str,
    revision: Revision,
    now: Option<&[u8]>,
    before: Option<(Revision, &[u8])>,
) -> Option<Event> {
    let object = |revision: Revision, bytes: &[u8]| -> Option<Arc<Object>> {
        match codec::decode(key, bytes) {
            Ok(tree) => Some(cache.object(key, revision, tree)),
            Err(e) => {
                error!(key, error = %e, "skipping an object that cannot be read; delete it in etcd to be rid of it");
                None
            }
        }
    };
    let before = before.and_then(|(revision, bytes)| object(revision, bytes));
    let now = match now {
        Some(bytes) => Some(object(revision, bytes)?),
        None => None,
    };
    Event::of_change(revision, now, before)
}

/// Whether a key can be what a watch is about. Fields are in the object only.
fn concerns(scope: &Scope, key: &str) -> bool {
    match scope {
        Scope::All | Scope::Field(_) => true,
        Scope::Namespace(namespace) => key.strip_prefix(&**namespace).is_some_and(|rest| rest.starts_with('/')),
        Scope::Key(one) => one == key,
    }
}

#[cfg(test)]
mod tests {
    use super::super::cache::Change;
    use super::super::object::Layout;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const LOADED: Revision = 10;

    /// A change of one of few keys, so that they are made, changed and removed in turn.
    #[derive(Clone, Debug)]
    struct Step {
        key: &'static str,
        /// `None` removes it.
        value: Option<u8>,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = prop::sample::select(vec!["a/x", "a/y", "b/x"]);
        let step = (key, prop::option::weighted(0.7, any::<u8>())).prop_map(|(key, value)| Step { key, value });
        prop::collection::vec(step, 1..40)
    }

    fn stored(key: &str, value: u8) -> Vec<u8> {
        let (namespace, name) = key.split_once('/').unwrap();
        let metadata = json!({"name": name, "namespace": namespace, "labels": {"v": (value % 3).to_string()}});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}).to_string().into_bytes()
    }

    /// What a watcher can see of an event.
    fn seen(event: &Event) -> (&'static str, Revision, bytes::Bytes, Option<bytes::Bytes>) {
        (
            event.kind.as_str(),
            event.revision,
            event.object.json.clone(),
            event.previous.as_ref().map(|o| o.json.clone()),
        )
    }

    fn drain(live: &mut Subscription) -> Vec<Arc<Event>> {
        std::iter::from_fn(|| live.try_next()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// From whatever revision it resumes, and wherever the history starts by then, a watch gets what one got that never broke:
        /// first out of what etcd holds, then out of the history, then live.
        #[test]
        fn a_watch_that_resumes_gets_what_one_got_that_never_broke(steps in steps(), from in 0usize..40, kept in 0usize..40) {
            let cache = Cache::new("/registry/configmaps/".into(), Layout::default(), None, Arc::default());
            cache.load(std::iter::empty(), LOADED);
            let (_, mut unbroken) = cache.watch_from(LOADED, Scope::All).unwrap();
            // What etcd holds: a change with what was there before it.
            let mut log = Vec::new();
            let mut now = std::collections::HashMap::<&str, (Revision, Vec<u8>)>::new();
            let start = kept.min(steps.len());
            for (n, Step { key, value }) in steps.iter().enumerate() {
                let revision = LOADED + 1 + n as Revision;
                let bytes = value.map(|value| stored(key, value));
                let before = match &bytes {
                    Some(bytes) => now.insert(key, (revision, bytes.clone())),
                    None => now.remove(key),
                };
                if bytes.is_none() && before.is_none() {
                    continue; // etcd makes no revision of it
                }
                let object = bytes.as_ref().map(|b| cache.object(key, revision, codec::decode(key, b).unwrap()));
                cache.apply(vec![Change { key: (*key).into(), revision, object }]);
                log.push((*key, revision, bytes, before));
                if n + 1 == start {
                    cache.expire_history(usize::MAX); // the rest is kept
                }
            }
            let from = LOADED + from.min(steps.len()) as Revision;
            let mut received = from;
            let mut resumed = Vec::new();
            let mut rest = log.iter().filter(|(_, revision, ..)| *revision > from);
            let (missed, mut live) = loop {
                if let Ok(joined) = cache.watch_from(received, Scope::All) {
                    break joined;
                }
                prop_assert!(cache.history_starts_at_change());
                let (key, revision, bytes, before) = rest.next().expect("the history's start is among the changes");
                received = *revision;
                let before = before.as_ref().map(|(revision, bytes)| (*revision, &bytes[..]));
                resumed.extend(change(&cache, key, *revision, bytes.as_deref(), before).map(Arc::new));
            };
            resumed.extend(missed);
            let last = LOADED + 100;
            let object = cache.object("a/last", last, codec::decode("k", &stored("a/last", 1)).unwrap());
            cache.apply(vec![Change { key: "a/last".into(), revision: last, object: Some(object) }]);
            resumed.extend(drain(&mut live));
            let unbroken: Vec<_> = drain(&mut unbroken).into_iter().filter(|event| event.revision > from).collect();
            let (resumed, unbroken): (Vec<_>, Vec<_>) =
                (resumed.iter().map(|e| seen(e)).collect(), unbroken.iter().map(|e| seen(e)).collect());
            prop_assert_eq!(resumed, unbroken);
        }
    }

    #[test]
    fn only_keys_that_a_watch_is_about_are_read() {
        let named = Scope::Namespace("a".into());
        assert!(concerns(&named, "a/x") && !concerns(&named, "ab/x") && !concerns(&named, "a"));
        assert!(concerns(&Scope::Key("a/x".into()), "a/x") && !concerns(&Scope::Key("a/x".into()), "a/xy"));
        assert!(concerns(&Scope::All, "b/x") && concerns(&Scope::Field("node".into()), "b/x"));
    }
}
