//! The loop of a controller: take a key, reconcile, retry with backoff what fails.
//!
//! ```no_run
//! use component_base::{controller::{self, Action}, queue::WorkQueue};
//! # async fn demo(shutdown: tokio_util::sync::CancellationToken) {
//! let queue = WorkQueue::<String>::new("demo");
//! controller::run("demo", queue, 5, shutdown, |key| async move {
//!     tracing::info!(key, "Level-triggered: compare what should be with what is");
//!     Ok::<_, std::io::Error>(Action::Done)
//! })
//! .await;
//! # }
//! ```

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use futures::{FutureExt, future};
use tokio_util::sync::CancellationToken;

use crate::queue::{Key, WorkQueue};

/// What is to happen to a key after its work succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing, until something adds it again.
    Done,
    /// Look again after this time at the latest.
    After(Duration),
}

/// Why a key's work failed: shown in the log, and the key comes again. A conflict (409) is expected where others write
/// the same object and is logged at debug level.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Runs `workers` workers on `queue` until `shutdown`; then the queue is closed and those at work may finish.
///
/// A panic in `reconcile` counts as its failure: the other controllers of the process go on.
pub async fn run<K, F, Fut, E>(
    name: &'static str,
    queue: WorkQueue<K>,
    workers: usize,
    shutdown: CancellationToken,
    reconcile: F,
) where
    K: Key,
    F: Fn(K) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Action, E>> + Send,
    E: Into<Error>,
{
    tracing::debug!(controller = name, workers, "Starting controller");
    let workers = (0..workers.max(1)).map(|_| work(name, &queue, &reconcile));
    let stop = async {
        shutdown.cancelled().await;
        queue.close();
    };
    future::join(future::join_all(workers), stop).await;
    tracing::debug!(controller = name, "Stopped controller");
}

async fn work<K, F, Fut, E>(name: &'static str, queue: &WorkQueue<K>, reconcile: &F)
where
    K: Key,
    F: Fn(K) -> Fut,
    Fut: Future<Output = Result<Action, E>>,
    E: Into<Error>,
{
    while let Some(key) = queue.get().await {
        let result = AssertUnwindSafe(async { reconcile(key.clone()).await }).catch_unwind().await;
        match result {
            Ok(Ok(Action::Done)) => queue.forget(&key),
            Ok(Ok(Action::After(delay))) => {
                queue.forget(&key);
                queue.add_after(key.clone(), delay);
            }
            Ok(Err(error)) => failed(name, queue, &key, error.into()),
            // The panic hook has printed it.
            Err(_) => failed(name, queue, &key, "panicked".into()),
        }
        queue.done(&key);
    }
}

fn failed<K: Key>(name: &'static str, queue: &WorkQueue<K>, key: &K, error: Error) {
    let delay = queue.retry(key.clone());
    if is_conflict(error.as_ref()) {
        tracing::debug!(controller = name, ?key, ?delay, %error, "Conflict, will retry");
    } else {
        tracing::error!(controller = name, ?key, ?delay, %error, "Reconcile failed, will retry");
    }
}

fn is_conflict(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(kube::Error::Api(status)) = error.downcast_ref() {
            return status.code == 409;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_and_panics_are_retried_until_success() {
        let queue = WorkQueue::new("test-controller");
        queue.add("key");
        let shutdown = CancellationToken::new();
        let attempts = AtomicU32::new(0);
        let stop = shutdown.clone();
        run("test", queue.clone(), 2, shutdown, |_| {
            let attempt = attempts.fetch_add(1, Ordering::Relaxed);
            let stop = stop.clone();
            async move {
                match attempt {
                    0 => Err(std::io::Error::other("try again")),
                    1 => panic!("a bug"),
                    2 => Ok(Action::After(Duration::from_secs(1))),
                    _ => {
                        stop.cancel();
                        Ok(Action::Done)
                    }
                }
            }
        })
        .await;
        assert_eq!(attempts.load(Ordering::Relaxed), 4);
    }
}
