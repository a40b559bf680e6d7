//! Spreading pods over domains: no domain may have more than `maxSkew` more of them than the one with the fewest. (KEP-895.)

use super::node_affinity::NodeAffinity;
use super::taint_toleration::tolerates;
use crate::cluster::{Cluster, NodeInfo, PodInfo, Slot};
use crate::framework::{Events, Plugin, PreFilter, Rejection, SCORE_MAX, State, Verdict, data, data_mut};
use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use kube::core::{Selector, SelectorExt};
use std::collections::{BTreeMap, HashMap, HashSet};

pub struct PodTopologySpread;

/// A constraint with what it counts.
#[derive(Clone)]
struct Counted {
    key: String,
    max_skew: i64,
    min_domains: usize,
    selector: Option<Selector>,
    honors_affinity: bool,
    honors_taints: bool,
    /// Pods by value of the key, over the nodes that count.
    domains: HashMap<String, i64>,
    /// The pod itself is one of those counted.
    own: i64,
}

impl Counted {
    fn new(pod: &PodInfo, constraint: &TopologySpreadConstraint) -> Counted {
        let mut selector = constraint.label_selector.clone().unwrap_or_default();
        // Values of the pod's own labels narrow the selection. (KEP-3243.)
        for key in constraint.match_label_keys.iter().flatten() {
            if let Some(value) = pod.labels().get(key) {
                selector.match_labels.get_or_insert_with(BTreeMap::new).insert(key.clone(), value.clone());
            }
        }
        let selector: Option<Selector> = constraint.label_selector.as_ref().and_then(|_| selector.try_into().ok());
        Counted {
            key: constraint.topology_key.clone(),
            max_skew: constraint.max_skew.into(),
            min_domains: constraint.min_domains.map_or(1, |n| n.max(1) as usize),
            own: i64::from(selector.as_ref().is_some_and(|s| s.matches(pod.labels()))),
            selector,
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
            domains: HashMap::new(),
        }
    }

    fn counts(&self, pod: &PodInfo, other: &PodInfo) -> bool {
        other.namespace == pod.namespace
            && !other.is_terminating()
            && self.selector.as_ref().is_some_and(|s| s.matches(other.labels()))
    }

    /// Whether pods on a node count: the pod itself could be there.
    fn includes(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        let hard = |effect: &str| matches!(effect, "NoSchedule" | "NoExecute");
        (!self.honors_affinity || NodeAffinity.filter(&None, pod, node).is_ok())
            && (!self.honors_taints || node.taints().iter().all(|t| !hard(&t.effect) || tolerates(pod, t)))
    }

    fn smallest(&self) -> i64 {
        // Domains that are not there yet would be empty. (KEP-3022.)
        if self.domains.len() < self.min_domains { 0 } else { self.domains.values().copied().min().unwrap_or(0) }
    }
}

#[derive(Clone)]
struct Constraints(Vec<Counted>);

fn constraints(pod: &PodInfo, action: &str) -> Vec<Counted> {
    let all = pod.pod.spec.as_ref().and_then(|s| s.topology_spread_constraints.as_ref());
    all.into_iter().flatten().filter(|c| c.when_unsatisfiable == action).map(|c| Counted::new(pod, c)).collect()
}

/// Counts pods in the domains of nodes that have all keys.
fn count(pod: &PodInfo, cluster: &Cluster, all: &mut [Counted]) {
    let keys: HashSet<String> = all.iter().map(|c| c.key.clone()).collect();
    for (_, node) in cluster.iter().filter(|(_, n)| n.node.is_some() && keys.iter().all(|k| n.label(k).is_some())) {
        for constraint in all.iter_mut() {
            if !constraint.includes(pod, node) {
                continue;
            }
            let Some(value) = node.label(&constraint.key) else { continue };
            let matching = node.pods.iter().filter(|other| constraint.counts(pod, other)).count() as i64;
            *constraint.domains.entry(value.to_owned()).or_default() += matching;
        }
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn events(&self) -> Events {
        Events::POD_ADDED
            .and(Events::POD_REMOVED)
            .and(Events::NODE_ADDED)
            .and(Events::NODE_LABELS)
            .and(Events::NODE_TAINTS)
            .and(Events::OWN_UPDATE)
    }

    fn pre_filter(&self, pod: &PodInfo, cluster: &Cluster) -> Result<PreFilter, Rejection> {
        let mut all = constraints(pod, "DoNotSchedule");
        if all.is_empty() {
            return Ok(PreFilter::Skip);
        }
        count(pod, cluster, &mut all);
        Ok(PreFilter::Run(Some(Box::new(Constraints(all)))))
    }

    fn filter(&self, state: &State, _: &PodInfo, node: &NodeInfo) -> Verdict {
        let Some(Constraints(all)) = data::<Constraints>(state) else { return Ok(()) };
        for constraint in all {
            let Some(value) = node.label(&constraint.key) else {
                return Err(Rejection::final_(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let here = constraint.domains.get(value).copied().unwrap_or(0);
            if here + constraint.own - constraint.smallest() > constraint.max_skew {
                return Err(Rejection::new("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }

    fn simulate(&self, state: &mut State, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, added: bool) {
        let Some(Constraints(all)) = data_mut::<Constraints>(state) else { return };
        for constraint in all {
            if constraint.counts(pod, other)
                && let Some(count) = node.label(&constraint.key).and_then(|value| constraint.domains.get_mut(value))
            {
                *count += if added { 1 } else { -1 };
            }
        }
    }

    fn pre_score(&self, pod: &PodInfo, cluster: &Cluster, _: &[Slot]) -> Option<State> {
        let mut all = constraints(pod, "ScheduleAnyway");
        if all.is_empty() {
            return None;
        }
        count(pod, cluster, &mut all);
        Some(Some(Box::new(Constraints(all))))
    }

    fn score(&self, state: &State, _: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(Constraints(all)) = data::<Constraints>(state) else { return 0 };
        let mut total = 0.0;
        for constraint in all {
            // A node outside of all domains is the worst place.
            let Some(value) = node.label(&constraint.key) else { return i64::MAX };
            let here = constraint.domains.get(value).copied().unwrap_or(0) as f64;
            // Few domains fill faster, so each pod there weighs more evenly over many.
            let weight = ((constraint.domains.len() + 2) as f64).ln();
            total += here * weight + (constraint.max_skew - 1) as f64;
        }
        total.round() as i64
    }

    fn normalize(&self, _: &State, scores: &mut [i64]) {
        let seen: Vec<i64> = scores.iter().copied().filter(|s| *s != i64::MAX).collect();
        let (min, max) = (seen.iter().copied().min().unwrap_or(0), seen.iter().copied().max().unwrap_or(0));
        for score in scores {
            *score = match *score {
                i64::MAX => 0,
                _ if max == 0 => SCORE_MAX,
                score => SCORE_MAX * (max + min - score) / max,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::{node, pod};
    use serde_json::json;

    #[test]
    fn a_domain_may_be_ahead_by_the_skew_only() {
        let mut cluster = Cluster::default();
        for (name, zone) in [("a1", "a"), ("b1", "b")] {
            cluster.put_node(&node(name, zone, "4"));
        }
        let spec = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]});
        let fits = |cluster: &Cluster, node: &str| {
            let pod = pod("p", spec.clone());
            let Ok(PreFilter::Run(state)) = PodTopologySpread.pre_filter(&pod, cluster) else {
                panic!("there is a constraint")
            };
            PodTopologySpread.filter(&state, &pod, cluster.by_name(node).unwrap().1).is_ok()
        };
        assert!(fits(&cluster, "a1") && fits(&cluster, "b1"));
        cluster.put_pod("a1", pod("one", json!({})));
        assert!(!fits(&cluster, "a1"));
        assert!(fits(&cluster, "b1"));
    }
}
