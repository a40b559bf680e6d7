//! The pod lifecycle event generator: tells workers when the runtime's view of their pod changes.
//!
//! Where the runtime streams events (containerd 1.7 and later, CRI-O), they are used, and a relist now and then catches
//! what a stream may lose; else a relist every second compares states. Workers look at their own pod right after what
//! they do themselves, so nothing a user waits for depends on the period.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use component_base::metrics::{self, Gauge, Histogram};
use cri_client::names;
use parking_lot::Mutex;
use pod_state::runtime;
use tokio_util::sync::CancellationToken;

use crate::Lifecycle;

const RELIST_PERIOD: Duration = Duration::from_secs(1);
const RELIST_PERIOD_WITH_EVENTS: Duration = Duration::from_secs(300);
/// Without a relist for this long the node is not ready, as upstream has it.
const RELIST_AGE_MAX: Duration = Duration::from_secs(180);
/// Wait before a broken stream is opened again.
const RECONNECT: Duration = Duration::from_secs(1);

/// What was seen at the last relist.
pub struct Pleg {
    pods: Mutex<HashMap<String, Vec<(String, i32)>>>,
    relisted: Mutex<Option<Instant>>,
    duration: Histogram,
    last_seen: Gauge,
}

impl Default for Pleg {
    fn default() -> Self {
        let buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        Self {
            pods: Mutex::default(),
            relisted: Mutex::default(),
            duration: metrics::histogram(
                "kubelet_pleg_relist_duration_seconds",
                "Duration in seconds for relisting pods in PLEG.",
                &buckets,
            ),
            last_seen: metrics::gauge(
                "kubelet_pleg_last_seen_seconds",
                "Timestamp in seconds when PLEG was last seen active.",
            ),
        }
    }
}

impl Pleg {
    /// UIDs of all pods that the runtime has anything of; `None` before the first relist.
    pub fn known(&self) -> Option<Vec<String>> {
        self.relisted.lock().map(|_| self.pods.lock().keys().cloned().collect())
    }

    /// The pod had containers when the runtime was last looked at.
    pub fn has(&self, uid: &str) -> bool {
        self.pods.lock().contains_key(uid)
    }

    /// The pod's worker has removed all there was of it.
    pub fn forget(&self, uid: &str) {
        self.pods.lock().remove(uid);
    }

    /// Why the node can't be trusted to know its pods.
    pub fn check(&self, now: Instant, started: Instant) -> Result<(), String> {
        let last = *self.relisted.lock();
        match last {
            None if now - started > RELIST_AGE_MAX => Err("PLEG is not healthy: pleg has yet to be successful".into()),
            Some(last) if now - last > RELIST_AGE_MAX => Err(format!(
                "PLEG is not healthy: pleg was last seen active {:?} ago; threshold is {RELIST_AGE_MAX:?}",
                now - last
            )),
            _ => Ok(()),
        }
    }

    /// Compares the runtime's state with the last and wakes the workers of pods that changed.
    pub async fn relist(&self, lifecycle: &Lifecycle) -> cri_client::Result<()> {
        let started = Instant::now();
        let now = runtime::relist(&lifecycle.context.cri).await?;
        self.duration.observe(started.elapsed().as_secs_f64());
        self.last_seen.set(jiff::Timestamp::now().as_second() as f64);
        *self.relisted.lock() = Some(started);
        let before = std::mem::take(&mut *self.pods.lock());
        let changed = now.iter().filter(|(uid, states)| before.get(*uid) != Some(states)).map(|(uid, _)| uid);
        let vanished = before.keys().filter(|uid| !now.contains_key(*uid));
        for uid in changed.chain(vanished) {
            lifecycle.pods.wake(uid);
        }
        *self.pods.lock() = now;
        Ok(())
    }
}

/// Watches the runtime until shutdown.
pub async fn run(lifecycle: Arc<Lifecycle>, shutdown: CancellationToken) {
    let mut announced = false;
    while !shutdown.is_cancelled() {
        let events = lifecycle.context.cri.events().await;
        let period = match events {
            Ok(mut events) => {
                if !announced {
                    tracing::info!("The container runtime streams events");
                }
                let follow = async {
                    while let Ok(Some(event)) = events.message().await {
                        if let Some(uid) =
                            event.pod_sandbox_status.and_then(|mut status| status.labels.remove(names::POD_UID))
                        {
                            lifecycle.pods.wake(&uid);
                        }
                    }
                };
                tokio::select! {
                    () = follow => {}
                    () = relist_every(&lifecycle, RELIST_PERIOD_WITH_EVENTS) => {}
                    () = shutdown.cancelled() => return,
                }
                RECONNECT
            }
            Err(error) if error.is_unimplemented() => {
                if !announced {
                    tracing::info!("The container runtime has no event stream, relisting every {RELIST_PERIOD:?}");
                }
                tokio::select! {
                    () = relist_every(&lifecycle, RELIST_PERIOD) => {}
                    () = shutdown.cancelled() => return,
                }
                RECONNECT
            }
            Err(error) => {
                tracing::warn!(%error, "No container runtime yet");
                RECONNECT
            }
        };
        announced = true;
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn relist_every(lifecycle: &Lifecycle, period: Duration) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = lifecycle.pleg.relist(lifecycle).await {
            tracing::warn!(%error, "Can't list what the container runtime has");
        }
    }
}
