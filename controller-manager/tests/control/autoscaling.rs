//! HorizontalPodAutoscalers. A custom resource stands in for the metrics API: it is asked the same way.

use crate::{Stand, namespace};
use serde_json::{Value, json};

/// The metrics API, kept by hand.
async fn metrics_api(stand: &Stand) {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = json!({
        "metadata": {"name": "pods.metrics.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in"}},
        "spec": {"group": "metrics.k8s.io", "scope": "Namespaced",
            "names": {"plural": "pods", "singular": "pod", "kind": "PodMetrics", "listKind": "PodMetricsList"},
            "versions": [{"name": "v1beta1", "served": true, "storage": true, "schema": schema}]},
    });
    stand.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    stand.until("/apis/metrics.k8s.io/v1beta1/pods", |code, _| code == 200).await;
}

fn autoscaler(name: &str, target: Value) -> Value {
    let metric = json!({"type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    json!({"metadata": {"name": name}, "spec": {"minReplicas": 1, "maxReplicas": 10, "scaleTargetRef": target,
        "metrics": [metric]}})
}

/// Status and reason of a condition.
fn condition(object: &Value, kind: &str) -> (String, String) {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let condition = conditions.into_iter().find(|c| c["type"] == kind);
    let text = |field: &str| condition.and_then(|c| c[field].as_str()).unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

fn is(object: &Value, kind: &str, status: &str, reason: &str) -> bool {
    condition(object, kind) == (status.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn a_deployment_follows_the_cpu_time_of_its_pods() {
    let mut stand = Stand::start().await;
    stand.start_controller_manager(&["--horizontal-pod-autoscaler-sync-period=200ms"]);
    metrics_api(&stand).await;
    let core = namespace(&stand, "scaled").await;
    let apps = core.replace("/api/v1", "/apis/apps/v1");
    let autoscaling = core.replace("/api/v1", "/apis/autoscaling/v2");
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}});
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [container]}});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"app": "a"}}, "template": template});
    stand.create(&format!("{apps}/deployments"), json!({"metadata": {"name": "d"}, "spec": spec})).await;
    let pods = format!("{core}/pods");
    let list = stand.until(&pods, |_, list| list["items"].as_array().is_some_and(|items| items.len() == 1)).await;
    let name = list["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    let long_ago = "2024-01-01T00:00:00Z";
    let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": long_ago}]);
    let running = json!({"status": {"phase": "Running", "startTime": long_ago, "conditions": ready}});
    stand.merge(&format!("{pods}/{name}/status"), running).await;

    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let autoscalers = format!("{autoscaling}/horizontalpodautoscalers");
    stand.create(&autoscalers, autoscaler("h", target.clone())).await;
    let path = format!("{autoscalers}/h");
    stand.until(&path, |_, h| is(h, "ScalingActive", "False", "FailedGetResourceMetric")).await;

    let used = json!({"metadata": {"name": name, "labels": {"app": "a"}}, "timestamp": "2026-01-01T00:00:00Z",
        "window": "30s", "containers": [{"name": "c", "usage": {"cpu": "200m", "memory": "1Mi"}}]});
    stand.create(&pods.replace("/api/v1", "/apis/metrics.k8s.io/v1beta1"), used).await;
    // Four times what was wanted, and four is how far a single pod may grow at once.
    stand.until(&format!("{apps}/deployments/d"), |_, d| d["spec"]["replicas"] == 4).await;
    let scaled = stand
        .until(&path, |_, h| h["status"]["currentReplicas"] == 4 && is(h, "ScalingActive", "True", "ValidMetricFound"))
        .await;
    let current = &scaled["status"]["currentMetrics"][0]["resource"]["current"];
    assert_eq!((&current["averageUtilization"], &current["averageValue"]), (&json!(200), &json!("200m")), "{scaled}");
    assert_eq!(condition(&scaled, "AbleToScale").0, "True", "{scaled}");
    stand
        .until(&format!("{core}/events"), |_, list| {
            let events = list["items"].as_array().into_iter().flatten();
            let told = events.filter(|event| event["reason"] == "SuccessfulRescale");
            let expected = "New size: 4; reason: cpu resource utilization (percentage of request) above target";
            told.into_iter().any(|event| event["message"] == expected)
        })
        .await;

    // Nobody else may scale the same pods, and what is not there cannot be scaled.
    stand.create(&autoscalers, autoscaler("rival", target)).await;
    stand.until(&format!("{autoscalers}/rival"), |_, h| is(h, "ScalingActive", "False", "AmbiguousSelector")).await;
    for (name, api_version, kind) in [("gone", "apps/v1", "ReplicaSet"), ("unknown", "example.com/v1", "Widget")] {
        let target = json!({"apiVersion": api_version, "kind": kind, "name": "nothing"});
        stand.create(&autoscalers, autoscaler(name, target)).await;
        stand.until(&format!("{autoscalers}/{name}"), |_, h| is(h, "AbleToScale", "False", "FailedGetScale")).await;
    }
}
