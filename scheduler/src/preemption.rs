//! Making room for a pod by ending pods of lower priority: on which node, and which pods.

use crate::cluster::{Cluster, NodeInfo, PodInfo, Slot};
use crate::cycle::NoNode;
use crate::framework::Profile;
use std::cmp::Reverse;
use std::sync::Arc;

/// Pods to end on a node.
#[derive(Debug)]
pub struct Plan {
    pub node: String,
    pub victims: Vec<Arc<PodInfo>>,
}

/// Nodes that are tried at most: enough to choose from.
const CANDIDATES_MAX: usize = 100;

/// The cheapest plan: fewest budgets broken, lowest highest priority, lowest sum of priorities, fewest victims. None if no node
/// can be made to fit. `protected` says whether ending a pod breaks a disruption budget.
pub fn plan(
    profile: &Profile,
    pod: &PodInfo,
    cluster: &Cluster,
    failed: &NoNode,
    protected: impl Fn(&PodInfo) -> bool,
) -> Option<Plan> {
    let never = pod.pod.spec.as_ref().and_then(|s| s.preemption_policy.as_deref()) == Some("Never");
    if never {
        return None;
    }
    let mut best: Option<(_, Plan)> = None;
    for slot in failed.resolvable.iter().take(CANDIDATES_MAX) {
        let Some(victims) = victims(profile, pod, cluster, failed, *slot, &protected) else { continue };
        let broken = victims.iter().filter(|v| protected(v)).count();
        let highest = victims.iter().map(|v| v.priority).max().unwrap_or(i32::MIN);
        // Priorities may be below zero; moved up, more victims never make a smaller sum.
        let sum: i64 = victims.iter().map(|v| i64::from(v.priority) + i64::from(i32::MAX) + 1).sum();
        let cost = (broken, highest, sum, victims.len());
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            let node = cluster.get(*slot).map(|n| n.name.clone()).unwrap_or_default();
            best = Some((cost, Plan { node, victims }));
        }
    }
    best.map(|(_, plan)| plan)
}

/// Takes all pods of lower priority off the node, then puts back as many as it can, the most important first.
fn victims(
    profile: &Profile,
    pod: &PodInfo,
    cluster: &Cluster,
    failed: &NoNode,
    slot: Slot,
    protected: &impl Fn(&PodInfo) -> bool,
) -> Option<Vec<Arc<PodInfo>>> {
    let mut node: NodeInfo = cluster.get(slot)?.clone();
    let mut states = failed.states.clone()?;
    let mut lower: Vec<Arc<PodInfo>> = node.pods.iter().filter(|p| p.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return None;
    }
    for victim in &lower {
        node.remove(&victim.uid);
        profile.simulate(&mut states, pod, victim, &node, false);
    }
    profile.filter(&states, pod, &node).ok()?;
    // Those whose budget would break are put back first, then by priority, then the longest running.
    let started = |p: &PodInfo| p.pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    lower.sort_by_key(|p| (Reverse(protected(p)), Reverse(p.priority), started(p)));
    let mut victims = Vec::new();
    for candidate in lower {
        node.add(candidate.clone());
        profile.simulate(&mut states, pod, &candidate, &node, true);
        if profile.filter(&states, pod, &node).is_err() {
            node.remove(&candidate.uid);
            profile.simulate(&mut states, pod, &candidate, &node, false);
            victims.push(candidate);
        }
    }
    Some(victims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::{node, pod};
    use crate::cycle::Search;
    use crate::plugins::{self, Stores};
    use component_base::informer::Store;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use serde_json::json;

    #[test]
    fn the_least_important_pods_make_room_and_no_more_than_needed() {
        let stores = Stores { claims: Store::default(), volumes: Store::default() };
        let profile = plugins::profile(&stores, &crate::config::Profile::default());
        let mut cluster = Cluster::default();
        cluster.put_node(&node("n", "z", "2"));
        let spec = |priority: i32, cpu: &str| json!({"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
        cluster.put_pod("n", pod("low", spec(1, "1")));
        cluster.put_pod("n", pod("middle", spec(5, "1")));
        let mut search = Search::new(None, SmallRng::seed_from_u64(1));
        let mut try_priority = |priority: i32| {
            let pod = pod("p", spec(priority, "1"));
            let failed = search.find(&profile, &pod, &mut cluster).err().unwrap();
            plan(&profile, &pod, &cluster, &failed, |_| false)
                .map(|p| p.victims.iter().map(|v| v.name.clone()).collect::<Vec<_>>())
        };
        assert_eq!(try_priority(10), Some(vec!["low".to_owned()]));
        assert_eq!(try_priority(1), None);
    }
}
