//! What small controllers do: expired bootstrap tokens go, nodes are told how long to trust what they know.

use crate::Stand;
use serde_json::json;

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
