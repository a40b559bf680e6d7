//! What a controller wrote and its store does not show yet.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use component_base::informer::ObjectKey;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;

use crate::common::meta;

/// After this time the store is believed: what was written may have been deleted by somebody else.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How soon to look again while something is outstanding; its arrival comes first, normally.
const RETRY: Duration = Duration::from_millis(200);

/// Uid of a slice, the generation it must reach (`None`: it must go), and since when.
type Outstanding = HashMap<String, (Option<i64>, Instant)>;

/// By Service.
#[derive(Clone, Debug, Default)]
pub struct Tracker(Arc<Mutex<HashMap<ObjectKey, Outstanding>>>);

impl Tracker {
    pub fn wrote(&self, service: &ObjectKey, slice: &EndpointSlice) {
        let expected = (Some(slice.metadata.generation.unwrap_or(0)), Instant::now());
        self.0.lock().entry(service.clone()).or_default().insert(meta::uid(slice).to_owned(), expected);
    }

    pub fn deleting(&self, service: &ObjectKey, slice: &EndpointSlice) {
        let expected = (None, Instant::now());
        self.0.lock().entry(service.clone()).or_default().insert(meta::uid(slice).to_owned(), expected);
    }

    /// A slice arrived in the store; returns whether it is as this controller wrote it.
    pub fn saw(&self, service: &ObjectKey, slice: &EndpointSlice) -> bool {
        let mut services = self.0.lock();
        let Some(outstanding) = services.get_mut(service) else { return false };
        match outstanding.get(meta::uid(slice)) {
            Some((Some(generation), _)) if slice.metadata.generation.unwrap_or(0) >= *generation => {
                let exact = slice.metadata.generation.unwrap_or(0) == *generation;
                outstanding.remove(meta::uid(slice));
                if outstanding.is_empty() {
                    services.remove(service);
                }
                exact
            }
            // An older state on its way; the expected one follows.
            Some(_) => true,
            None => false,
        }
    }

    /// A slice left the store; returns whether this controller deleted it.
    pub fn saw_deletion(&self, service: &ObjectKey, slice: &EndpointSlice) -> bool {
        let mut services = self.0.lock();
        let Some(outstanding) = services.get_mut(service) else { return false };
        let expected = matches!(outstanding.remove(meta::uid(slice)), Some((None, _)));
        if outstanding.is_empty() {
            services.remove(service);
        }
        expected
    }

    /// How long to wait for the store; `None` if it shows everything that was written.
    pub fn pending(&self, service: &ObjectKey, slices: &[Arc<EndpointSlice>]) -> Option<Duration> {
        let mut services = self.0.lock();
        let outstanding = services.get_mut(service)?;
        outstanding.retain(|uid, (generation, since)| {
            let shown = slices.iter().find(|slice| meta::uid(slice.as_ref()) == uid);
            let arrived = match generation {
                Some(wanted) => shown.is_some_and(|slice| slice.metadata.generation.unwrap_or(0) >= *wanted),
                None => shown.is_none(),
            };
            !arrived && since.elapsed() < TIMEOUT
        });
        if outstanding.is_empty() {
            services.remove(service);
            return None;
        }
        Some(RETRY)
    }

    pub fn forget(&self, service: &ObjectKey) {
        self.0.lock().remove(service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(uid: &str, generation: i64) -> Arc<EndpointSlice> {
        let mut slice = EndpointSlice::default();
        slice.metadata.uid = Some(uid.into());
        slice.metadata.generation = Some(generation);
        Arc::new(slice)
    }

    #[test]
    fn waits_until_the_store_shows_what_was_written() {
        let (tracker, key) = (Tracker::default(), ObjectKey::namespaced("default", "web"));
        tracker.wrote(&key, &slice("a", 2));
        tracker.deleting(&key, &slice("b", 1));
        assert!(tracker.pending(&key, &[slice("a", 1), slice("b", 1)]).is_some());
        assert!(tracker.saw(&key, &slice("a", 2)));
        assert!(tracker.pending(&key, &[slice("a", 2), slice("b", 1)]).is_some());
        assert!(tracker.saw_deletion(&key, &slice("b", 1)));
        assert!(tracker.pending(&key, &[slice("a", 2)]).is_none());
        assert!(!tracker.saw(&key, &slice("a", 3)), "somebody else's change needs a look");
    }
}
