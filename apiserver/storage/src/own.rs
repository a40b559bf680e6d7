//! What this server is writing right now. Its own changes come back by the watch on etcd a moment later; with what is kept here they
//! need not be decoded again: the object is serialized once, for the client that wrote it, for the cache and for all watchers.
//!
//! A change is recognized by its key and its bytes, so it does not matter whether the watch or the transaction's answer is
//! first, nor which server wrote.

use super::Revision;
use super::object::Object;
use apimachinery::Value;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Writes under way, per resource; beyond it a change is decoded like one of another server.
const WRITES_MAX: usize = 4096;

/// One write: the bytes that go to etcd, and the object they stand for.
pub struct OwnWrite {
    key: Box<str>,
    bytes: Vec<u8>,
    making: Mutex<Making>,
}

enum Making {
    /// In normal form of the storage version; the revision is not known yet.
    Tree(Value),
    Made(Arc<Object>),
}

impl OwnWrite {
    /// The object as of the revision that etcd gave it; `None` when another revision has the same bytes.
    /// `make` makes it of its key and tree.
    pub fn object(&self, revision: Revision, make: impl FnOnce(&str, Value) -> Arc<Object>) -> Option<Arc<Object>> {
        let mut making = self.making.lock();
        if let Making::Tree(tree) = &mut *making {
            let object = make(&self.key, std::mem::take(tree));
            *making = Making::Made(object);
        }
        match &*making {
            Making::Made(object) if object.revision == revision => Some(object.clone()),
            _ => None,
        }
    }
}

/// The writes under way on one resource, by key.
#[derive(Default)]
pub struct OwnWrites(Mutex<HashMap<Box<str>, Arc<OwnWrite>>>);

impl OwnWrites {
    /// Notes a write before it is sent: `bytes` stand for `tree`.
    pub fn begin(&self, key: &str, bytes: &[u8], tree: Value) -> Arc<OwnWrite> {
        let write =
            Arc::new(OwnWrite { key: key.into(), bytes: bytes.to_vec(), making: Mutex::new(Making::Tree(tree)) });
        let mut writes = self.0.lock();
        if writes.len() < WRITES_MAX {
            writes.insert(key.into(), write.clone());
        }
        write
    }

    /// Forgets a write that did not come to pass, or may not have.
    pub fn abandon(&self, write: &Arc<OwnWrite>) {
        let mut writes = self.0.lock();
        if writes.get(&write.key).is_some_and(|w| Arc::ptr_eq(w, write)) {
            writes.remove(&write.key);
        }
    }

    /// The write that a change in etcd is the result of, if it is one of ours; it is under way no more.
    pub fn take(&self, key: &str, bytes: &[u8]) -> Option<Arc<OwnWrite>> {
        let mut writes = self.0.lock();
        writes.get(key).filter(|w| w.bytes == bytes)?;
        writes.remove(key)
    }

    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::object::Layout;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_is_ours_by_key_and_bytes() {
        let writes = OwnWrites::default();
        let tree = || json!({"metadata": {"name": "x"}});
        writes.begin("a/x", b"1", tree());
        let second = writes.begin("a/x", b"2", tree());
        assert!(writes.take("a/x", b"1").is_none(), "a later write to the key took its place");
        assert!(writes.take("a/y", b"2").is_none());
        let seen = writes.take("a/x", b"2").unwrap();
        assert!(writes.take("a/x", b"2").is_none());
        let make = |revision| move |key: &str, tree| Arc::new(Object::new(key, revision, tree, &Layout::default()));
        let object = seen.object(7, make(7)).unwrap();
        assert!(Arc::ptr_eq(&object, &second.object(7, make(7)).unwrap()), "serialized once");
        assert!(second.object(8, make(8)).is_none());
    }

    #[test]
    fn an_abandoned_write_is_forgotten_but_not_its_successor() {
        let writes = OwnWrites::default();
        let first = writes.begin("k", b"1", json!({}));
        writes.begin("k", b"2", json!({}));
        writes.abandon(&first);
        assert!(writes.take("k", b"2").is_some());
    }
}
