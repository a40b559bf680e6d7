//! What kubelets may write beyond what roles can say: their own node, its lease, and the pods on it. (KEP-279)

use super::certificates::subject;
use apimachinery::Value;
use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use request::status::Result;

pub struct NodeRestriction;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels of Kubernetes' own that a kubelet sets on its node.
const LABELS: [&str; 13] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "node.kubernetes.io/windows-build",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// Domains in which a kubelet is free.
const DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("CUD", "")
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(node) = attributes.user.name.strip_prefix("system:node:") else { return Ok(()) };
            if !attributes.user.is_in("system:nodes") {
                return Ok(());
            }
            if attributes.subresource == "eviction" && attributes.is_resource("", "pods") {
                let pod = api.fetch(attributes.endpoint, attributes.namespace, attributes.name).await?.tree();
                return evicts(node, &pod).map_err(|why| attributes.forbidden(&why));
            }
            if attributes.is(Operation::Create, "certificates.k8s.io", "podcertificaterequests") {
                return super::pod_certificate::admit(node, api, attributes).await;
            }
            check(node, attributes).map_err(|why| attributes.forbidden(&why))
        })
    }
}

type Judgement = std::result::Result<(), String>;

fn check(node: &str, a: &Attributes<'_>) -> Judgement {
    let row = &a.endpoint.row;
    let null = Value::Null;
    let (new, old) = (a.object.as_ref().unwrap_or(&null), a.old.unwrap_or(&null));
    match (row.kind.group.as_str(), row.plural.as_str(), a.subresource) {
        ("", "pods", "") => pod(node, a.operation, new, old),
        ("", "pods", "status") => pod_status(node, new, old),
        ("", "nodes", "" | "status") => own(node, a.name, "node").and_then(|()| own_node(node, a, new, old)),
        ("coordination.k8s.io", "leases", _) => own(node, a.name, "lease"),
        ("storage.k8s.io", "csinodes", _) => own(node, a.name, "CSINode"),
        ("resource.k8s.io", "resourceslices", _) => {
            let slice = if old.is_null() { new } else { old };
            if slice["spec"]["nodeName"] == node {
                return Ok(());
            }
            Err(format!("can only write ResourceSlices of node {node:?}"))
        }
        ("certificates.k8s.io", "certificatesigningrequests", "") => certificate(node, new),
        _ => Ok(()),
    }
}

fn evicts(node: &str, pod: &Value) -> Judgement {
    if pod["spec"]["nodeName"] == node {
        return Ok(());
    }
    Err(format!("node {node:?} can only evict pods with spec.nodeName set to itself"))
}

fn own(node: &str, name: &str, what: &str) -> Judgement {
    if name == node { Ok(()) } else { Err(format!("node {node:?} is not allowed to modify {what} {name:?}")) }
}

fn pod(node: &str, operation: Operation, new: &Value, old: &Value) -> Judgement {
    match operation {
        Operation::Connect => Ok(()),
        Operation::Create => {
            if new["metadata"]["annotations"][MIRROR].is_null() {
                return Err(format!(
                    "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
                ));
            }
            if new["spec"]["nodeName"] != node {
                return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
            }
            let owners = new["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
            let owned = |o: &Value| {
                o["apiVersion"] == "v1" && o["kind"] == "Node" && o["name"] == node && o["controller"] == true
            };
            match owners {
                [owner] if owned(owner) => named_by_mirror(node, &new["spec"]),
                _ => Err(format!("node {node:?} can only create pods with an owner reference set to itself")),
            }
        }
        Operation::Delete if old["spec"]["nodeName"] == node => Ok(()),
        Operation::Delete => Err(format!("node {node:?} can only delete pods with spec.nodeName set to itself")),
        Operation::Update => {
            Err(format!("unexpected operation UPDATE, node {node:?} can only create and delete mirror pods"))
        }
    }
}

/// A kubelet must not gain the right to read an object by making a pod that names it.
fn named_by_mirror(node: &str, spec: &Value) -> Judgement {
    if spec["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty()) {
        return Err(format!("node {node:?} can not create pods that reference a service account"));
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        for source in ["secret", "configMap", "persistentVolumeClaim", "projected", "csi", "ephemeral"] {
            if !volume[source].is_null() {
                return Err(format!("node {node:?} can not create pods that reference {source} volumes"));
            }
        }
    }
    Ok(())
}

fn pod_status(node: &str, new: &Value, old: &Value) -> Judgement {
    if old["spec"]["nodeName"] != node {
        return Err(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"));
    }
    if new["metadata"]["labels"] != old["metadata"]["labels"] {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    Ok(())
}

fn own_node(node: &str, a: &Attributes<'_>, new: &Value, old: &Value) -> Judgement {
    match a.operation {
        Operation::Delete => return Err(format!("node {node:?} is not allowed to delete itself")),
        Operation::Update if new["spec"]["taints"] != old["spec"]["taints"] => {
            return Err(format!("node {node:?} is not allowed to modify taints"));
        }
        Operation::Update if new["metadata"]["ownerReferences"] != old["metadata"]["ownerReferences"] => {
            return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
        }
        _ => {}
    }
    let forbidden = forbidden_labels(&new["metadata"]["labels"], &old["metadata"]["labels"]);
    if forbidden.is_empty() {
        return Ok(());
    }
    Err(format!("is not allowed to modify labels: {}", forbidden.join(", ")))
}

/// Changed labels that steer where pods go, which a stolen node must not attract.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let keys = |labels: &Value| labels.as_object().map(|l| l.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let mut changed: Vec<String> = keys(new).into_iter().chain(keys(old)).filter(|key| new[key] != old[key]).collect();
    changed.sort();
    changed.dedup();
    changed.retain(|label| {
        let domain = label.split_once('/').map_or("", |(domain, _)| domain);
        let below = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|d| d.ends_with('.'));
        let reserved = below("kubernetes.io") || below("k8s.io");
        reserved && !LABELS.contains(&label.as_str()) && !DOMAINS.iter().any(|d| below(d))
    });
    changed
}

/// A node asks for certificates in its own name only.
fn certificate(node: &str, request: &Value) -> Judgement {
    let signer = request["spec"]["signerName"].as_str().unwrap_or("");
    if !matches!(signer, "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet") {
        return Ok(());
    }
    let wanted = format!("system:node:{node}");
    match subject(request) {
        Some(subject) if subject.common_name == wanted => Ok(()),
        _ => Err(format!("can only create a node CSR with CN={wanted}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_that_steer_pods_are_not_the_nodes_to_change() {
        let cases = [
            (json!({"kubernetes.io/os": "linux"}), json!({}), vec![]),
            (json!({"node-restriction.kubernetes.io/x": "1"}), json!({}), vec!["node-restriction.kubernetes.io/x"]),
            (json!({"node-role.kubernetes.io/a": ""}), json!({"node-role.kubernetes.io/a": ""}), vec![]),
            (json!({}), json!({"node-role.kubernetes.io/a": ""}), vec!["node-role.kubernetes.io/a"]),
            (json!({"example.com/x": "1", "x.kubelet.kubernetes.io/y": "1"}), json!({}), vec![]),
        ];
        for (new, old, forbidden) in cases {
            assert_eq!(forbidden_labels(&new, &old), forbidden, "{new} {old}");
        }
    }

    #[test]
    fn a_node_makes_mirror_pods_and_removes_its_own() {
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "controller": true});
        let mirror =
            json!({"metadata": {"annotations": {MIRROR: "x"}, "ownerReferences": [owner]}, "spec": {"nodeName": "n"}});
        assert_eq!(pod("n", Operation::Create, &mirror, &Value::Null), Ok(()));
        assert!(pod("m", Operation::Create, &mirror, &Value::Null).is_err());
        assert_eq!(pod("n", Operation::Delete, &Value::Null, &mirror), Ok(()));
        assert!(evicts("n", &mirror).is_ok() && evicts("m", &mirror).is_err());
        assert!(pod("m", Operation::Delete, &Value::Null, &mirror).is_err());
        let mut greedy = mirror.clone();
        greedy["spec"]["volumes"] = json!([{"secret": {"secretName": "s"}}]);
        assert!(pod("n", Operation::Create, &greedy, &Value::Null).is_err());
    }
}
