//! Every pod has a service account, which must exist, and finds that account's token, CA and namespace in a volume.

use apimachinery::Value;
use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use handlers::write::create::generate_name;
use registry::edit::each;
use request::status::{About, Result, Status};
use serde_json::json;

pub struct ServiceAccount;

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Seconds the token is asked for; the kubelet renews it well before. (See `serviceaccounts/token` on why 3607.)
const TOKEN_SECONDS: i64 = 3607;

impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("CU", "CU")
    }

    fn admit<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let creates = attributes.operation == Operation::Create && attributes.subresource.is_empty();
            if !creates || !attributes.is_resource("", "pods") {
                return Ok(());
            }
            let Some(mut pod) = attributes.object.take() else { return Ok(()) };
            if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null() {
                give(api, &mut pod, attributes.namespace, attributes.name).await?;
            } else {
                check_mirror(&pod, attributes.name)?;
            }
            attributes.object = Some(pod);
            Ok(())
        })
    }
}

fn forbidden(name: &str, why: &str) -> Status {
    Status::forbidden(About { group: "", resource: "pods", name }, why)
}

/// A mirror pod only shows what a node runs already: it may not get at anything through the API.
fn check_mirror(pod: &Value, name: &str) -> Result<()> {
    if !pod["spec"]["serviceAccountName"].as_str().unwrap_or("").is_empty() {
        return Err(forbidden(name, "a mirror pod may not reference service accounts"));
    }
    let volumes = pod["spec"]["volumes"].as_array();
    if volumes.into_iter().flatten().any(|v| {
        v["projected"]["sources"].as_array().into_iter().flatten().any(|s| !s["serviceAccountToken"].is_null())
    }) {
        return Err(forbidden(name, "a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

async fn give(api: &Api, pod: &mut Value, namespace: &str, pod_name: &str) -> Result<()> {
    if pod["spec"]["serviceAccountName"].as_str().unwrap_or("").is_empty() {
        pod["spec"]["serviceAccountName"] = "default".into();
        pod["spec"]["serviceAccount"] = "default".into();
    }
    let name = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default").to_owned();
    let accounts = api.builtin("", "v1", "serviceaccounts")?;
    let account = match api.cached(&accounts, namespace, &name) {
        Ok(account) => account,
        Err(_) => api.fetch(&accounts, namespace, &name).await.map_err(|e| {
            forbidden(pod_name, &format!("error looking up service account {namespace}/{name}: {}", e.message))
        })?,
    };
    let account = account.tree();
    if pod["spec"]["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)
        && let Some(secrets) = account["imagePullSecrets"].as_array().filter(|s| !s.is_empty())
    {
        pod["spec"]["imagePullSecrets"] = secrets.clone().into();
    }
    let wants =
        pod["spec"]["automountServiceAccountToken"].as_bool().or(account["automountServiceAccountToken"].as_bool());
    if wants != Some(false) {
        mount(pod);
    }
    Ok(())
}

/// Mounts the token volume in every container that has nothing at that place.
fn mount(pod: &mut Value) {
    let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    let there =
        volumes.iter().filter_map(|v| v["name"].as_str()).find(|n| n.starts_with(VOLUME_PREFIX)).map(str::to_owned);
    let volume = there.clone().unwrap_or_else(|| generate_name(VOLUME_PREFIX));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        each(&mut pod["spec"], list, |container| {
            let mut mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
            if mounts.iter().all(|m| m["mountPath"] != MOUNT) {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT}));
                container["volumeMounts"] = mounts.into();
                mounted = true;
            }
        });
    }
    if mounted && there.is_none() {
        let field = json!({"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}});
        let mut volumes = volumes;
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [field]}},
        ]}}));
        pod["spec"]["volumes"] = volumes.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_without_a_mount_there_gets_the_token() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT}]}]}});
        mount(&mut pod);
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], MOUNT);
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"][0]["name"], "own");
        assert_eq!(pod["spec"]["volumes"][0]["name"], pod["spec"]["containers"][0]["volumeMounts"][0]["name"]);
        let before = pod.clone();
        mount(&mut pod);
        assert_eq!(pod, before);
    }
}
