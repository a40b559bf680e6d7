//! Nodes whose CPU and memory fill up alike waste less.

use crate::cluster::{Cluster, NodeInfo, PodInfo, Slot};
use crate::framework::{Plugin, SCORE_MAX, State};

pub struct BalancedAllocation;

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn pre_score(&self, pod: &PodInfo, _: &Cluster, _: &[Slot]) -> Option<State> {
        // A pod that asks for nothing tips no balance. (KEP-4247 leaves best-effort pods out.)
        (pod.requests.milli_cpu > 0 || pod.requests.memory > 0).then_some(None)
    }

    fn score(&self, _: &State, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let share = |used: i64, has: i64| if has == 0 { None } else { Some((used as f64 / has as f64).min(1.0)) };
        let cpu = share(node.requested.milli_cpu + pod.requests.milli_cpu, node.allocatable.milli_cpu);
        let memory = share(node.requested.memory + pod.requests.memory, node.allocatable.memory);
        match (cpu, memory) {
            // The standard deviation of two shares is half their difference.
            (Some(cpu), Some(memory)) => ((1.0 - (cpu - memory).abs() / 2.0) * SCORE_MAX as f64) as i64,
            _ => SCORE_MAX,
        }
    }
}
