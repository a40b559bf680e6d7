//! Namespaces that are deleted take what is in them along.

use crate::{cluster, namespace, pod};
use serde_json::{Value, json};

#[tokio::test]
async fn a_namespace_takes_its_pods_and_services_along() {
    let stand = cluster().await;
    let core = namespace(&stand, "full").await;
    stand.create(&format!("{core}/pods"), pod("p", json!({}))).await;
    stand
        .create(&format!("{core}/services"), json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}))
        .await;
    stand.delete(&core, Value::Null).await;
    stand.until_gone(&core).await;
    namespace(&stand, "full").await;
    for kind in ["pods", "services"] {
        assert_eq!(stand.get(&format!("{core}/{kind}")).await["items"], json!([]), "{kind}");
    }
}

#[tokio::test]
async fn pods_go_before_everything_else() {
    let stand = cluster().await;
    let core = namespace(&stand, "ordered").await;
    let mut held = pod("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    stand.create(&format!("{core}/pods"), held).await;
    stand.create(&format!("{core}/configmaps"), json!({"metadata": {"name": "m"}})).await;
    stand.delete(&core, Value::Null).await;

    let told = |namespace: &Value, kind: &str| {
        let conditions = namespace["status"]["conditions"].as_array().into_iter().flatten();
        let condition = conditions.clone().find(|c| c["type"] == kind && c["status"] == "True");
        condition.and_then(|c| c["message"].as_str()).unwrap_or_default().to_owned()
    };
    let waiting = stand.until(&core, |_, namespace| !told(namespace, "NamespaceContentRemaining").is_empty()).await;
    assert_eq!(
        told(&waiting, "NamespaceContentRemaining"),
        "Some resources are remaining: pods. has 1 resource instances"
    );
    assert_eq!(
        told(&waiting, "NamespaceFinalizersRemaining"),
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    );
    let map = stand.get(&format!("{core}/configmaps/m")).await;
    assert!(map["metadata"]["deletionTimestamp"].is_null());

    stand.merge(&format!("{core}/pods/held"), json!({"metadata": {"finalizers": null}})).await;
    stand.until_gone(&core).await;
}
