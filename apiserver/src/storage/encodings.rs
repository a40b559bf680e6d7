//! Protobuf forms of objects, kept for a while: who reads protobuf reads it again, and soon. An object knows its form only as long
//! as it lies here, so that all of them together are bounded and an idle server has none.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What kept forms may take together: those of 30,000 pods.
const ENCODINGS_BYTES_MAX: usize = 64 << 20;

/// How long a form is kept at most. Controllers that list at all list every few seconds.
const ENCODINGS_AGE_MAX: Duration = Duration::from_secs(60);

/// Forms in the order in which they were made, oldest first.
#[derive(Default)]
struct Queue {
    forms: VecDeque<(Instant, Arc<Bytes>)>,
    bytes: usize,
}

impl Queue {
    const fn new() -> Queue {
        Queue { forms: VecDeque::new(), bytes: 0 }
    }

    fn push(&mut self, form: Arc<Bytes>, now: Instant) {
        self.bytes += form.len();
        self.forms.push_back((now, form));
        self.trim(now);
    }

    /// Gives up what is too old or too much.
    fn trim(&mut self, now: Instant) {
        while let Some((since, form)) = self.forms.front()
            && (self.bytes > ENCODINGS_BYTES_MAX || now.saturating_duration_since(*since) > ENCODINGS_AGE_MAX)
        {
            self.bytes -= form.len();
            self.forms.pop_front();
        }
        // A burst must not leave its empty places behind.
        if self.forms.capacity() > 1024 && self.forms.len() < self.forms.capacity() / 4 {
            self.forms.shrink_to_fit();
        }
    }
}

static KEPT: Mutex<Queue> = Mutex::new(Queue::new());

/// Keeps a form for a while. Who wants to find it again holds a weak reference.
pub fn keep(form: Bytes) -> Arc<Bytes> {
    let form = Arc::new(form);
    KEPT.lock().push(form.clone(), Instant::now());
    form
}

/// Gives up the forms that are too old.
pub fn expire() {
    KEPT.lock().trim(Instant::now());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_bounded_by_bytes_and_by_age() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let form = |bytes: usize| Arc::new(Bytes::from(vec![0; bytes]));
        let first = form(ENCODINGS_BYTES_MAX / 2);
        let seen = Arc::downgrade(&first);
        queue.push(first, now);
        queue.push(form(ENCODINGS_BYTES_MAX / 2), now);
        assert!(seen.upgrade().is_some());
        queue.push(form(1), now);
        assert!(seen.upgrade().is_none(), "the oldest goes first");
        assert_eq!((queue.forms.len(), queue.bytes), (2, ENCODINGS_BYTES_MAX / 2 + 1));
        queue.trim(now + ENCODINGS_AGE_MAX * 2);
        assert_eq!((queue.forms.len(), queue.bytes), (0, 0));
    }
}
