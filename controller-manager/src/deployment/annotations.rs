//! What a Deployment writes onto its ReplicaSets.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::{Resource, ResourceExt};

use super::plan::{self, Limits};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of a Deployment that say something about it and not about its template.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// Bytes of the revision history; older entries are cut off.
const HISTORY_MAX: usize = 2000;

pub(super) fn revision(object: &impl Resource) -> i64 {
    object.annotations().get(REVISION).and_then(|revision| revision.parse().ok()).unwrap_or(0)
}

pub(super) fn desired_replicas(set: &ReplicaSet) -> Option<i32> {
    set.annotations().get(DESIRED_REPLICAS)?.parse().ok()
}

pub(super) fn max_replicas(set: &ReplicaSet) -> Option<i32> {
    set.annotations().get(MAX_REPLICAS)?.parse().ok()
}

fn put(annotations: &mut BTreeMap<String, String>, key: &str, value: String) -> bool {
    annotations.insert(key.to_owned(), value.clone()) != Some(value)
}

/// Notes for which size of the Deployment a set is sized; returns whether anything changed.
pub(super) fn set_sizes(set: &mut ReplicaSet, deployment: &Deployment) -> bool {
    let limits = Limits::of(deployment);
    let annotations = set.annotations_mut();
    let desired = put(annotations, DESIRED_REPLICAS, plan::replicas(deployment).to_string());
    put(annotations, MAX_REPLICAS, (limits.replicas + limits.max_surge).to_string()) || desired
}

/// Copies the Deployment's annotations and moves the set to `revision`; returns whether anything changed.
pub(super) fn set_revision(set: &mut ReplicaSet, deployment: &Deployment, new: i64) -> bool {
    let current = revision(set);
    let mut changed = false;
    let annotations = set.annotations_mut();
    for (key, value) in deployment.annotations() {
        if !NOT_COPIED.contains(&key.as_str()) {
            changed |= put(annotations, key, value.clone());
        }
    }
    if current < new {
        if current > 0 {
            let before = annotations.get(REVISION_HISTORY).filter(|history| !history.is_empty());
            let mut history = match before {
                Some(history) => format!("{history},{current}"),
                None => current.to_string(),
            };
            while history.len() > HISTORY_MAX
                && let Some((_, rest)) = history.split_once(',')
            {
                history = rest.to_owned();
            }
            annotations.insert(REVISION_HISTORY.to_owned(), history);
        }
        changed |= put(annotations, REVISION, new.to_string());
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_comes_back_remembers_its_revisions() {
        let mut set = ReplicaSet::default();
        let mut deployment = Deployment::default();
        deployment.annotations_mut().insert("team".into(), "a".into());
        deployment.annotations_mut().insert(REVISION.into(), "9".into());
        assert!(set_revision(&mut set, &deployment, 1));
        assert!(!set_revision(&mut set, &deployment, 1));
        assert!(set_revision(&mut set, &deployment, 3));
        assert!(set_revision(&mut set, &deployment, 5));
        assert_eq!(set.annotations()[REVISION], "5");
        assert_eq!(set.annotations()[REVISION_HISTORY], "1,3");
        assert_eq!(set.annotations()["team"], "a");
    }
}
