//! Pods that want to be near others, or far from them. Counts by topology are made once for a cycle, from the pods that have
//! terms and those that the pod's own terms are about.

use crate::cluster::{Cluster, NodeInfo, PodInfo, Slot, Term};
use crate::framework::{Events, Plugin, PreFilter, Rejection, SCORE_MAX, State, Verdict, data, data_mut};
use std::collections::HashMap;

pub struct InterPodAffinity;

/// How many pods there are in a domain, by (topology key, value).
type Counts = HashMap<(String, String), i64>;

#[derive(Clone, Default)]
struct Filters {
    /// Domains that pods there keep this pod out of.
    forbids: Counts,
    /// Pods that meet all terms of the pod's affinity, by domain.
    near: Counts,
    /// Pods that the pod's anti-affinity is about, by domain.
    far: Counts,
}

fn domain(term: &Term, node: &NodeInfo) -> Option<(String, String)> {
    Some((term.topology_key.clone(), node.label(&term.topology_key)?.to_owned()))
}

impl Filters {
    /// Counts what `other`, on `node`, means to `pod`.
    fn count(&mut self, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, by: i64) {
        for term in other.required_anti_affinity.iter().filter(|t| t.matches(pod)) {
            if let Some(domain) = domain(term, node) {
                *self.forbids.entry(domain).or_default() += by;
            }
        }
        if !pod.required_affinity.is_empty() && pod.required_affinity.iter().all(|t| t.matches(other)) {
            for term in &pod.required_affinity {
                if let Some(domain) = domain(term, node) {
                    *self.near.entry(domain).or_default() += by;
                }
            }
        }
        for term in pod.required_anti_affinity.iter().filter(|t| t.matches(other)) {
            if let Some(domain) = domain(term, node) {
                *self.far.entry(domain).or_default() += by;
            }
        }
    }
}

fn has(counts: &Counts, domain: &(String, String)) -> bool {
    counts.get(domain).is_some_and(|n| *n > 0)
}

#[derive(Clone)]
struct Scores(Counts);

/// Weight of a required affinity of pods that are there: theirs wish, not this pod's.
const HARD_POD_AFFINITY_WEIGHT: i64 = 1;

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn events(&self) -> Events {
        Events::POD_ADDED
            .and(Events::POD_REMOVED)
            .and(Events::NODE_ADDED)
            .and(Events::NODE_LABELS)
            .and(Events::OWN_UPDATE)
    }

    fn pre_filter(&self, pod: &PodInfo, cluster: &Cluster) -> Result<PreFilter, Rejection> {
        let own = !pod.required_affinity.is_empty() || !pod.required_anti_affinity.is_empty();
        if !own && cluster.pods_with_required_anti_affinity == 0 {
            return Ok(PreFilter::Skip);
        }
        let mut filters = Filters::default();
        for (_, node) in cluster.iter().filter(|(_, n)| n.node.is_some() && (own || n.pods_with_affinity > 0)) {
            for other in &node.pods {
                filters.count(pod, other, node, 1);
            }
        }
        Ok(PreFilter::Run(Some(Box::new(filters))))
    }

    fn filter(&self, state: &State, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        let Some(filters) = data::<Filters>(state) else { return Ok(()) };
        let there = |counts: &Counts, term: &Term| domain(term, node).is_some_and(|d| has(counts, &d));
        if !pod.required_affinity.is_empty() {
            if pod.required_affinity.iter().any(|t| node.label(&t.topology_key).is_none()) {
                return Err(Rejection::final_("node(s) didn't match pod affinity rules"));
            }
            // The first of a group that wants to be together may go anywhere.
            let first = filters.near.values().all(|n| *n <= 0) && pod.required_affinity.iter().all(|t| t.matches(pod));
            if !first && !pod.required_affinity.iter().all(|t| there(&filters.near, t)) {
                return Err(Rejection::final_("node(s) didn't match pod affinity rules"));
            }
        }
        if pod.required_anti_affinity.iter().any(|t| there(&filters.far, t)) {
            return Err(Rejection::new("node(s) didn't match pod anti-affinity rules"));
        }
        let is_forbidden = filters.forbids.iter().any(|((key, value), n)| *n > 0 && node.label(key) == Some(value));
        if is_forbidden {
            return Err(Rejection::new("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    fn simulate(&self, state: &mut State, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, added: bool) {
        if let Some(filters) = data_mut::<Filters>(state) {
            filters.count(pod, other, node, if added { 1 } else { -1 });
        }
    }

    fn pre_score(&self, pod: &PodInfo, cluster: &Cluster, _: &[Slot]) -> Option<State> {
        let own = !pod.preferred_affinity.is_empty() || !pod.preferred_anti_affinity.is_empty();
        if !own && cluster.pods_with_affinity == 0 {
            return None;
        }
        let mut counts = Counts::new();
        let mut add = |term: &Term, node: &NodeInfo, weight: i64| {
            if let Some(domain) = domain(term, node) {
                *counts.entry(domain).or_default() += weight;
            }
        };
        for (_, node) in cluster.iter().filter(|(_, n)| own || n.pods_with_affinity > 0) {
            for other in &node.pods {
                for t in pod.preferred_affinity.iter().filter(|t| t.term.matches(other)) {
                    add(&t.term, node, t.weight);
                }
                for t in pod.preferred_anti_affinity.iter().filter(|t| t.term.matches(other)) {
                    add(&t.term, node, -t.weight);
                }
                for term in other.required_affinity.iter().filter(|t| t.matches(pod)) {
                    add(term, node, HARD_POD_AFFINITY_WEIGHT);
                }
                for t in other.preferred_affinity.iter().filter(|t| t.term.matches(pod)) {
                    add(&t.term, node, t.weight);
                }
                for t in other.preferred_anti_affinity.iter().filter(|t| t.term.matches(pod)) {
                    add(&t.term, node, -t.weight);
                }
            }
        }
        (!counts.is_empty()).then(|| Some(Box::new(Scores(counts)) as _))
    }

    fn score(&self, state: &State, _: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(Scores(counts)) = data::<Scores>(state) else { return 0 };
        counts.iter().filter(|((key, value), _)| node.label(key) == Some(value)).map(|(_, weight)| weight).sum()
    }

    /// Sums may be below zero: the lowest becomes 0, the highest the maximum.
    fn normalize(&self, _: &State, scores: &mut [i64]) {
        let (min, max) = (scores.iter().copied().min().unwrap_or(0), scores.iter().copied().max().unwrap_or(0));
        for score in scores {
            *score = if max > min { (*score - min) * SCORE_MAX / (max - min) } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::{node, pod};
    use serde_json::{Value, json};

    fn anti(key: &str) -> Value {
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": key}]}}})
    }

    fn near(key: &str) -> Value {
        json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": key}]}}})
    }

    fn fits(cluster: &Cluster, pod: &PodInfo, node: &str) -> bool {
        match InterPodAffinity.pre_filter(pod, cluster).unwrap_or_default() {
            PreFilter::Run(state) => InterPodAffinity.filter(&state, pod, cluster.by_name(node).unwrap().1).is_ok(),
            _ => true,
        }
    }

    #[test]
    fn anti_affinity_holds_both_ways_and_affinity_lets_the_first_go_anywhere() {
        let mut cluster = Cluster::default();
        for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
            cluster.put_node(&node(name, zone, "4"));
        }
        let zone = "topology.kubernetes.io/zone";
        assert!(fits(&cluster, &pod("first", near(zone)), "a1"));
        cluster.put_pod("a1", pod("there", anti("kubernetes.io/hostname")));
        assert!(!fits(&cluster, &pod("p", anti("kubernetes.io/hostname")), "a1"));
        assert!(fits(&cluster, &pod("p", anti("kubernetes.io/hostname")), "a2"));
        assert!(!fits(&cluster, &pod("plain", json!({})), "a1"), "the pod that is there keeps others away");
        assert!(!fits(&cluster, &pod("p", anti(zone)), "a2"));
        assert!(fits(&cluster, &pod("p", near(zone)), "a2"));
        assert!(!fits(&cluster, &pod("p", near(zone)), "b1"));
    }
}
