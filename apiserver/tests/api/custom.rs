//! Custom resources: a definition makes a kind that is served like any other, and takes it away again.

use crate::stand::Stand;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::runtime::{conditions, wait::await_condition};
use serde_json::json;

#[tokio::test]
async fn a_definition_makes_a_kind() {
    let stand = Stand::start().await;
    let client = stand.admin().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let spec = json!({"type": "object", "required": ["size"], "properties": {
        "size": {"type": "integer", "maximum": 10},
        "color": {"type": "string", "default": "red"},
        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
            "type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}}},
    }});
    let definition = serde_json::from_value(json!({"metadata": {"name": "widgets.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": {"type": "object",
                "x-kubernetes-preserve-unknown-fields": true}}}}}],
    }}));
    definitions.create(&PostParams::default(), &definition.unwrap()).await.unwrap();
    await_condition(definitions.clone(), "widgets.example.com", conditions::is_crd_established()).await.unwrap();

    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.com", "v1", "Widget"), "widgets");
    let widgets: Api<DynamicObject> = Api::default_namespaced_with(client, &kind);
    let apply = |manager: &str, spec: serde_json::Value| {
        let object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
        let (widgets, params) = (widgets.clone(), PatchParams::apply(manager));
        async move { widgets.patch("w", &params, &Patch::Apply(&object)).await }
    };
    assert!(apply("one", json!({"size": 1, "bogus": 1})).await.is_err(), "only what is declared can be owned");
    let first = apply("one", json!({"size": 1, "parts": [{"name": "a", "n": 1}]})).await.unwrap();
    assert_eq!(first.data["spec"], json!({"size": 1, "color": "red", "parts": [{"name": "a", "n": 1}]}));

    let second = apply("two", json!({"size": 1, "parts": [{"name": "b"}]})).await.unwrap();
    assert_eq!(second.data["spec"]["parts"], json!([{"name": "a", "n": 1}, {"name": "b"}]));
    assert!(apply("two", json!({"size": 11})).await.is_err());

    let status = Patch::Merge(json!({"status": {"ready": true}, "spec": {"size": 5}}));
    let third = widgets.patch_status("w", &PatchParams::default(), &status).await.unwrap();
    assert_eq!((&third.data["status"]["ready"], &third.data["spec"]["size"]), (&json!(true), &json!(1)));
    assert_eq!(widgets.list(&ListParams::default()).await.unwrap().items.len(), 1);

    definitions.delete("widgets.example.com", &DeleteParams::default()).await.unwrap();
    await_condition(definitions, "widgets.example.com", |d: Option<&CustomResourceDefinition>| d.is_none())
        .await
        .unwrap();
    assert!(widgets.list(&ListParams::default()).await.is_err());
}
