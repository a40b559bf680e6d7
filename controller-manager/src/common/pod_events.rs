//! From a change of a pod to the owners that have to look.

use std::sync::Arc;

use component_base::{
    informer::{Change, Kind, ObjectKey, Store},
    queue::WorkQueue,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, core::Selector};

use super::{expectations::Expectations, meta};

/// A kind that owns pods by controller reference and selector.
pub trait PodOwner: Kind {
    /// `None` if it selects nothing, or cannot be read.
    fn selector(&self) -> Option<Selector>;
}

/// Feeds `queue` with the owners that a change of a pod concerns, and `expectations` with what was seen.
pub fn watch<O: PodOwner>(
    pods: &Store<Pod>,
    owners: &Store<O>,
    queue: &WorkQueue<ObjectKey>,
    expectations: &Arc<Expectations>,
) {
    let (owners, queue, expectations) = (owners.clone(), queue.clone(), expectations.clone());
    pods.on_change(move |change| {
        let route = Route { owners: &owners, queue: &queue, expectations: &expectations };
        match change {
            Change::Added(pod) if meta::is_deleting(pod.as_ref()) => route.deleted(pod),
            Change::Added(pod) => route.added(pod),
            Change::Updated { old, new } => route.updated(old, new),
            Change::Deleted(pod) => route.deleted(pod),
            Change::Resync => {}
        }
    });
}

struct Route<'a, O: PodOwner> {
    owners: &'a Store<O>,
    queue: &'a WorkQueue<ObjectKey>,
    expectations: &'a Expectations,
}

impl<O: PodOwner> Route<'_, O> {
    /// The key of the pod's controller, if that is of our kind and the very object the pod means.
    fn owner_of(&self, pod: &Pod) -> Option<ObjectKey> {
        let reference = meta::controller_of(pod).filter(|reference| reference.kind == O::kind(&()))?;
        let key = ObjectKey::namespaced(meta::namespace(pod), &reference.name);
        let owner = self.owners.get(&key)?;
        (meta::uid(owner.as_ref()) == reference.uid).then_some(key)
    }

    fn added(&self, pod: &Pod) {
        if let Some(key) = self.owner_of(pod) {
            self.expectations.created(&key);
            self.queue.add(key);
        } else if meta::controller_of(pod).is_none() {
            self.orphan(pod);
        }
    }

    fn updated(&self, old: &Pod, new: &Pod) {
        if meta::is_deleting(new) && !meta::is_deleting(old) {
            self.deleted(new);
        }
        let same_owner =
            meta::controller_of(old).map(|owner| &owner.uid) == meta::controller_of(new).map(|owner| &owner.uid);
        if !same_owner && let Some(key) = self.owner_of(old) {
            self.queue.add(key);
        }
        if let Some(key) = self.owner_of(new) {
            self.queue.add(key);
        } else if meta::controller_of(new).is_none() && (!same_owner || old.labels() != new.labels()) {
            self.orphan(new);
        }
    }

    fn deleted(&self, pod: &Pod) {
        if let Some(key) = self.owner_of(pod) {
            self.expectations.deleted(&key, meta::uid(pod));
            self.queue.add(key);
        }
    }

    /// Any owner whose selector matches may adopt it.
    fn orphan(&self, pod: &Pod) {
        for owner in self.owners.list() {
            if meta::namespace(owner.as_ref()) == meta::namespace(pod)
                && owner.selector().is_some_and(|selector| meta::matches(&selector, pod))
            {
                self.queue.add(meta::key(owner.as_ref()));
            }
        }
    }
}

/// Feeds `queue` with every owner that is added, changed or deleted.
pub fn watch_owners<O: Kind>(owners: &Store<O>, queue: &WorkQueue<ObjectKey>) {
    let queue = queue.clone();
    owners.on_change(move |change| queue.add(change.key()));
}
