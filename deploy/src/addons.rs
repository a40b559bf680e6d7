//! What runs on top of a bare cluster: kube-proxy, the pod network, DNS, and the rules that kubeadm's users expect. The objects are the files in
//! `deploy/addons/`, with a few words replaced.

use crate::images::VERSION;
use crate::layout::CA_CERT;
use crate::manifests::Cluster;
use anyhow::Context;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client, core::GroupVersionKind};
use serde::Deserialize;
use serde_json::json;

const FILES: &[(&str, &str)] = &[
    ("admin.yaml", include_str!("../addons/admin.yaml")),
    ("bootstrap.yaml", include_str!("../addons/bootstrap.yaml")),
    ("kube-proxy.yaml", include_str!("../addons/kube-proxy.yaml")),
    ("network.yaml", include_str!("../addons/network.yaml")),
    ("dns.yaml", include_str!("../addons/dns.yaml")),
];

/// Applies every addon; again at any time.
pub async fn apply(client: &Client, cluster: &Cluster) -> anyhow::Result<()> {
    for (file, text) in FILES {
        let text = text
            .replace("$VERSION", VERSION)
            .replace("$DNS_ADDRESS", &cluster.dns_address.to_string())
            .replace("$DOMAIN", &cluster.domain)
            .replace("$POD_RANGE", &cluster.pod_range)
            .replace("$SERVER", &cluster.server());
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let object = DynamicObject::deserialize(document).with_context(|| format!("in {file}"))?;
            apply_one(client, object).await.with_context(|| format!("applying {file}"))?;
        }
    }
    for map in config_maps(cluster)? {
        apply_one(client, serde_json::from_value(map)?).await?;
    }
    Ok(())
}

/// What a node that joins reads, under kubeadm's names.
fn config_maps(cluster: &Cluster) -> anyhow::Result<[serde_json::Value; 3]> {
    let ca = std::fs::read_to_string(CA_CERT).with_context(|| format!("reading {CA_CERT}"))?;
    let map = |name: &str, key: &str, text: String| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "kube-system"}, "data": {key: text}});
    let kubelet = serde_yaml_ng::to_string(&cluster.kubelet_configuration())?;
    let whole = serde_yaml_ng::to_string(&cluster.cluster_configuration())?;
    Ok([
        crate::cluster_info::config_map(&ca, &cluster.server())?,
        map("kubelet-config", "kubelet", kubelet),
        map("kubeadm-config", "ClusterConfiguration", whole),
    ])
}

async fn apply_one(client: &Client, object: DynamicObject) -> anyhow::Result<()> {
    let types = object.types.clone().context("an object without apiVersion and kind")?;
    let gvk = GroupVersionKind::try_from(&types)?;
    let resource = kube::api::ApiResource::from_gvk(&gvk);
    let name = object.metadata.name.clone().context("an object without a name")?;
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.patch(&name, &PatchParams::apply("ferrokube").force(), &Patch::Apply(&object))
        .await
        .with_context(|| format!("{} {name}", types.kind))?;
    Ok(())
}
