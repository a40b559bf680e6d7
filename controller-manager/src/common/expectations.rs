//! What a controller has written and not yet seen in its store.
//!
//! Between a create and the watch that reports it, the store lies: a controller that counted again would create too
//! many. It waits until every expected change was observed, or for [`TIMEOUT`] if one never comes.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use component_base::informer::ObjectKey;
use parking_lot::Mutex;

/// After this time the store is believed again.
pub const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Expected {
    creations: usize,
    /// By uid: a deletion is seen several times (the timestamp, then the removal) and must count once.
    deletions: HashSet<String>,
    since: Instant,
}

/// Per key of the owner.
#[derive(Debug, Default)]
pub struct Expectations(Mutex<HashMap<ObjectKey, Expected>>);

impl Expectations {
    /// Nothing is outstanding for `key`, or for too long.
    pub fn satisfied(&self, key: &ObjectKey) -> bool {
        match self.0.lock().get(key) {
            None => true,
            Some(expected) => {
                expected.creations == 0 && expected.deletions.is_empty() || expected.since.elapsed() > TIMEOUT
            }
        }
    }

    /// `count` creations and the deletions of these uids are about to be requested.
    pub fn expect(&self, key: &ObjectKey, count: usize, deletions: impl IntoIterator<Item = String>) {
        let expected = Expected { creations: count, deletions: deletions.into_iter().collect(), since: Instant::now() };
        self.0.lock().insert(key.clone(), expected);
    }

    /// A creation was seen, or failed.
    pub fn created(&self, key: &ObjectKey) {
        if let Some(expected) = self.0.lock().get_mut(key) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// A deletion was seen, or failed.
    pub fn deleted(&self, key: &ObjectKey, uid: &str) {
        if let Some(expected) = self.0.lock().get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    /// The owner is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn satisfied_once_everything_was_seen() {
        let expectations = Expectations::default();
        let key = ObjectKey::namespaced("default", "web");
        assert!(expectations.satisfied(&key));
        expectations.expect(&key, 1, ["u".to_owned()]);
        expectations.created(&key);
        assert!(!expectations.satisfied(&key));
        expectations.deleted(&key, "u");
        expectations.deleted(&key, "u");
        assert!(expectations.satisfied(&key));
    }
}
