//! What the node is short of.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The node conditions `MemoryPressure`, `DiskPressure` and `PIDPressure`. They outlast their cause for a while, so that the
/// node does not flap.
#[derive(Default)]
pub struct Pressure {
    /// How long a condition holds after it was last seen true (evictionPressureTransitionPeriod).
    transition: Duration,
    /// When each condition was last seen true.
    seen: Mutex<BTreeMap<&'static str, Instant>>,
}

impl Pressure {
    /// No pressure yet.
    pub fn new(transition: Duration) -> Self {
        Self { transition, seen: Mutex::default() }
    }

    /// The condition is true at `now`.
    pub fn set(&self, condition: &'static str, now: Instant) {
        self.seen.lock().insert(condition, now);
    }

    /// The conditions that hold, in the order of their names.
    pub fn conditions(&self) -> Vec<&'static str> {
        let seen = self.seen.lock();
        seen.iter().filter(|(_, at)| at.elapsed() < self.transition).map(|(condition, _)| *condition).collect()
    }
}
