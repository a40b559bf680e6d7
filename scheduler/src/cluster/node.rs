//! A node and what its pods use of it, added up as they come and go.

use super::pod::PodInfo;
use super::resources::Resources;
use k8s_openapi::api::core::v1::{Node, PodSpec, Taint};
use std::collections::HashMap;
use std::sync::Arc;

/// A port of the host that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// `0.0.0.0` is all addresses.
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

const ANY: &str = "0.0.0.0";

impl Port {
    pub fn of(spec: &PodSpec) -> Vec<Port> {
        let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
        ports
            .filter_map(|p| {
                let port = p.host_port.filter(|p| *p > 0)?;
                let ip = p.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or(ANY).to_owned();
                Some(Port { ip, protocol: p.protocol.clone().unwrap_or_else(|| "TCP".into()), port })
            })
            .collect()
    }

    pub fn conflicts(&self, other: &Port) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == ANY || other.ip == ANY)
    }
}

#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub name: String,
    /// None while only pods have told of it.
    pub node: Option<Arc<Node>>,
    pub allocatable: Resources,
    pub requested: Resources,
    /// Requests with the usual amounts: for scoring.
    pub usual: Resources,
    pub pods: Vec<Arc<PodInfo>>,
    pub ports: Vec<Port>,
    pub pods_with_affinity: usize,
    /// Size of each image that is there, by each of its names.
    pub images: HashMap<String, i64>,
}

impl NodeInfo {
    pub fn new(name: &str) -> NodeInfo {
        NodeInfo {
            name: name.to_owned(),
            node: None,
            allocatable: Resources::default(),
            requested: Resources::default(),
            usual: Resources::default(),
            pods: Vec::new(),
            ports: Vec::new(),
            pods_with_affinity: 0,
            images: HashMap::new(),
        }
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let status = node.status.as_ref();
        self.allocatable = Resources::from_map(status.and_then(|s| s.allocatable.as_ref()));
        self.images = status
            .and_then(|s| s.images.as_ref())
            .into_iter()
            .flatten()
            .flat_map(|image| image.names.iter().flatten().map(|name| (name.clone(), image.size_bytes.unwrap_or(0))))
            .collect();
        self.node = Some(node);
    }

    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.usual.add(&pod.usual);
        self.ports.extend(pod.ports.iter().cloned());
        self.pods_with_affinity += usize::from(pod.has_affinity());
        self.pods.push(pod);
    }

    pub fn remove(&mut self, uid: &str) {
        let Some(at) = self.pods.iter().position(|p| p.uid == uid) else { return };
        let pod = self.pods.swap_remove(at);
        self.requested.subtract(&pod.requests);
        self.usual.subtract(&pod.usual);
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(at);
            }
        }
        self.pods_with_affinity -= usize::from(pod.has_affinity());
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.as_ref()?.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    pub fn taints(&self) -> &[Taint] {
        self.node.as_ref().and_then(|n| n.spec.as_ref()?.taints.as_deref()).unwrap_or_default()
    }

    pub fn is_unschedulable(&self) -> bool {
        self.node.as_ref().and_then(|n| n.spec.as_ref()?.unschedulable).unwrap_or(false)
    }
}
