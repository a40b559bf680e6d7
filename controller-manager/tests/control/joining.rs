//! How a node joins: a bootstrap token vouches for `cluster-info`, lets a kubelet ask for its certificate, and the certificate
//! lets it ask for the next one.

use crate::Stand;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use std::time::Duration;

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
const MAPS: &str = "/api/v1/namespaces/kube-public/configmaps";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const JOINERS: &str = "system:bootstrappers:joiners";

/// A bootstrap token for every use; `data` adds to it.
async fn create_token(stand: &Stand, id: &str, data: Value) {
    stand.until("/api/v1/namespaces/kube-system", |code, _| code == 200).await;
    let mut secret = json!({
        "metadata": {"name": format!("bootstrap-token-{id}")},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": id,
            "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
        },
    });
    for (key, value) in data.as_object().into_iter().flatten() {
        secret["stringData"][key] = value.clone();
    }
    stand.create(SECRETS, secret).await;
}

#[tokio::test]
async fn cluster_info_is_signed_with_each_token_as_long_as_there_is_one() {
    let mut stand = Stand::start().await;
    stand.start_controller_manager(&["--controllers=*,bootstrapsigner"]);
    stand.until("/api/v1/namespaces/kube-public", |code, _| code == 200).await;
    stand.create(MAPS, json!({"metadata": {"name": "cluster-info"}, "data": {"kubeconfig": "here"}})).await;
    create_token(&stand, "abcdef", Value::Null).await;
    let path = format!("{MAPS}/cluster-info");
    let signature = |map: &Value, id: &str| map["data"][format!("jws-kubeconfig-{id}")].as_str().map(str::to_owned);
    let map = stand.until(&path, |_, map| signature(map, "abcdef").is_some()).await;
    let first = signature(&map, "abcdef");
    // Computed by HMAC-SHA-256 and base64url of another implementation.
    let expected = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..MJWjsSO6Z8upPYVe0Z2Yd_gDAfgKt5hMYhL7k0OHq4E";
    assert_eq!(first.as_deref(), Some(expected));

    // A token that ends changes by that alone, and is still there when its signature goes.
    let end = Timestamp::now() + SignedDuration::from_secs(8);
    create_token(&stand, "ending", json!({"expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()})).await;
    stand.until(&path, |_, map| signature(map, "ending").is_some()).await;
    let map = stand.until(&path, |_, map| signature(map, "ending").is_none()).await;
    stand.get(&format!("{SECRETS}/bootstrap-token-ending")).await;
    assert_eq!(signature(&map, "abcdef"), first);

    stand.merge(&path, json!({"data": {"kubeconfig": "there"}})).await;
    stand.until(&path, |_, map| signature(map, "abcdef") != first).await;
    stand.delete(&format!("{SECRETS}/bootstrap-token-abcdef"), Value::Null).await;
    let map = stand.until(&path, |_, map| signature(map, "abcdef").is_none()).await;
    assert_eq!(map["data"], json!({"kubeconfig": "there"}));
}

/// Lets a group have a role of the bootstrap policy.
async fn bind(stand: &Stand, role: &str, group: &str) {
    let api_group = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": {"generateName": "joining-"},
        "roleRef": {"apiGroup": api_group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": api_group, "kind": "Group", "name": group}],
    });
    stand.create(BINDINGS, binding).await;
}

async fn post(client: &Client, path: &str, object: &Value) -> kube::Result<Value> {
    let request = http::Request::post(path).header("content-type", "application/json");
    client.request(request.body(object.to_string().into_bytes()).unwrap()).await
}

/// Whom the API server takes the client for.
async fn user(client: &Client) -> Value {
    let review = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    post(client, path, &review).await.unwrap()["status"]["userInfo"].clone()
}

/// Asks for a node's client certificate as a kubelet does; what came to be, and its key.
async fn ask(client: &Client, node: &str) -> (Value, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let request = json!({
        "metadata": {"generateName": "csr-"},
        "spec": {
            "request": STANDARD.encode(pem),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"],
        },
    });
    (post(client, REQUESTS, &request).await.unwrap(), key)
}

/// Where a request is.
fn path(request: &Value) -> String {
    format!("{REQUESTS}/{}", request["metadata"]["name"].as_str().unwrap())
}

/// A client with the certificate that a request was answered with, once it is.
async fn certified(stand: &Stand, request: &Value, key: &KeyPair) -> Client {
    let issued = stand.until(&path(request), |_, csr| csr["status"]["certificate"].is_string()).await;
    assert_eq!(issued["status"]["conditions"][0]["reason"], "AutoApproved", "{issued}");
    let (cert, key) = (issued["status"]["certificate"].as_str().unwrap(), STANDARD.encode(key.serialize_pem()));
    stand.client(&format!("client-certificate-data: {cert}\n    client-key-data: {key}")).await
}

#[tokio::test]
async fn a_token_leads_to_a_nodes_certificate_and_that_to_the_next() {
    let mut stand = Stand::start_with(&["--enable-bootstrap-token-auth=true"]).await;
    let ca = ["cert", "key"].map(|kind| {
        let file = stand.path(if kind == "cert" { "ca.crt" } else { "ca.key" });
        format!("--cluster-signing-{kind}-file={}", file.display())
    });
    stand.start_controller_manager(&[&ca[0], &ca[1]]);
    create_token(&stand, "abcdef", json!({"auth-extra-groups": JOINERS})).await;
    create_token(&stand, "passed", json!({"expiration": "2020-01-01T00:00:00Z"})).await;
    create_token(&stand, "signer", json!({"usage-bootstrap-authentication": "false"})).await;
    for wrong in
        ["abcdef.0123456789abcdeX", "abcdef.0123456789abcde0", "passed.0123456789abcdef", "signer.0123456789abcdef"]
    {
        let refused = stand.client(&format!("token: {wrong}")).await.apiserver_version().await;
        assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 401), "{wrong}: {refused:?}");
    }
    let joiner = stand.client("token: abcdef.0123456789abcdef").await;
    let mut known = user(&joiner).await;
    known["groups"].as_array_mut().unwrap().sort_by_key(ToString::to_string);
    let groups = json!(["system:authenticated", "system:bootstrappers", JOINERS]);
    assert_eq!(known, json!({"username": "system:bootstrap:abcdef", "groups": groups}));

    bind(&stand, "system:node-bootstrapper", JOINERS).await;
    let (request, key) = ask(&joiner, "joined").await;
    assert_eq!(request["spec"]["username"], "system:bootstrap:abcdef");
    // A right that comes after the request counts as well.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pending = stand.get(&path(&request)).await;
    assert!(pending["status"]["conditions"].is_null(), "{pending}");
    bind(&stand, "system:certificates.k8s.io:certificatesigningrequests:nodeclient", JOINERS).await;
    let node = certified(&stand, &request, &key).await;
    let known = user(&node).await;
    assert_eq!(known["username"], "system:node:joined", "{known}");
    assert!(known["groups"].as_array().unwrap().contains(&json!("system:nodes")), "{known}");
    post(&node, "/api/v1/nodes", &json!({"metadata": {"name": "joined"}})).await.unwrap();

    bind(&stand, "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", "system:nodes").await;
    let (renewal, key) = ask(&node, "joined").await;
    let renewed = certified(&stand, &renewal, &key).await;
    assert_eq!(user(&renewed).await["username"], "system:node:joined");
}
