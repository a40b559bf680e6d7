//! Who hears of a change. Watchers are kept by what they ask for, so that a change costs only those whom it may concern.

use super::object::{Event, Object};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Events a watcher may lag behind before it is cut off; it then lists again or resumes from where it was.
pub const LAG_MAX: usize = 4096;

/// What a watcher wants to hear of, as far as the index can tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    All,
    /// One namespace.
    Namespace(String),
    /// A value of the resource's indexed field, such as a pod's node.
    Field(String),
    /// One object, by its key: the most common watch of a node's secrets and config maps.
    Key(String),
}

/// A watcher by its number, for taking it out again.
type Watcher = (u64, mpsc::Sender<Arc<Event>>);

/// The watchers of one resource.
#[derive(Default)]
pub struct Watchers {
    by_scope: Mutex<HashMap<Scope, Vec<Watcher>>>,
    next: AtomicU64,
}

/// A watcher's end of its channel. Dropping it ends the watch.
pub struct Subscription {
    events: mpsc::Receiver<Arc<Event>>,
}

impl Subscription {
    /// The next event; `None` when the watcher fell behind or the server lets go of it.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        self.events.recv().await
    }

    /// Nothing more will come.
    pub fn is_closed(&self) -> bool {
        self.events.is_closed() && self.events.is_empty()
    }

    /// The next event if it is there already.
    pub fn try_next(&mut self) -> Option<Arc<Event>> {
        self.events.try_recv().ok()
    }
}

impl Watchers {
    pub fn subscribe(&self, scope: Scope) -> Subscription {
        let (sender, events) = mpsc::channel(LAG_MAX);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.by_scope.lock().entry(scope).or_default().push((id, sender));
        Subscription { events }
    }

    /// Sends events, in their order, to those whom they may concern; `field` is the position of the indexed field.
    ///
    /// Watcher by watcher, not event by event: who is woken by the first finds the others there and sends them in one piece.
    pub fn publish(&self, events: &[Arc<Event>], field: Option<usize>) {
        let mut by_scope = self.by_scope.lock();
        if by_scope.is_empty() {
            return;
        }
        let mut concerned: HashMap<Scope, Vec<&Arc<Event>>> = HashMap::new();
        for event in events {
            for scope in scopes(event, field) {
                if by_scope.contains_key(&scope) {
                    concerned.entry(scope).or_default().push(event);
                }
            }
        }
        for (scope, events) in concerned {
            let Some(list) = by_scope.get_mut(&scope) else { continue };
            // A full or closed channel is dropped: its owner sees the end and acts on it.
            list.retain(|(_, sender)| events.iter().all(|event| sender.try_send(Arc::clone(event)).is_ok()));
            if list.is_empty() {
                by_scope.remove(&scope);
            }
        }
    }

    /// Ends every watch.
    pub fn close(&self) {
        self.by_scope.lock().clear();
    }
}

/// The scopes that an event falls into.
fn scopes(event: &Event, field: Option<usize>) -> impl Iterator<Item = Scope> {
    let object = &event.object;
    let namespace = Some(object.namespace()).filter(|n| !n.is_empty());
    let value = |field: usize, object: &Object| object.fields.get(field).map(|f| f.to_string()).unwrap_or_default();
    let now = field.map(|field| value(field, object));
    let before = field.zip(event.previous.as_ref()).map(|(field, previous)| value(field, previous));
    let left = before.filter(|before| now.as_ref() != Some(before));
    [Scope::All, Scope::Key(object.key.to_string())]
        .into_iter()
        .chain(namespace.map(|n| Scope::Namespace(n.to_owned())))
        .chain(left.map(Scope::Field))
        .chain(now.map(Scope::Field))
}
