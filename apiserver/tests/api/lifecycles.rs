//! API operations of kinds that conformance looks at one by one: every verb, the status, and deletion as a collection.

use crate::stand::Stand;
use serde_json::{Value, json};

#[tokio::test]
async fn objects_with_a_status_live_through_every_operation() {
    let stand = Stand::start().await;
    let flow = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let registration = "/apis/admissionregistration.k8s.io/v1";
    let condition = json!({"conditions": [{"type": "Tested", "status": "True", "reason": "Test", "message": "a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    let rules =
        json!([{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]);
    for (path, spec, status) in [
        (
            format!("{flow}/flowschemas"),
            json!({"matchingPrecedence": 10000, "priorityLevelConfiguration": {"name": "global-default"},
                "distinguisherMethod": {"type": "ByUser"}, "rules": [{
                    "subjects": [{"kind": "User", "user": {"name": "example-e2e-non-existent-user"}}],
                    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]}),
            Some(condition.clone()),
        ),
        (
            format!("{flow}/prioritylevelconfigurations"),
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}),
            Some(condition.clone()),
        ),
        (
            format!("{registration}/validatingadmissionpolicies"),
            json!({"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "object.spec.replicas <= 100"}]}),
            Some(condition),
        ),
        (
            format!("{registration}/validatingadmissionpolicybindings"),
            json!({"policyName": "replicas", "validationActions": ["Deny"]}),
            None,
        ),
    ] {
        operations(&stand, &path, spec, status).await;
    }
}

async fn operations(stand: &Stand, path: &str, spec: Value, status: Option<Value>) {
    let object = |name: &str| json!({"metadata": {"name": name, "labels": {"test": "lifecycle"}}, "spec": spec});
    let made = stand.create(path, object("one")).await;
    let one = format!("{path}/one");
    assert_eq!(stand.get(&one).await["metadata"]["uid"], made["metadata"]["uid"]);
    let selected = format!("{path}?labelSelector=test%3Dlifecycle");
    assert_eq!(stand.get(&selected).await["items"].as_array().unwrap().len(), 1);

    let patched = stand.merge(&one, json!({"metadata": {"annotations": {"patched": "true"}}})).await;
    assert_eq!(patched["metadata"]["annotations"]["patched"], "true");
    let updated = change(stand, &one, |object| object["metadata"]["annotations"]["updated"] = "true".into()).await;
    assert_eq!(updated["metadata"]["annotations"]["updated"], "true");

    if let Some(status) = status {
        let of_status = format!("{one}/status");
        assert_eq!(stand.get(&of_status).await["metadata"]["uid"], made["metadata"]["uid"]);
        let told = stand.merge(&of_status, json!({"status": status, "spec": null})).await;
        assert_eq!((tested(&told).is_some(), &told["spec"]), (true, &made["spec"]), "{told}");
        let update = |object: &mut Value| {
            let conditions = object["status"]["conditions"].as_array_mut().unwrap();
            conditions.iter_mut().find(|c| c["type"] == "Tested").unwrap()["message"] = "updated".into();
        };
        let told = change(stand, &of_status, update).await;
        assert_eq!(tested(&told).unwrap()["message"], "updated");
    }

    let since = made["metadata"]["resourceVersion"].as_str().unwrap();
    let watch = format!("{selected}&watch=1&timeoutSeconds=5&resourceVersion={since}");
    let event = stand.first_event(&watch).await;
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("MODIFIED"), &json!("one")));
    stand.delete(&one, Value::Null).await;
    stand.until_gone(&one).await;
    for name in ["two", "three"] {
        stand.create(path, object(name)).await;
    }
    stand.delete(&selected, Value::Null).await;
    stand.until(&selected, |_, list| list["items"] == json!([])).await;
}

fn tested(object: &Value) -> Option<&Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Tested")
}

/// A PUT of the object as `edit` leaves it, tried again when somebody else was faster: the server keeps conditions of its own.
async fn change(stand: &Stand, path: &str, edit: impl Fn(&mut Value)) -> Value {
    loop {
        let mut object = stand.get(path).await;
        edit(&mut object);
        match stand.call("PUT", path, "application/json", "", &object).await {
            (200, changed) => return changed,
            (409, _) => {}
            (code, why) => panic!("PUT {path}: {code}: {why}"),
        }
    }
}
