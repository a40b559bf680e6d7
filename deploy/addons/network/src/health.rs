//! What `/healthz` and `/readyz` say.

use component_base::serving::Check;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a round may be without success before a restart is worth a try.
const STUCK: Duration = Duration::from_secs(120);

/// How it stands with one of the loops.
pub struct Health {
    /// Why pods can't be started yet; empty once they can. It stays empty: what was set up keeps working.
    not_ready: Mutex<Option<String>>,
    failing_since: Mutex<Option<Instant>>,
}

impl Default for Health {
    fn default() -> Health {
        let reason = "the first list of nodes is not here yet".to_owned();
        Health { not_ready: Mutex::new(Some(reason)), failing_since: Mutex::new(None) }
    }
}

impl Health {
    /// A round begins.
    pub fn begin(&self) {
        self.failing_since.lock().get_or_insert_with(Instant::now);
    }

    /// Everything is as it should be, or waits for something that others do.
    pub fn succeed(&self, waits_for: Option<String>) {
        *self.failing_since.lock() = None;
        let mut not_ready = self.not_ready.lock();
        if not_ready.is_some() {
            *not_ready = waits_for;
        }
    }

    pub fn live(self: &Arc<Self>, name: &'static str) -> Check {
        let health = self.clone();
        Check::new(name, move || match *health.failing_since.lock() {
            Some(since) if since.elapsed() > STUCK => {
                Err(format!("no round has succeeded for {} s; the log says why", since.elapsed().as_secs()))
            }
            _ => Ok(()),
        })
    }

    pub fn ready(&self) -> Result<(), String> {
        self.not_ready.lock().clone().map_or(Ok(()), Err)
    }
}
