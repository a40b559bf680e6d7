//! Strict field validation: what a client misspells or says twice is refused, in built-in kinds and in custom ones.

use crate::stand::Stand;
use serde_json::{Value, json};

const APPLY: &str = "application/apply-patch+yaml";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Code and message of a request with a body written by hand.
async fn send(stand: &Stand, method: &str, path: &str, content: &str, body: &str) -> (u16, String) {
    let request = http::Request::builder().method(method).uri(path).header("content-type", content);
    let answer = stand.send(request.body(body.as_bytes().to_vec()).unwrap()).await;
    let status: Value = serde_json::from_slice(answer.body()).unwrap();
    (answer.status().as_u16(), status["message"].as_str().unwrap_or_default().to_owned())
}

/// Defines `things` of a group, and where they are.
async fn define(stand: &Stand, group: &str, schema: Value) -> String {
    let definition = json!({"metadata": {"name": format!("things.{group}")}, "spec": {
        "group": group, "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    stand.create(DEFINITIONS, definition).await;
    let path = format!("/apis/{group}/v1/namespaces/default/things");
    stand.until(&path, |code, _| code == 200).await;
    path
}

fn spec(properties: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}})
}

fn thing(group: &str, name: &str, rest: &str) -> String {
    format!(r#"{{"apiVersion":"{group}/v1","kind":"Thing","metadata":{{"name":"{name}"}},{rest}}}"#)
}

#[tokio::test]
async fn unknown_and_duplicate_fields_of_a_typed_object_are_refused() {
    let stand = Stand::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = |metadata: &str, spec: &str| {
        format!(
            r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"d",{metadata}"labels":{{"app":"nginx"}}}},"spec":{{{spec}
            "selector":{{"matchLabels":{{"app":"nginx"}}}},"template":{{"metadata":{{"labels":{{"app":"nginx"}}}},
            "spec":{{"containers":[{{"name":"nginx","image":"nginx:latest"}}]}}}}}}}}"#
        )
    };
    let (code, message) = send(
        &stand,
        "POST",
        &format!("{path}?fieldValidation=Strict"),
        "application/json",
        &deployment("", r#""unknownField":"foo","replicas":2,"replicas":3,"#),
    )
    .await;
    assert_eq!(code, 400, "{message}");
    assert!(message.contains("strict decoding error"), "{message}");
    for part in [r#"unknown field "spec.unknownField""#, r#"duplicate field "spec.replicas""#] {
        assert!(message.contains(part), "{message}");
    }
    // Those who only want a warning get one, once for each.
    let warned = http::Request::post(path).header("content-type", "application/json");
    let body = deployment("", r#""unknownField":"foo","replicas":2,"replicas":3,"#);
    let answer = stand.send(warned.body(body.into_bytes()).unwrap()).await;
    assert_eq!((answer.status().as_u16(), answer.headers().get_all("warning").iter().count()), (201, 2));

    let (code, message) = send(
        &stand,
        "PATCH",
        &format!("{path}/d?fieldValidation=Strict&fieldManager=m"),
        APPLY,
        &deployment(r#""unknownMeta":"foo","#, ""),
    )
    .await;
    let why = "failed to create typed patch object (default/d; apps/v1, Kind=Deployment): .metadata.unknownMeta: field not declared in schema";
    assert_eq!((code, &*message), (500, why));
    let (code, message) = send(
        &stand,
        "POST",
        &format!("{path}?fieldValidation=Strict"),
        "application/json",
        &deployment(r#""unknownMeta":"foo","#, ""),
    )
    .await;
    assert!(code == 400 && message.contains(r#"unknown field "metadata.unknownMeta""#), "{message}");
}

#[tokio::test]
async fn custom_resources_are_checked_by_their_schema() {
    let stand = Stand::start().await;
    let group = "schema.example.com";
    let things = define(&stand, group, spec(json!({"size": {"type": "integer"}}))).await;
    let strict = "fieldValidation=Strict&fieldManager=m";
    let apply = async |name: &str, rest: &str| {
        send(&stand, "PATCH", &format!("{things}/{name}?{strict}"), APPLY, &thing(group, name, rest)).await
    };
    assert_eq!(apply("valid", r#""spec":{"size":1}"#).await.0, 201);
    let create = format!("{things}?{strict}");
    assert_eq!(
        send(&stand, "POST", &create, "application/json", &thing(group, "made", r#""spec":{"size":1}"#)).await.0,
        201
    );

    let (code, message) = apply("extra", r#""spec":{"size":1,"extra":"x"}"#).await;
    let why = "failed to create typed patch object (default/extra; schema.example.com/v1, Kind=Thing): .spec.extra: field not declared in schema";
    assert_eq!((code, &*message), (500, why));
    let (code, message) =
        send(&stand, "POST", &create, "application/json", &thing(group, "extra", r#""spec":{"extra":"x"}"#)).await;
    assert!(code == 400 && message.contains(r#"unknown field "spec.extra""#), "{message}");
}

#[tokio::test]
async fn custom_resources_without_a_schema_take_anything_but_duplicates() {
    let stand = Stand::start().await;
    let group = "open.example.com";
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let things = define(&stand, group, open).await;
    let path = format!("{things}/t?fieldValidation=Strict&fieldManager=m");
    let (code, message) =
        send(&stand, "PATCH", &path, APPLY, &thing(group, "t", r#""spec":{"anything":{"goes":1}}"#)).await;
    assert_eq!(code, 201, "{message}");
    assert_eq!(stand.get(&format!("{things}/t")).await["spec"]["anything"]["goes"], 1);
    let (code, message) = send(
        &stand,
        "POST",
        &format!("{things}?fieldValidation=Strict"),
        "application/json",
        &thing(group, "twice", r#""spec":{"a":1,"a":2}"#),
    )
    .await;
    assert!(code == 400 && message.contains(r#"duplicate field "spec.a""#), "{message}");

    // What is said twice in YAML is named with its line.
    let twice = format!(
        "apiVersion: {group}/v1\nkind: Thing\nmetadata:\n  name: t\nspec:\n  a: 1\n  a: 2\n  b: {{c: 1, c: 2}}\n"
    );
    let lines = "error converting YAML to JSON: yaml: unmarshal errors:\n  line 7: key \"a\" already set in map\n  line 8: key \"c\" already set in map";
    let (code, message) = send(&stand, "PATCH", &path, APPLY, &twice).await;
    assert_eq!((code, message), (400, format!("error strict decoding YAML: {lines}")));
    let warned = path.replace("Strict", "Warn");
    let request = http::Request::patch(warned).header("content-type", APPLY).body(twice.into_bytes()).unwrap();
    let answer = stand.send(request).await;
    let warnings: Vec<_> = answer.headers().get_all("warning").iter().map(|v| v.to_str().unwrap()).collect();
    assert_eq!(answer.status(), 200);
    assert!(warnings.len() == 1 && warnings[0].contains("already set in map"), "{warnings:?}");
}

#[tokio::test]
async fn unknown_metadata_is_refused_at_the_root_and_in_embedded_objects() {
    let stand = Stand::start().await;
    let group = "embedded.example.com";
    let embedded = json!({"template": {"type": "object", "x-kubernetes-embedded-resource": true,
        "x-kubernetes-preserve-unknown-fields": true, "properties": {"metadata": {"type": "object"}}}});
    let things = define(&stand, group, spec(embedded)).await;
    let body = format!(
        r#"{{"apiVersion":"{group}/v1","kind":"Thing","metadata":{{"name":"t","unknownMeta":"x"}},"spec":{{"template":
        {{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p","unknownSubMeta":"y"}},"spec":{{"free":1}}}}}}}}"#
    );
    let path = format!("{things}?fieldValidation=Strict");
    let (code, message) = send(&stand, "POST", &path, "application/json", &body).await;
    assert_eq!(code, 400, "{message}");
    for field in ["metadata.unknownMeta", "spec.template.metadata.unknownSubMeta"] {
        assert!(message.contains(&format!("unknown field \"{field}\"")), "{message}");
    }
}
