//! Objects that end by themselves: events are written under an etcd lease. One lease serves everything written within a
//! twentieth of its time, so leases stay few.

use super::StorageError;
use super::etcd::Etcd;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Objects under one lease, at most.
const OBJECTS_MAX: usize = 1000;

pub struct EventLeases {
    etcd: Etcd,
    seconds: i64,
    current: Mutex<Option<Current>>,
}

struct Current {
    id: i64,
    since: Instant,
    objects: usize,
}

impl EventLeases {
    pub fn new(etcd: Etcd, seconds: i64) -> EventLeases {
        EventLeases { etcd, seconds, current: Mutex::new(None) }
    }

    /// A lease under which an object lives at least the time to live; 0 (no lease) when there is none.
    pub async fn lease(&self) -> Result<i64, StorageError> {
        if self.seconds <= 0 {
            return Ok(0);
        }
        let reuse = self.seconds / 20;
        let mut current = self.current.lock().await;
        if let Some(lease) = current
            .as_mut()
            .filter(|l| l.since.elapsed() < Duration::from_secs(reuse as u64) && l.objects < OBJECTS_MAX)
        {
            lease.objects += 1;
            return Ok(lease.id);
        }
        let id = self.etcd.grant(self.seconds + reuse).await?;
        *current = Some(Current { id, since: Instant::now(), objects: 1 });
        Ok(id)
    }
}
