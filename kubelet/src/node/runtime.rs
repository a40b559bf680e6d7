//! The runtime's own conditions, asked for regularly: without runtime or network the node is not ready.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{NodeFeatures, NodeRuntimeHandler, NodeRuntimeHandlerFeatures};
use tokio_util::sync::CancellationToken;

use crate::kubelet::Kubelet;

const PERIOD: Duration = Duration::from_secs(5);
/// While something is not ready: a CNI configuration that appears makes pods run at once.
const PERIOD_UNREADY: Duration = Duration::from_millis(250);

/// The runtime as last asked; an error says what is wrong.
#[derive(Clone, Debug)]
pub struct RuntimeState {
    pub runtime: Result<(), String>,
    pub network: Result<(), String>,
    pub handlers: Vec<NodeRuntimeHandler>,
    pub features: Option<NodeFeatures>,
}

impl Default for RuntimeState {
    fn default() -> Self {
        let unknown = || Err("container runtime status check may not have completed yet".to_owned());
        Self { runtime: unknown(), network: unknown(), handlers: Vec::new(), features: None }
    }
}

/// Asks the runtime; a change of readiness has the node's status looked at and waiting pods woken.
pub async fn update(kubelet: &Kubelet) {
    let state = match kubelet.cri.status().await {
        Ok(status) => {
            let conditions = status.status.unwrap_or_default().conditions;
            let check = |type_: &str, what: &str| match conditions.iter().find(|c| c.r#type == type_) {
                Some(condition) if condition.status => Ok(()),
                Some(condition) => Err(format!(
                    "{what} not ready: {type_}=false reason:{} message:{}",
                    condition.reason, condition.message
                )),
                None => Err(format!("{what} not ready: the runtime does not report {type_}")),
            };
            RuntimeState {
                runtime: check("RuntimeReady", "container runtime"),
                network: check("NetworkReady", "container runtime network"),
                handlers: status
                    .runtime_handlers
                    .into_iter()
                    .map(|handler| NodeRuntimeHandler {
                        name: Some(handler.name),
                        features: handler.features.map(|features| NodeRuntimeHandlerFeatures {
                            recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                            user_namespaces: Some(features.user_namespaces),
                        }),
                    })
                    .collect(),
                features: status.features.map(|features| NodeFeatures {
                    supplemental_groups_policy: Some(features.supplemental_groups_policy),
                }),
            }
        }
        Err(error) => RuntimeState {
            runtime: Err(format!("container runtime is down: {error}")),
            ..kubelet.runtime.read().clone()
        },
    };
    let before = std::mem::replace(&mut *kubelet.runtime.write(), state.clone());
    if (&before.runtime, &before.network) != (&state.runtime, &state.network) {
        kubelet.node_changed.notify_one();
        for pod in kubelet.pods.list() {
            kubelet.pods.wake(crate::pod::spec::uid(&pod));
        }
    }
}

/// Keeps asking until shutdown.
pub async fn run(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    loop {
        let state = kubelet.runtime.read().clone();
        let period = if state.runtime.is_ok() && state.network.is_ok() { PERIOD } else { PERIOD_UNREADY };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
        update(&kubelet).await;
    }
}
