//! What small controllers do: expired bootstrap tokens go, nodes are told how long to trust what they know. What a node does with
//! a token is in `joining`.

use crate::{Stand, namespace, pod};
use serde_json::{Value, json};

#[tokio::test]
async fn expired_tokens_go_and_nodes_are_told_their_ttl() {
    let mut stand = Stand::start().await;
    stand.start_controller_manager(&["--controllers=*,tokencleaner"]);
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    stand.until("/api/v1/namespaces/kube-system", |code, _| code == 200).await;
    for (id, expiration) in [("expire", "2020-01-01T00:00:00Z"), ("remain", "2220-01-01T00:00:00Z")] {
        let data = json!({"token-id": id, "token-secret": "0123456789abcdef", "expiration": expiration});
        let name = format!("bootstrap-token-{id}");
        let secret = json!({"metadata": {"name": name}, "type": "bootstrap.kubernetes.io/token", "stringData": data});
        stand.create(secrets, secret).await;
    }
    stand.create("/api/v1/nodes", json!({"metadata": {"name": "n"}})).await;
    stand.until_gone(&format!("{secrets}/bootstrap-token-expire")).await;
    stand.get(&format!("{secrets}/bootstrap-token-remain")).await;
    stand.until("/api/v1/nodes/n", |_, n| n["metadata"]["annotations"]["node.alpha.kubernetes.io/ttl"] == "0").await;
}

/// Whether a condition of an object has this status.
fn says(object: &Value, kind: &str, status: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == kind && c["status"] == status)
}

#[tokio::test]
async fn pods_of_a_node_that_falls_silent_are_not_ready() {
    let mut stand = Stand::start().await;
    let core = namespace(&stand, "silent").await;
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    for node in ["silent", "new"] {
        stand.create("/api/v1/nodes", json!({"metadata": {"name": node}})).await;
        let name = format!("on-{node}");
        let mut body = pod(&name, json!({"nodeName": node}));
        body["metadata"]["finalizers"] = json!(["example.com/hold"]);
        stand.create(&format!("{core}/pods"), body).await;
        stand.merge(&format!("{core}/pods/{name}/status"), ready.clone()).await;
    }
    stand.merge("/api/v1/nodes/silent/status", ready).await;
    stand.start_controller_manager(&["--node-monitor-period=200ms", "--node-monitor-grace-period=1s"]);

    let node = stand.until("/api/v1/nodes/silent", |_, node| says(node, "Ready", "Unknown")).await;
    assert!(says(&node, "MemoryPressure", "Unknown"), "{node}");
    stand.until(&format!("{core}/pods/on-silent"), |_, pod| says(pod, "Ready", "False")).await;
    let told = |list: &Value| {
        let events = list["items"].as_array().into_iter().flatten();
        let of = events.filter(|event| event["reason"] == "NodeNotReady");
        of.map(|event| event["involvedObject"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let events = stand.until("/api/v1/events", |_, list| told(list).len() == 2).await;
    let mut about = told(&events);
    about.sort();
    assert_eq!(about, ["on-silent", "silent"]);
    // Of the other node nothing is known yet: its pods stay as they are.
    let taints = stand.get("/api/v1/nodes/new").await["spec"]["taints"].to_string();
    assert!(!taints.contains("NoExecute"), "{taints}");
    assert!(says(&stand.get(&format!("{core}/pods/on-new")).await, "Ready", "True"));
}

#[tokio::test]
async fn secrets_are_filled_with_tokens_and_go_with_their_account() {
    let mut stand = Stand::start().await;
    let key = format!("--service-account-private-key-file={}", stand.path("sa.key").display());
    stand.start_controller_manager(&[&key]);
    let core = namespace(&stand, "tokens").await;
    let secrets = format!("{core}/secrets");
    let secret = |name: &str, account: &str| {
        json!({"metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": account}},
            "type": "kubernetes.io/service-account-token"})
    };
    let made = stand.create(&format!("{core}/serviceaccounts"), json!({"metadata": {"name": "robot"}})).await;
    stand.create(&secrets, secret("robots", "robot")).await;
    stand.create(&secrets, secret("nobodys", "nobody")).await;
    stand.until_gone(&format!("{secrets}/nobodys")).await;

    let path = format!("{secrets}/robots");
    let filled = stand.until(&path, |_, secret| secret["data"]["token"].is_string()).await;
    assert!(filled["data"]["ca.crt"].is_string() && filled["data"]["namespace"] == "dG9rZW5z", "{filled}");
    assert_eq!(filled["metadata"]["annotations"]["kubernetes.io/service-account.uid"], made["metadata"]["uid"]);
    // What is taken out comes back.
    stand.merge(&path, json!({"data": {"namespace": null}})).await;
    stand.until(&path, |_, secret| secret["data"]["namespace"] == "dG9rZW5z").await;

    stand.delete(&format!("{core}/serviceaccounts/robot"), Value::Null).await;
    stand.until_gone(&path).await;
}
