//! What a kubelet may say in a PodCertificateRequest: the truth about a pod that runs on its own node. Part of NodeRestriction.
//! (KEP-4317)

use apimachinery::Value;
use handlers::api::Api;
use handlers::api::admission::Attributes;
use request::status::Result;

const MIRROR: &str = "kubernetes.io/config.mirror";

/// Checks a new request of the node against pod, service account and node as they are now.
pub async fn admit(node: &str, api: &Api, attributes: &Attributes<'_>) -> Result<()> {
    let Some(request) = &attributes.object else { return Ok(()) };
    let spec = &request["spec"];
    let said = |member: &str| spec[member].as_str().unwrap_or_default();
    if said("nodeName") != node {
        return Err(attributes.forbidden(&format!(
            "PodCertificateRequest.Spec.NodeName={:?}, which is not the requesting node {node:?}",
            said("nodeName")
        )));
    }
    let namespace = attributes.namespace;
    let there = async |plural: &str, namespace: &str, name: &str| {
        let endpoint = api.builtin("", "v1", plural)?;
        match api.fetch(&endpoint, namespace, name).await {
            Ok(object) => Ok(object.tree()),
            Err(status) if status.code == http::StatusCode::NOT_FOUND => {
                Err(attributes.forbidden(&format!("{plural} {name:?} named in the PodCertificateRequest not found")))
            }
            Err(status) => Err(status),
        }
    };
    let pod = there("pods", namespace, said("podName")).await?;
    truth_about_pod(node, spec, &pod).map_err(|why| attributes.forbidden(&why))?;
    let account = there("serviceaccounts", namespace, said("serviceAccountName")).await?;
    same_uid("ServiceAccount", said("serviceAccountUID"), &account).map_err(|why| attributes.forbidden(&why))?;
    let own = there("nodes", "", node).await?;
    same_uid("Node", said("nodeUID"), &own).map_err(|why| attributes.forbidden(&why))
}

fn same_uid(what: &str, said: &str, object: &Value) -> std::result::Result<(), String> {
    if object["metadata"]["uid"] == said {
        return Ok(());
    }
    Err(format!("PodCertificateRequest.Spec says UID {said:?}, which is not that of the {what}"))
}

fn truth_about_pod(node: &str, spec: &Value, pod: &Value) -> std::result::Result<(), String> {
    same_uid("Pod", spec["podUID"].as_str().unwrap_or_default(), pod)?;
    if !pod["metadata"]["annotations"][MIRROR].is_null() {
        return Err("PodCertificateRequest names a mirror pod, which may not have certificates".into());
    }
    if pod["spec"]["nodeName"] != node {
        return Err(format!("PodCertificateRequest names a pod that is not on the requesting node {node:?}"));
    }
    let account = pod["spec"]["serviceAccountName"].as_str().filter(|name| !name.is_empty()).unwrap_or("default");
    if spec["serviceAccountName"] != account {
        return Err(format!("PodCertificateRequest names another service account than that of the pod, {account:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_tells_the_truth_about_its_own_pods() {
        let pod = json!({"metadata": {"uid": "u"}, "spec": {"nodeName": "n", "serviceAccountName": "sa"}});
        let spec = json!({"podUID": "u", "serviceAccountName": "sa"});
        assert_eq!(truth_about_pod("n", &spec, &pod), Ok(()));
        assert!(truth_about_pod("m", &spec, &pod).is_err());
        assert!(truth_about_pod("n", &json!({"podUID": "v", "serviceAccountName": "sa"}), &pod).is_err());
        assert!(truth_about_pod("n", &json!({"podUID": "u", "serviceAccountName": "default"}), &pod).is_err());
        let mut mirror = pod.clone();
        mirror["metadata"]["annotations"] = json!({MIRROR: "x"});
        assert!(truth_about_pod("n", &spec, &mirror).is_err());
    }
}
