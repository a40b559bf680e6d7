//! The node's Lease in kube-node-lease: the cheap heartbeat (KEP-589).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::Api;
use kube::api::PostParams;
use node_context::Context;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "kube-node-lease";
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(7);

/// Renews the Lease at a quarter of its duration until shutdown.
pub async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let Some(client) = context.client.clone() else { return };
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let period = Duration::from_secs(u64::from(context.config.node_lease_duration_seconds.max(4).unsigned_abs())) / 4;
    tokio::select! {
        _ = context.api.wait() => {}
        () = shutdown.cancelled() => return,
    }
    let mut held: Option<Lease> = None;
    let mut retry = RETRY_MIN;
    loop {
        let wait = match renew(&context, &api, held.take()).await {
            Ok(lease) => {
                held = Some(lease);
                retry = RETRY_MIN;
                period
            }
            Err(error) => {
                tracing::debug!(%error, "Can't renew the node's lease yet");
                retry = (retry * 2).min(RETRY_MAX);
                retry
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn renew(context: &Context, api: &Api<Lease>, held: Option<Lease>) -> Result<Lease, kube::Error> {
    let name = &context.node_name;
    let present = match held {
        Some(held) => Some(held),
        None => api.get_opt(name).await?,
    };
    let (mut lease, exists) = match present {
        Some(lease) => (lease, true),
        None => (Lease::default(), false),
    };
    lease.metadata.name = Some(name.clone());
    lease.metadata.namespace = Some(NAMESPACE.into());
    lease.metadata.managed_fields = None;
    if let Some(node) = context.node().filter(|_| lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)) {
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.clone(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            ..Default::default()
        }]);
    }
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(name.clone()),
        lease_duration_seconds: Some(context.config.node_lease_duration_seconds),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..lease.spec.unwrap_or_default()
    });
    if exists {
        api.replace(name, &PostParams::default(), &lease).await
    } else {
        api.create(&PostParams::default(), &lease).await
    }
}
