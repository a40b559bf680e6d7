//! Claims that belong to a pod.

use crate::{cluster, namespace, pod};
use serde_json::{Value, json};

#[tokio::test]
async fn ephemeral_volumes_are_claims_that_go_with_their_pod() {
    let stand = cluster().await;
    let core = namespace(&stand, "ephemeral").await;
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let claim = json!({"metadata": {"labels": {"a": "b"}}, "spec": spec});
    let volumes = json!({"volumes": [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": claim}}]});
    // Somebody else's claim has the name that the second pod's would have.
    let foreign = json!({"metadata": {"name": "second-scratch"}, "spec": spec});
    stand.create(&format!("{core}/persistentvolumeclaims"), foreign).await;
    let first = stand.create(&format!("{core}/pods"), pod("first", volumes.clone())).await;
    let path = format!("{core}/persistentvolumeclaims/first-scratch");
    let made = stand.until(&path, |code, _| code == 200).await;
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], first["metadata"]["uid"]);
    assert_eq!((&made["metadata"]["labels"]["a"], &made["spec"]["accessModes"]), (&json!("b"), &spec["accessModes"]));

    stand.create(&format!("{core}/pods"), pod("second", volumes)).await;
    // The binder tells of claims under the same reason, this controller of pods.
    let about_pods = |list: &Value| -> Vec<(String, String)> {
        let events = list["items"].as_array().into_iter().flatten();
        let failed = events.filter(|e| e["reason"] == "FailedBinding" && e["involvedObject"]["kind"] == "Pod");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        failed.map(|e| (text(&e["involvedObject"]["name"]), text(&e["message"]))).collect()
    };
    let list = stand.until(&format!("{core}/events"), |_, list| !about_pods(list).is_empty()).await;
    for (name, message) in about_pods(&list) {
        assert_eq!(name, "second");
        assert!(message.contains("was not created for pod \"second\" (pod is not owner)"), "{message}");
    }

    stand.delete(&format!("{core}/pods/first"), Value::Null).await;
    stand.until_gone(&path).await;
}
