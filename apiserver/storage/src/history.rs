//! The changes of a resource that are kept so that a watch can resume and a list of an older version can be read.
//!
//! What is kept is bounded by bytes and by age, over all resources together ([`Budget`]), and not by number: 8,000 changes of a
//! lease are 4 MB, 8,000 changes of a large config map would be gigabytes. A client whose connection breaks comes back within
//! seconds; with the default of 16 MiB and five minutes it finds its place unless tens of thousands of changes lie between.
//! Only what was stored is kept: the forms in which changes were sent go when the last watcher has sent them.

use super::Revision;
use super::object::Event;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What changes of all resources may take together, where no flag says otherwise.
pub const HISTORY_BYTES_MAX: usize = 16 << 20;

/// How long a change is kept at most. Upstream promises 75 s at least, space permitting.
pub const HISTORY_AGE_MAX: Duration = Duration::from_secs(300);

/// What a change takes beside the text of its object, about: the event, the object's labels, fields and key.
const EVENT_BYTES: usize = 512;

/// The bytes that all histories hold.
#[derive(Debug)]
pub struct Budget {
    bytes: AtomicUsize,
    bytes_max: AtomicUsize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { bytes: AtomicUsize::new(0), bytes_max: AtomicUsize::new(HISTORY_BYTES_MAX) }
    }
}

impl Budget {
    /// Bytes that are held beyond what may be.
    pub fn excess_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed).saturating_sub(self.bytes_max.load(Ordering::Relaxed))
    }

    /// Sets what may be held; what is held beyond it goes with the next change.
    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }
}

/// The latest changes of one resource, ordered by revision.
pub struct History {
    events: VecDeque<(Instant, Arc<Event>)>,
    /// Everything after this revision is here.
    start: Revision,
    /// Where it began: what a load has seen.
    loaded: Revision,
    bytes: usize,
    budget: Arc<Budget>,
}

impl History {
    pub fn new(budget: Arc<Budget>) -> History {
        History { events: VecDeque::new(), start: 0, loaded: 0, bytes: 0, budget }
    }

    pub fn start(&self) -> Revision {
        self.start
    }

    /// The start is the revision of a change of this resource, one that is forgotten by now, and not of a load.
    pub fn starts_at_change(&self) -> bool {
        self.start > self.loaded
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets everything; what comes after `revision` will be here.
    pub fn restart(&mut self, revision: Revision) {
        self.trim(|_, _| true);
        (self.start, self.loaded) = (revision, revision);
    }

    /// Adds a change, and forgets the oldest ones of this resource as long as there is too much of all.
    pub fn push(&mut self, event: &Event, now: Instant) {
        let event = Arc::new(event.bare());
        let bytes = size_bytes(&event);
        self.bytes += bytes;
        self.budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.events.push_back((now, event));
        let budget = self.budget.clone();
        self.trim(|_, left| left > 1 && budget.excess_bytes() > 0);
    }

    /// Forgets what is too old, and of the rest the oldest `excess_bytes`.
    pub fn expire(&mut self, now: Instant, excess_bytes: usize) {
        let keep_bytes = self.bytes.saturating_sub(excess_bytes);
        let mut bytes = self.bytes;
        self.trim(|(since, event), _| {
            let goes = now.duration_since(*since) > HISTORY_AGE_MAX || bytes > keep_bytes;
            bytes -= size_bytes(event).min(bytes);
            goes
        });
    }

    /// Forgets changes from the oldest on, while `goes` says so of one and of how many there are.
    fn trim(&mut self, mut goes: impl FnMut(&(Instant, Arc<Event>), usize) -> bool) {
        while let Some(oldest) = self.events.front()
            && goes(oldest, self.events.len())
        {
            let Some((_, event)) = self.events.pop_front() else { return };
            let bytes = size_bytes(&event);
            self.start = event.revision;
            self.bytes -= bytes;
            self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// The changes after `revision`, oldest first.
    pub fn after(&self, revision: Revision) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        let first = self.events.partition_point(|(_, event)| event.revision <= revision);
        self.events.range(first..).map(|(_, event)| event)
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a change takes. Its previous object is the object of an earlier change or of none that is kept any more.
fn size_bytes(event: &Event) -> usize {
    let previous = event.previous.as_ref().map_or(0, |object| object.json.len());
    EVENT_BYTES + event.object.json.len() + previous
}

#[cfg(test)]
mod tests {
    use super::super::object::{EventType, Layout, Object};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn event(revision: Revision, bytes: usize) -> Event {
        let object = Object::new("a/x", revision, json!({"data": "x".repeat(bytes)}), &Layout::default());
        Event::new(EventType::Added, revision, Arc::new(object), None)
    }

    fn revisions(history: &History, after: Revision) -> Vec<Revision> {
        history.after(after).map(|event| event.revision).collect()
    }

    #[test]
    fn what_is_too_old_or_too_much_is_forgotten_from_its_start() {
        let budget = Arc::<Budget>::default();
        let (mut one, mut other) = (History::new(budget.clone()), History::new(budget.clone()));
        let now = Instant::now();
        (1..=3).for_each(|revision| one.push(&event(revision, 10), now));
        assert_eq!((revisions(&one, 1), one.start()), (vec![2, 3], 0));
        one.expire(now + HISTORY_AGE_MAX * 2, 0);
        assert_eq!((revisions(&one, 0), one.start(), one.bytes()), (vec![], 3, 0));

        one.push(&event(4, HISTORY_BYTES_MAX / 2), now);
        other.push(&event(5, HISTORY_BYTES_MAX / 2), now);
        other.push(&event(6, 10), now);
        assert_eq!(revisions(&other, 0), [6], "the resource that changes pays");
        other.push(&event(7, HISTORY_BYTES_MAX), now);
        assert_eq!(revisions(&other, 0), [7], "the last change stays whatever it takes");
        one.expire(now, budget.excess_bytes());
        assert_eq!((revisions(&one, 0), one.start()), (vec![], 4));
        drop((one, other));
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn a_history_is_the_end_of_all_changes_and_within_its_budget(sizes in prop::collection::vec(0usize..1 << 14, 1..50)) {
            let budget = Arc::<Budget>::default();
            budget.set_bytes_max(1 << 18);
            let mut history = History::new(budget.clone());
            for (i, size) in sizes.iter().enumerate() {
                history.push(&event(i as Revision + 1, *size), Instant::now());
                prop_assert_eq!(budget.excess_bytes(), 0);
            }
            let kept = revisions(&history, 0);
            let all: Vec<Revision> = (1..=sizes.len() as Revision).collect();
            prop_assert!(all.ends_with(&kept));
            prop_assert_eq!(history.start(), sizes.len() as Revision - kept.len() as Revision);
        }
    }
}
