//! Protobuf forms of objects, kept for a while: who reads protobuf reads it again, and soon. All of them together are bounded, one goes
//! with its object or when that is replaced, and an idle server has none.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

/// What kept forms may take together: those of 30,000 pods.
const ENCODINGS_BYTES_MAX: usize = 64 << 20;

/// Forms whose age is known at once. Older ones are given up.
const ENCODINGS_MAX: usize = 65_536;

/// How long a form is kept at most: who watches reads it at once, who lists page by page within seconds.
const ENCODINGS_AGE_MAX: Duration = Duration::from_secs(30);

/// One form. Its object owns it.
#[derive(Debug)]
pub struct Form {
    /// Nothing once it is given up.
    bytes: Mutex<Option<Bytes>>,
    total_bytes: Arc<AtomicUsize>,
}

impl Form {
    pub fn get(&self) -> Option<Bytes> {
        self.bytes.lock().clone()
    }

    pub fn give_up(&self) {
        if let Some(bytes) = self.bytes.lock().take() {
            self.total_bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
    }
}

impl Drop for Form {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Forms in the order in which they were made, oldest first.
#[derive(Default)]
struct Queue {
    forms: VecDeque<(Instant, Weak<Form>)>,
    total_bytes: Arc<AtomicUsize>,
}

impl Queue {
    fn keep(&mut self, bytes: Bytes, now: Instant) -> Arc<Form> {
        self.total_bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        let form = Arc::new(Form { bytes: Mutex::new(Some(bytes)), total_bytes: self.total_bytes.clone() });
        self.forms.push_back((now, Arc::downgrade(&form)));
        self.trim(now);
        form
    }

    /// Gives up what is too old or too much.
    fn trim(&mut self, now: Instant) {
        while let Some((since, form)) = self.forms.front()
            && (self.total_bytes.load(Ordering::Relaxed) > ENCODINGS_BYTES_MAX
                || self.forms.len() > ENCODINGS_MAX
                || now.saturating_duration_since(*since) > ENCODINGS_AGE_MAX
                || form.strong_count() == 0)
        {
            if let Some(form) = form.upgrade() {
                form.give_up();
            }
            self.forms.pop_front();
        }
        // A burst must not leave its empty places behind.
        if self.forms.capacity() > 1024 && self.forms.len() < self.forms.capacity() / 4 {
            self.forms.shrink_to_fit();
        }
    }
}

static KEPT: LazyLock<Mutex<Queue>> = LazyLock::new(Mutex::default);

/// Keeps a form for a while.
pub fn keep(bytes: Bytes) -> Arc<Form> {
    KEPT.lock().keep(bytes, Instant::now())
}

/// Gives up the forms that are too old.
pub fn expire() {
    KEPT.lock().trim(Instant::now());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_bounded_by_bytes_and_by_age_and_go_with_their_owners() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let bytes = |count: usize| Bytes::from(vec![0; count]);
        let first = queue.keep(bytes(ENCODINGS_BYTES_MAX / 2), now);
        let second = queue.keep(bytes(ENCODINGS_BYTES_MAX / 2), now);
        assert!(first.get().is_some());
        let third = queue.keep(bytes(1), now);
        assert!(first.get().is_none(), "the oldest goes first");
        assert!(second.get().is_some());
        drop(second);
        assert_eq!(queue.total_bytes.load(Ordering::Relaxed), 1, "one goes with its owner");
        queue.trim(now + ENCODINGS_AGE_MAX * 2);
        assert!(third.get().is_none());
        assert_eq!((queue.forms.len(), queue.total_bytes.load(Ordering::Relaxed)), (0, 0));
        let many: Vec<_> = (0..ENCODINGS_MAX + 10).map(|_| queue.keep(bytes(1), now)).collect();
        assert_eq!(many.iter().filter(|form| form.get().is_some()).count(), ENCODINGS_MAX);
    }
}
