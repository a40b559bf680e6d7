//! API servers behind this one: [sig-api-machinery] Aggregator.

use crate::stand::{Stand, TOKEN};
use crate::webhook_server::{Call, WebhookServer, create, delete, get, merge};
use futures::{AsyncBufReadExt, StreamExt};
use kube::Client;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const GROUP: &str = "/apis/wardle.example.com";

/// A small sample API server.
fn wardle(call: &Call) -> Option<Value> {
    let kind = json!({"kind": "Flunder", "apiVersion": "wardle.example.com/v1alpha1"});
    Some(match call.path.as_str() {
        "/apis/wardle.example.com/v1alpha1" => {
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1",
            "resources": [{"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list"]}]})
        }
        "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders" => {
            json!({"kind": "FlunderList", "apiVersion": kind["apiVersion"], "metadata": {}, "items": [kind]})
        }
        "/openapi/v3" => {
            json!({"paths": {"apis/wardle.example.com/v1alpha1": {"serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=1"}}})
        }
        "/openapi/v3/apis/wardle.example.com/v1alpha1" => json!({"openapi": "3.0.0", "info": {"title": "wardle"}}),
        "/openapi/v2" => {
            json!({"swagger": "2.0", "paths": {"/apis/wardle.example.com/v1alpha1/": {"get": {"schema": {"$ref": "#/definitions/wardle.Flunder"}}}},
            "definitions": {"wardle.Flunder": {"type": "object"}, "other": {}}})
        }
        _ => json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}),
    })
}

async fn until(client: &Client, path: &str, done: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let last = get(client, path).await;
        match &last {
            Ok(value) if done(value) => return value.clone(),
            _ => assert!(started.elapsed() < Duration::from_secs(30), "{path}: {last:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The code with which reads of a path are refused, once they are.
async fn until_refused(client: &Client, path: &str) -> u16 {
    let started = Instant::now();
    loop {
        match get(client, path).await {
            Err((code, _)) => return code,
            Ok(last) => assert!(started.elapsed() < Duration::from_secs(30), "{path}: {last}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn available(service: &Value) -> Value {
    let conditions = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|c| c["type"] == "Available").unwrap_or_default()
}

fn api_service(spec: Value) -> Value {
    let mut whole = json!({"group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"metadata": {"name": format!("{}.{}", whole["version"].as_str().unwrap(), whole["group"].as_str().unwrap())}, "spec": whole})
}

#[tokio::test]
async fn a_sample_api_server_is_aggregated() {
    let stand =
        Stand::start_with(&["--proxy-client-cert-file=FOLDER/alice.crt", "--proxy-client-key-file=FOLDER/alice.key"])
            .await;
    let client = stand.admin().await;
    let server = WebhookServer::start(wardle).await;
    let reference = json!({"namespace": "default", "name": "hook", "port": server.port});
    create(&client, SERVICES, api_service(json!({"service": reference, "caBundle": server.ca}))).await.unwrap();
    let path = format!("{SERVICES}/v1alpha1.wardle.example.com");
    let missing = until(&client, &path, |s| available(s)["status"] == "False").await;
    assert_eq!(available(&missing)["reason"], "ServiceNotFound");
    assert_eq!(available(&missing)["message"], "service/hook in \"default\" is not present");
    let refused = get(&client, &format!("{GROUP}/v1alpha1/namespaces/default/flunders")).await.unwrap_err();
    assert_eq!((refused.0, refused.1.trim()), (503, "service unavailable"));
    let stale = discovery(&client).await;
    assert_eq!(stale["versions"][0]["freshness"], "Stale");

    server.publish(&client).await;
    let there = until(&client, &path, |s| available(s)["status"] == "True").await;
    assert_eq!(
        (&available(&there)["reason"], &available(&there)["message"]),
        (&json!("Passed"), &json!("all checks passed"))
    );
    let list = get(&client, &format!("{GROUP}/v1alpha1/namespaces/default/flunders?limit=5")).await.unwrap();
    assert_eq!(list["kind"], "FlunderList");
    let call = server.calls.lock().iter().rfind(|c| c.path.ends_with("flunders")).cloned().unwrap();
    assert!(call.with_certificate, "the front proxy shows its certificate");
    assert_eq!(
        (&call.headers["x-remote-user"], &call.headers["x-remote-group"], &*call.query),
        (&"admin".parse::<http::HeaderValue>().unwrap(), &"system:masters".parse().unwrap(), "limit=5")
    );
    assert!(!call.headers.contains_key("authorization"), "the client's token is not passed on");

    assert_eq!(upgraded(&stand, &format!("{GROUP}/v1alpha1/namespaces/default/flunders/f/exec")).await, "ping");

    // Discovery, plain and aggregated.
    let groups = get(&client, "/apis").await.unwrap();
    let names: Vec<_> = groups["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"wardle.example.com"), "{names:?}");
    let group = get(&client, GROUP).await.unwrap();
    assert_eq!(group["preferredVersion"]["groupVersion"], "wardle.example.com/v1alpha1");
    assert_eq!(get(&client, &format!("{GROUP}/v1alpha1")).await.unwrap()["resources"][0]["name"], "flunders");
    let fresh = discovery(&client).await;
    assert_eq!(fresh["versions"][0]["freshness"], "Current");
    assert_eq!(fresh["versions"][0]["resources"][0]["resource"], "flunders");

    // OpenAPI of both versions.
    let index = get(&client, "/openapi/v3").await.unwrap();
    assert!(index["paths"]["apis/wardle.example.com/v1alpha1"].is_object() && index["paths"]["api/v1"].is_object());
    assert_eq!(get(&client, "/openapi/v3/apis/wardle.example.com/v1alpha1").await.unwrap()["info"]["title"], "wardle");
    let swagger = get(&client, "/openapi/v2").await.unwrap();
    assert!(
        swagger["paths"]["/apis/wardle.example.com/v1alpha1/"].is_object()
            && swagger["definitions"]["wardle.Flunder"].is_object()
    );
    assert!(swagger["definitions"]["io.k8s.api.core.v1.Pod"].is_object() && swagger["definitions"]["other"].is_null());

    delete(&client, &path).await.unwrap();
    // Who serves what is read from the cache, which hears of a deletion from etcd's watch like everybody.
    assert_eq!(until_refused(&client, GROUP).await, 404);
    assert!(get(&client, "/openapi/v2").await.unwrap()["definitions"]["wardle.Flunder"].is_null());
}

/// Upgrades a connection and says `ping`; what comes back.
async fn upgraded(stand: &Stand, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut roots = rustls::RootCertStore::empty();
    component_base::tls::read_certs(&stand.path("ca.crt"))
        .unwrap()
        .into_iter()
        .for_each(|cert| roots.add(cert).unwrap());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", stand.port)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut stream = connector.connect("127.0.0.1".try_into().unwrap(), tcp).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101") && answer.contains("seen-user: admin"), "{answer}");
    stream.write_all(b"ping").await.unwrap();
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).await.unwrap();
    String::from_utf8(heard.to_vec()).unwrap()
}

async fn discovery(client: &Client) -> Value {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let request = http::Request::get("/apis").header("accept", accept).body(Vec::new()).unwrap();
    let list: Value = client.request(request).await.unwrap();
    list["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == "wardle.example.com").cloned().unwrap()
}

#[tokio::test]
async fn what_is_wrong_with_a_service_is_told_in_the_condition() {
    let stand = Stand::start().await;
    let client = stand.admin().await;
    let services = "/api/v1/namespaces/default/services";
    let service =
        json!({"metadata": {"name": "back"}, "spec": {"ports": [{"name": "https", "port": 443, "targetPort": 8443}]}});
    create(&client, services, service).await.unwrap();
    create(
        &client,
        SERVICES,
        api_service(
            json!({"service": {"namespace": "default", "name": "back", "port": 444}, "insecureSkipTLSVerify": true}),
        ),
    )
    .await
    .unwrap();
    let path = format!("{SERVICES}/v1alpha1.wardle.example.com");
    let told = async |reason: &str, words: &str| {
        let service = until(&client, &path, |s| available(s)["reason"] == reason).await;
        let message = available(&service)["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with(words), "{message}");
    };
    told("ServicePortError", "service/back in \"default\" is not listening on port 444").await;
    merge(&client, &path, json!({"spec": {"service": {"port": 443}}})).await.unwrap();
    told("EndpointsNotFound", "cannot find endpointslices for service/back in \"default\"").await;
    let slice = json!({"metadata": {"name": "back-1", "labels": {"kubernetes.io/service-name": "back"}}, "addressType": "IPv4",
        "ports": [{"name": "other", "port": 1}], "endpoints": [{"addresses": ["10.9.9.9"]}]});
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    create(&client, slices, slice).await.unwrap();
    told(
        "MissingEndpoints",
        "endpointslices for service/back in \"default\" have no addresses with port name \"https\"",
    )
    .await;
}

#[tokio::test]
async fn groups_of_custom_resources_have_api_services() {
    let stand = Stand::start().await;
    let client = stand.admin().await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    create(&client, definitions, definition("things", "ext.example.com")).await.unwrap();
    let path = format!("{SERVICES}/v1.ext.example.com");
    let made = until(&client, &path, |s| available(s)["status"] == "True").await;
    assert_eq!(
        made["spec"],
        json!({"group": "ext.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 100})
    );
    assert_eq!(made["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "true");
    assert_eq!(available(&made)["reason"], "Local");
    delete(&client, &format!("{definitions}/things.ext.example.com")).await.unwrap();
    let started = Instant::now();
    while get(&client, &path).await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(30), "it stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn definition(plural: &str, group: &str) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({"metadata": {"name": format!("{plural}.{group}")}, "spec": {"group": group, "scope": "Namespaced",
        "names": {"plural": plural, "kind": "Thing"}, "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}})
}

#[tokio::test]
async fn a_whole_server_behind_another_is_written_and_watched() {
    let front =
        Stand::start_with(&["--proxy-client-cert-file=FOLDER/alice.crt", "--proxy-client-key-file=FOLDER/alice.key"])
            .await;
    let ca = format!("--requestheader-client-ca-file={}", front.path("ca.crt").display());
    let back = Stand::start_with(&[&ca, "--requestheader-allowed-names=alice"]).await;
    let (client, behind) = (front.admin().await, back.admin().await);
    create(
        &behind,
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        definition("things", "wardle.example.com"),
    )
    .await
    .unwrap();
    let service = json!({"metadata": {"name": "back"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    create(&client, "/api/v1/namespaces/default/services", service).await.unwrap();
    let reference = json!({"namespace": "default", "name": "back", "port": back.port});
    create(
        &client,
        SERVICES,
        api_service(json!({"version": "v1", "service": reference, "insecureSkipTLSVerify": true})),
    )
    .await
    .unwrap();
    until(&client, &format!("{SERVICES}/v1.wardle.example.com"), |s| available(s)["status"] == "True").await;

    let things = format!("{GROUP}/v1/namespaces/default/things");
    let watch = http::Request::get(format!("{things}?watch=1&timeoutSeconds=20")).body(Vec::new()).unwrap();
    let mut events = Box::pin(client.request_stream(watch).await.unwrap().lines());
    let thing =
        json!({"apiVersion": "wardle.example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"n": 1}});
    create(&client, &things, thing).await.unwrap();
    let event: Value = serde_json::from_str(&events.next().await.unwrap().unwrap()).unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("t")));
    merge(&client, &format!("{things}/t"), json!({"spec": {"n": 2}})).await.unwrap();
    assert_eq!(get(&behind, &format!("{things}/t")).await.unwrap()["spec"]["n"], 2);
    let event: Value = serde_json::from_str(&events.next().await.unwrap().unwrap()).unwrap();
    assert_eq!(event["type"], "MODIFIED");
    delete(&client, &format!("{things}/t")).await.unwrap();
    // Who may not, may not here, before the other server is asked.
    let alice = front.alice().await;
    assert_eq!(get(&alice, &things).await.unwrap_err().0, 403);
}
