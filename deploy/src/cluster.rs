//! The cluster of this machine, for commands that talk to it.

use crate::layout::*;
use anyhow::Context;
use k8s_openapi::api::core::v1::Node;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

/// A client with all rights, on a control plane node.
pub async fn client() -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::read_from(SUPER_ADMIN_CONF)
        .context("this is no control plane node of a cluster; run it where the cluster was made")?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Where the API server is, and the CA's certificate in PEM.
pub fn endpoint() -> anyhow::Result<(String, String)> {
    let kubeconfig = Kubeconfig::read_from(ADMIN_CONF)
        .context("this is no control plane node of a cluster; run it where the cluster was made")?;
    let cluster = kubeconfig.clusters.into_iter().next().and_then(|c| c.cluster);
    let server = cluster.and_then(|c| c.server).with_context(|| format!("{ADMIN_CONF} names no server"))?;
    let ca = std::fs::read_to_string(CA_CERT).with_context(|| format!("reading {CA_CERT}"))?;
    Ok((server, ca))
}

/// Fails with the reason while a node is not ready.
pub async fn node_ready(client: &Client, node: &str) -> anyhow::Result<()> {
    let node = Api::<Node>::all(client.clone()).get(node).await?;
    let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
    let ready = conditions.iter().find(|c| c.type_ == "Ready").context("no condition Ready yet")?;
    anyhow::ensure!(ready.status == "True", "{}", ready.message.clone().unwrap_or_default());
    Ok(())
}
