//! PodDisruptionBudgets about pods of any kind of controller.

use crate::{Stand, cluster, namespace, pod};
use serde_json::{Value, json};

/// A kind with or without a scale.
async fn kind(stand: &Stand, plural: &str, kind: &str, subresources: Value) {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let mut version = json!({"name": "v1", "served": true, "storage": true, "schema": schema});
    version["subresources"] = subresources;
    let definition = json!({"metadata": {"name": format!("{plural}.example.com")}, "spec": {"group": "example.com",
        "scope": "Namespaced", "names": {"plural": plural, "kind": kind}, "versions": [version]}});
    stand.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    stand.until(&format!("/apis/example.com/v1/{plural}"), |code, _| code == 200).await;
}

#[tokio::test]
async fn a_budget_counts_what_any_scalable_controller_wants() {
    let stand = cluster().await;
    let paths = json!({"scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}});
    kind(&stand, "foos", "Foo", paths).await;
    kind(&stand, "bars", "Bar", json!({})).await;
    let core = namespace(&stand, "budgets").await;
    let custom = core.replace("/api/v1", "/apis/example.com/v1");
    let budgets = format!("{}/poddisruptionbudgets", core.replace("/api/v1", "/apis/policy/v1"));
    for (plural, kind) in [("foos", "Foo"), ("bars", "Bar")] {
        let body = json!({"apiVersion": "example.com/v1", "kind": kind, "metadata": {"name": plural},
            "spec": {"replicas": 5}});
        let owner = stand.create(&format!("{custom}/{plural}"), body).await;
        let name = format!("of-{plural}");
        let mut body = pod(&name, json!({}));
        body["metadata"]["labels"] = json!({"app": plural});
        body["metadata"]["ownerReferences"] = json!([{"apiVersion": "example.com/v1", "kind": kind, "name": plural,
            "uid": owner["metadata"]["uid"], "controller": true}]);
        stand.create(&format!("{core}/pods"), body).await;
        let spec = json!({"maxUnavailable": 2, "selector": {"matchLabels": {"app": plural}}});
        stand.create(&budgets, json!({"metadata": {"name": plural}, "spec": spec})).await;
    }
    let counted =
        |budget: &Value| (budget["status"]["expectedPods"].clone(), budget["status"]["desiredHealthy"].clone());
    stand.until(&format!("{budgets}/foos"), |_, budget| counted(budget) == (json!(5), json!(3))).await;
    let failed = stand
        .until(&format!("{budgets}/bars"), |_, budget| budget["status"]["conditions"][0]["reason"] == "SyncFailed")
        .await;
    let message = failed["status"]["conditions"][0]["message"].as_str().unwrap();
    assert_eq!(message, "bars.example.com does not implement the scale subresource");
}
