//! Namespaces and their quotas as objects: labels, status, finalizers.

use crate::stand::Stand;
use serde_json::json;

#[tokio::test]
async fn a_namespace_is_patched_updated_and_given_finalizers() {
    let stand = Stand::start().await;
    let path = "/api/v1/namespaces/changed";
    stand.create("/api/v1/namespaces", json!({"metadata": {"name": "changed"}})).await;
    let patched = stand.merge(path, json!({"metadata": {"labels": {"testLabel": "testValue"}}})).await;
    assert_eq!(
        patched["metadata"]["labels"],
        json!({"kubernetes.io/metadata.name": "changed", "testLabel": "testValue"})
    );

    let mut namespace = stand.get(path).await;
    namespace["metadata"]["labels"]["changed"] = "updated".into();
    stand.update(path, namespace).await;
    assert_eq!(stand.get(path).await["metadata"]["labels"]["changed"], "updated");

    // Its own finalizers are changed by `finalize`, and by nothing else.
    let mut namespace = stand.get(path).await;
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    namespace["spec"]["finalizers"] = json!(["kubernetes", "example.com/fake"]);
    let plain = stand.update(path, namespace).await;
    assert_eq!(plain["spec"]["finalizers"], json!(["kubernetes"]));
    for finalizers in [json!(["kubernetes", "example.com/fake"]), json!(["kubernetes"])] {
        let mut namespace = stand.get(path).await;
        namespace["spec"]["finalizers"] = finalizers.clone();
        stand.update(&format!("{path}/finalize"), namespace).await;
        assert_eq!(stand.get(path).await["spec"]["finalizers"], finalizers);
    }
}

#[tokio::test]
async fn the_status_of_a_namespace_is_patched_and_updated() {
    let stand = Stand::start().await;
    let path = "/api/v1/namespaces/told";
    stand.create("/api/v1/namespaces", json!({"metadata": {"name": "told"}})).await;
    assert_eq!(stand.get(&format!("{path}/status")).await["status"]["phase"], "Active");
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "E2E", "message": "Set by a test"});
    let patch =
        json!({"metadata": {"annotations": {"by": "patch"}}, "status": {"conditions": [condition("StatusPatch")]}});
    let patched = stand.merge(&format!("{path}/status"), patch).await;
    assert_eq!(
        (&patched["metadata"]["annotations"]["by"], &patched["status"]["conditions"][0]["type"]),
        (&json!("patch"), &json!("StatusPatch"))
    );

    let mut namespace = stand.get(path).await;
    namespace["status"]["conditions"].as_array_mut().unwrap().push(condition("StatusUpdate"));
    namespace["spec"]["finalizers"] = json!([]);
    let updated = stand.update(&format!("{path}/status"), namespace).await;
    assert_eq!(updated["status"]["conditions"][1]["type"], "StatusUpdate");
    assert_eq!(updated["spec"]["finalizers"], json!(["kubernetes"]), "a status is no way to change the rest");
}

#[tokio::test]
async fn the_status_of_a_quota_is_changed_apart_from_its_spec() {
    let stand = Stand::start().await;
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let path = format!("{quotas}/q");
    let status = format!("{path}/status");
    stand
        .create(quotas, json!({"metadata": {"name": "q"}, "spec": {"hard": {"cpu": "500m", "memory": "500Mi"}}}))
        .await;
    let mut quota = stand.get(&path).await;
    quota["status"] = json!({"hard": {"cpu": "500m", "memory": "500Mi"}});
    let told = stand.update(&status, quota).await;
    assert_eq!(told["status"]["hard"], told["spec"]["hard"]);

    let hard = json!({"cpu": "1", "memory": "1Gi"});
    let spec = stand.merge(&path, json!({"spec": {"hard": hard}, "status": {"hard": {"cpu": "9"}}})).await;
    assert_eq!((&spec["spec"]["hard"], &spec["status"]["hard"]["cpu"]), (&hard, &json!("500m")));
    let patched = stand.merge(&status, json!({"status": {"hard": hard}})).await;
    assert_eq!(patched["status"]["hard"], hard);
    assert_eq!(stand.get(&status).await["status"]["hard"], hard);
    let again = stand
        .merge(&status, json!({"spec": {"hard": {"cpu": "7"}}, "status": {"hard": {"cpu": "2", "memory": "2Gi"}}}))
        .await;
    assert_eq!((&again["spec"]["hard"], &again["status"]["hard"]["cpu"]), (&hard, &json!("2")));
}

#[tokio::test]
async fn scopes_that_make_no_sense_for_a_resource_are_refused() {
    let stand = Stand::start().await;
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let expression =
        |scope: &str, operator: &str| json!({"matchExpressions": [{"scopeName": scope, "operator": operator}]});
    for (spec, told) in [
        (
            json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}),
            "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
        ),
        (json!({"hard": {"services": "1"}, "scopes": ["Terminating"]}), "unsupported scope applied to resource"),
        (
            json!({"hard": {"secrets": "1"}, "scopeSelector": expression("PriorityClass", "Exists")}),
            "spec.scopeSelector.matchExpressions: Invalid value: {\"matchExpressions\":[",
        ),
        (
            json!({"hard": {"pods": "1"}, "scopeSelector": expression("BestEffort", "DoesNotExist")}),
            "must be 'Exist' when scope is any of",
        ),
    ] {
        let (code, refused) =
            stand.call("POST", quotas, "application/json", "", &json!({"metadata": {"name": "q"}, "spec": spec})).await;
        assert_eq!(code, 422, "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(told), "{refused}");
    }
}
