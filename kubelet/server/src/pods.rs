//! Lists of pods: those the node is to run, and those the runtime has.

use std::collections::BTreeMap;
use std::sync::Arc;

use component_base::serving::{self, Body};
use cri_client::names;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use pod_lifecycle::Lifecycle;
use pod_state::{json, spec};
use serde_json::{Value, json};

fn answer(items: &[Value]) -> Response<Body> {
    serving::json(StatusCode::OK, &json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// `/pods`: the pods bound to this node, with the kubelet's own view of their status.
pub async fn list(lifecycle: Arc<Lifecycle>, _: Request<Incoming>) -> Response<Body> {
    let pods = lifecycle.pods.list().into_iter().map(|pod| {
        let mut pod = Pod::clone(&pod);
        if let Some(status) = lifecycle.statuses.get(spec::uid(&pod)) {
            pod.status = Some(status);
        }
        let mut fields = json::fields(&pod);
        // As inside a list, items carry no kind of their own.
        fields.retain(|field, _| !matches!(field.as_str(), "kind" | "apiVersion"));
        Value::Object(fields)
    });
    answer(&pods.collect::<Vec<_>>())
}

/// `/runningpods/`: what runs, as the runtime tells.
pub async fn running(lifecycle: Arc<Lifecycle>, _: Request<Incoming>) -> Response<Body> {
    let containers = match lifecycle.context.cri.list_containers(&[]).await {
        Ok(containers) => containers,
        Err(error) => return super::failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let mut pods: BTreeMap<String, Value> = BTreeMap::new();
    for container in containers {
        if container.state() != proto::cri::ContainerState::ContainerRunning {
            continue;
        }
        let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
        let pod = pods.entry(label(names::POD_UID)).or_insert_with(|| {
            json!({
                "metadata": {
                    "name": label(names::POD_NAME), "namespace": label(names::POD_NAMESPACE),
                    "uid": label(names::POD_UID), "creationTimestamp": null,
                },
                "spec": {"containers": []},
                "status": {},
            })
        });
        let image = container.image.clone().unwrap_or_default().image;
        if let Some(list) = pod["spec"]["containers"].as_array_mut() {
            list.push(json!({"name": label(names::CONTAINER_NAME), "image": image, "resources": {}}));
        }
    }
    answer(&pods.into_values().collect::<Vec<_>>())
}
