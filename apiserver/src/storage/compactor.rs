//! Lets etcd forget old revisions, as upstream does and together with it: whoever moves `compact_rev_key` first in an interval
//! compacts to where it stood an interval ago, so watches always have at least one interval to resume from.

use super::Revision;
use super::etcd::{Etcd, Outcome};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

const KEY: &str = "compact_rev_key";

/// Compacts every `interval` until `shutdown`.
pub async fn run(etcd: Etcd, interval: Duration, shutdown: CancellationToken) {
    let mut expected: Revision = 0;
    let mut target: Revision = 0;
    loop {
        tokio::select! { () = tokio::time::sleep(interval) => {}, () = shutdown.cancelled() => return }
        let outcome = etcd.put_if(KEY, expected, target.to_string().into_bytes(), 0).await;
        match outcome {
            Ok(Outcome::Done(revision)) => {
                if target > 0
                    && let Err(e) = etcd.compact(target).await
                {
                    warn!(error = %e, "compacting etcd");
                }
                debug!(target, "etcd compacted");
                (expected, target) = (revision, revision);
            }
            // Another server was first; its write is where the next interval starts.
            Ok(Outcome::Lost(current)) => {
                expected = current.map_or(0, |c| c.revision);
                target = expected;
            }
            Err(e) => warn!(error = %e, "compacting etcd"),
        }
    }
}
