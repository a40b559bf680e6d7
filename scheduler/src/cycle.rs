//! The scheduling cycle: one pod, from all nodes to one. Pure and serial: same pod, same cluster, same seed, same node.

use crate::cluster::{Cluster, PodInfo, Slot};
use crate::framework::{Profile, Rejection, Scored, States};
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;

/// Why no node will do, with what preemption needs to know.
pub struct NoNode {
    /// By reason: on how many nodes.
    pub reasons: BTreeMap<String, usize>,
    pub nodes: usize,
    /// Plugins that turned the pod down, as bits of their positions.
    pub turned_down_by: u64,
    /// Nodes where ending other pods could help, and the states to try that with.
    pub resolvable: Vec<Slot>,
    pub states: Option<States>,
    /// A plugin turned the pod down before looking at any node.
    pub before: Option<String>,
}

impl NoNode {
    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    pub fn message(&self) -> String {
        let mut text = format!("0/{} nodes are available", self.nodes);
        match &self.before {
            Some(reason) => text.push_str(&format!(": {reason}")),
            None if self.nodes == 0 => return "no nodes available to schedule pods".into(),
            None => {
                let mut reasons: Vec<String> = self.reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
                reasons.sort();
                text.push_str(&format!(": {}", reasons.join(", ")));
            }
        }
        text.push('.');
        text
    }
}

/// Where a search goes on: each starts where the last one ended, so that all nodes get their turn.
pub struct Search {
    next: usize,
    random: SmallRng,
    percentage: Option<u32>,
}

/// Fewer feasible nodes than this are never cut off.
const FEASIBLE_MIN: usize = 100;

impl Search {
    pub fn new(percentage: Option<u32>, random: SmallRng) -> Search {
        Search { next: 0, random, percentage }
    }

    /// How many feasible nodes are enough: the larger the cluster, the smaller the share. (Upstream's formula.)
    fn enough(&self, nodes: usize) -> usize {
        let percentage = match self.percentage {
            Some(given) if given > 0 => given as usize,
            _ => 50usize.saturating_sub(nodes / 125).max(5),
        };
        if nodes < FEASIBLE_MIN || percentage >= 100 { nodes } else { (nodes * percentage / 100).max(FEASIBLE_MIN) }
    }

    /// The node for a pod.
    pub fn find(&mut self, profile: &Profile, pod: &PodInfo, cluster: &mut Cluster) -> Result<Slot, NoNode> {
        let nodes = cluster.len();
        let turned = |(plugin, rejection): (usize, Rejection)| NoNode {
            reasons: BTreeMap::new(),
            nodes,
            turned_down_by: 1 << plugin,
            resolvable: vec![],
            states: None,
            before: Some(rejection.reason.into_owned()),
        };
        let (states, only) = profile.pre_filter(pod, cluster).map_err(turned)?;
        let mut failed = NoNode {
            reasons: BTreeMap::new(),
            nodes,
            turned_down_by: 0,
            resolvable: vec![],
            states: None,
            before: None,
        };
        let candidates: Vec<Slot> = match &only {
            Some(names) => {
                let excluded = nodes.saturating_sub(names.len());
                if excluded > 0 {
                    failed.reasons.insert("node(s) didn't satisfy plugin(s) [NodeAffinity]".into(), excluded);
                    failed.turned_down_by |= profile.position("NodeAffinity");
                }
                names.iter().filter_map(|n| cluster.by_name(n)).map(|(slot, _)| slot).collect()
            }
            None => {
                let order = cluster.order();
                let start = if order.is_empty() { 0 } else { self.next % order.len() };
                order[start..].iter().chain(&order[..start]).copied().collect()
            }
        };
        let enough = self.enough(nodes);
        let mut feasible = Vec::new();
        let mut looked_at = 0;
        for slot in &candidates {
            let Some(node) = cluster.get(*slot) else { continue };
            looked_at += 1;
            match profile.filter(&states, pod, node) {
                Ok(()) => {
                    feasible.push(*slot);
                    if feasible.len() >= enough {
                        break;
                    }
                }
                Err((plugin, rejection)) => {
                    failed.turned_down_by |= 1 << plugin;
                    if rejection.resolvable {
                        failed.resolvable.push(*slot);
                    }
                    *failed.reasons.entry(rejection.reason.into_owned()).or_default() += 1;
                }
            }
        }
        if only.is_none() {
            self.next = self.next.wrapping_add(looked_at);
        }
        match feasible.as_slice() {
            [] => {
                failed.states = Some(states);
                Err(failed)
            }
            [one] => Ok(*one),
            many => Ok(self.pick(&profile.score(pod, cluster, many))),
        }
    }

    /// The best node; of several equally good ones any, each with the same chance.
    fn pick(&mut self, scored: &[Scored]) -> Slot {
        let mut best = scored[0];
        let mut ties = 1;
        for node in &scored[1..] {
            if node.score > best.score {
                best = *node;
                ties = 1;
            } else if node.score == best.score {
                ties += 1;
                if self.random.random_range(0..ties) == 0 {
                    best = *node;
                }
            }
        }
        best.slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::{node, pod};
    use crate::plugins::{self, Stores};
    use component_base::informer::Store;
    use rand::SeedableRng;
    use serde_json::json;

    fn profile() -> Profile {
        let stores = Stores { claims: Store::default(), volumes: Store::default() };
        plugins::profile(&stores, &crate::config::Profile::default())
    }

    #[test]
    fn the_same_seed_gives_the_same_node_and_pods_spread() {
        let run = || {
            let mut cluster = Cluster::default();
            for i in 0..10 {
                cluster.put_node(&node(&format!("n{i}"), "z", "4"));
            }
            let mut search = Search::new(None, SmallRng::seed_from_u64(7));
            let spec =
                json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m", "memory": "100Mi"}}}]});
            (0..20)
                .map(|i| {
                    let pod = pod(&format!("p{i}"), spec.clone());
                    let slot =
                        search.find(&profile(), &pod, &mut cluster).unwrap_or_else(|e| panic!("{}", e.message()));
                    let name = cluster.get(slot).unwrap().name.clone();
                    cluster.put_pod(&name, pod);
                    name
                })
                .collect::<Vec<_>>()
        };
        let placed = run();
        assert_eq!(placed, run());
        for i in 0..10 {
            assert_eq!(placed.iter().filter(|n| **n == format!("n{i}")).count(), 2, "{placed:?}");
        }
    }

    #[test]
    fn reasons_are_counted_by_node() {
        let mut cluster = Cluster::default();
        for (name, cpu) in [("a", "1"), ("b", "1"), ("c", "2")] {
            cluster.put_node(&node(name, "z", cpu));
        }
        let mut search = Search::new(None, SmallRng::seed_from_u64(1));
        let spec = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "3"}}}]});
        let failed = search.find(&profile(), &pod("p", spec), &mut cluster).err().unwrap();
        assert_eq!(failed.message(), "0/3 nodes are available: 3 Insufficient cpu.");
        assert!(failed.resolvable.is_empty(), "no node is large enough, whoever leaves it");
    }

    #[test]
    fn large_clusters_are_searched_in_part() {
        let search = Search::new(None, SmallRng::seed_from_u64(1));
        assert_eq!([50, 100, 1000, 5000, 15000].map(|n| search.enough(n)), [50, 100, 420, 500, 750]);
    }
}
