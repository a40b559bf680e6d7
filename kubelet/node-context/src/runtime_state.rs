//! What the runtime says of itself.

use k8s_openapi::api::core::v1::{NodeFeatures, NodeRuntimeHandler};

/// The runtime as last asked; an error says what is wrong.
#[derive(Clone, Debug)]
pub struct RuntimeState {
    /// RuntimeReady.
    pub runtime: Result<(), String>,
    /// NetworkReady: pods can have a network of their own.
    pub network: Result<(), String>,
    /// What RuntimeClasses may name.
    pub handlers: Vec<NodeRuntimeHandler>,
    /// What the runtime can do whatever the handler.
    pub features: Option<NodeFeatures>,
}

impl Default for RuntimeState {
    fn default() -> Self {
        let unknown = || Err("container runtime status check may not have completed yet".to_owned());
        Self { runtime: unknown(), network: unknown(), handlers: Vec::new(), features: None }
    }
}
