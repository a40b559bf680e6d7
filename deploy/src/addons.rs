//! What runs on top of a bare cluster: kube-proxy, the pod network, DNS, and the rules that kubeadm's users expect. The objects are the files in
//! `deploy/addons/`, with a few words replaced.

use crate::images::VERSION;
use crate::manifests::Cluster;
use anyhow::Context;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client, core::GroupVersionKind};
use serde::Deserialize;

const FILES: &[(&str, &str)] = &[
    ("admin.yaml", include_str!("../addons/admin.yaml")),
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
    Ok(())
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
