//! What a CustomResourceDefinition can say of its objects, beyond their schema: fields to select by, replicas, columns, warnings;
//! and definitions that others publish.

use crate::stand::{Stand, shared};
use serde_json::{Value, json};

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const SHIRTS: &str = "/apis/stable.example.com/v1/namespaces/default/shirts";

fn shirts() -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "color": {"type": "string"}, "size": {"type": "integer"}, "pockets": {"type": "boolean"},
            "count": {"type": "object", "properties": {"wanted": {"type": "integer"}}}}},
        "status": {"type": "object", "properties": {"there": {"type": "integer"}, "selector": {"type": "string"}}},
    }});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "shirts.stable.example.com"},
    "spec": {"group": "stable.example.com", "scope": "Namespaced", "names": {"plural": "shirts", "kind": "Shirt", "shortNames": ["sh"], "categories": ["all"]},
        "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                "selectableFields": [{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.size"}, {"jsonPath": ".spec.pockets"}],
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.count.wanted",
                    "statusReplicasPath": ".status.there", "labelSelectorPath": ".status.selector"}},
                "additionalPrinterColumns": [{"name": "Color", "type": "string", "jsonPath": ".spec.color"},
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1}]},
            {"name": "v1beta1", "served": true, "storage": false, "deprecated": true, "schema": {"openAPIV3Schema": schema}},
        ]}})
}

async fn define(stand: &Stand, definition: &Value) {
    let (code, made) = stand.call("POST", CRDS, JSON, "", definition).await;
    assert_eq!(code, 201, "{made}");
    let path = format!("{CRDS}/{}", definition["metadata"]["name"].as_str().unwrap());
    for _ in 0..400 {
        let (_, now) = stand.call("GET", &path, "", "", &Value::Null).await;
        let conditions = now["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("{path} is not established");
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_definition_gives_fields_to_select_by_replicas_and_columns() {
    let stand = Stand::start().await;
    define(&stand, &shirts()).await;
    for (name, color, size, pockets) in [("a", "blue", 1, true), ("b", "red", 2, false), ("c", "blue", 2, false)] {
        let shirt = json!({"apiVersion": "stable.example.com/v1", "kind": "Shirt", "metadata": {"name": name},
            "spec": {"color": color, "size": size, "pockets": pockets, "count": {"wanted": 3}}});
        assert_eq!(stand.call("POST", SHIRTS, JSON, "", &shirt).await.0, 201);
    }
    for (selector, found) in [
        ("spec.color=blue", vec!["a", "c"]),
        ("spec.color=blue,spec.size=2", vec!["c"]),
        ("spec.pockets=true", vec!["a"]),
        ("spec.color!=blue", vec!["b"]),
    ] {
        let (_, list) = stand.call("GET", &format!("{SHIRTS}?fieldSelector={selector}"), "", "", &Value::Null).await;
        assert_eq!(names(&list), found, "{selector}");
        assert_eq!(list["items"][0]["kind"], "Shirt");
    }
    let event = stand.first_event(&format!("{SHIRTS}?watch=1&timeoutSeconds=5&fieldSelector=spec.color%3Dred")).await;
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("b")));
    let (code, status) = stand.call("GET", &format!("{SHIRTS}?fieldSelector=spec.none=1"), "", "", &Value::Null).await;
    assert_eq!((code, &status["message"]), (400, &json!("field label not supported: spec.none")));
    let beta = SHIRTS.replace("/v1/", "/v1beta1/");
    assert_eq!(stand.call("GET", &format!("{beta}?fieldSelector=spec.color=blue"), "", "", &Value::Null).await.0, 400);

    let scale = format!("{SHIRTS}/a/scale");
    let status = json!({"status": {"there": 2, "selector": "a=b"}});
    assert_eq!(stand.call("PATCH", &format!("{SHIRTS}/a/status"), MERGE, "", &status).await.0, 200);
    let (_, read) = stand.call("GET", &scale, "", "", &Value::Null).await;
    assert_eq!((&read["spec"], &read["status"]), (&json!({"replicas": 3}), &json!({"replicas": 2, "selector": "a=b"})));
    assert_eq!(stand.call("PATCH", &scale, MERGE, "", &json!({"spec": {"replicas": 7}})).await.0, 200);
    let (_, shirt) = stand.call("GET", &format!("{SHIRTS}/a"), "", "", &Value::Null).await;
    assert_eq!(shirt["spec"]["count"]["wanted"], 7);

    let (_, table) = stand.call("GET", SHIRTS, "", "application/json;as=Table;g=meta.k8s.io;v=v1", &Value::Null).await;
    assert_eq!(
        (&table["columnDefinitions"][2]["priority"], &table["rows"][0]["cells"]),
        (&json!(1), &json!(["a", "blue", 1]))
    );
    let old = stand.send(http::Request::get(&beta).body(Vec::new()).unwrap()).await;
    let warning = old.headers()["warning"].to_str().unwrap();
    assert_eq!(warning, "299 - \"stable.example.com/v1beta1 Shirt is deprecated\"");
}

#[tokio::test]
async fn a_new_schema_completes_old_objects_and_a_definition_that_goes_takes_no_new_ones() {
    let stand = Stand::start().await;
    define(&stand, &shirts()).await;
    let shirt = |name: &str| {
        json!({"apiVersion": "stable.example.com/v1", "kind": "Shirt", "spec": {"size": 1},
        "metadata": {"name": name, "finalizers": ["example.com/hold"]}})
    };
    assert_eq!(stand.call("POST", SHIRTS, JSON, "", &shirt("a")).await.0, 201);
    let mut changed = shirts();
    for version in changed["spec"]["versions"].as_array_mut().unwrap() {
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["color"]["default"] = json!("green");
    }
    let path = format!("{CRDS}/shirts.stable.example.com");
    assert_eq!(stand.call("PATCH", &path, MERGE, "", &json!({"spec": changed["spec"]})).await.0, 200);
    let mut read = Value::Null;
    for _ in 0..400 {
        read = stand.call("GET", &format!("{SHIRTS}?fieldSelector=spec.color=green"), "", "", &Value::Null).await.1;
        if read["items"].as_array().is_some_and(|i| i.len() == 1) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert_eq!(read["items"][0]["spec"], json!({"size": 1, "color": "green"}));

    let generation = stand.get(&path).await["metadata"]["generation"].clone();
    let (code, deleted) = stand.call("DELETE", &path, "", "", &Value::Null).await;
    let meta = &deleted["metadata"];
    assert!(
        code == 200 && meta["deletionTimestamp"].is_string() && meta["deletionGracePeriodSeconds"].is_null(),
        "{deleted}"
    );
    assert_eq!(meta["generation"], generation, "it is the same definition still");
    let conditions = deleted["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["reason"] == "InstanceDeletionPending"), "{conditions:?}");
    let mut refused = (0, Value::Null);
    for _ in 0..400 {
        refused = stand.call("POST", &format!("{SHIRTS}?dryRun=All"), JSON, "", &shirt("b")).await;
        if refused.0 == 405 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert_eq!(refused.1["message"], "create not allowed while custom resource definition is terminating");
    let (_, definition) = stand.call("GET", &path, "", "", &Value::Null).await;
    let conditions = definition["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "Terminating" && c["status"] == "True"), "{conditions:?}");
    // Its controller lets the last object go, and the definition follows.
    let release = json!({"metadata": {"finalizers": null}});
    assert_eq!(stand.call("PATCH", &format!("{SHIRTS}/a"), MERGE, "", &release).await.0, 200);
    for _ in 0..400 {
        if stand.call("GET", &path, "", "", &Value::Null).await.0 == 404 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the definition does not go");
}

#[tokio::test]
async fn definitions_that_cannot_be_kept_to_are_refused_with_a_place() {
    let stand = Stand::start().await;
    let cases: [(&str, Value, &str); 6] = [
        (
            "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/color",
            json!({}),
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[color].type",
        ),
        (
            "/spec/versions/0/selectableFields/0/jsonPath",
            json!(".spec.none"),
            "spec.versions[0].selectableFields[0].jsonPath",
        ),
        (
            "/spec/versions/0/selectableFields/0/jsonPath",
            json!(".spec.count"),
            "spec.versions[0].selectableFields[0].jsonPath",
        ),
        (
            "/spec/versions/0/subresources/scale/specReplicasPath",
            json!(".status.x"),
            "spec.versions[0].subresources.scale.specReplicasPath",
        ),
        ("/spec/versions/1/storage", json!(true), "spec.versions"),
        ("/spec/group", json!("things.k8s.io"), "metadata.annotations[api-approved.kubernetes.io]"),
    ];
    for (pointer, value, field) in cases {
        let mut definition = shirts();
        *definition.pointer_mut(pointer).unwrap() = value;
        let (code, status) = stand.call("POST", CRDS, JSON, "", &definition).await;
        let fields: Vec<&str> =
            status["details"]["causes"].as_array().into_iter().flatten().filter_map(|c| c["field"].as_str()).collect();
        assert!(code == 422 && fields.contains(&field), "{pointer}: {status}");
    }
}

/// The documents in a file of YAML, or of one JSON document a line, compressed.
fn yaml_documents(path: &std::path::Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    if path.extension().is_none_or(|extension| extension != "gz") {
        return String::from_utf8(bytes).unwrap();
    }
    let lines = std::io::read_to_string(flate2::read::GzDecoder::new(&bytes[..])).unwrap();
    lines.lines().collect::<Vec<_>>().join("\n---\n")
}

#[tokio::test]
async fn definitions_that_others_publish_are_served() {
    let Some(folder) = shared("facts/crds") else { return };
    let stand = Stand::start().await;
    let mut definitions = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let text = yaml_documents(&file.unwrap().path());
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let definition: Value = serde::Deserialize::deserialize(document).unwrap();
            if definition["kind"] != "CustomResourceDefinition" {
                continue;
            }
            define(&stand, &definition).await;
            definitions += 1;
            let spec = &definition["spec"];
            for version in spec["versions"].as_array().unwrap().iter().filter(|v| v["served"] == true) {
                let (group, version) = (spec["group"].as_str().unwrap(), version["name"].as_str().unwrap());
                let url = format!("/openapi/v3/apis/{group}/{version}");
                let (code, document) = stand.call("GET", &url, "", "", &Value::Null).await;
                let domain: Vec<&str> = group.split('.').rev().collect();
                let name = format!("{}.{version}.{}", domain.join("."), spec["names"]["kind"].as_str().unwrap());
                assert!(code == 200 && document["components"]["schemas"][&name].is_object(), "{name}");
            }
        }
    }
    assert!(definitions > 0);
}
