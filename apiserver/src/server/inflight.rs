//! How many requests run at once. (Priority and fairness will stand here.)

use super::metrics::INFLIGHT;
use http::StatusCode;
use request::status::{Result, Status};
use serde_json::Map;
use tokio::sync::{Semaphore, SemaphorePermit};

/// A running request's place, given back when it is dropped.
pub struct Place<'a> {
    _permit: SemaphorePermit<'a>,
    kind: &'static str,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        INFLIGHT.with_label_values(&[self.kind]).dec();
    }
}

/// Places for requests that read and for those that change something.
pub struct Inflight {
    reading: Semaphore,
    mutating: Semaphore,
}

impl Inflight {
    pub fn new(reading: usize, mutating: usize) -> Inflight {
        let places = |n: usize| Semaphore::new(if n == 0 { Semaphore::MAX_PERMITS } else { n });
        Inflight { reading: places(reading), mutating: places(mutating) }
    }

    /// A place for a request, or a 429 that tells the client to come back.
    pub async fn enter(&self, read_only: bool) -> Result<Place<'_>> {
        let (places, kind) = if read_only { (&self.reading, "readOnly") } else { (&self.mutating, "mutating") };
        // A short wait absorbs bursts; more would only build a queue that clients give up on.
        match tokio::time::timeout(std::time::Duration::from_secs(1), places.acquire()).await {
            Ok(Ok(permit)) => {
                INFLIGHT.with_label_values(&[kind]).inc();
                Ok(Place { _permit: permit, kind })
            }
            _ => {
                let mut status = Status::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "TooManyRequests",
                    "Too many requests, please try again later.",
                );
                let mut details = Map::new();
                details.insert("retryAfterSeconds".into(), 1.into());
                status.details = Some(details);
                Err(status)
            }
        }
    }
}
