//! The Node authorizer: a kubelet reads the secrets, config maps, volumes and accounts of the pods on its own node, and no
//! others. What kubelets may do in general is told by a fixed list of rules.
//!
//! The index (node → objects its pods name) follows the cache of pods by its watch, drained when somebody asks.

use super::rbac::Rule;
use apimachinery::Value;
use apimachinery::selector::FieldSelector;
use handlers::api::Api;
use handlers::api::authorization::{Attributes, Authorizer, Decision, ResourceAttributes};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use storage::cache::Cache;
use storage::object::{EventType, Object};
use storage::watchers::{Scope, Subscription};

/// Rules of every node: (verbs, group, resources).
const RULES: &[(&[&str], &str, &[&str])] = &[
    (&["create"], "authentication.k8s.io", &["tokenreviews"]),
    (&["create"], "authorization.k8s.io", &["subjectaccessreviews", "localsubjectaccessreviews"]),
    (&["get", "list", "watch"], "", &["services"]),
    (&["create", "get", "list", "watch"], "", &["nodes"]),
    (&["update", "patch"], "", &["nodes", "nodes/status"]),
    (&["create", "update", "patch"], "", &["events"]),
    (&["create", "update", "patch"], "events.k8s.io", &["events"]),
    (&["get", "list", "watch"], "", &["pods"]),
    (&["create", "delete"], "", &["pods"]),
    (&["update", "patch"], "", &["pods/status"]),
    (&["create"], "", &["pods/eviction"]),
    (&["get"], "", &["persistentvolumeclaims", "persistentvolumes"]),
    (&["get", "update", "patch"], "", &["persistentvolumeclaims/status"]),
    (&["get"], "", &["endpoints"]),
    (&["get", "list", "watch", "create"], "certificates.k8s.io", &["certificatesigningrequests"]),
    (&["get", "list", "watch"], "certificates.k8s.io", &["clustertrustbundles"]),
    (&["get", "list", "watch"], "node.k8s.io", &["runtimeclasses"]),
    (&["get", "list", "watch"], "storage.k8s.io", &["csidrivers"]),
    (&["get", "create", "update", "patch", "delete"], "storage.k8s.io", &["csinodes"]),
    (&["get"], "storage.k8s.io", &["volumeattachments"]),
    (&["get", "create", "update", "patch", "delete"], "coordination.k8s.io", &["leases"]),
    (&["get"], "resource.k8s.io", &["resourceclaims"]),
    (
        &["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"],
        "resource.k8s.io",
        &["resourceslices"],
    ),
];

const CERTIFICATES: &str = "certificates.k8s.io";
const LEASES: &str = "kube-node-lease";

/// What a pod names: kind's plural and name, in the pod's namespace (volumes and such without one).
type Named = (&'static str, Box<str>);

#[derive(Default)]
struct Index {
    /// Node → (`namespace/pod`, what it names).
    nodes: HashMap<Box<str>, HashMap<Box<str>, HashSet<Named>>>,
    /// Pod → its node.
    pods: HashMap<Box<str>, Box<str>>,
}

impl Index {
    fn remove(&mut self, pod: &str) {
        let Some(node) = self.pods.remove(pod) else { return };
        if let Some(pods) = self.nodes.get_mut(&node) {
            pods.remove(pod);
            if pods.is_empty() {
                self.nodes.remove(&node);
            }
        }
    }

    fn put(&mut self, object: &Object) {
        self.remove(&object.key);
        let pod = object.tree();
        let Some(node) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) else { return };
        // What a mirror pod names was chosen by the node itself, so it proves nothing.
        if !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null() {
            return;
        }
        self.pods.insert(object.key.clone(), node.into());
        self.nodes.entry(node.into()).or_default().insert(object.key.clone(), names(&pod["spec"]));
    }

    fn has(&self, node: &str, plural: &str, namespace: &str, name: &str) -> bool {
        let wanted = |named: &Named| named.0 == plural && &*named.1 == name;
        let Some(pods) = self.nodes.get(node) else { return false };
        pods.iter()
            .any(|(pod, named)| pod.split_once('/').is_some_and(|(ns, _)| ns == namespace) && named.iter().any(wanted))
    }
}

/// Everything that a pod's spec names.
fn names(spec: &Value) -> HashSet<Named> {
    let mut named: HashSet<Named> = HashSet::new();
    let mut add = |plural: &'static str, name: &Value| {
        if let Some(name) = name.as_str().filter(|n| !n.is_empty()) {
            named.insert((plural, name.into()));
        }
    };
    add("serviceaccounts", &spec["serviceAccountName"]);
    for secret in spec["imagePullSecrets"].as_array().into_iter().flatten() {
        add("secrets", &secret["name"]);
    }
    for claim in spec["resourceClaims"].as_array().into_iter().flatten() {
        add("resourceclaims", &claim["resourceClaimName"]);
    }
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    for container in lists.iter().filter_map(|l| spec[*l].as_array()).flatten() {
        for env in container["env"].as_array().into_iter().flatten() {
            add("secrets", &env["valueFrom"]["secretKeyRef"]["name"]);
            add("configmaps", &env["valueFrom"]["configMapKeyRef"]["name"]);
        }
        for from in container["envFrom"].as_array().into_iter().flatten() {
            add("secrets", &from["secretRef"]["name"]);
            add("configmaps", &from["configMapRef"]["name"]);
        }
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        add("secrets", &volume["secret"]["secretName"]);
        add("configmaps", &volume["configMap"]["name"]);
        add("persistentvolumeclaims", &volume["persistentVolumeClaim"]["claimName"]);
        for source in ["azureFile", "cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos", "csi"] {
            for key in ["secretName", "secretRef", "nodePublishSecretRef"] {
                let value = &volume[source][key];
                add("secrets", if value.is_object() { &value["name"] } else { value });
            }
        }
        for source in volume["projected"]["sources"].as_array().into_iter().flatten() {
            add("secrets", &source["secret"]["name"]);
            add("configmaps", &source["configMap"]["name"]);
        }
    }
    named
}

pub struct NodeAuthorizer {
    pods: Arc<Cache>,
    /// PodCertificateRequests, where they are served.
    pod_certificates: Option<Arc<Cache>>,
    rules: Vec<Rule>,
    state: Mutex<(Index, Subscription)>,
}

impl NodeAuthorizer {
    pub fn new(api: &Api) -> request::status::Result<NodeAuthorizer> {
        let pods = api.builtin("", "v1", "pods")?.cache()?.clone();
        let strings = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let rules = RULES
            .iter()
            .map(|(verbs, group, resources)| Rule {
                verbs: strings(verbs),
                api_groups: strings(&[group]),
                resources: strings(resources),
                ..Rule::default()
            })
            .collect();
        let mut index = Index::default();
        let changes = follow(&pods, &mut index);
        let pod_certificates = api.builtin(CERTIFICATES, "v1beta1", "podcertificaterequests").ok();
        let pod_certificates = pod_certificates.map(|endpoint| endpoint.cache().cloned()).transpose()?;
        Ok(NodeAuthorizer { pods, pod_certificates, rules, state: Mutex::new((index, changes)) })
    }

    /// A kubelet asks for certificates, and sees what it asked for itself. (KEP-4317, KEP-4601)
    fn pod_certificates(&self, node: &str, verb: &str, r: &ResourceAttributes<'_>) -> Decision {
        let Some(cache) = &self.pod_certificates else { return Decision::NoOpinion(String::new()) };
        let own = || {
            let object = cache.get(&format!("{}/{}", r.namespace, r.name))?;
            Some(object.tree()["spec"]["nodeName"] == node)
        };
        let selected = || {
            let selector = FieldSelector::parse(r.field_selector).unwrap_or_default();
            selector.requirements.iter().any(|q| q.field == "spec.nodeName" && q.value == node && !q.negated)
        };
        let allowed = match verb {
            "create" => r.subresource.is_empty(),
            "get" => r.subresource.is_empty() && own().unwrap_or(false),
            "list" | "watch" => selected(),
            _ => false,
        };
        if allowed {
            return Decision::Allow(String::new());
        }
        Decision::NoOpinion(format!(
            "node '{node}' can only create PodCertificateRequests, and read those with spec.nodeName of its own"
        ))
    }

    fn has(&self, node: &str, plural: &str, namespace: &str, name: &str) -> bool {
        let mut state = self.state.lock();
        let (index, changes) = &mut *state;
        while let Some(event) = changes.try_next() {
            match event.kind {
                EventType::Deleted => index.remove(&event.object.key),
                _ => index.put(&event.object),
            }
        }
        if changes.is_closed() {
            *index = Index::default();
            *changes = follow(&self.pods, index);
        }
        index.has(node, plural, namespace, name)
    }
}

impl Authorizer for NodeAuthorizer {
    fn decide(&self, attributes: &Attributes) -> Decision {
        let user = attributes.user;
        let Some(node) = user.name.strip_prefix("system:node:").filter(|_| user.is_in("system:nodes")) else {
            return Decision::NoOpinion(String::new());
        };
        let Some(r) = attributes.resource else { return Decision::NoOpinion(String::new()) };
        let allow = || Decision::Allow(String::new());
        let no = |why: String| Decision::NoOpinion(why);
        let linked = |plural: &str| {
            if r.name.is_empty() {
                return no(format!("No Object name found, but the node authorizer needs one for {plural}"));
            }
            if self.has(node, plural, r.namespace, r.name) {
                return allow();
            }
            no(format!("no relationship found between node '{node}' and this object"))
        };
        match (r.group, r.resource, r.subresource, attributes.verb) {
            ("", "secrets" | "configmaps", "", "get" | "list" | "watch") => {
                linked(if r.resource == "secrets" { "secrets" } else { "configmaps" })
            }
            ("", "secrets" | "configmaps", ..) => no("can only read resources of this type".into()),
            ("", "serviceaccounts", "token", "create") => linked("serviceaccounts"),
            ("", "serviceaccounts", "", "get") => linked("serviceaccounts"),
            ("", "persistentvolumeclaims", "" | "status", "get" | "update" | "patch") if !r.name.is_empty() => {
                linked("persistentvolumeclaims")
            }
            ("resource.k8s.io", "resourceclaims", "", "get") => linked("resourceclaims"),
            (CERTIFICATES, "podcertificaterequests", _, verb) => self.pod_certificates(node, verb, &r),
            ("coordination.k8s.io", "leases", "", verb) if r.namespace == LEASES => {
                if verb == "create" || r.name == node {
                    allow()
                } else {
                    no(format!("node '{node}' can only access its own lease"))
                }
            }
            ("coordination.k8s.io", "leases", ..) => {
                no(format!("can only access leases in the {LEASES:?} system namespace"))
            }
            ("storage.k8s.io", "csinodes", "", verb) => {
                if verb == "create" || r.name == node {
                    allow()
                } else {
                    no("can only access CSINode with the same name as the requesting node".into())
                }
            }
            ("", "nodes", "proxy" | "log" | "stats" | "metrics" | "configz" | "healthz" | "pods", _)
                if r.name != node =>
            {
                no(String::new())
            }
            _ if self.rules.iter().any(|rule| rule.allows(attributes)) => allow(),
            _ => no(String::new()),
        }
    }
}

fn follow(cache: &Cache, index: &mut Index) -> Subscription {
    let (snapshot, changes) = cache.watch_with_state(Scope::All);
    for entry in &snapshot.objects {
        index.put(&entry.0);
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use storage::object::Layout;

    #[test]
    fn a_pod_links_its_node_to_what_it_names() {
        let spec = json!({
            "nodeName": "n1", "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "db"}}}], "envFrom": [{"configMapRef": {"name": "conf"}}]}],
            "volumes": [{"projected": {"sources": [{"configMap": {"name": "ca"}}]}}],
        });
        let mut index = Index::default();
        let tree = json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec});
        index.put(&Object::new("a/p", 1, tree, &Layout::default()));
        for (plural, name) in [
            ("secrets", "pull"),
            ("secrets", "db"),
            ("configmaps", "conf"),
            ("configmaps", "ca"),
            ("serviceaccounts", "sa"),
        ] {
            assert!(index.has("n1", plural, "a", name), "{plural} {name}");
        }
        assert!(!index.has("n1", "secrets", "b", "db"));
        assert!(!index.has("n2", "secrets", "a", "db"));
        index.remove("a/p");
        assert!(!index.has("n1", "secrets", "a", "db"));
    }
}
