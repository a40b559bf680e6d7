//! What every controller gets.

use std::sync::Arc;

use component_base::{
    events::Recorder,
    informer::{Factory, Scope, Store},
};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    common::{
        meta,
        pod::{self, index},
        pod_control::PodControl,
    },
    options::Options,
};

/// A controller's share of the process: its client, the stores all share, the flags.
#[derive(Clone)]
pub struct Context {
    /// Writes in this controller's name.
    pub client: Client,
    /// One store per kind, read with the process's own identity.
    pub factory: Factory,
    pub options: Arc<Options>,
    pub shutdown: CancellationToken,
    /// As in `--controllers`.
    pub name: &'static str,
}

impl Context {
    /// A recorder whose events name `component` as their source.
    pub fn recorder(&self, component: &str) -> Recorder {
        Recorder::new(self.client.clone(), component, "", self.shutdown.clone())
    }

    pub fn pod_control(&self, component: &str) -> PodControl {
        PodControl { client: self.client.clone(), recorder: self.recorder(component) }
    }

    /// Every pod of the cluster, with the indexes of [`index`].
    pub fn pods(&self) -> Store<Pod> {
        let pods = self.factory.store::<Pod>(Scope::all());
        pods.add_index(index::CONTROLLER, |pod| {
            vec![match meta::controller_of(pod) {
                Some(owner) => owner.uid.clone(),
                None => pod::orphans(meta::namespace(pod)),
            }]
        });
        pods.add_index(index::NODE, |pod| {
            let node = pod::node_name(pod);
            if node.is_empty() { Vec::new() } else { vec![node.to_owned()] }
        });
        pods.add_index(index::NAMESPACE, |pod| vec![meta::namespace(pod).to_owned()]);
        pods
    }
}
