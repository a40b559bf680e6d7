//! How long a Job waits before it replaces a failed pod. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::common::{meta, pod};

/// The delay after the first failure, doubled with each further one in a row.
const MIN: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(600);

/// Failures since the last success, and when the last of them was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    pub failures: u32,
    pub last: Timestamp,
}

impl Backoff {
    /// With pods that were found finished at these times: only failures after the last success are in a row.
    pub fn after(self, succeeded: &[Timestamp], failed: &[Timestamp]) -> Self {
        let success = succeeded.iter().max();
        let counts = failed.iter().filter(|at| success.is_none_or(|success| *at > success));
        let before = if success.is_some() { 0 } else { self.failures };
        let failures = before.saturating_add(u32::try_from(counts.clone().count()).unwrap_or(u32::MAX));
        Self { failures, last: counts.max().copied().unwrap_or(self.last) }
    }

    /// How long nothing is to be made yet.
    pub fn left(self, now: Timestamp) -> Duration {
        let Some(doublings) = self.failures.checked_sub(1) else { return Duration::ZERO };
        let delay = MIN.saturating_mul(2u32.saturating_pow(doublings)).min(MAX);
        let elapsed = Duration::try_from(now.duration_since(self.last)).unwrap_or_default();
        delay.saturating_sub(elapsed)
    }
}

/// When a finished pod finished: by its containers, else by its Ready condition, else by its deletion, else its creation.
pub(super) fn finished_at(pod: &Pod) -> Timestamp {
    let not_ready = || {
        let ready = pod::condition(pod, "Ready").filter(|ready| ready.status == "False")?;
        Some(ready.last_transition_time.as_ref()?.0)
    };
    let deleted = || {
        let grace_secs = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        pod.metadata.deletion_timestamp.as_ref()?.0.checked_sub(SignedDuration::from_secs(grace_secs)).ok()
    };
    containers_finished_at(pod).or_else(not_ready).or_else(deleted).unwrap_or_else(|| meta::created(pod))
}

/// When the last container finished; `None` if one has not, or there is none. Sidecars end last.
fn containers_finished_at(pod: &Pod) -> Option<Timestamp> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    let is_sidecar = |status: &&ContainerStatus| {
        let init = spec.init_containers.iter().flatten();
        init.into_iter().any(|own| own.name == status.name && own.restart_policy.as_deref() == Some("Always"))
    };
    let sidecars = status.init_container_statuses.iter().flatten().filter(is_sidecar);
    let statuses = status.container_statuses.iter().flatten().chain(sidecars);
    let times = statuses.map(|status| Some(status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0));
    times.collect::<Option<Vec<_>>>()?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    #[test]
    fn failures_in_a_row_wait_longer() {
        for (failures, elapsed_secs, left_secs) in
            [(0, 0, 0), (1, 0, 10), (1, 4, 6), (1, 11, 0), (2, 0, 20), (4, 0, 80), (7, 0, 600), (100, 0, 600)]
        {
            let backoff = Backoff { failures, last: at(1000) };
            assert_eq!(backoff.left(at(1000 + elapsed_secs)).as_secs(), left_secs, "{failures} {elapsed_secs}");
        }
    }

    #[test]
    fn a_success_ends_the_row() {
        let before = Backoff { failures: 2, last: at(5) };
        for (succeeded, failed, failures, last) in [
            (vec![], vec![], 2, 5),
            (vec![], vec![9, 7], 4, 9),
            (vec![8], vec![], 0, 5),
            (vec![8], vec![7, 9], 1, 9),
            (vec![8], vec![7], 0, 5),
        ] {
            let times = |secs: &[i64]| secs.iter().map(|secs| at(*secs)).collect::<Vec<_>>();
            let after = before.after(&times(&succeeded), &times(&failed));
            assert_eq!((after.failures, after.last), (failures, at(last)), "{succeeded:?} {failed:?}");
        }
    }

    #[test]
    fn the_time_a_pod_finished() {
        let ended = |name: &str, at: Option<&str>| {
            let state = match at {
                Some(at) => json!({"terminated": {"exitCode": 1, "finishedAt": at}}),
                None => json!({"running": {}}),
            };
            json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
        };
        let not_ready = json!([{"type": "Ready", "status": "False", "lastTransitionTime": "2024-01-01T00:00:03Z"}]);
        for (containers, sidecars, conditions, expected) in [
            (vec![ended("c", Some("2024-01-01T00:00:01Z"))], vec![], json!([]), "2024-01-01T00:00:01Z"),
            (
                vec![ended("c", Some("2024-01-01T00:00:01Z"))],
                vec![ended("side", Some("2024-01-01T00:00:02Z")), ended("init", Some("2024-01-01T00:00:09Z"))],
                json!([]),
                "2024-01-01T00:00:02Z",
            ),
            (vec![ended("c", None)], vec![], not_ready, "2024-01-01T00:00:03Z"),
            (vec![ended("c", None)], vec![], json!([]), "2024-01-01T00:00:04Z"),
        ] {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"creationTimestamp": "2023-01-01T00:00:00Z", "deletionTimestamp": "2024-01-01T00:00:34Z",
                    "deletionGracePeriodSeconds": 30},
                "spec": {"containers": [], "initContainers": [{"name": "side", "restartPolicy": "Always"}, {"name": "init"}]},
                "status": {"containerStatuses": containers, "initContainerStatuses": sidecars, "conditions": conditions},
            }))
            .unwrap();
            assert_eq!(finished_at(&pod).to_string(), expected);
        }
    }
}
