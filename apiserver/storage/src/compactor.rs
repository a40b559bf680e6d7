//! Lets etcd forget old revisions, as upstream does and together with it: whoever moves `compact_rev_key` first in an interval
//! compacts to where it stood an interval ago, so watches always have at least one interval to resume from.

use super::Revision;
use super::etcd::{Etcd, Outcome};
use super::freshness::Progress;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

const KEY: &str = "compact_rev_key";

/// Compacts every `interval` until `shutdown`, and notes in `progress` what is gone.
pub async fn run(etcd: Etcd, progress: Arc<Progress>, interval: Duration, shutdown: CancellationToken) {
    let mut expected: Revision = 0;
    let mut target: Revision = 0;
    loop {
        tokio::select! { () = tokio::time::sleep(interval) => {}, () = shutdown.cancelled() => return }
        let outcome = etcd.put_if(KEY, expected, target.to_string().into_bytes(), 0).await;
        match outcome {
            Ok(Outcome::Done(revision)) => {
                if target > 0 {
                    match etcd.compact(target).await {
                        Ok(()) => debug!(target, "etcd compacted"),
                        Err(e) => warn!(error = %e, "compacting etcd"),
                    }
                    progress.note_compaction(target);
                }
                (expected, target) = (revision, revision);
            }
            // Another server was first; its write is where the next interval starts.
            Ok(Outcome::Lost(current)) => {
                let theirs = current.as_ref().and_then(|c| std::str::from_utf8(&c.value).ok()?.parse().ok());
                progress.note_compaction(theirs.unwrap_or_default());
                expected = current.map_or(0, |c| c.revision);
                target = expected;
            }
            Err(e) => warn!(error = %e, "compacting etcd"),
        }
    }
}
