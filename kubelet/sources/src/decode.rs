//! From a manifest's text to a static pod of this node.

use cri_client::names;
use k8s_openapi::api::core::v1::{Pod, PodStatus, Toleration};
use pod_state::json;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Why a manifest is not used.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("not YAML or JSON: {0}")]
    Syntax(#[from] serde_yaml_ng::Error),
    #[error("not a v1 Pod or PodList: {0}")]
    Schema(String),
    #[error("pod {0:?} {1}")]
    Invalid(String, &'static str),
}

/// Reads the pods of a manifest: a Pod, or a PodList. `source` is "file" or "http", `place` the path or URL.
pub fn pods(text: &str, source: &str, place: &str, node_name: &str) -> Result<Vec<Pod>, DecodeError> {
    let mut pods = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let value = serde_json::Value::deserialize(document)?;
        let schema = |error: serde_json::Error| DecodeError::Schema(error.to_string());
        match value.get("kind").and_then(serde_json::Value::as_str) {
            None if value.is_null() => {}
            Some("Pod") => pods.push(json::from_value(&value).map_err(schema)?),
            Some("PodList") => {
                for item in value["items"].as_array().into_iter().flatten() {
                    pods.push(json::from_value(item).map_err(schema)?);
                }
            }
            other => return Err(DecodeError::Schema(format!("its kind is {:?}", other.unwrap_or_default()))),
        }
    }
    for pod in &mut pods {
        complete(pod, source, place, node_name)?;
    }
    Ok(pods)
}

/// Gives the pod its identity on this node, and the defaults that the API server would.
fn complete(pod: &mut Pod, source: &str, place: &str, node_name: &str) -> Result<(), DecodeError> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let invalid = |what| Err(DecodeError::Invalid(name.clone(), what));
    if name.is_empty() {
        return invalid("has no name");
    }
    let Some(spec) = pod.spec.as_mut().filter(|spec| !spec.containers.is_empty()) else {
        return invalid("has no containers");
    };
    if spec.service_account_name.as_deref().is_some_and(|name| !name.is_empty()) {
        return invalid("names a service account, which a static pod can't have");
    }
    // A change of anything in the manifest, of its place or of the node makes another pod.
    let mut digest = Sha256::new();
    digest.update(format!("{node_name}\n{source}:{place}\n"));
    digest.update(serde_json::to_vec(&(&pod.metadata, &spec)).unwrap_or_default());
    let hash: String = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();

    spec.node_name = Some(node_name.to_owned());
    spec.enable_service_links.get_or_insert(true);
    let restart = spec.restart_policy.get_or_insert_with(|| "Always".into()).clone();
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
    spec.termination_grace_period_seconds.get_or_insert(30);
    // A static pod stays, whatever happens to the node.
    let tolerations = spec.tolerations.get_or_insert_default();
    if restart == "Always" || tolerations.is_empty() {
        let all =
            Toleration { operator: Some("Exists".into()), effect: Some("NoExecute".into()), ..Default::default() };
        if !tolerations.contains(&all) {
            tolerations.push(all);
        }
    }
    let metadata = &mut pod.metadata;
    metadata.name = Some(format!("{name}-{node_name}"));
    metadata.namespace.get_or_insert_with(|| "default".into());
    metadata.uid.get_or_insert_with(|| hash.clone());
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(names::CONFIG_SOURCE.into(), source.into());
    annotations.insert(names::CONFIG_SEEN.into(), jiff::Timestamp::now().to_string());
    annotations.insert(names::CONFIG_HASH.into(), hash);
    pod.status = Some(PodStatus { phase: Some("Pending".into()), ..Default::default() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd, namespace: kube-system}\n\
                            spec: {containers: [{name: etcd, image: etcd}]}\n";

    #[test]
    fn a_static_pod_is_named_after_its_node_and_identified_by_its_content() {
        let read = |text: &str| pods(text, "file", "/m/etcd.yaml", "n1").expect("pods").remove(0);
        let (pod, again) = (read(MANIFEST), read(MANIFEST));
        assert_eq!(pod.metadata.name.as_deref(), Some("etcd-n1"));
        assert_eq!(pod.metadata.uid, again.metadata.uid);
        let changed = read(&MANIFEST.replace("image: etcd", "image: etcd2"));
        assert_ne!(pod.metadata.uid, changed.metadata.uid);
        let annotations = pod.metadata.annotations.expect("annotations");
        assert_eq!(annotations[names::CONFIG_SOURCE], "file");
        assert_eq!(Some(&annotations[names::CONFIG_HASH]), pod.metadata.uid.as_ref());
    }

    #[test]
    fn what_is_no_pod_is_refused() {
        for bad in
            ["{", "kind: Service", "kind: Pod\nmetadata: {name: x}", "kind: Pod\nspec: {containers: [{name: c}]}"]
        {
            assert!(pods(bad, "file", "", "n").is_err(), "{bad}");
        }
        assert!(pods("", "file", "", "n").expect("nothing").is_empty());
    }
}
