//! A queue of keys for controllers, with upstream's workqueue semantics and metrics.
//!
//! - A key waits once, however often it is added.
//! - A key that is being worked on is not handed out a second time; if it is added meanwhile it comes again afterwards.
//! - [`WorkQueue::retry`] adds with a delay per key that doubles from 5 ms to 1000 s until [`WorkQueue::forget`].
//!
//! Its memory is bounded by the number of distinct keys.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use component_base::queue::WorkQueue;
//!
//! let queue = WorkQueue::new("demo");
//! queue.add("default/web".to_owned());
//! queue.add("default/web".to_owned());
//! let key = queue.get().await.unwrap();
//! queue.done(&key);
//! assert_eq!(queue.len(), 0);
//! # });
//! ```

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    hash::Hash,
    sync::{Arc, LazyLock},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::metrics::{self, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// The first delay of [`WorkQueue::retry`] and the longest, as upstream's default rate limiter has them.
pub const RETRY_DELAY_MIN: Duration = Duration::from_millis(5);
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(1000);

/// What a queue may hold.
pub trait Key: Clone + Eq + Hash + Ord + Send + Sync + std::fmt::Debug + 'static {}
impl<K: Clone + Eq + Hash + Ord + Send + Sync + std::fmt::Debug + 'static> Key for K {}

/// A handle to one queue; clones share it.
pub struct WorkQueue<K: Key>(Arc<Shared<K>>);

impl<K: Key> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Shared<K: Key> {
    state: Mutex<State<K>>,
    wake: Notify,
    metrics: QueueMetrics,
}

struct State<K> {
    /// Keys to hand out, oldest first. Each is in `dirty` too.
    waiting: VecDeque<(K, Instant)>,
    /// Keys to work on: those waiting, and those added while in `working`.
    dirty: HashSet<K>,
    working: HashMap<K, Instant>,
    /// Keys to add later, by time, and the time of each.
    delayed: BTreeSet<(Instant, K)>,
    due: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
    closed: bool,
}

impl<K: Key> State<K> {
    /// Returns whether the key was not due already.
    fn add(&mut self, key: K, now: Instant) -> bool {
        if self.closed || !self.dirty.insert(key.clone()) {
            return false;
        }
        if !self.working.contains_key(&key) {
            self.waiting.push_back((key, now));
        }
        true
    }

    fn add_at(&mut self, key: K, at: Instant) {
        if self.closed {
            return;
        }
        match self.due.get(&key) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => drop(self.delayed.remove(&(*later, key.clone()))),
            None => {}
        }
        self.due.insert(key.clone(), at);
        self.delayed.insert((at, key));
    }
}

impl<K: Key> WorkQueue<K> {
    /// An empty queue; `name` is its label in the metrics.
    pub fn new(name: &str) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashMap::new(),
            delayed: BTreeSet::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            closed: false,
        };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), wake: Notify::new(), metrics: QueueMetrics::new(name) });
        let weak = Arc::downgrade(&shared);
        metrics::on_render(move || {
            if let Some(shared) = weak.upgrade() {
                shared.measure();
            }
        });
        Self(shared)
    }

    /// Adds a key, unless it waits already.
    pub fn add(&self, key: K) {
        if self.0.state.lock().add(key, Instant::now()) {
            self.0.metrics.adds.inc();
            self.0.wake.notify_one();
        }
    }

    /// Adds a key after `delay`. Of several delays the one that ends first counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.0.state.lock().add_at(key, Instant::now() + delay);
        self.0.wake.notify_one();
    }

    /// Adds a key whose work failed, after a delay that doubles with each failure. Returns the delay.
    pub fn retry(&self, key: K) -> Duration {
        let delay = {
            let mut state = self.0.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            let delay = retry_delay(*failures);
            *failures = failures.saturating_add(1);
            delay
        };
        self.0.metrics.retries.inc();
        self.add_after(key, delay);
        delay
    }

    /// How often [`retry`](Self::retry) was asked for this key since [`forget`](Self::forget).
    pub fn failures(&self, key: &K) -> u32 {
        self.0.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// The key's work succeeded, or is given up: the next retry starts at the shortest delay again.
    pub fn forget(&self, key: &K) {
        self.0.state.lock().failures.remove(key);
    }

    /// The next key; [`done`](Self::done) must follow. `None` once the queue is closed. Cancelling loses no key.
    pub async fn get(&self) -> Option<K> {
        loop {
            let next_due = {
                let now = Instant::now();
                let mut state = self.0.state.lock();
                while let Some((at, _)) = state.delayed.first()
                    && *at <= now
                    && let Some((_, key)) = state.delayed.pop_first()
                {
                    state.due.remove(&key);
                    if state.add(key, now) {
                        self.0.metrics.adds.inc();
                    }
                }
                if state.closed {
                    self.0.wake.notify_one();
                    return None;
                }
                if let Some((key, since)) = state.waiting.pop_front() {
                    state.dirty.remove(&key);
                    state.working.insert(key.clone(), now);
                    if !state.waiting.is_empty() {
                        self.0.wake.notify_one();
                    }
                    self.0.metrics.queue_duration.observe((now - since).as_secs_f64());
                    return Some(key);
                }
                state.delayed.first().map(|(at, _)| *at)
            };
            match next_due {
                Some(at) => tokio::select! {
                    () = self.0.wake.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => self.0.wake.notified().await,
            }
        }
    }

    /// Ends the work on a key that [`get`](Self::get) gave.
    pub fn done(&self, key: &K) {
        let now = Instant::now();
        let mut state = self.0.state.lock();
        if let Some(since) = state.working.remove(key) {
            self.0.metrics.work_duration.observe((now - since).as_secs_f64());
        }
        if state.dirty.contains(key) {
            state.waiting.push_back((key.clone(), now));
            self.0.wake.notify_one();
        }
    }

    /// Keys that wait now; those delayed or being worked on are not counted.
    pub fn len(&self) -> usize {
        self.0.state.lock().waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends every [`get`](Self::get), now and later.
    pub fn close(&self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        state.waiting.clear();
        state.delayed.clear();
        state.due.clear();
        self.0.wake.notify_waiters();
        self.0.wake.notify_one();
    }
}

fn retry_delay(failures: u32) -> Duration {
    RETRY_DELAY_MIN.saturating_mul(2u32.saturating_pow(failures)).min(RETRY_DELAY_MAX)
}

impl<K: Key> Shared<K> {
    fn measure(&self) {
        let state = self.state.lock();
        let now = Instant::now();
        let ages = || state.working.values().map(|since| (now - *since).as_secs_f64());
        self.metrics.depth.set(state.waiting.len() as i64);
        self.metrics.unfinished.set(ages().sum());
        self.metrics.longest.set(ages().fold(0.0, f64::max));
    }
}

struct QueueMetrics {
    depth: IntGauge,
    adds: IntCounter,
    retries: IntCounter,
    queue_duration: Histogram,
    work_duration: Histogram,
    unfinished: Gauge,
    longest: Gauge,
}

impl QueueMetrics {
    fn new(name: &str) -> Self {
        let label = [name];
        Self {
            depth: DEPTH.with_label_values(&label),
            adds: ADDS.with_label_values(&label),
            retries: RETRIES.with_label_values(&label),
            queue_duration: QUEUE_DURATION.with_label_values(&label),
            work_duration: WORK_DURATION.with_label_values(&label),
            unfinished: UNFINISHED.with_label_values(&label),
            longest: LONGEST.with_label_values(&label),
        }
    }
}

static DEPTH: LazyLock<IntGaugeVec> =
    LazyLock::new(|| metrics::int_gauge_vec("workqueue_depth", "Current depth of workqueue", &["name"]));
static ADDS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::int_counter_vec("workqueue_adds_total", "Total number of adds handled by workqueue", &["name"])
});
static RETRIES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::int_counter_vec("workqueue_retries_total", "Total number of retries handled by workqueue", &["name"])
});
static QUEUE_DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "How long in seconds an item stays in workqueue before being requested.";
    metrics::histogram_vec("workqueue_queue_duration_seconds", help, &["name"], &buckets())
});
static WORK_DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "How long in seconds processing an item from workqueue takes.";
    metrics::histogram_vec("workqueue_work_duration_seconds", help, &["name"], &buckets())
});
static UNFINISHED: LazyLock<metrics::GaugeVec> = LazyLock::new(|| {
    let help = "How many seconds of work has been done that is in progress and hasn't been observed by work_duration.";
    metrics::gauge_vec("workqueue_unfinished_work_seconds", help, &["name"])
});
static LONGEST: LazyLock<metrics::GaugeVec> = LazyLock::new(|| {
    let help = "How many seconds has the longest running processor for workqueue been running.";
    metrics::gauge_vec("workqueue_longest_running_processor_seconds", help, &["name"])
});

/// Upstream's: ten powers from 10 ns.
fn buckets() -> Vec<f64> {
    (-8..=3).map(|exponent| 10f64.powi(exponent)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_is_never_worked_on_twice_at_once() {
        let queue = WorkQueue::new("test-dedup");
        queue.add(1);
        queue.add(1);
        assert_eq!(queue.get().await, Some(1));
        queue.add(1);
        assert!(queue.is_empty(), "added while worked on: waits for done");
        queue.done(&1);
        assert_eq!(queue.get().await, Some(1));
        queue.done(&1);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_of_several_delays_counts() {
        let queue = WorkQueue::new("test-delay");
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(30));
        queue.add_after("b", Duration::from_secs(5));
        assert_eq!(queue.get().await, Some("b"));
        assert_eq!(start.elapsed().as_secs(), 5);
        assert_eq!(queue.get().await, Some("a"));
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_wakes_every_worker() {
        let queue = WorkQueue::<u8>::new("test-close");
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.get().await })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.close();
        for worker in workers {
            assert_eq!(worker.await.unwrap(), None);
        }
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        for (failures, millis) in [(0, 5), (1, 10), (7, 640), (17, 655_360), (18, 1_000_000), (400, 1_000_000)] {
            assert_eq!(retry_delay(failures).as_millis(), millis, "after {failures} failures");
        }
    }
}
