//! Nodes that have a pod's images start it sooner; large images that many nodes have count most.

use crate::cluster::{Cluster, NodeInfo, PodInfo, Slot};
use crate::framework::{Plugin, SCORE_MAX, State, data};
use std::collections::HashMap;

pub struct ImageLocality;

const MIB: i64 = 1024 * 1024;
/// Below this, having an image is no advantage; above the other (per container), no more of one.
const THRESHOLD_MIN: i64 = 23 * MIB;
const THRESHOLD_MAX: i64 = 1000 * MIB;

/// How many nodes have each of the pod's images, of how many.
#[derive(Clone)]
struct Spread {
    nodes: HashMap<String, usize>,
    total: usize,
}

/// As nodes report it: with a tag.
fn normalized(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

fn images(pod: &PodInfo) -> impl Iterator<Item = String> {
    let spec = pod.pod.spec.as_ref();
    spec.into_iter()
        .flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()))
        .filter_map(|c| c.image.as_deref().map(normalized))
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn pre_score(&self, pod: &PodInfo, cluster: &Cluster, _: &[Slot]) -> Option<State> {
        // On one node there is nothing to choose.
        if cluster.len() < 2 {
            return None;
        }
        let nodes: HashMap<String, usize> = images(pod)
            .map(|image| (image.clone(), cluster.iter().filter(|(_, n)| n.images.contains_key(&image)).count()))
            .filter(|(_, n)| *n > 0)
            .collect();
        (!nodes.is_empty()).then(|| Some(Box::new(Spread { nodes, total: cluster.len() }) as _))
    }

    fn score(&self, state: &State, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(spread) = data::<Spread>(state) else { return 0 };
        let containers = images(pod).count().max(1) as i64;
        let sum: i64 = images(pod)
            .filter_map(|image| {
                Some(node.images.get(&image)? * *spread.nodes.get(&image)? as i64 / spread.total.max(1) as i64)
            })
            .sum();
        let max = THRESHOLD_MAX * containers;
        SCORE_MAX * (sum.clamp(THRESHOLD_MIN, max) - THRESHOLD_MIN) / (max - THRESHOLD_MIN)
    }
}
