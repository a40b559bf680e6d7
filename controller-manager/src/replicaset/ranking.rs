//! Which pods go first when there are too many.
//!
//! The rules are upstream's (docs/concepts/workloads/controllers/replicaset, "Scaling a ReplicaSet"): the first that
//! tells two pods apart decides.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::common::{meta, pod};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What the rules look at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rank {
    scheduled: bool,
    phase: u8,
    ready: bool,
    deletion_cost: i32,
    /// Pods of the same work on the same node.
    neighbours: usize,
    /// Powers of two of nanoseconds, so that pods that started about together count as equal.
    ready_age_log2: Option<u32>,
    restarts: i32,
    age_log2: u32,
    uid: String,
}

impl Rank {
    fn of(pod: &Pod, neighbours: usize, now: Timestamp) -> Self {
        let cost = pod.annotations().get(DELETION_COST).and_then(|cost| cost.parse().ok());
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        Self {
            scheduled: !pod::node_name(pod).is_empty(),
            phase: match pod::phase(pod) {
                "Pending" => 0,
                "Unknown" => 1,
                _ => 2,
            },
            ready: pod::is_ready(pod),
            deletion_cost: cost.unwrap_or(0),
            neighbours,
            ready_age_log2: pod::ready_since(pod).map(|since| age_log2(since, now)),
            restarts: statuses.map(|status| status.restart_count).max().unwrap_or(0),
            age_log2: age_log2(meta::created(pod), now),
            uid: meta::uid(pod).to_owned(),
        }
    }

    /// `Less` if `self` goes before `other`.
    fn compare(&self, other: &Self) -> Ordering {
        self.scheduled
            .cmp(&other.scheduled)
            .then(self.phase.cmp(&other.phase))
            .then(self.ready.cmp(&other.ready))
            .then(self.deletion_cost.cmp(&other.deletion_cost))
            .then(other.neighbours.cmp(&self.neighbours))
            .then(self.ready_age_log2.cmp(&other.ready_age_log2))
            .then(other.restarts.cmp(&self.restarts))
            .then(self.age_log2.cmp(&other.age_log2))
            .then_with(|| self.uid.cmp(&other.uid))
    }
}

fn age_log2(since: Timestamp, now: Timestamp) -> u32 {
    let nanos = now.duration_since(since).as_nanos().max(0).unsigned_abs();
    nanos.checked_ilog2().unwrap_or(0)
}

/// The `count` pods of `pods` to delete. `nearby` are all active pods of the same work.
pub(super) fn victims(mut pods: Vec<Arc<Pod>>, nearby: Vec<Arc<Pod>>, count: usize, now: Timestamp) -> Vec<Arc<Pod>> {
    if count >= pods.len() {
        return pods;
    }
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in nearby.iter().filter(|pod| !pod::node_name(pod).is_empty()) {
        *on_node.entry(pod::node_name(pod)).or_default() += 1;
    }
    let rank = |pod: &Pod| Rank::of(pod, on_node.get(pod::node_name(pod)).copied().unwrap_or(0), now);
    let mut ranked: Vec<_> = pods.drain(..).map(|pod| (rank(&pod), pod)).collect();
    ranked.sort_by(|(left, _), (right, _)| left.compare(right));
    ranked.truncate(count);
    ranked.into_iter().map(|(_, pod)| pod).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_tells_two_pods_apart_decides() {
        let base = Rank {
            scheduled: true,
            phase: 2,
            ready: true,
            deletion_cost: 0,
            neighbours: 1,
            ready_age_log2: Some(40),
            restarts: 0,
            age_log2: 41,
            uid: "m".into(),
        };
        let goes_first = [
            ("unscheduled", Rank { scheduled: false, ..base.clone() }),
            ("pending", Rank { phase: 0, ..base.clone() }),
            ("not ready", Rank { ready: false, ..base.clone() }),
            ("cheaper", Rank { deletion_cost: -5, ..base.clone() }),
            ("more neighbours", Rank { neighbours: 2, ..base.clone() }),
            ("ready more recently", Rank { ready_age_log2: Some(30), ..base.clone() }),
            ("restarted more", Rank { restarts: 3, ..base.clone() }),
            ("younger", Rank { age_log2: 35, ..base.clone() }),
            ("smaller uid", Rank { uid: "a".into(), ..base.clone() }),
        ];
        for (name, rank) in &goes_first {
            assert_eq!(rank.compare(&base), Ordering::Less, "{name}");
            assert_eq!(base.compare(rank), Ordering::Greater, "{name}");
        }
        for pair in goes_first.windows(2) {
            assert_eq!(pair[0].1.compare(&pair[1].1), Ordering::Less, "{} before {}", pair[0].0, pair[1].0);
        }
    }

    #[test]
    fn ages_are_compared_by_power_of_two() {
        let now = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(100_000);
        let ago = |secs: i64| age_log2(now - jiff::SignedDuration::from_secs(secs), now);
        assert_eq!(ago(1000), ago(1001));
        assert!(ago(1000) > ago(100));
    }
}
