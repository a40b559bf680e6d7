//! Requests and limits in the kernel's units: CPU shares, CFS quota, memory limit, OOM score.

use k8s_openapi::api::core::v1::{Container, Pod};
use pod_state::spec::{self, QosClass};
use proto::cri::LinuxContainerResources;

/// The kernel's smallest share, and its largest.
const SHARES_MIN: i64 = 2;
const SHARES_MAX: i64 = 262_144;
/// The kernel's smallest CFS quota, µs.
const QUOTA_MIN: i64 = 1000;

/// OOM score adjustments by class (kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction).
const OOM_GUARANTEED: i64 = -997;
const OOM_BEST_EFFORT: i64 = 1000;

/// CPU shares of an amount in thousandths of a core.
pub fn shares(milli: i64) -> i64 {
    (milli * 1024 / 1000).clamp(SHARES_MIN, SHARES_MAX)
}

/// CFS quota in µs per `period_us`; 0: none.
pub fn quota(milli: i64, period_us: i64) -> i64 {
    if milli == 0 { 0 } else { (milli * period_us / 1000).max(QUOTA_MIN) }
}

/// cgroup v2's cpu.weight for v1 shares, the mapping that runc and systemd use.
pub fn weight(shares: i64) -> i64 {
    1 + (shares.clamp(SHARES_MIN, SHARES_MAX) - 2) * 9999 / (SHARES_MAX - SHARES_MIN)
}

/// How the node turns resources into limits.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Limits of cpu are enforced (cpuCFSQuota).
    pub cfs_quota: bool,
    /// The period of quotas (cpuCFSQuotaPeriod).
    pub period_us: i64,
    /// Bytes.
    pub memory_capacity: i64,
    /// The machine has cgroup v2.
    pub cgroup_v2: bool,
}

/// The resources of one container.
pub fn of(pod: &Pod, container: &Container, policy: &Policy) -> LinuxContainerResources {
    let cpu_limit = spec::container_limit(container, "cpu");
    let mut resources = LinuxContainerResources {
        cpu_shares: shares(spec::container_request(container, "cpu")),
        memory_limit_in_bytes: spec::container_limit(container, "memory"),
        oom_score_adj: oom_score_adj(pod, container, policy.memory_capacity),
        ..Default::default()
    };
    if policy.cfs_quota {
        resources.cpu_period = policy.period_us;
        resources.cpu_quota = quota(cpu_limit, policy.period_us);
    }
    if policy.cgroup_v2 {
        // One process of a container killed for memory means all are: half a container helps nobody.
        resources.unified.insert("memory.oom.group".into(), "1".into());
    }
    resources
}

/// The score: Guaranteed pods last, BestEffort first, the rest by the share of the node's memory they asked for.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    if spec::is_critical(pod) && spec::spec(pod).priority.is_some_and(|p| p >= 2_000_001_000) {
        return OOM_GUARANTEED;
    }
    match spec::qos_class(pod) {
        QosClass::Guaranteed => OOM_GUARANTEED,
        QosClass::BestEffort => OOM_BEST_EFFORT,
        QosClass::Burstable => {
            let request = spec::container_request(container, "memory");
            let score = 1000 - 1000 * request / memory_capacity.max(1);
            // Between the other classes: above Guaranteed's effective 3, below BestEffort's 1000.
            score.clamp(1000 + OOM_GUARANTEED, OOM_BEST_EFFORT - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_amounts_become_kernel_units() {
        for (milli, shares_, weight_, quota_) in
            [(0, 2, 1, 0), (1, 2, 1, 1000), (250, 256, 10, 25_000), (1000, 1024, 39, 100_000)]
        {
            assert_eq!((shares(milli), weight(shares(milli)), quota(milli, 100_000)), (shares_, weight_, quota_));
        }
    }

    #[test]
    fn the_oom_score_ranks_by_class_and_request() {
        for (resources, score) in [
            (serde_json::json!({}), 1000),
            (serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}}), -997),
            (serde_json::json!({"requests": {"memory": "2Gi"}}), 500),
            (serde_json::json!({"requests": {"cpu": "1"}}), 999),
            (serde_json::json!({"requests": {"memory": "4Gi"}}), 3),
        ] {
            let pod: Pod = serde_json::from_value(
                serde_json::json!({"spec": {"containers": [{"name": "c", "resources": resources}]}}),
            )
            .expect("a pod");
            assert_eq!(oom_score_adj(&pod, &spec::spec(&pod).containers[0], 4 << 30), score, "{resources}");
        }
    }
}
