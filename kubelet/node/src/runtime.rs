//! The runtime's own conditions, asked for regularly: without runtime or network the node is not ready.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{NodeFeatures, NodeRuntimeHandler, NodeRuntimeHandlerFeatures};
use node_context::RuntimeState;
use pod_lifecycle::Lifecycle;
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_secs(5);
/// While something is not ready: a CNI configuration that appears makes pods run at once.
const PERIOD_UNREADY: Duration = Duration::from_millis(250);

/// Asks the runtime; a change of readiness has the node's status looked at and waiting pods woken.
pub async fn update(lifecycle: &Lifecycle) {
    let state = match lifecycle.context.cri.status().await {
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
            ..lifecycle.context.runtime.read().clone()
        },
    };
    let before = std::mem::replace(&mut *lifecycle.context.runtime.write(), state.clone());
    if (&before.runtime, &before.network) != (&state.runtime, &state.network) {
        lifecycle.context.node_changed.notify_one();
        for pod in lifecycle.pods.list() {
            lifecycle.pods.wake(pod_state::spec::uid(&pod));
        }
    }
}

/// Keeps asking until shutdown.
pub async fn run(lifecycle: Arc<Lifecycle>, shutdown: CancellationToken) {
    loop {
        let state = lifecycle.context.runtime.read().clone();
        let period = if state.runtime.is_ok() && state.network.is_ok() { PERIOD } else { PERIOD_UNREADY };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
        update(&lifecycle).await;
    }
}
