//! Pods that wait for a node.
//!
//! ```text
//!            ┌────────── tried, no node ──────────► unschedulable ── an event that may help ──┐
//!   active ──┤                                          │  or five minutes                  ▼
//!      ▲     └── error, or a node that went wrong ──► backoff ◄── not waited long enough ─────┤
//!      └──────────────── its time is over ─────────────┘◄───────────────────────────────────┘
//! ```
//!
//! Every pod is in one place. The bound is the number of pods without a node.

use crate::cluster::PodInfo;
use crate::framework::Events;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pods that nothing helped are tried again after this, in case an event was not understood. `--pod-max-in-unschedulable-pods-duration`
/// says otherwise.
pub const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);

/// A pod that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub pod: Arc<PodInfo>,
    pub attempts: u32,
    pub since: Instant,
    /// Plugins that turned it down in the last attempt, as bits of their positions.
    pub turned_down_by: u64,
}

/// Where a pod is.
#[derive(Debug)]
enum Place {
    Active,
    /// Until then.
    Backoff(Instant),
    /// Since then; events of this set may help.
    Unschedulable(Instant, Events),
    /// Taken out to be tried; whether something happened meanwhile that may help.
    InCycle(Events),
}

struct Entry {
    waiting: Waiting,
    place: Place,
    /// Tells heap entries of an earlier stay from the current one.
    stay: u64,
}

/// An entry of the heap: highest priority first, then the oldest.
struct Next {
    priority: i32,
    since: Instant,
    uid: String,
    stay: u64,
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Next {}
impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        self.priority
            .cmp(&other.priority)
            .then_with(|| other.since.cmp(&self.since))
            .then_with(|| other.uid.cmp(&self.uid))
    }
}

pub struct Queue {
    entries: HashMap<String, Entry>,
    active: BinaryHeap<Next>,
    backoff_min: Duration,
    backoff_max: Duration,
    unschedulable_max: Duration,
    stays: u64,
}

impl Queue {
    pub fn new(backoff_min: Duration, backoff_max: Duration, unschedulable_max: Duration) -> Queue {
        let (entries, active) = (HashMap::new(), BinaryHeap::new());
        Queue { entries, active, backoff_min, backoff_max, unschedulable_max, stays: 0 }
    }

    /// Takes in a pod, or its new state. `changed`: something about it changed that may help it.
    pub fn put(&mut self, pod: Arc<PodInfo>, changed: bool, now: Instant) {
        let uid = pod.uid.clone();
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.waiting.pod = pod;
            match &mut entry.place {
                Place::Unschedulable(_, events) if changed && events.meets(Events::OWN_UPDATE) => self.wake(&uid, now),
                Place::InCycle(happened) if changed => *happened = happened.and(Events::OWN_UPDATE),
                Place::Active => self.activate(&uid),
                _ => {}
            }
            return;
        }
        let waiting = Waiting { pod, attempts: 0, since: now, turned_down_by: 0 };
        self.entries.insert(uid.clone(), Entry { waiting, place: Place::Active, stay: 0 });
        self.activate(&uid);
    }

    /// Takes in a pod that may not be tried before something about it changes.
    pub fn put_gated(&mut self, pod: Arc<PodInfo>, events: Events, now: Instant) {
        let uid = pod.uid.clone();
        let waiting = Waiting { pod, attempts: 0, since: now, turned_down_by: 0 };
        self.entries.insert(uid, Entry { waiting, place: Place::Unschedulable(now, events), stay: 0 });
    }

    pub fn remove(&mut self, uid: &str) {
        self.entries.remove(uid);
    }

    pub fn contains(&self, uid: &str) -> bool {
        self.entries.contains_key(uid)
    }

    fn activate(&mut self, uid: &str) {
        self.stays += 1;
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.place = Place::Active;
        entry.stay = self.stays;
        let (priority, since) = (entry.waiting.pod.priority, entry.waiting.since);
        self.active.push(Next { priority, since, uid: uid.to_owned(), stay: self.stays });
    }

    /// The pod to try next; it stays known until [`Queue::give_back`] or [`Queue::remove`].
    pub fn pop(&mut self, now: Instant) -> Option<Waiting> {
        self.work_off_time(now);
        while let Some(next) = self.active.pop() {
            let Some(entry) = self.entries.get_mut(&next.uid) else { continue };
            if entry.stay == next.stay && matches!(entry.place, Place::Active) {
                entry.place = Place::InCycle(Events::NONE);
                entry.waiting.attempts += 1;
                return Some(entry.waiting.clone());
            }
        }
        None
    }

    /// A pod found no node: it waits for `events`, or for its time if one happened while it was tried.
    pub fn give_back(&mut self, uid: &str, turned_down_by: u64, events: Events, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.waiting.turned_down_by = turned_down_by;
        let happened = match entry.place {
            Place::InCycle(happened) => happened,
            _ => Events::NONE,
        };
        if events == Events::NONE || happened.meets(events) {
            entry.place = Place::Backoff(now + backoff(self.backoff_min, self.backoff_max, entry.waiting.attempts));
        } else {
            entry.place = Place::Unschedulable(now, events);
        }
    }

    /// Something of the cluster changed.
    pub fn happened(&mut self, event: Events, now: Instant) {
        let mut helped = Vec::new();
        for (uid, entry) in &mut self.entries {
            match &mut entry.place {
                Place::Unschedulable(_, events) if events.meets(event) => helped.push(uid.clone()),
                Place::InCycle(happened) => *happened = happened.and(event),
                _ => {}
            }
        }
        for uid in helped {
            self.wake(&uid, now);
        }
    }

    /// Ends a pod's waiting for events; its back-off may still run.
    fn wake(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let Place::Unschedulable(since, _) = entry.place else { return };
        let until = since + backoff(self.backoff_min, self.backoff_max, entry.waiting.attempts);
        if until > now {
            entry.place = Place::Backoff(until);
        } else {
            self.activate(uid);
        }
    }

    /// Activates what has waited long enough.
    fn work_off_time(&mut self, now: Instant) {
        let due: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, e)| match e.place {
                Place::Backoff(until) => until <= now,
                Place::Unschedulable(since, events) => {
                    events != Events::OWN_UPDATE && now.duration_since(since) >= self.unschedulable_max
                }
                _ => false,
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in due {
            self.activate(&uid);
        }
    }

    /// When the next pod's back-off ends.
    pub fn next_due(&self) -> Option<Instant> {
        let ends = self.entries.values().filter_map(|e| match e.place {
            Place::Backoff(until) => Some(until),
            Place::Unschedulable(since, _) => Some(since + self.unschedulable_max),
            _ => None,
        });
        ends.min()
    }

    /// Pods that are active, in back-off, unschedulable.
    pub fn lengths(&self) -> [usize; 3] {
        let mut lengths = [0; 3];
        for entry in self.entries.values() {
            match entry.place {
                Place::Active => lengths[0] += 1,
                Place::Backoff(_) => lengths[1] += 1,
                Place::Unschedulable(..) => lengths[2] += 1,
                Place::InCycle(_) => {}
            }
        }
        lengths
    }
}

/// One second, doubled with each attempt, ten at most (by default).
fn backoff(min: Duration, max: Duration, attempts: u32) -> Duration {
    min.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::pod;
    use serde_json::json;

    fn queue() -> (Queue, Instant) {
        (Queue::new(Duration::from_secs(1), Duration::from_secs(10), UNSCHEDULABLE_MAX), Instant::now())
    }

    #[test]
    fn the_highest_priority_comes_first_then_the_oldest() {
        let (mut queue, now) = queue();
        queue.put(pod("old", json!({"priority": 0})), false, now);
        queue.put(pod("young", json!({"priority": 0})), false, now + Duration::from_secs(1));
        queue.put(pod("vip", json!({"priority": 10})), false, now + Duration::from_secs(2));
        let names: Vec<String> = std::iter::from_fn(|| queue.pop(now).map(|w| w.pod.name.clone())).collect();
        assert_eq!(names, ["vip", "old", "young"]);
    }

    #[test]
    fn only_events_that_may_help_wake_a_pod_and_its_back_off_still_runs() {
        let (mut queue, now) = queue();
        queue.put(pod("p", json!({})), false, now);
        queue.pop(now).unwrap();
        queue.give_back("p", 1, Events::NODE_ADDED, now);
        queue.happened(Events::POD_REMOVED, now);
        assert_eq!(queue.lengths(), [0, 0, 1]);
        queue.happened(Events::NODE_ADDED, now);
        assert_eq!(queue.lengths(), [0, 1, 0]);
        assert!(queue.pop(now).is_none());
        assert!(queue.pop(now + Duration::from_secs(1)).is_some());
    }

    #[test]
    fn an_event_during_the_cycle_is_not_lost() {
        let (mut queue, now) = queue();
        queue.put(pod("p", json!({})), false, now);
        queue.pop(now).unwrap();
        queue.happened(Events::NODE_ADDED, now);
        queue.give_back("p", 1, Events::NODE_ADDED, now);
        assert_eq!(queue.lengths(), [0, 1, 0]);
    }

    #[test]
    fn a_gated_pod_waits_for_its_own_change() {
        let (mut queue, now) = queue();
        queue.put_gated(pod("p", json!({})), Events::OWN_UPDATE, now);
        queue.happened(Events::NODE_ADDED, now);
        assert!(queue.pop(now + UNSCHEDULABLE_MAX * 2).is_none());
        queue.put(pod("p", json!({})), true, now);
        assert!(queue.pop(now + Duration::from_secs(2)).is_some());
    }

    #[test]
    fn back_off_doubles_up_to_its_limit() {
        let seconds = |attempts| backoff(Duration::from_secs(1), Duration::from_secs(10), attempts).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 30].map(seconds), [1, 2, 4, 8, 10, 10]);
    }
}
