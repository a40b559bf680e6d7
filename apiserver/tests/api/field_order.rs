//! JSON has its members in the order in which upstream's types declare them: people read it, and some clients compare text.

use crate::stand::Stand;
use http::Request;
use serde_json::json;

/// The answer's body as it came.
async fn text(stand: &Stand, path: &str, accept: &str) -> String {
    let request = Request::get(path).header("accept", accept).body(Vec::new()).unwrap();
    String::from_utf8(stand.send(request).await.into_body()).unwrap()
}

/// Fails unless the names stand in the text in this order.
fn in_order(text: &str, names: &[&str]) {
    let mut rest = text;
    for name in names {
        let member = format!("\"{name}\":");
        let Some(at) = rest.find(&member) else {
            panic!("{name} of {names:?} is missing or stands too early in {text}")
        };
        rest = &rest[at + member.len()..];
    }
}

#[tokio::test]
async fn built_in_kinds_and_what_wraps_them_are_in_the_order_of_their_types() {
    let stand = Stand::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let container = json!({"ports": [{"protocol": "TCP", "containerPort": 80}], "image": "i", "name": "c"});
    let pod = json!({"spec": {"tolerations": [{"operator": "Exists"}], "containers": [container]},
        "metadata": {"name": "p", "annotations": {"b": "1", "a": "2"}, "labels": {"z": "1"}}});
    stand.create(pods, pod).await;

    let pod = [
        "kind",
        "apiVersion",
        "metadata",
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "labels",
    ];
    let pod = [&pod[..], &["annotations", "a", "b", "managedFields", "spec", "containers", "name", "image", "ports"]]
        .concat();
    let pod = [&pod[..], &["containerPort", "protocol", "restartPolicy", "tolerations", "status", "phase", "qosClass"]]
        .concat();
    let json = "application/json";
    let got = text(&stand, &format!("{pods}/p"), json).await;
    assert!(
        got.starts_with(r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","namespace":"default","#),
        "{got}"
    );
    in_order(&got, &pod);

    let got = text(&stand, pods, json).await;
    assert!(got.starts_with(r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":""#), "{got}");
    assert!(got.contains(r#"},"items":[{"metadata":{"name":"p""#), "{got}");

    let got = text(&stand, &format!("{pods}/none"), json).await;
    let want = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"none\" not found","reason":"NotFound","details":{"name":"none","kind":"pods"},"code":404}"#;
    assert_eq!(got, format!("{want}\n"));

    let got = text(&stand, &format!("{pods}?watch=true&timeoutSeconds=1&resourceVersion=0"), json).await;
    assert!(
        got.starts_with(r#"{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p""#),
        "{got}"
    );

    let got = text(&stand, pods, "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    assert!(got.starts_with(r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"#), "{got}");
    in_order(
        &got,
        &["columnDefinitions", "name", "type", "format", "description", "priority", "rows", "cells", "object"],
    );

    let got = text(&stand, "/apis/apps/v1", json).await;
    assert!(
        got.starts_with(
            r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"apps/v1","resources":[{"name":""#
        ),
        "{got}"
    );
    in_order(
        &got,
        &["name", "singularName", "namespaced", "kind", "verbs", "shortNames", "categories", "storageVersionHash"],
    );
}

#[tokio::test]
async fn custom_resources_are_in_the_order_of_their_names() {
    let stand = Stand::start().await;
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({"metadata": {"name": "things.order.example.com"}, "spec": {
        "group": "order.example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": open}}]}});
    stand.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    let things = "/apis/order.example.com/v1/namespaces/default/things";
    stand.until(things, |code, _| code == 200).await;
    stand.create(things, json!({"spec": {"b": 1, "a": 2}, "kind": "Thing", "metadata": {"name": "t"}})).await;
    let got = text(&stand, &format!("{things}/t"), "application/json").await;
    assert!(
        got.starts_with(r#"{"apiVersion":"order.example.com/v1","kind":"Thing","metadata":{"creationTimestamp":""#),
        "{got}"
    );
    in_order(
        &got,
        &[
            "creationTimestamp",
            "generation",
            "managedFields",
            "name",
            "namespace",
            "resourceVersion",
            "uid",
            "spec",
            "a",
            "b",
        ],
    );
    let got = text(&stand, things, "application/json").await;
    assert!(got.starts_with(r#"{"apiVersion":"order.example.com/v1","items":[{"apiVersion""#), "{got}");
    assert!(
        got.trim_end().ends_with(r#""}}"#)
            && got.contains(r#"],"kind":"ThingList","metadata":{"continue":"","resourceVersion":"#),
        "{got}"
    );
}
