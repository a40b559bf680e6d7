//! From `kubectl apply` to `kubectl apply --server-side` and back.

use crate::stand::Stand;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn map(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": value}})
}

#[tokio::test]
async fn what_client_side_apply_made_is_taken_over_without_conflicts() {
    let stand = Stand::start().await;
    let mut made = map("1");
    made["metadata"]["annotations"] = json!({LAST_APPLIED: map("1").to_string()});
    let url = format!("{MAPS}?fieldManager=kubectl-client-side-apply");
    assert_eq!(stand.call("POST", &url, "application/json", "", &made).await.0, 201);

    let apply = |manager: &str| format!("{MAPS}/m?fieldManager={manager}");
    let patch = "application/apply-patch+yaml";
    let (code, status) = stand.call("PATCH", &apply("somebody"), patch, "", &map("2")).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")), "only kubectl takes over");

    let (code, object) = stand.call("PATCH", &apply("kubectl"), patch, "", &map("2")).await;
    assert_eq!(code, 200, "{object}");
    assert_eq!(object["data"]["a"], "2");
    let kept: Value = serde_json::from_str(object["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap()).unwrap();
    assert_eq!(kept["data"]["a"], "2", "who goes back finds what was applied last");

    // A field that somebody changed since is not taken over.
    let change = json!({"data": {"a": "3"}});
    let url = format!("{MAPS}/m?fieldManager=somebody");
    assert_eq!(stand.call("PATCH", &url, "application/merge-patch+json", "", &change).await.0, 200);
    let (code, _) = stand.call("PATCH", &apply("kubectl"), patch, "", &map("4")).await;
    assert_eq!(code, 409);
}
