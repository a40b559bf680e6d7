//! A node must have what the pod asks for left; which of those that do is better depends on the strategy.

use crate::cluster::{Cluster, NodeInfo, PodInfo, Resources, Slot};
use crate::framework::{Events, Plugin, Rejection, SCORE_MAX, State, Verdict};
use serde::Deserialize;

/// How full nodes are preferred.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
enum Strategy {
    #[default]
    LeastAllocated,
    MostAllocated,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Args {
    ignored_resources: Vec<String>,
    scoring_strategy: ScoringStrategy,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct ScoringStrategy {
    #[serde(rename = "type")]
    kind: Strategy,
    resources: Vec<Weighted>,
}

impl Default for ScoringStrategy {
    fn default() -> Self {
        let weighted = |name: &str| Weighted { name: name.into(), weight: 1 };
        ScoringStrategy { kind: Strategy::default(), resources: vec![weighted("cpu"), weighted("memory")] }
    }
}

#[derive(Debug, Deserialize)]
struct Weighted {
    name: String,
    #[serde(default = "one")]
    weight: i64,
}

fn one() -> i64 {
    1
}

pub struct Fit {
    args: Args,
}

impl Fit {
    /// Arguments that cannot be read are those of the defaults.
    pub fn new(args: Option<&serde_json::Value>) -> Fit {
        let read = |value: &serde_json::Value| match serde_json::from_value(value.clone()) {
            Ok(args) => args,
            Err(error) => {
                tracing::error!(%error, "NodeResourcesFitArgs cannot be read; the defaults are used");
                Args::default()
            }
        };
        Fit { args: args.map(read).unwrap_or_default() }
    }
}

fn amount(resources: &Resources, name: &str) -> i64 {
    match name {
        "cpu" => resources.milli_cpu,
        "memory" => resources.memory,
        "ephemeral-storage" => resources.ephemeral_storage,
        other => resources.scalar(other),
    }
}

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn events(&self) -> Events {
        Events::NODE_ADDED.and(Events::NODE_ALLOCATABLE).and(Events::POD_REMOVED).and(Events::OWN_UPDATE)
    }

    fn filter(&self, _: &State, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        let (has, used, asks) = (&node.allocatable, &node.requested, &pod.requests);
        if node.pods.len() as i64 + 1 > has.pods {
            return Err(Rejection::new("Too many pods"));
        }
        let lacks = |asks: i64, has: i64, used: i64| asks > 0 && asks > has - used;
        // What is more than the whole node has, no ended pod sets free.
        let verdict =
            |reason: String, asks: i64, has: i64| Err(Rejection { reason: reason.into(), resolvable: asks <= has });
        for (name, asks, has, used) in [
            ("cpu", asks.milli_cpu, has.milli_cpu, used.milli_cpu),
            ("memory", asks.memory, has.memory, used.memory),
            ("ephemeral-storage", asks.ephemeral_storage, has.ephemeral_storage, used.ephemeral_storage),
        ] {
            if lacks(asks, has, used) {
                return verdict(format!("Insufficient {name}"), asks, has);
            }
        }
        for (name, asks) in &asks.scalar {
            let ignored = self.args.ignored_resources.iter().any(|i| **i == **name);
            if !ignored && lacks(*asks, has.scalar(name), used.scalar(name)) {
                return verdict(format!("Insufficient {name}"), *asks, has.scalar(name));
            }
        }
        Ok(())
    }

    fn pre_score(&self, _: &PodInfo, _: &Cluster, _: &[Slot]) -> Option<State> {
        Some(None)
    }

    fn score(&self, _: &State, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let (mut total, mut weights) = (0, 0);
        for resource in &self.args.scoring_strategy.resources {
            let has = amount(&node.allocatable, &resource.name);
            if has == 0 {
                continue;
            }
            let used = (amount(&node.usual, &resource.name) + amount(&pod.usual, &resource.name)).clamp(0, has);
            let share = match self.args.scoring_strategy.kind {
                Strategy::LeastAllocated => (has - used) * SCORE_MAX / has,
                Strategy::MostAllocated => used * SCORE_MAX / has,
            };
            total += share * resource.weight;
            weights += resource.weight;
        }
        if weights == 0 { 0 } else { total / weights }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::{node, pod};
    use serde_json::json;

    fn info(cpu: &str) -> NodeInfo {
        let mut cluster = Cluster::default();
        cluster.put_node(&node("n", "z", cpu));
        cluster.by_name("n").unwrap().1.clone()
    }

    #[test]
    fn a_node_without_room_is_turned_down_with_what_it_lacks() {
        let fit = Fit::new(None);
        let asks =
            |cpu: &str| pod("p", json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}));
        assert_eq!(fit.filter(&None, &asks("1"), &info("2")), Ok(()));
        let much = fit.filter(&None, &asks("3"), &info("2")).unwrap_err();
        assert_eq!((&*much.reason, much.resolvable), ("Insufficient cpu", false));
        let gpu = pod("p", json!({"containers": [{"name": "c", "resources": {"requests": {"nvidia.com/gpu": "1"}}}]}));
        assert_eq!(fit.filter(&None, &gpu, &info("2")).unwrap_err().reason, "Insufficient nvidia.com/gpu");
    }

    #[test]
    fn the_emptier_node_scores_higher() {
        let fit = Fit::new(None);
        let asks =
            pod("p", json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]}));
        assert!(fit.score(&None, &asks, &info("8")) > fit.score(&None, &asks, &info("2")));
    }
}
