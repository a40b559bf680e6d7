//! What a node is: its configuration, name and directories, the ways to the runtime and to the API server, what it knows
//! of both, and the state that parts of the kubelet tell each other by. Every part gets it as a shared reference.
//!
//! Only what has no opinion on pods belongs here: no part of the kubelet that acts is known to this crate.

pub mod objects;
mod pressure;
mod runtime_state;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use cgroups::Cgroups;
use cgroups::resources;
use component_base::events::{Recorder, Type};
use component_base::informer::{ObjectKey, Store};
use configuration::KubeletConfiguration;
use configuration::quantity::ResourceList;
use cri_client::Cri;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::{Client, Resource};
use machine::Machine;
use parking_lot::RwLock;
use pod_state::field::NodeFacts;
use pod_state::spec;
use tokio::sync::{Notify, SetOnce};

use objects::Objects;
pub use pressure::Pressure;
pub use runtime_state::RuntimeState;

/// The node, for every part of the kubelet. Everything in here is safe to use from any task.
pub struct Context {
    /// In effect: file, drop-ins and flags.
    pub config: KubeletConfiguration,
    /// The node's name, which is also its user's.
    pub node_name: String,
    /// Those of `--node-labels`.
    pub node_labels: BTreeMap<String, String>,
    /// `--root-dir`: pods' volumes, and the kubelet's own state.
    pub root_dir: PathBuf,
    /// When this kubelet had found its runtime; what began earlier was another kubelet's.
    pub started_at: Timestamp,
    /// When its process began, to measure from.
    pub started: Instant,
    /// `None` without a kubeconfig: static pods only.
    pub client: Option<Client>,
    /// The runtime.
    pub cri: Cri,
    /// "containerd", with its version.
    pub runtime_name: String,
    /// As the runtime says, "v" and all.
    pub runtime_version: String,
    /// Pods' cgroups.
    pub cgroups: Cgroups,
    /// How requests and limits become the kernel's.
    pub resources: resources::Policy,
    /// What goes into pods' resolv.conf.
    pub dns: ClusterDns,
    /// The sandbox image, which is never collected; "": none.
    pub pod_infra_image: String,
    /// ConfigMaps and Secrets that pods refer to.
    pub objects: Objects,
    /// What the machine has.
    pub machine: Machine,
    /// What the API server has, once it has answered for the first time.
    pub api: SetOnce<ApiStores>,
    /// Where events go; [`Self::event`] and [`Self::node_event`] know of what.
    pub events: Recorder,
    /// Addresses of the node, the primary one first.
    pub node_ips: Vec<String>,
    /// The runtime's conditions, as last asked.
    pub runtime: RwLock<RuntimeState>,
    /// What the node is short of: eviction writes it, admission and the node's conditions read it.
    pub pressure: Pressure,
    /// Notified when the node's status should be looked at before its time.
    pub node_changed: Notify,
}

/// The node's part in a pod's resolv.conf.
#[derive(Clone, Debug, Default)]
pub struct ClusterDns {
    /// Addresses of the cluster's DNS servers (clusterDNS).
    pub servers: Vec<String>,
    /// The cluster's domain (clusterDomain), "": none.
    pub domain: String,
    /// The file that pods of policy Default get; empty: none.
    pub resolv_conf: String,
}

/// Watched objects of the API server.
pub struct ApiStores {
    /// The pods of this node, mirrors among them.
    pub pods: Store<Pod>,
    /// This node's object alone.
    pub node: Store<Node>,
    /// All Services of the cluster, with as much of each as environment variables need.
    pub services: Store<Service>,
}

impl Context {
    /// The directory of a pod's volumes and files.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }

    /// Directory of the pod's logs: `<podLogsDir>/<namespace>_<name>_<uid>`.
    pub fn log_directory(&self, pod: &Pod) -> String {
        let root = &self.config.pod_logs_dir;
        format!("{root}/{}_{}_{}", spec::namespace(pod), spec::name(pod), spec::uid(pod))
    }

    /// This node's object, as last seen.
    pub fn node(&self) -> Option<Arc<Node>> {
        self.api.get()?.node.list().into_iter().next()
    }

    /// Waits until this node's object has been looked for.
    pub async fn node_synced(&self) {
        self.api.wait().await.node.synced().await;
    }

    /// The labels that the node registers with.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let (os, arch) = ("linux", machine::architecture());
        [
            ("kubernetes.io/hostname", self.node_name.as_str()),
            ("kubernetes.io/os", os),
            ("kubernetes.io/arch", arch),
            ("beta.kubernetes.io/os", os),
            ("beta.kubernetes.io/arch", arch),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .chain(self.node_labels.clone())
        .collect()
    }

    /// The mirror of the static pod "name_namespace", as last seen.
    pub fn mirror_of(&self, full_name: &str) -> Option<Arc<Pod>> {
        let (name, namespace) = full_name.split_once('_')?;
        let pod = self.api.get()?.pods.get(&ObjectKey::namespaced(namespace, name))?;
        spec::is_mirror(&pod).then_some(pod)
    }

    /// All Services of the cluster. A pod of the API server waits for them: its environment is made once. A static pod
    /// doesn't: it may be what the API server needs.
    pub async fn services(&self, pod: &Pod) -> Vec<Arc<Service>> {
        match self.api.get() {
            Some(api) if !spec::is_static(pod) => {
                api.services.synced().await;
                api.services.list()
            }
            Some(api) => api.services.list(),
            None => Vec::new(),
        }
    }

    /// What pods may use of the node.
    pub fn allocatable(&self) -> ResourceList {
        self.machine.allocatable(&self.config)
    }

    /// What the downward API adds to a pod's own fields.
    pub fn node_facts(&self, pod_ips: Vec<String>) -> NodeFacts {
        NodeFacts {
            node_name: self.node_name.clone(),
            host_ips: self.node_ips.clone(),
            pod_ips,
            allocatable: self.allocatable(),
        }
    }

    /// Whether pods can have a network; if not, why.
    pub fn network_ready(&self) -> Result<(), String> {
        self.runtime.read().network.clone()
    }

    /// Records an event on a pod, or on one of its containers. A static pod's go to its mirror.
    pub fn event(&self, pod: &Pod, container: Option<&str>, kind: &str, reason: &str, message: &str) {
        let mirror = spec::is_static(pod).then(|| self.mirror_of(&spec::full_name(pod))).flatten();
        let mut object: ObjectReference = mirror.as_deref().unwrap_or(pod).object_ref(&());
        object.field_path = container.map(|name| {
            let init = spec::init_containers(pod).iter().any(|container| container.name == name);
            format!("spec.{}{{{name}}}", if init { "initContainers" } else { "containers" })
        });
        self.events.event_on(object, event_type(kind), reason, message);
    }

    /// Records an event on the node.
    pub fn node_event(&self, kind: &str, reason: &str, message: &str) {
        let object = ObjectReference {
            kind: Some("Node".into()),
            name: Some(self.node_name.clone()),
            uid: Some(self.node_name.clone()),
            ..Default::default()
        };
        self.events.event_on(object, event_type(kind), reason, message);
    }

    /// The runtime's handler of a RuntimeClass.
    pub async fn runtime_handler(&self, class: &str) -> Result<String, String> {
        let client = self.client.clone().ok_or("RuntimeClasses need an API server; this kubelet has none")?;
        let class: RuntimeClass = kube::Api::all(client).get(class).await.map_err(|error| error.to_string())?;
        Ok(class.handler)
    }
}

fn event_type(kind: &str) -> Type {
    if kind == "Normal" { Type::Normal } else { Type::Warning }
}
