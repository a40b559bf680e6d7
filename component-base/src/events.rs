//! Events: what users read in `kubectl describe` and `kubectl get events`.
//!
//! ```no_run
//! use component_base::events::{Recorder, Type};
//! # async fn demo(client: kube::Client, pod: k8s_openapi::api::core::v1::Pod, shutdown: tokio_util::sync::CancellationToken) {
//! let recorder = Recorder::new(client, "kubelet", "node-1", shutdown);
//! recorder.event(&pod, Type::Normal, "Pulled", "Container image \"nginx\" already present on machine");
//! # }
//! ```
//!
//! Recording never waits: events go through a bounded queue to one task. The task counts repeated events up instead of
//! writing them again, joins floods of similar ones, and drops what comes too often about one object, with upstream's
//! figures (client-go `tools/record`): events are help, not truth.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::client;

/// Events that wait to be sent; more are dropped.
const QUEUE_MAX: usize = 1000;
/// Objects and messages remembered, each.
const REMEMBERED_MAX: usize = 4096;
/// Similar events (all but the message is the same) within [`SIMILAR_WINDOW`] before they are joined.
const SIMILAR_MAX: u32 = 10;
const SIMILAR_WINDOW: Duration = Duration::from_secs(600);
/// Events about one object at once, and the time until one more is allowed.
const SPAM_BURST: u32 = 25;
const SPAM_REFILL: Duration = Duration::from_secs(300);
/// Bytes of a message, as the API server validates.
const MESSAGE_MAX: usize = 1024;
const SEND_ATTEMPTS_MAX: u32 = 5;

/// Whether an event is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    Normal,
    Warning,
}

impl Type {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Records events of one component; clones share its queue.
#[derive(Clone)]
pub struct Recorder {
    queue: Option<mpsc::Sender<Record>>,
}

#[derive(Debug)]
struct Record {
    object: ObjectReference,
    kind: Type,
    reason: String,
    message: String,
    at: Timestamp,
}

impl Recorder {
    /// Starts the task that sends, inside the runtime; it ends with `shutdown`. `host` may be empty.
    pub fn new(client: Client, component: &str, host: &str, shutdown: CancellationToken) -> Self {
        let (queue, records) = mpsc::channel(QUEUE_MAX);
        let source =
            EventSource { component: Some(component.to_owned()), host: (!host.is_empty()).then(|| host.to_owned()) };
        tokio::spawn(Sender { client, source, correlator: Correlator::default() }.run(records, shutdown));
        Self { queue: Some(queue) }
    }

    /// A recorder that records nothing: for tests.
    pub fn none() -> Self {
        Self { queue: None }
    }

    /// Records that something happened to `object`.
    pub fn event<K>(&self, object: &K, kind: Type, reason: &str, message: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.event_on(object.object_ref(&()), kind, reason, message);
    }

    /// As [`event`](Self::event), on a part of an object (`fieldPath`) or an object that is only known by reference.
    pub fn event_on(&self, object: ObjectReference, kind: Type, reason: &str, message: impl Into<String>) {
        let mut message = message.into();
        if message.len() > MESSAGE_MAX {
            let end = (0..=MESSAGE_MAX).rev().find(|index| message.is_char_boundary(*index)).unwrap_or(0);
            message.truncate(end);
        }
        tracing::debug!(
            object = object.name,
            namespace = object.namespace,
            kind = object.kind,
            reason,
            message,
            "Event occurred"
        );
        let record = Record { object, kind, reason: reason.to_owned(), message, at: Timestamp::now() };
        if let Some(queue) = &self.queue
            && queue.try_send(record).is_err()
        {
            tracing::debug!(reason, "Dropped an event: too many wait to be sent");
        }
    }
}

struct Sender {
    client: Client,
    source: EventSource,
    correlator: Correlator,
}

impl Sender {
    async fn run(mut self, mut records: mpsc::Receiver<Record>, shutdown: CancellationToken) {
        loop {
            let record = tokio::select! {
                () = shutdown.cancelled() => return,
                record = records.recv() => record,
            };
            let Some(record) = record else { return };
            let Some(decision) = self.correlator.decide(&record, Instant::now()) else { continue };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.deliver(record, decision) => {}
            }
        }
    }

    async fn deliver(&mut self, record: Record, decision: Decision) {
        for attempt in 1..=SEND_ATTEMPTS_MAX {
            match self.send(&record, &decision).await {
                Ok(name) => return self.correlator.sent(decision.key, name, decision.count, record.at),
                Err(kube::Error::Api(status)) => {
                    // The server has answered; it will answer the same again. Namespaces on their way out take none.
                    tracing::debug!(reason = record.reason, error = %status.message, "Server rejected an event");
                    return;
                }
                Err(error) if attempt == SEND_ATTEMPTS_MAX => {
                    tracing::warn!(
                        reason = record.reason,
                        error = client::describe(&error),
                        "Cannot write an event, giving it up"
                    );
                }
                Err(_) => tokio::time::sleep(Duration::from_secs(2 * u64::from(attempt))).await,
            }
        }
    }

    /// Writes the event and returns its name.
    async fn send(&self, record: &Record, decision: &Decision) -> kube::Result<String> {
        let namespace = record.object.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        if let Some(name) = &decision.existing {
            let patch = serde_json::json!({
                "count": decision.count,
                "lastTimestamp": Time(record.at),
                "message": decision.message,
            });
            match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => return Ok(name.clone()),
                // It has outlived its time to live: write it anew.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let event = self.new_event(record, decision, namespace);
        api.create(&PostParams::default(), &event).await?;
        Ok(event.metadata.name.unwrap_or_default())
    }

    fn new_event(&self, record: &Record, decision: &Decision, namespace: &str) -> Event {
        let object = record.object.name.as_deref().unwrap_or_default();
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{object}.{:x}", record.at.as_nanosecond())),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: record.object.clone(),
            reason: Some(record.reason.clone()),
            message: Some(decision.message.clone()),
            type_: Some(record.kind.as_str().to_owned()),
            source: Some(self.source.clone()),
            first_timestamp: Some(Time(decision.first)),
            last_timestamp: Some(Time(record.at)),
            count: Some(decision.count),
            reporting_component: self.source.component.clone(),
            reporting_instance: self.source.host.clone(),
            ..Event::default()
        }
    }
}

/// What makes events the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    object: Arc<str>,
    kind: Type,
    reason: String,
    /// Empty for similar events that are joined.
    message: String,
}

struct Decision {
    key: Key,
    existing: Option<String>,
    message: String,
    count: i32,
    first: Timestamp,
}

#[derive(Default)]
struct Correlator {
    written: HashMap<Key, Written>,
    similar: HashMap<Key, Similar>,
    allowance: HashMap<Arc<str>, Allowance>,
}

struct Written {
    name: String,
    count: i32,
    first: Timestamp,
}

struct Similar {
    messages: Vec<String>,
    seen: Instant,
}

struct Allowance {
    left: u32,
    refilled: Instant,
}

impl Correlator {
    /// How to write `record`, or `None` if there are too many about its object.
    fn decide(&mut self, record: &Record, now: Instant) -> Option<Decision> {
        let object: Arc<str> = [
            &record.object.kind,
            &record.object.namespace,
            &record.object.name,
            &record.object.uid,
            &record.object.field_path,
        ]
        .map(|part| part.as_deref().unwrap_or_default())
        .join("/")
        .into();
        let like = Key { object, kind: record.kind, reason: record.reason.clone(), message: String::new() };
        let joined = self.is_flood(&like, &record.message, now);
        if !self.may_send(&like.object, now) {
            return None;
        }
        let (key, message) = if joined {
            (like, format!("(combined from similar events): {}", record.message))
        } else {
            (Key { message: record.message.clone(), ..like }, record.message.clone())
        };
        let before = self.written.get(&key);
        Some(Decision {
            existing: before.map(|written| written.name.clone()),
            count: before.map_or(1, |written| written.count.saturating_add(1)),
            first: before.map_or(record.at, |written| written.first),
            key,
            message,
        })
    }

    fn is_flood(&mut self, like: &Key, message: &str, now: Instant) -> bool {
        bound(&mut self.similar);
        let fresh = Similar { messages: Vec::new(), seen: now };
        let similar = self.similar.entry(like.clone()).or_insert(fresh);
        if now - similar.seen > SIMILAR_WINDOW {
            similar.messages.clear();
        }
        similar.seen = now;
        if similar.messages.iter().any(|known| known == message) {
            return false;
        }
        if similar.messages.len() >= SIMILAR_MAX as usize {
            return true;
        }
        similar.messages.push(message.to_owned());
        false
    }

    fn may_send(&mut self, object: &Arc<str>, now: Instant) -> bool {
        bound(&mut self.allowance);
        let full = Allowance { left: SPAM_BURST, refilled: now };
        let allowance = self.allowance.entry(object.clone()).or_insert(full);
        while allowance.left < SPAM_BURST && now - allowance.refilled >= SPAM_REFILL {
            allowance.left += 1;
            allowance.refilled += SPAM_REFILL;
        }
        if allowance.left == SPAM_BURST {
            allowance.refilled = now;
        }
        match allowance.left.checked_sub(1) {
            Some(left) => {
                allowance.left = left;
                true
            }
            None => false,
        }
    }

    fn sent(&mut self, key: Key, name: String, count: i32, at: Timestamp) {
        bound(&mut self.written);
        let written = self.written.entry(key).or_insert(Written { name: String::new(), count, first: at });
        written.name = name;
        written.count = count;
    }
}

/// Forgets everything when full: the price is an event more, not a flood.
fn bound<K, V>(map: &mut HashMap<K, V>) {
    if map.len() >= REMEMBERED_MAX {
        map.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, message: &str) -> Record {
        let object = ObjectReference { name: Some(name.into()), ..ObjectReference::default() };
        let (kind, reason) = (Type::Normal, "Created".to_owned());
        Record { object, kind, reason, message: message.into(), at: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn repeated_events_are_counted() {
        let mut correlator = Correlator::default();
        let now = Instant::now();
        let first = correlator.decide(&record("a", "m"), now).unwrap();
        assert_eq!((first.count, first.existing.clone()), (1, None));
        correlator.sent(first.key, "a.1".into(), first.count, Timestamp::UNIX_EPOCH);
        let second = correlator.decide(&record("a", "m"), now).unwrap();
        assert_eq!((second.count, second.existing), (2, Some("a.1".into())));
        assert_eq!(correlator.decide(&record("b", "m"), now).unwrap().count, 1);
    }

    #[test]
    fn floods_of_similar_events_are_joined() {
        let mut correlator = Correlator::default();
        let now = Instant::now();
        for number in 0..SIMILAR_MAX {
            assert_eq!(correlator.decide(&record("a", &number.to_string()), now).unwrap().message, number.to_string());
        }
        let joined = correlator.decide(&record("a", "one more"), now).unwrap();
        assert_eq!(joined.message, "(combined from similar events): one more");
    }

    #[test]
    fn an_object_has_an_allowance() {
        let mut correlator = Correlator::default();
        let now = Instant::now();
        let sent = (0..100).filter(|_| correlator.decide(&record("a", "m"), now).is_some()).count();
        assert_eq!(sent, SPAM_BURST as usize);
        assert!(correlator.decide(&record("a", "m"), now + SPAM_REFILL).is_some());
        assert!(correlator.decide(&record("a", "m"), now + SPAM_REFILL).is_none());
    }
}
