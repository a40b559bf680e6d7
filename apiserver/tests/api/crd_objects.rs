//! Definitions as objects: made, watched, listed, their status, and what a changed schema fills in.

use crate::stand::Stand;
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition(plural: &str, schema: Value) -> Value {
    json!({"metadata": {"name": format!("{plural}.objects.example.com"), "labels": {"test": plural}}, "spec": {
        "group": "objects.example.com", "scope": "Namespaced", "names": {"plural": plural, "kind": format!("{}Kind", plural.to_uppercase())},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

fn open() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

#[tokio::test]
async fn definitions_are_made_watched_and_deleted() {
    let stand = Stand::start().await;
    let since = stand.get(DEFINITIONS).await["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let path = format!("{DEFINITIONS}/as.objects.example.com");
    stand.create(DEFINITIONS, definition("as", open())).await;
    let established = |_, definition: &Value| {
        let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|c| c["type"] == "Established" && c["status"] == "True")
    };
    stand.until(&path, established).await;
    stand.merge(&path, json!({"metadata": {"labels": {"changed": "yes"}}})).await;
    stand.delete(&path, Value::Null).await;
    stand.until_gone(&path).await;
    let (_, events) = stand
        .call("GET", &format!("{DEFINITIONS}?watch=1&timeoutSeconds=1&resourceVersion={since}"), "", "", &Value::Null)
        .await;
    // Several documents in a row, so not JSON as a whole.
    let events: Vec<Value> = events.as_str().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let types: Vec<&str> =
        events.iter().map(|event| event["type"].as_str().unwrap()).filter(|t| *t != "BOOKMARK").collect();
    assert_eq!((types[0], *types.last().unwrap()), ("ADDED", "DELETED"));
    assert!(events.iter().any(|e| e["type"] == "MODIFIED" && e["object"]["metadata"]["labels"]["changed"] == "yes"));
}

#[tokio::test]
async fn definitions_are_listed_and_deleted_by_label() {
    let stand = Stand::start().await;
    for n in 0..10 {
        let mut one = definition(&format!("n{n}s"), open());
        one["metadata"]["labels"]["test"] = "many".into();
        stand.create(DEFINITIONS, one).await;
    }
    stand.create(DEFINITIONS, definition("others", open())).await;
    let selected = format!("{DEFINITIONS}?labelSelector=test%3Dmany");
    assert_eq!(stand.get(&selected).await["items"].as_array().unwrap().len(), 10);
    stand.delete(&selected, Value::Null).await;
    stand.until(&selected, |_, list| list["items"].as_array().unwrap().is_empty()).await;
    stand.get(&format!("{DEFINITIONS}/others.objects.example.com")).await;
}

#[tokio::test]
async fn the_status_of_a_definition_is_read_updated_and_patched() {
    let stand = Stand::start().await;
    let path = format!("{DEFINITIONS}/ss.objects.example.com");
    let status = format!("{path}/status");
    stand.create(DEFINITIONS, definition("ss", open())).await;
    // The server writes it too: until the names are settled an update may come too late.
    stand.until(&path, |_, d| d["status"]["conditions"].as_array().is_some_and(|c| c.len() == 2)).await;
    let mut read = stand.get(&status).await;
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "E2E", "message": "Set by a test"});
    read["status"]["conditions"].as_array_mut().unwrap().push(condition("StatusUpdate"));
    let updated = stand.update(&status, read).await;
    let mut conditions = updated["status"]["conditions"].as_array().unwrap().clone();
    assert!(conditions.iter().any(|c| c["type"] == "StatusUpdate"));
    conditions.push(condition("StatusPatch"));
    let patched =
        stand.merge(&status, json!({"status": {"conditions": conditions}, "spec": {"scope": "Cluster"}})).await;
    assert_eq!(patched["spec"]["scope"], "Namespaced");
    let types = stand.get(&path).await;
    assert!(types["status"]["conditions"].as_array().unwrap().iter().any(|c| c["type"] == "StatusPatch"));
}

#[tokio::test]
async fn defaults_are_filled_in_for_requests_and_from_storage() {
    let stand = Stand::start().await;
    let path = format!("{DEFINITIONS}/ds.objects.example.com");
    let schema = |a: Value, b: Value| json!({"type": "object", "properties": {"a": a, "b": b}});
    let (plain, with) = (json!({"type": "string"}), |text: &str| json!({"type": "string", "default": text}));
    stand.create(DEFINITIONS, definition("ds", schema(plain.clone(), plain.clone()))).await;
    let objects = "/apis/objects.example.com/v1/namespaces/default/ds";
    stand.until(objects, |code, _| code == 200).await;
    let object =
        |name: &str| json!({"apiVersion": "objects.example.com/v1", "kind": "DSKind", "metadata": {"name": name}});
    stand.create(objects, object("first")).await;
    let change = async |schema: Value| {
        let patch = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema}]);
        assert_eq!(stand.call("PATCH", &path, "application/json-patch+json", "", &patch).await.0, 200);
    };
    change(schema(with("A"), plain.clone())).await;
    // From storage.
    stand.until(&format!("{objects}/first"), |_, o| o["a"] == "A").await;
    assert_eq!(stand.create(objects, object("second")).await["a"], "A");
    change(schema(plain, with("B"))).await;
    let second = stand.until(&format!("{objects}/second"), |_, o| o["b"] == "B").await;
    // What a request was given is stored; what was only filled in by a read is not.
    assert_eq!(second["a"], "A");
    assert!(stand.get(&format!("{objects}/first")).await["a"].is_null());
}

#[tokio::test]
async fn a_null_is_as_good_as_absent_but_for_who_applies_it() {
    let stand = Stand::start().await;
    let spec = json!({"type": "object", "properties": {"part": {"type": "object"}, "maybe": {"type": "string", "nullable": true}}});
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    stand.create(DEFINITIONS, definition("ns", schema)).await;
    let path = "/apis/objects.example.com/v1/namespaces/default/ns";
    stand.until(path, |code, _| code == 200).await;
    let object = json!({"apiVersion": "objects.example.com/v1", "kind": "NSKind", "metadata": {"name": "a"},
        "spec": {"part": null, "maybe": null}});
    let made = stand.create(path, object.clone()).await;
    assert_eq!(made["spec"], json!({"maybe": null}));
    let (apply, accept) = ("application/apply-patch+yaml", "application/json");
    let (code, status) = stand.call("PATCH", &format!("{path}/b?fieldManager=m"), apply, accept, &object).await;
    assert_eq!(code, 400, "another name: {status}");
    let mut object = object;
    object["metadata"]["name"] = "b".into();
    let (code, status) = stand.call("PATCH", &format!("{path}/b?fieldManager=m"), apply, accept, &object).await;
    assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!("spec.part")), "{status}");
}
