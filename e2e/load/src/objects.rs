//! What is written: objects of the size that real ones have.

use bytes::Bytes;
use serde_json::json;

/// A pod as a Deployment makes it: about 2.5 kB once stored, defaults and managed fields included.
/// One in a hundred has the label `rare=yes`.
pub fn pod(name: &str, number: usize) -> Bytes {
    let rare = if number.is_multiple_of(100) { "yes" } else { "no" };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": format!("app-{}", number % 50), "pod-template-hash": "7c5ddbdf54", "rare": rare},
            "annotations": {"example.com/owner": "team-a", "prometheus.io/scrape": "true"},
        },
        "spec": {
            "containers": [{
                "name": "web", "image": "nginx:1.23.3",
                "ports": [{"containerPort": 80, "name": "http"}],
                "env": [{"name": "MODE", "value": "production"}, {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 5},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
            "tolerations": [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        },
    })
    .to_string()
    .into()
}

pub fn config_map(name: &str) -> Bytes {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"key": "value", "config.yaml": "a: 1\nb: 2\n".repeat(20)}})
    .to_string()
    .into()
}

/// An object of any kind that asks for nothing else, 8 KB large.
pub fn padded(version: &str, kind: &str, name: &str) -> Bytes {
    let padding = format!("{name} ").repeat(8192 / (name.len() + 1));
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "annotations": {"example.com/padding": padding}}})
        .to_string()
        .into()
}

pub fn namespace(name: &str) -> Bytes {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).to_string().into()
}

pub fn lease(name: &str) -> Bytes {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": "2025-01-01T00:00:00.000000Z"}})
    .to_string()
    .into()
}

/// What a kubelet sends every ten seconds.
pub fn renewal(number: usize) -> Bytes {
    json!({"spec": {"renewTime": format!("2025-01-01T{:02}:{:02}:{:02}.{:06}Z", number / 3_600 % 24, number / 60 % 60, number % 60, number % 1_000_000)}})
        .to_string()
        .into()
}
