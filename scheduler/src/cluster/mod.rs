//! The cluster as the scheduler sees it: nodes with what runs on them, assumed pods included. Pure data: no I/O, no clock.

mod node;
mod pod;
mod resources;

pub use node::NodeInfo;
pub use pod::{PodInfo, Term};
pub use resources::Resources;

use k8s_openapi::api::core::v1::Node;
use std::collections::HashMap;
use std::sync::Arc;

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

/// A node's place in [`Cluster::nodes`]. Places of nodes that are gone are used again.
pub type Slot = usize;

/// All nodes and the pods that are on them or about to be.
#[derive(Default)]
pub struct Cluster {
    nodes: Vec<Option<NodeInfo>>,
    by_name: HashMap<String, Slot>,
    /// Slots in the order they are tried: zone by zone in turn, so that a cut-off search still sees every zone.
    order: Vec<Slot>,
    order_stale: bool,
    /// Where each pod counts, by uid.
    pods: HashMap<String, (String, Arc<PodInfo>)>,
    /// Pods on nodes that are not known (yet), by node.
    homeless: HashMap<String, Vec<Arc<PodInfo>>>,
    /// Pods with terms about other pods; while there are none, those plugins have nothing to do.
    pub pods_with_affinity: usize,
    pub pods_with_required_anti_affinity: usize,
}

impl Cluster {
    pub fn put_node(&mut self, node: &Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let slot = match self.by_name.get(&name) {
            Some(slot) => *slot,
            None => {
                let free = self.nodes.iter().position(Option::is_none);
                let slot = free.unwrap_or(self.nodes.len());
                if free.is_none() {
                    self.nodes.push(None);
                }
                self.by_name.insert(name.clone(), slot);
                self.order_stale = true;
                slot
            }
        };
        let mut info = match self.nodes[slot].take() {
            Some(info) => info,
            None => {
                let mut info = NodeInfo::new(&name);
                for pod in self.homeless.remove(&name).into_iter().flatten() {
                    info.add(pod);
                }
                info
            }
        };
        if info.label(ZONE) != labels(node, ZONE) || info.label(REGION) != labels(node, REGION) {
            self.order_stale = true;
        }
        info.set_node(node.clone());
        self.nodes[slot] = Some(info);
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(slot) = self.by_name.remove(name) else { return };
        if let Some(info) = self.nodes[slot].take() {
            // Its pods are still there as far as we know; should the node come back, they count again.
            if !info.pods.is_empty() {
                self.homeless.insert(name.to_owned(), info.pods);
            }
        }
        self.order_stale = true;
    }

    /// Counts a pod on a node, instead of wherever it counted before.
    pub fn put_pod(&mut self, node: &str, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.uid);
        self.count(&pod, 1);
        self.pods.insert(pod.uid.clone(), (node.to_owned(), pod.clone()));
        match self.by_name.get(node).and_then(|slot| self.nodes[*slot].as_mut()) {
            Some(info) => info.add(pod),
            None => self.homeless.entry(node.to_owned()).or_default().push(pod),
        }
    }

    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some((node, pod)) = self.pods.remove(uid) else { return false };
        self.count(&pod, -1);
        match self.by_name.get(&node).and_then(|slot| self.nodes[*slot].as_mut()) {
            Some(info) => info.remove(uid),
            None => {
                if let Some(list) = self.homeless.get_mut(&node) {
                    list.retain(|p| p.uid != uid);
                    if list.is_empty() {
                        self.homeless.remove(&node);
                    }
                }
            }
        }
        true
    }

    fn count(&mut self, pod: &PodInfo, by: isize) {
        let add = |n: &mut usize, yes: bool| *n = n.saturating_add_signed(if yes { by } else { 0 });
        add(&mut self.pods_with_affinity, pod.has_affinity());
        add(&mut self.pods_with_required_anti_affinity, !pod.required_anti_affinity.is_empty());
    }

    /// Where a pod counts.
    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.pods.get(uid).map(|(node, _)| node.as_str())
    }

    pub fn get(&self, slot: Slot) -> Option<&NodeInfo> {
        self.nodes.get(slot)?.as_ref()
    }

    pub fn by_name(&self, name: &str) -> Option<(Slot, &NodeInfo)> {
        let slot = *self.by_name.get(name)?;
        Some((slot, self.get(slot)?))
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// All nodes, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &NodeInfo)> {
        self.nodes.iter().enumerate().filter_map(|(slot, info)| Some((slot, info.as_ref()?)))
    }

    /// Slots in the order they are tried.
    pub fn order(&mut self) -> &[Slot] {
        if self.order_stale {
            self.order_stale = false;
            let mut zones: Vec<(String, Vec<Slot>)> = Vec::new();
            let mut slots: Vec<Slot> = self.by_name.values().copied().collect();
            slots.sort_unstable();
            for slot in slots {
                let Some(info) = &self.nodes[slot] else { continue };
                let zone = format!("{}\0{}", info.label(REGION).unwrap_or(""), info.label(ZONE).unwrap_or(""));
                match zones.iter_mut().find(|(name, _)| *name == zone) {
                    Some((_, list)) => list.push(slot),
                    None => zones.push((zone, vec![slot])),
                }
            }
            let longest = zones.iter().map(|(_, list)| list.len()).max().unwrap_or(0);
            self.order =
                (0..longest).flat_map(|i| zones.iter().filter_map(move |(_, list)| list.get(i).copied())).collect();
        }
        &self.order
    }
}

fn labels<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    pub fn node(name: &str, zone: &str, cpu: &str) -> Arc<Node> {
        let value = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, ZONE: zone}},
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}},
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    pub fn pod(name: &str, spec: Value) -> Arc<PodInfo> {
        let mut spec = spec;
        if spec["containers"].is_null() {
            spec["containers"] = json!([{"name": "c", "image": "i"}]);
        }
        let value =
            json!({"metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "web"}}, "spec": spec});
        let pod: Pod = serde_json::from_value(value).unwrap();
        Arc::new(PodInfo::new(Arc::new(pod)))
    }

    #[test]
    fn nodes_are_tried_zone_by_zone() {
        let mut cluster = Cluster::default();
        for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("b2", "b")] {
            cluster.put_node(&node(name, zone, "1"));
        }
        let order = cluster.order().to_vec();
        let names: Vec<&str> = order.iter().map(|s| cluster.get(*s).unwrap().name.as_str()).collect();
        assert_eq!(names, ["a1", "b1", "a2", "b2", "a3"]);
    }

    #[test]
    fn pods_count_on_their_node_even_if_it_comes_later() {
        let mut cluster = Cluster::default();
        let request = json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "250m"}}}]});
        cluster.put_pod("n", pod("p", request.clone()));
        cluster.put_node(&node("n", "z", "1"));
        assert_eq!(cluster.by_name("n").unwrap().1.requested.milli_cpu, 250);
        cluster.put_pod("n", pod("p", request));
        assert_eq!(cluster.by_name("n").unwrap().1.requested.milli_cpu, 250);
        assert!(cluster.remove_pod("p"));
        assert_eq!(cluster.by_name("n").unwrap().1.requested.milli_cpu, 0);
        assert!(!cluster.remove_pod("p"));
    }
}
