//! OpenAPI as clients fetch it: both versions, both encodings, what a definition adds to it and takes away.

use crate::stand::Stand;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const PROTO: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

fn get(path: &str, headers: &[(&str, &str)]) -> http::Request<Vec<u8>> {
    let request = headers.iter().fold(http::Request::get(path), |r, (name, value)| r.header(*name, *value));
    request.body(Vec::new()).unwrap()
}

fn header<'a>(response: &'a http::Response<Vec<u8>>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |v| v.to_str().unwrap())
}

#[tokio::test]
async fn documents_are_negotiated_tagged_and_named_by_their_hash() {
    let stand = Stand::start().await;
    let plain = stand.send(get("/openapi/v2", &[])).await;
    let document: Value = serde_json::from_slice(plain.body()).unwrap();
    assert_eq!((header(&plain, "content-type"), &document["swagger"]), ("application/json", &json!("2.0")));
    let ids: Vec<&str> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .filter_map(|operation| operation.get("operationId")?.as_str())
        .collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len());
    assert!(ids.contains(&"createCoreV1NamespacedPod") && ids.contains(&"listAppsV1DeploymentForAllNamespaces"));

    // Clients in Go ask for protobuf, and take JSON behind it. What they ask for is no media type that they could parse, so the
    // answer is called otherwise.
    let sent = PROTO.replace('@', ".");
    for accept in [PROTO, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf, application/json"] {
        let proto = stand.send(get("/openapi/v2", &[("accept", accept)])).await;
        assert_eq!((header(&proto, "content-type"), &proto.body()[..5]), (sent.as_str(), b"\x0a\x032.0".as_slice()));
    }
    assert_eq!(stand.send(get("/openapi/v2", &[("accept", "text/html")])).await.status(), 406);
    let tag = header(&plain, "etag").to_owned();
    let again = stand.send(get("/openapi/v2", &[("if-none-match", &tag)])).await;
    assert_eq!((again.status().as_u16(), again.body().len()), (304, 0));

    let (_, root) = stand.call("GET", "/openapi/v3", "", "", &Value::Null).await;
    let apps = root["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let hashed = stand.send(get(apps, &[])).await;
    assert_eq!((hashed.status().as_u16(), header(&hashed, "cache-control")), (200, "public, immutable"));
    assert!(header(&hashed, "expires").ends_with("GMT"));
    let stale = stand.send(get("/openapi/v3/apis/apps/v1?hash=0", &[])).await;
    assert_eq!((stale.status().as_u16(), header(&stale, "location")), (301, apps));
    let unhashed = stand.send(get("/openapi/v3/apis/apps/v1", &[])).await;
    assert_eq!(header(&unhashed, "cache-control"), "no-cache, private");
    assert_eq!(stand.send(get("/openapi/v3/apis/none/v1", &[])).await.status(), 404);
}

#[tokio::test]
async fn types_fields_and_operations_are_described() {
    let stand = Stand::start().await;
    let (_, v3) = stand.call("GET", "/openapi/v3/apis/apps/v1", "", "", &Value::Null).await;
    let (_, v2) = stand.call("GET", "/openapi/v2", "", "", &Value::Null).await;
    let said = |value: &Value| value["description"].as_str().is_some_and(|text| text.len() > 20);
    let path = "/apis/apps/v1/namespaces/{namespace}/deployments";
    for (document, schemas, base) in
        [(&v3, &v3["components"]["schemas"], "#/components/schemas/"), (&v2, &v2["definitions"], "#/definitions/")]
    {
        let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
        let reference = json!({"$ref": format!("{base}io.k8s.api.apps.v1.DeploymentSpec")});
        // Version 3 allows nothing beside a reference, and says what is there when nothing is given; version 2 has both otherwise.
        let mut spec = deployment["properties"]["spec"].clone();
        assert!(said(deployment) && said(&spec), "{deployment}");
        spec.as_object_mut().unwrap().remove("description");
        let wrapped = json!({"allOf": [reference], "default": {}});
        assert_eq!(spec, if document == &v3 { wrapped } else { reference });
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert!(said(containers) && said(&schemas["io.k8s.apimachinery.pkg.apis.meta.v1.Time"]), "{containers}");
        let list = &schemas["io.k8s.api.apps.v1.DeploymentList"];
        assert!(said(list) && said(&list["properties"]["items"]) && said(&list["properties"]["metadata"]), "{list}");
        let operation = &document["paths"][path]["get"];
        assert_eq!(operation["description"], "list or watch objects of kind Deployment");
        assert!(
            operation["parameters"].as_array().unwrap().iter().all(|p| p["description"].is_string()),
            "{operation}"
        );
    }
    let name = &v3["components"]["schemas"]["io.k8s.api.core.v1.Container"]["properties"]["name"];
    assert_eq!((&name["default"], &name["type"]), (&json!(""), &json!("string")));

    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object"}}});
    stand.create(crds, definition("Told", json!([version("v1", true, &schema)]))).await;
    let foo = published_whole(&stand, "v1", "Told", Value::is_object).await;
    for name in ["apiVersion", "kind", "metadata"] {
        assert!(said(&foo["properties"][name]), "{foo}");
    }
}

#[tokio::test]
async fn documents_are_the_same_in_gzip_and_in_protobuf() {
    let stand = Stand::start().await;
    let path = "/openapi/v3/api/v1";
    let plain = stand.send(get(path, &[])).await;
    let packed = stand.send(get(path, &[("accept-encoding", "gzip")])).await;
    assert_eq!((header(&plain, "content-encoding"), header(&packed, "content-encoding")), ("", "gzip"));
    assert_eq!(header(&plain, "content-length"), plain.body().len().to_string());
    assert!(packed.body().len() * 5 < plain.body().len(), "{} {}", packed.body().len(), plain.body().len());
    let mut inflated = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed.body()[..]), &mut inflated).unwrap();
    assert!(inflated == *plain.body());

    let proto = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
    let answer = stand.send(get(path, &[("accept", proto)])).await;
    let sent = proto.replace('@', ".");
    assert_eq!((header(&answer, "content-type"), &answer.body()[..7]), (sent.as_str(), b"\x0a\x053.0.0".as_slice()));
    // The list of documents names one hash, whatever they are sent in.
    assert_eq!(header(&answer, "etag"), header(&plain, "etag"));
    let again = stand.send(get(path, &[("accept", &sent), ("if-none-match", header(&answer, "etag"))])).await;
    assert_eq!(again.status(), 304);
    assert_eq!(stand.send(get(path, &[("accept", "text/html")])).await.status(), 406);
}

#[tokio::test]
async fn every_kind_has_a_schema_that_refers_to_nothing_missing() {
    let stand = Stand::start_with(&["--runtime-config=api/all=true"]).await;
    let (_, root) = stand.call("GET", "/openapi/v3", "", "", &Value::Null).await;
    for (path, url) in root["paths"].as_object().unwrap() {
        let (code, document) =
            stand.call("GET", url["serverRelativeURL"].as_str().unwrap(), "", "", &Value::Null).await;
        assert_eq!(code, 200, "{path}");
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for reference in references(&document) {
            let name = reference.strip_prefix("#/components/schemas/").unwrap();
            assert!(schemas.contains_key(name), "{path}: {name} is missing");
        }
        // `kubectl explain` finds a resource by the operations on it, and its schema by the kind.
        let (_, resources) = stand.call("GET", &format!("/{path}"), "", "", &Value::Null).await;
        for resource in resources["resources"].as_array().into_iter().flatten() {
            let (name, kind) = (resource["name"].as_str().unwrap(), resource["kind"].as_str().unwrap());
            let ours = resource.get("group").is_none() && !name.contains('/');
            let has = |s: &Value| {
                let kinds = s["x-kubernetes-group-version-kind"].as_array();
                kinds.is_some_and(|k| k.iter().any(|k| k["kind"] == kind))
            };
            assert!(!ours || schemas.values().any(has), "{path}: nothing of {kind}");
        }
    }
}

fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let own = members.get("$ref").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(members.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

fn definition(kind: &str, versions: Value) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.open.example.com")},
        "spec": {"group": "open.example.com", "scope": "Namespaced", "names": {"plural": plural, "kind": kind}, "versions": versions}})
}

fn version(name: &str, storage: bool, schema: &Value) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}})
}

/// What the document says of a kind, without what all objects have; waits until `until` likes it.
async fn published(stand: &Stand, version: &str, kind: &str, until: impl Fn(&Value) -> bool) -> Value {
    let mut schema = published_whole(stand, version, kind, until).await;
    let Some(members) = schema.as_object_mut() else { return Value::Null };
    members.remove("x-kubernetes-group-version-kind");
    if let Some(properties) = members.get_mut("properties").and_then(Value::as_object_mut) {
        properties.retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata"));
    }
    schema
}

/// The same with all that is said.
async fn published_whole(stand: &Stand, version: &str, kind: &str, until: impl Fn(&Value) -> bool) -> Value {
    let name = format!("com.example.open.{version}.{kind}");
    for _ in 0..400 {
        let (_, document) = stand.call("GET", "/openapi/v2", "", "", &Value::Null).await;
        let schema = document["definitions"][&name].clone();
        if until(&schema) {
            return schema;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("{name} is not as it should be");
}

#[tokio::test]
async fn definitions_are_published_while_they_are_served() {
    let stand = Stand::start().await;
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let schema = json!({"type": "object", "description": "Foo CRD", "properties": {"spec": {"type": "object", "required": ["bars"],
        "properties": {"bars": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "age": {"type": "string", "nullable": true}}}},
            "any": {"x-kubernetes-int-or-string": true}, "embedded": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}}});
    let made = stand
        .call(
            "POST",
            crds,
            "application/json",
            "",
            &definition("Foo", json!([version("v1", true, &schema), version("v2", false, &schema)])),
        )
        .await;
    assert_eq!(made.0, 201, "{}", made.1);
    for of in ["v1", "v2"] {
        let foo = published(&stand, of, "Foo", Value::is_object).await;
        let spec = &foo["properties"]["spec"];
        assert_eq!(foo["description"], "Foo CRD");
        assert_eq!(
            (&spec["required"], &spec["properties"]["bars"]["x-kubernetes-list-map-keys"]),
            (&json!(["bars"]), &json!(["name"]))
        );
        assert_eq!(spec["properties"]["bars"]["items"]["properties"]["age"], json!({}));
    }
    let (_, v3) = stand.call("GET", "/openapi/v3/apis/open.example.com/v1", "", "", &Value::Null).await;
    let foo = &v3["components"]["schemas"]["com.example.open.v1.Foo"];
    assert_eq!(foo["properties"]["spec"]["properties"]["bars"]["items"]["properties"]["age"]["nullable"], true);
    assert!(v3["paths"]["/apis/open.example.com/v1/namespaces/{namespace}/foos/{name}"]["patch"].is_object());

    // Anything goes at the root: clients that check by version 2 must not refuse it.
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"spec": {"type": "object"}}});
    stand.call("POST", crds, "application/json", "", &definition("Open", json!([version("v1", true, &open)]))).await;
    assert_eq!(published(&stand, "v1", "Open", Value::is_object).await, json!({"type": "object"}));

    // A version that is served no more, then one under a new name.
    let foos = format!("{crds}/foos.open.example.com");
    let patch = json!([{"op": "replace", "path": "/spec/versions/1/served", "value": false}]);
    assert_eq!(stand.call("PATCH", &foos, "application/json-patch+json", "", &patch).await.0, 200);
    published(&stand, "v2", "Foo", Value::is_null).await;
    published(&stand, "v1", "Foo", Value::is_object).await;
    let patch = json!([{"op": "replace", "path": "/spec/versions/1", "value": version("v4", false, &schema)}]);
    assert_eq!(stand.call("PATCH", &foos, "application/json-patch+json", "", &patch).await.0, 200);
    published(&stand, "v4", "Foo", Value::is_object).await;
    assert_eq!(stand.call("DELETE", &foos, "", "", &Value::Null).await.0, 200);
    published(&stand, "v1", "Foo", Value::is_null).await;
}

#[tokio::test]
async fn definitions_of_many_groups_kinds_and_versions_are_published_side_by_side() {
    let stand = Stand::start().await;
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let schema = |text: &str| json!({"type": "object", "description": text});
    let mut elsewhere = definition("Here", json!([version("v1", true, &schema("elsewhere"))]));
    elsewhere["metadata"]["name"] = "heres.shut.example.com".into();
    elsewhere["spec"]["group"] = "shut.example.com".into();
    // An object in an object of which only that is known.
    let embedded = json!({"type": "object", "description": "there", "properties": {"spec": {"type": "object", "properties": {
        "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}}});
    for body in [
        definition("Here", json!([version("v1", true, &schema("here")), version("v2", false, &schema("here too"))])),
        definition("There", json!([version("v1", true, &embedded)])),
        elsewhere,
    ] {
        stand.create(crds, body).await;
    }
    let names = [
        ("com.example.open.v1.Here", "here"),
        ("com.example.open.v2.Here", "here too"),
        ("com.example.open.v1.There", "there"),
        ("com.example.shut.v1.Here", "elsewhere"),
    ];
    let document = stand
        .until("/openapi/v2", |_, document| names.iter().all(|(name, _)| document["definitions"][name].is_object()))
        .await;
    for (name, text) in names {
        assert_eq!(document["definitions"][name]["description"], text);
    }
    let template =
        &document["definitions"]["com.example.open.v1.There"]["properties"]["spec"]["properties"]["template"];
    assert_eq!(template["x-kubernetes-preserve-unknown-fields"], true, "{template}");
    assert!(document["paths"]["/apis/shut.example.com/v1/heres"]["get"].is_object());
}

#[tokio::test]
async fn deletions_answer_what_openapi_says() {
    let stand = Stand::start().await;
    let document: Value = serde_json::from_slice(stand.send(get("/openapi/v3/api/v1", &[])).await.body()).unwrap();
    for (plural, spec, kind) in [
        ("configmaps", json!(null), "Status"),
        ("secrets", json!(null), "Status"),
        ("serviceaccounts", json!(null), "ServiceAccount"),
        ("services", json!({"ports": [{"port": 80}]}), "Service"),
        ("pods", json!({"containers": [{"name": "c", "image": "i"}]}), "Pod"),
        ("resourcequotas", json!({"hard": {"pods": "1"}}), "ResourceQuota"),
    ] {
        let path = format!("/api/v1/namespaces/default/{plural}");
        let mut object = json!({"metadata": {"name": "gone"}});
        if !spec.is_null() {
            object["spec"] = spec;
        }
        stand.create(&path, object).await;
        let answer = stand.delete(&format!("{path}/gone"), json!({"gracePeriodSeconds": 0})).await;
        assert_eq!(answer["kind"], kind, "{plural}");
        let operation = &document["paths"][format!("/api/v1/namespaces/{{namespace}}/{plural}/{{name}}")]["delete"];
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
        assert!(schema.as_str().unwrap().ends_with(&format!(".v1.{kind}")), "{plural}: {schema}");
    }
}
