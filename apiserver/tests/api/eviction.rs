//! Evictions: budgets say whether a pod may go, and the pod says why it went.

use crate::stand::Stand;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

async fn evict(stand: &Stand, name: &str, options: Value) -> (u16, Value) {
    let body = json!({"metadata": {"name": name}, "deleteOptions": options}).to_string().into_bytes();
    let request = http::Request::post(format!("{PODS}/{name}/eviction")).header("content-type", "application/json");
    let answer = stand.send(request.body(body).unwrap()).await;
    (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap())
}

/// A pod on a node, so that its deletion waits for a kubelet, with a status.
async fn pod(stand: &Stand, name: &str, phase: &str, ready: &str) -> Value {
    let pod = json!({"metadata": {"name": name, "labels": {"app": "a"}}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    stand.create(PODS, pod).await;
    let status = json!({"phase": phase, "conditions": [{"type": "Ready", "status": ready}]});
    stand.merge(&format!("{PODS}/{name}/status"), json!({"status": status})).await
}

#[tokio::test]
async fn an_evicted_pod_is_a_disruption_target() {
    let stand = Stand::start().await;
    for (name, phase) in [("running", "Running"), ("pending", "Pending"), ("failed", "Failed")] {
        let made = pod(&stand, name, phase, "True").await;
        assert_eq!(evict(&stand, name, json!({"dryRun": ["All"]})).await.0, 201);
        assert_eq!(stand.get(&format!("{PODS}/{name}")).await, made, "a dry run changes nothing");
        // What the client demands holds for the mark as well.
        let (code, _) = evict(&stand, name, json!({"preconditions": {"resourceVersion": "1"}})).await;
        assert_eq!((code, stand.get(&format!("{PODS}/{name}")).await), (409, made.clone()), "{name}");
        let version = &made["metadata"]["resourceVersion"];
        let (code, status) = evict(&stand, name, json!({"preconditions": {"resourceVersion": version}})).await;
        assert_eq!((code, &status["status"]), (201, &json!("Success")), "{status}");
        if phase == "Failed" {
            continue; // it goes at once
        }
        let going = stand.get(&format!("{PODS}/{name}")).await;
        assert!(going["metadata"]["deletionTimestamp"].is_string());
        let condition = &going["status"]["conditions"][1];
        let got = ["type", "status", "reason", "message"].map(|of| condition[of].as_str().unwrap());
        assert_eq!(got, ["DisruptionTarget", "True", "EvictionByEvictionAPI", "Eviction API: evicting"]);
        assert!(condition["lastTransitionTime"].is_string());
    }
}

#[tokio::test]
async fn a_budget_says_why_it_refuses() {
    let stand = Stand::start().await;
    pod(&stand, "p", "Running", "True").await;
    pod(&stand, "unready", "Running", "False").await;
    let budget =
        json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
    stand.create(BUDGETS, budget).await;
    let why = |status: &Value| status["details"]["causes"][0]["message"].as_str().unwrap_or_default().to_owned();

    let (code, status) = evict(&stand, "p", json!({})).await;
    assert_eq!((code, &status["details"]["retryAfterSeconds"]), (429, &json!(10)));
    assert_eq!(why(&status), "The disruption budget b is still being processed by the server.");

    let condition = |reason: &str, message: &str| {
        json!([{"type": "DisruptionAllowed", "status": "False", "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    };
    let settle = async |allowed: i64, healthy: i64, conditions: Value| {
        let status = json!({"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": healthy,
            "desiredHealthy": 1, "expectedPods": 2, "conditions": conditions});
        stand.merge(&format!("{BUDGETS}/b/status"), json!({"status": status})).await;
    };
    for (healthy, conditions, want) in [
        (1, json!([]), "The disruption budget b needs 1 healthy pods and has 1 currently"),
        (2, json!([]), "The disruption budget b does not allow evicting pods currently"),
        (
            2,
            condition("Why", "because"),
            "The disruption budget b does not allow evicting pods currently (Why): because",
        ),
        (
            1,
            condition("SyncFailed", "x"),
            "The disruption budget b does not allow evicting pods currently because it failed sync: x",
        ),
    ] {
        settle(0, healthy, conditions).await;
        let (code, status) = evict(&stand, "p", json!({})).await;
        assert_eq!((code, why(&status)), (429, want.to_owned()));
        assert_eq!(status["details"]["retryAfterSeconds"], Value::Null);
    }
    assert_eq!(stand.get(&format!("{PODS}/p")).await["metadata"]["deletionTimestamp"], Value::Null);

    // A pod that is not ready takes nothing from a budget that is met.
    assert_eq!(evict(&stand, "unready", json!({})).await.0, 201);
    settle(
        1,
        2,
        json!([{"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]),
    )
    .await;
    assert_eq!(evict(&stand, "p", json!({})).await.0, 201);
    let status = stand.get(&format!("{BUDGETS}/b")).await["status"].take();
    assert_eq!(
        (&status["disruptionsAllowed"], &status["conditions"][0]["reason"]),
        (&json!(0), &json!("InsufficientPods"))
    );
    assert_eq!(status["disruptedPods"].as_object().unwrap().keys().collect::<Vec<_>>(), ["p"]);
}
