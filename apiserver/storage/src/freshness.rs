//! How reads stay consistent without a trip to etcd for each: everyone who waits shares one question, "what revision are you
//! at?", and then waits until the caches have seen it. (The idea of a read index, one level up.)

use super::etcd::Etcd;
use super::history::Budget;
use super::{Revision, StorageError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// The last revision that the dispatcher has put into the caches.
#[derive(Default)]
pub struct Progress {
    seen: AtomicU64,
    compacted: AtomicU64,
    waiting: Mutex<BTreeMap<Revision, Vec<oneshot::Sender<()>>>>,
    /// What the histories of all caches may hold together.
    pub history: Arc<Budget>,
}

impl Progress {
    pub fn seen(&self) -> Revision {
        self.seen.load(Ordering::Acquire)
    }

    /// The oldest revision that etcd still tells, as far as this server has heard. Older ones are not read from the caches
    /// either: a walk through pages ends with the same answer whichever server it asks.
    pub fn compacted(&self) -> Revision {
        self.compacted.load(Ordering::Acquire)
    }

    pub fn note_compaction(&self, revision: Revision) {
        self.compacted.fetch_max(revision, Ordering::AcqRel);
    }

    /// All changes up to `revision` are in the caches.
    pub fn advance(&self, revision: Revision) {
        if self.seen.fetch_max(revision, Ordering::AcqRel) >= revision {
            return;
        }
        let later = {
            let mut waiting = self.waiting.lock();
            let later = waiting.split_off(&(revision + 1));
            std::mem::replace(&mut *waiting, later)
        };
        for waiter in later.into_values().flatten() {
            let _ = waiter.send(()); // it may have given up
        }
    }

    /// Returns once the caches have seen `revision`; false after `timeout`.
    pub async fn wait(&self, revision: Revision, timeout: Duration) -> bool {
        if self.seen() >= revision {
            return true;
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().entry(revision).or_default().push(sender);
        if self.seen() >= revision {
            return true; // it came between the look and the wait
        }
        matches!(tokio::time::timeout(timeout, receiver).await, Ok(Ok(())))
    }
}

type Answer = Result<Revision, String>;

/// Asks etcd for its revision, once for everyone who asked before the question left.
pub struct Freshness {
    etcd: Etcd,
    progress: Arc<Progress>,
    waiting: Mutex<Vec<oneshot::Sender<Answer>>>,
    wake: Notify,
}

/// How long a read waits for the caches to catch up before it fails; upstream waits as long.
pub const CATCH_UP_MAX: Duration = Duration::from_secs(3);

impl Freshness {
    pub fn new(etcd: Etcd, progress: Arc<Progress>) -> Arc<Freshness> {
        Arc::new(Freshness { etcd, progress, waiting: Mutex::default(), wake: Notify::new() })
    }

    /// Answers questions until dropped by its owner.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.wake.notified().await;
            loop {
                let waiting = std::mem::take(&mut *self.waiting.lock());
                if waiting.is_empty() {
                    break;
                }
                let answer = self.etcd.current_revision().await.map_err(|e| e.to_string());
                for waiter in waiting {
                    let _ = waiter.send(answer.clone()); // it may have gone away
                }
            }
        }
    }

    /// Returns when the caches hold everything that was written before this call.
    pub async fn barrier(&self) -> Result<Revision, StorageError> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().push(sender);
        self.wake.notify_one();
        let revision = receiver.await.map_err(|_| StorageError::Closed)?.map_err(StorageError::Unavailable)?;
        if !self.progress.wait(revision, CATCH_UP_MAX).await {
            return Err(StorageError::Unavailable(format!("the watch cache has not reached revision {revision} yet")));
        }
        Ok(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiter_wakes_when_its_revision_is_reached() {
        let progress = Arc::new(Progress::default());
        progress.advance(5);
        assert!(progress.wait(5, Duration::from_secs(1)).await);
        let waiting = tokio::spawn({
            let progress = progress.clone();
            async move { progress.wait(7, Duration::from_secs(10)).await }
        });
        tokio::task::yield_now().await;
        progress.advance(6);
        progress.advance(8);
        assert!(waiting.await.unwrap());
        assert!(!progress.wait(9, Duration::from_millis(1)).await);
    }
}
