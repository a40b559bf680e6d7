//! CrashLoopBackOff: the delay between restarts of one container.

use std::collections::HashMap;
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(10);

struct Entry {
    delay: Duration,
    /// When the container was last started.
    started: Instant,
}

/// Delays of a pod's containers. The first restart is immediate, then 10 s, doubling to the bound; a container that has
/// run for twice the bound starts afresh.
pub struct Backoffs {
    entries: HashMap<String, Entry>,
    max: Duration,
}

impl Backoffs {
    pub fn new(max: Duration) -> Self {
        Self { entries: HashMap::new(), max }
    }

    /// How long the container has to wait yet after it ended at `finished`; `None`: it may start.
    pub fn remaining(&self, name: &str, finished: Instant, now: Instant) -> Option<(Duration, Duration)> {
        let entry = self.entries.get(name)?;
        if finished.duration_since(entry.started) > self.max * 2 {
            return None;
        }
        let left = (finished + entry.delay).checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some((left, entry.delay))
    }

    /// The container is started again, having ended at `finished`.
    pub fn restarted(&mut self, name: &str, finished: Instant, now: Instant) {
        let delay = match self.entries.get(name) {
            Some(entry) if finished.duration_since(entry.started) > self.max * 2 => FIRST,
            Some(entry) => entry.delay * 2,
            None => FIRST,
        };
        self.entries.insert(name.to_owned(), Entry { delay: delay.min(self.max), started: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_bound_and_a_long_run_resets_them() {
        let max = Duration::from_secs(300);
        let mut backoffs = Backoffs::new(max);
        let mut now = Instant::now();
        assert_eq!(backoffs.remaining("c", now, now), None, "the first restart is immediate");
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            backoffs.restarted("c", now, now);
            let delay = Duration::from_secs(seconds);
            assert_eq!(backoffs.remaining("c", now, now), Some((delay, delay)));
            assert_eq!(backoffs.remaining("c", now, now + delay), None);
            now += delay;
        }
        let much_later = now + max * 3;
        assert_eq!(backoffs.remaining("c", much_later, much_later), None);
        backoffs.restarted("c", much_later, much_later);
        assert_eq!(backoffs.remaining("c", much_later, much_later).map(|(_, delay)| delay), Some(FIRST));
    }
}
