//! Custom resources with objects inside of them, and columns found by paths of any form.

use crate::stand::Stand;
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";
const JSON: &str = "application/json";

fn definition(columns: Value) -> Value {
    let template =
        json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    let condition = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "template": template, "conditions": {"type": "array", "items": condition}}}}});
    json!({"metadata": {"name": "widgets.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
            "additionalPrinterColumns": columns}]}})
}

#[tokio::test]
async fn embedded_objects_are_objects() {
    let stand = Stand::start().await;
    stand.create(DEFINITIONS, definition(json!([]))).await;
    stand.until(WIDGETS, |code, _| code == 200).await;
    let widget = |name: &str, template: Value| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"template": template}});

    let template = json!({"apiVersion": "v1", "kind": "Pod", "x": 1,
        "metadata": {"labels": {"a": "b"}, "bogus": 1, "creationTimestamp": null}});
    let created = stand.create(WIDGETS, widget("fine", template.clone())).await;
    let kept = json!({"apiVersion": "v1", "kind": "Pod", "x": 1, "metadata": {"labels": {"a": "b"}}});
    assert_eq!(created["spec"]["template"], kept);
    let strict = format!("{WIDGETS}?fieldValidation=Strict");
    let (code, status) = stand.call("POST", &strict, JSON, "", &widget("strict", template)).await;
    assert_eq!(code, 400, "{status}");
    assert!(status["message"].as_str().unwrap().contains("unknown field \"spec.template.metadata.bogus\""), "{status}");

    // Of the wrong type: no such object. Of the wrong form: an object that is not valid.
    let (code, status) =
        stand.call("POST", WIDGETS, JSON, "", &widget("a", json!({"apiVersion": "v1", "kind": 1}))).await;
    assert_eq!((code, &status["reason"]), (400, &json!("BadRequest")), "{status}");
    let template = json!({"apiVersion": "a/b/c", "metadata": {"labels": {"a": "b c"}, "name": "x/y"}});
    let (code, status) = stand.call("POST", WIDGETS, JSON, "", &widget("b", template.clone())).await;
    let causes = status["details"]["causes"].as_array().unwrap();
    let mut causes: Vec<_> =
        causes.iter().map(|c| format!("{} {}", c["field"].as_str().unwrap(), c["reason"].as_str().unwrap())).collect();
    causes.sort();
    let want = [
        "spec.template.apiVersion FieldValueInvalid",
        "spec.template.kind FieldValueRequired",
        "spec.template.metadata.labels FieldValueInvalid",
        "spec.template.metadata.name FieldValueInvalid",
    ];
    assert_eq!((code, &causes[..]), (422, &want.map(str::to_owned)[..]), "{status}");
    // The same by patch and apply.
    let patch = json!({"spec": {"template": template}});
    assert_eq!(
        stand.call("PATCH", &format!("{WIDGETS}/fine"), "application/merge-patch+json", "", &patch).await.0,
        422
    );
    let apply = format!("{WIDGETS}/new?fieldManager=a");
    let (code, _) = stand.call("PATCH", &apply, "application/apply-patch+yaml", "", &widget("new", template)).await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn columns_are_found_by_any_path() {
    let stand = Stand::start().await;
    let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    let columns = json!([
        column("Ready", ".spec.conditions[?(@.type==\"Ready\")].status"),
        column("Last", ".spec.conditions[-1].type"),
        column("All", ".spec.conditions"),
        column("Deep", "..reason"),
    ]);
    let mut bad = definition(json!([{"name": "n", "type": "string", "jsonPath": "spec.x"}]));
    let (code, status) = stand.call("POST", DEFINITIONS, JSON, "", &bad).await;
    assert_eq!(code, 422, "{status}");
    let field = &status["details"]["causes"][0]["field"];
    // Upstream names the columns that all versions share as if they stood above them.
    assert!(field.as_str().unwrap().ends_with("additionalPrinterColumns[0].JSONPath"), "{status}");
    // A bundle that is none.
    bad = definition(json!([]));
    bad["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://example.com", "caBundle": "Cg=="}}});
    let (code, status) = stand.call("POST", DEFINITIONS, JSON, "", &bad).await;
    assert_eq!(
        (code, &status["details"]["causes"][0]["field"]),
        (422, &json!("spec.conversion.webhookClientConfig.caBundle")),
        "{status}"
    );

    stand.create(DEFINITIONS, definition(columns)).await;
    stand.until(WIDGETS, |code, _| code == 200).await;
    let conditions =
        json!([{"type": "Ready", "status": "True", "reason": "Done"}, {"type": "Other", "status": "False"}]);
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"conditions": conditions}});
    stand.create(WIDGETS, widget).await;
    let accept = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let (_, table) = stand.call("GET", &format!("{WIDGETS}/w"), "", accept, &Value::Null).await;
    let all = r#"[{"reason":"Done","status":"True","type":"Ready"},{"status":"False","type":"Other"}]"#;
    assert_eq!(table["rows"][0]["cells"], json!(["w", "True", "Other", all, "Done"]));
    let description = "What .spec.conditions[-1].type leads to.";
    assert_eq!(table["columnDefinitions"][2]["description"], description);
}
