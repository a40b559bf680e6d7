//! What every cluster starts with: namespaces, roles, priorities, the service `kubernetes`. Put in place at every start where
//! it is missing, by the server itself through its own writes.

mod endpoints;
mod flow_schemas;
mod identity;

pub use endpoints::keep_endpoints;
pub use flow_schemas::keep_flow_schemas;
pub use identity::Identity;

use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use handlers::api::{Api, Endpoint};
use handlers::decode::finish;
use handlers::write::update::Preconditions;
use handlers::write::{Write, meta_text};
use ipnet::IpNet;
use request::User;
use request::options::FieldValidation;
use request::status::Result;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// What the flags say about this cluster.
pub struct Cluster {
    pub service_ranges: Vec<IpNet>,
    pub secure_port: u16,
    pub node_port: u16,
    /// PEM texts published in `kube-system/extension-apiserver-authentication`.
    pub authentication: Vec<(String, String)>,
}

const NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];

/// Objects that come with a feature gate.
const GATED: [(&str, &str); 1] = [("ClusterTrustBundle", include_str!("cluster_trust_bundle.yaml"))];

/// Priorities of the APIServices of built-in groups: (group, version, groupPriorityMinimum, versionPriority).
#[rustfmt::skip]
const API_SERVICES: &[(&str, &str, i64, i64)] = &[
    ("", "v1", 18000, 1),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("apps", "v1", 17800, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v1", 17500, 15),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    ("networking.k8s.io", "v1", 17200, 15),
    ("node.k8s.io", "v1", 16300, 15),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("resource.k8s.io", "v1", 16200, 21),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("autoscaling", "v2", 17500, 30),
    ("admissionregistration.k8s.io", "v1beta1", 16700, 12),
    ("admissionregistration.k8s.io", "v1alpha1", 16700, 9),
    ("certificates.k8s.io", "v1beta1", 17300, 9),
    ("certificates.k8s.io", "v1alpha1", 17300, 1),
    ("coordination.k8s.io", "v1beta1", 16500, 13),
    ("coordination.k8s.io", "v1alpha2", 16500, 12),
    ("internal.apiserver.k8s.io", "v1alpha1", 16000, 9),
    ("networking.k8s.io", "v1beta1", 17200, 9),
    ("resource.k8s.io", "v1beta2", 16200, 15),
    ("resource.k8s.io", "v1beta1", 16200, 9),
    ("resource.k8s.io", "v1alpha3", 16200, 1),
    ("scheduling.k8s.io", "v1alpha1", 16600, 9),
    ("storage.k8s.io", "v1beta1", 16800, 9),
    ("storagemigration.k8s.io", "v1beta1", 15800, 9),
];

/// Creates what is missing; rules and subjects that are missing from default roles and bindings are added.
pub async fn run(api: &Api, cluster: &Cluster) -> Result<()> {
    for name in NAMESPACES {
        ensure(api, "", "v1", "namespaces", json!({"metadata": {"name": name}})).await?;
    }
    let always = [include_str!("rbac.yaml"), include_str!("priority.yaml"), include_str!("flowcontrol.yaml")];
    let gated = GATED.iter().filter(|(gate, _)| api.rules_gates.contains(gate)).map(|(_, text)| *text);
    for text in always.into_iter().chain(gated) {
        for object in documents(text) {
            let (group, version) = GroupVersionKind::split_api_version(object["apiVersion"].as_str().unwrap_or(""));
            let plural = plural(object["kind"].as_str().unwrap_or(""));
            let (group, version) = (group.to_owned(), version.to_owned());
            ensure(api, &group, &version, &plural, object).await?;
        }
    }
    let is_served =
        |group: &str, version: &str| api.served.load().versions.iter().any(|((g, v), _)| g == group && v == version);
    for (group, version, group_priority, version_priority) in API_SERVICES {
        if !is_served(group, version) {
            continue;
        }
        ensure(
            api,
            "apiregistration.k8s.io",
            "v1",
            "apiservices",
            api_service(group, version, *group_priority, *version_priority),
        )
        .await?;
    }
    let ranges: Vec<String> = cluster.service_ranges.iter().map(ToString::to_string).collect();
    ensure(
        api,
        "networking.k8s.io",
        "v1",
        "servicecidrs",
        json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ranges}}),
    )
    .await?;
    service_cidr_ready(api).await?;
    kubernetes_service(api, cluster).await?;
    let data: Value = cluster
        .authentication
        .iter()
        .map(|(k, v)| (k.clone(), Value::from(v.as_str())))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let authentication =
        json!({"metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}, "data": data});
    ensure(api, "", "v1", "configmaps", authentication).await?;
    // Since when the use of legacy service account tokens is noted on them; controllers count from here. (KEP-2799.)
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let tracking = json!({
        "metadata": {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"},
        "data": {"since": today},
    });
    ensure(api, "", "v1", "configmaps", tracking).await?;
    flow_schemas::look(api).await
}

/// The objects of a YAML stream.
fn documents(text: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(text)
        .filter_map(|d| Value::deserialize(d).ok())
        .filter(Value::is_object)
        .collect()
}

fn plural(kind: &str) -> String {
    match kind.strip_suffix("ss") {
        Some(_) => format!("{}es", kind.to_lowercase()),
        None => format!("{}s", kind.to_lowercase()),
    }
}

fn api_service(group: &str, version: &str, group_priority: i64, version_priority: i64) -> Value {
    let mut spec =
        json!({"version": version, "groupPriorityMinimum": group_priority, "versionPriority": version_priority});
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({
        "metadata": {"name": format!("{version}.{group}"), "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
        "spec": spec,
    })
}

/// Creates an object if it is not there; adds to it if it is a default role or binding.
async fn ensure(api: &Api, group: &str, version: &str, plural: &str, object: Value) -> Result<()> {
    let Some(endpoint) = api.endpoint(group, version, plural) else { return Ok(()) }; // switched off
    let row = &endpoint.row;
    let object = finish(object, Vec::new(), &row.kind, &row.form, FieldValidation::Ignore)?.object;
    let (namespace, name) = (meta_text(&object, "namespace").to_owned(), meta_text(&object, "name").to_owned());
    if api.cached(&endpoint, &namespace, &name).is_ok() {
        return reconcile(api, &endpoint, &namespace, &name, &object).await;
    }
    let user = User::apiserver();
    let mut write = Write::internal(api, &endpoint, &user, &namespace, &name);
    let status = object["status"].clone();
    match write.create(object.clone(), Vec::new()).await {
        Ok(_) if status.as_object().is_some_and(|s| !s.is_empty()) => Ok(()),
        Ok(_) => Ok(()),
        Err(status) if status.reason == "AlreadyExists" => reconcile(api, &endpoint, &namespace, &name, &object).await,
        Err(status) => Err(status),
    }
}

/// Adds rules and subjects that a default role or binding lacks.
async fn reconcile(api: &Api, endpoint: &Arc<Endpoint>, namespace: &str, name: &str, wanted: &Value) -> Result<()> {
    if endpoint.row.kind.group != "rbac.authorization.k8s.io" || !wanted["aggregationRule"].is_null() {
        return Ok(());
    }
    let list = if wanted["subjects"].is_array() { "subjects" } else { "rules" };
    let missing = |current: &Value| {
        let there = current[list].as_array().cloned().unwrap_or_default();
        wanted[list].as_array().into_iter().flatten().filter(|w| !there.contains(w)).cloned().collect::<Vec<_>>()
    };
    let current = api.cached(endpoint, namespace, name)?.tree();
    let frozen = current["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] == "false";
    if frozen || missing(&current).is_empty() {
        return Ok(());
    }
    let user = User::apiserver();
    let write = Write::internal(api, endpoint, &user, namespace, name);
    let mut add = |current: &Value| {
        let mut object = current.clone();
        let mut all = object[list].as_array().cloned().unwrap_or_default();
        all.extend(missing(current));
        object[list] = all.into();
        Ok(object)
    };
    write.update(&Preconditions::default(), &mut Vec::new(), &mut add).await.map(|_| ())
}

async fn service_cidr_ready(api: &Api) -> Result<()> {
    let endpoint = api.builtin("networking.k8s.io", "v1", "servicecidrs")?;
    let user = User::apiserver();
    let mut write = Write::internal(api, &endpoint, &user, "", "kubernetes");
    write.subresource = "status".into();
    let now = write.now.clone();
    let mut ready = |current: &Value| {
        let mut object = current.clone();
        let is_ready = object["status"]["conditions"]
            .as_array()
            .is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
        if !is_ready {
            object["status"]["conditions"] = json!([{
                "type": "Ready", "status": "True", "lastTransitionTime": now, "reason": "", "message": "Kubernetes default Service CIDR is ready",
            }]);
        }
        Ok(object)
    };
    write.update(&Preconditions::default(), &mut Vec::new(), &mut ready).await.map(|_| ())
}

/// The service `kubernetes`, at the first address of the range, through which pods reach the API.
async fn kubernetes_service(api: &Api, cluster: &Cluster) -> Result<()> {
    let Some(first) = cluster.service_ranges.first().and_then(|r| r.hosts().next()) else { return Ok(()) };
    let mut port = json!({"name": "https", "port": 443, "protocol": "TCP", "targetPort": cluster.secure_port});
    if cluster.node_port != 0 {
        port["nodePort"] = cluster.node_port.into();
    }
    let service = json!({
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "clusterIP": first.to_string(), "clusterIPs": [first.to_string()], "ports": [port], "sessionAffinity": "None",
            "type": if cluster.node_port == 0 { "ClusterIP" } else { "NodePort" },
            "ipFamilyPolicy": "SingleStack",
        },
    });
    ensure(api, "", "v1", "services", service).await
}
