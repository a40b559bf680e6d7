//! Controllers on a real API server and a real etcd. There are no nodes: where a kubelet would report or delete, the test does.
//! Each test has a cluster of its own.

mod autoscaling;
mod budgets;
mod cronjobs;
mod endpoints;
mod garbage;
mod jobs;
mod joining;
mod namespaces;
mod policies;
mod quotas;
mod tokens_and_nodes;
mod volumes;

use ::stand::Stand;
use serde_json::{Value, json};

/// A cluster with every controller running.
async fn cluster() -> Stand {
    let mut stand = Stand::start().await;
    stand.start_controller_manager(&[]);
    stand
}

/// A new namespace.
async fn namespace(stand: &Stand, name: &str) -> String {
    stand.create("/api/v1/namespaces", json!({"metadata": {"name": name}})).await;
    format!("/api/v1/namespaces/{name}")
}

/// A pod with one container.
fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    pod["spec"]["containers"][0]["resources"] = spec["resources"].clone();
    for (field, value) in spec.as_object().into_iter().flatten().filter(|(field, _)| *field != "resources") {
        pod["spec"][field] = value.clone();
    }
    pod
}
