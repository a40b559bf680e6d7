//! The kubelet's certificates by a real API server and a real controller manager that signs for seconds. What is signed
//! for so short a time is always due, as signers date back by minutes: managers here ask as often as they may.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use certificates::{Manager, bootstrap, tell_addresses};
use component_base::client::{ClientFlags, Connections, connect, connect_as};
use component_base::{serving, tls};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::NodeAddress;
use kube::Client;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use stand::Stand;
use tokio_util::sync::CancellationToken;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const JOINERS: &str = "system:bootstrappers:joiners";
const APPROVAL: &str = "system:certificates.k8s.io:certificatesigningrequests";
const PATIENCE: Duration = Duration::from_secs(90);

/// A cluster with a bootstrap token whose certificates live for `seconds`; the folder of a node's files.
async fn cluster(seconds: u32) -> (Stand, PathBuf) {
    // An error means that another test was here first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut stand = Stand::start_with(&["--enable-bootstrap-token-auth=true"]).await;
    let flags = [
        format!("--cluster-signing-cert-file={}", stand.path("ca.crt").display()),
        format!("--cluster-signing-key-file={}", stand.path("ca.key").display()),
        format!("--cluster-signing-duration={seconds}s"),
    ];
    stand.start_controller_manager(&flags.each_ref().map(String::as_str));
    stand.until("/api/v1/namespaces/kube-system", |code, _| code == 200).await;
    let secret = json!({
        "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": "abcdef",
            "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": JOINERS,
        },
    });
    stand.create("/api/v1/namespaces/kube-system/secrets", secret).await;
    bind(&stand, "system:node-bootstrapper", JOINERS).await;
    let node = stand.path("node");
    std::fs::create_dir(&node).expect("a folder");
    // Relative, as an operator may write it beside the CA.
    std::fs::copy(stand.path("ca.crt"), node.join("ca.crt")).expect("copied");
    let config = stand.kubeconfig("token: abcdef.0123456789abcdef");
    let config = config.replace(&stand.path("ca.crt").display().to_string(), "ca.crt");
    std::fs::write(node.join("bootstrap.conf"), config).expect("written");
    (stand, node)
}

/// Lets a group have a role of the bootstrap policy.
async fn bind(stand: &Stand, role: &str, group: &str) {
    let api_group = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": {"generateName": "certificates-"},
        "roleRef": {"apiGroup": api_group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": api_group, "kind": "Group", "name": group}],
    });
    stand.create(BINDINGS, binding).await;
}

async fn approve(stand: &Stand, request: &Value, condition: &str) {
    let name = request["metadata"]["name"].as_str().expect("a name");
    let mut request = stand.get(&format!("{REQUESTS}/{name}")).await;
    request["status"]["conditions"] =
        json!([{"type": condition, "status": "True", "reason": "Test", "message": "by hand"}]);
    stand.update(&format!("{REQUESTS}/{name}/approval"), request).await;
}

/// Waits for a request of this signer whose name is not among `known`.
async fn asked(stand: &Stand, signer: &str, known: &BTreeSet<String>) -> Value {
    let of = |list: &Value| {
        let items = list["items"].as_array().into_iter().flatten();
        let mut new = items.filter(|item| {
            item["spec"]["signerName"] == signer
                && !known.contains(item["metadata"]["name"].as_str().unwrap_or_default())
        });
        new.next().cloned()
    };
    let list = stand.until(REQUESTS, |_, list| of(list).is_some()).await;
    of(&list).expect("a request")
}

fn name(request: &Value) -> String {
    request["metadata"]["name"].as_str().expect("a name").to_owned()
}

/// Whom the API server takes the client for.
async fn user(client: &Client) -> kube::Result<String> {
    let review = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
    let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews");
    let request = request.header("content-type", "application/json").body(review.to_string().into_bytes());
    let answer: Value = client.request(request.expect("a request")).await?;
    Ok(answer["status"]["userInfo"]["username"].as_str().unwrap_or_default().to_owned())
}

/// Looks until it is so.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} has not come true");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_node_joins_keeps_its_request_over_a_restart_and_lives_on_by_rotation() {
    let (stand, node) = cluster(10).await;
    let (from, to) = (node.join("bootstrap.conf"), node.join("kubelet.conf"));
    let pki = node.join("pki");
    let ensure = || async {
        let manager = Manager::client(&pki, "joined");
        bootstrap::ensure(&from, &to, &manager, &CancellationToken::new()).await.expect("bootstrapped");
        manager
    };
    let signer = "kubernetes.io/kube-apiserver-client-kubelet";
    let none = BTreeSet::new();

    // A kubelet that ends while it waits finds its request again; one that was deleted is asked for anew.
    let request = tokio::select! {
        _ = ensure() => panic!("nobody has approved"),
        request = asked(&stand, signer, &none) => request,
    };
    let path = format!("{REQUESTS}/{}", name(&request));
    let again = async {
        stand.delete(&path, Value::Null).await;
        let renewed = |code, found: &Value| code == 200 && found["metadata"]["uid"] != request["metadata"]["uid"];
        stand.until(&path, renewed).await;
        let list = stand.get(REQUESTS).await;
        assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
        // Refused, it is asked for with another key.
        approve(&stand, &request, "Denied").await;
        asked(&stand, signer, &[name(&request)].into()).await;
        bind(&stand, &format!("{APPROVAL}:nodeclient"), JOINERS).await;
    };
    let (manager, ()) = tokio::join!(ensure(), again);
    assert!(!pki.join("kubelet-client.key.tmp").exists());
    let flags = ClientFlags { kubeconfig: Some(to.clone()), ..Default::default() };
    assert_eq!(user(&connect(&flags, "test").await.expect("a client")).await.expect("known"), "system:node:joined");

    // Without the right to renew, the certificate ends, and the manager says so.
    assert!(bootstrap::take_over(&manager, &to));
    let connections = Connections::default();
    let client = connect_as(&flags, manager.client_resolver(), connections.clone(), "test").await.expect("a client");
    let shutdown = CancellationToken::new();
    let ended = manager.clone().run(client, || connections.close_all(), shutdown.clone());
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("it ends with the certificate");
    assert!(ended.expect_err("there is no certificate").to_string().contains("no new one"));

    // A new start bootstraps again, past the renewal that still waits, and with the right to renew the node outlives its
    // certificates.
    let manager = ensure().await;
    bind(&stand, &format!("{APPROVAL}:selfnodeclient"), "system:nodes").await;
    let first = manager.current().expect("a certificate").facts.not_after;
    let client = connect_as(&flags, manager.client_resolver(), connections.clone(), "test").await.expect("a client");
    let rotations = Arc::new(AtomicUsize::new(0));
    let counted = rotations.clone();
    let running = tokio::spawn(manager.clone().run(
        client.clone(),
        move || {
            connections.close_all();
            counted.fetch_add(1, Ordering::Relaxed);
        },
        shutdown.clone(),
    ));
    eventually("the end of the first certificate", async || (Timestamp::now() > first).then_some(())).await;
    // A request may be on a connection that is just being closed; the next is not.
    let known = eventually("an answer", async || user(&client).await.ok()).await;
    assert_eq!(known, "system:node:joined");
    assert!(rotations.load(Ordering::Relaxed) > 0);
    let target = std::fs::read_link(pki.join("kubelet-client-current.pem")).expect("a link");
    assert!(target.to_string_lossy().starts_with("kubelet-client-2"), "{target:?}");
    let metrics = component_base::metrics::render();
    assert!(metrics.contains("kubelet_certificate_manager_client_ttl_seconds "), "{metrics}");
    shutdown.cancel();
    running.await.expect("no panic").expect("it ends with the shutdown");
}

#[tokio::test]
async fn a_server_has_a_certificate_once_it_is_approved_and_another_with_its_addresses() {
    let (stand, node) = cluster(3600).await;
    bind(&stand, &format!("{APPROVAL}:nodeclient"), JOINERS).await;
    let (from, to) = (node.join("bootstrap.conf"), node.join("kubelet.conf"));
    let identity = Manager::client(&node, "served");
    bootstrap::ensure(&from, &to, &identity, &CancellationToken::new()).await.expect("bootstrapped");
    let flags = ClientFlags { kubeconfig: Some(to), ..Default::default() };
    let client = connect(&flags, "test").await.expect("a client");

    let (manager, addresses) = Manager::serving(&node, None);
    let shutdown = CancellationToken::new();
    let config = tls::server_config(tls::ServerTls::new(manager.server_resolver())).expect("a configuration");
    let listener = serving::bind(([127, 0, 0, 1], 0).into()).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let handler = serving::Router::new().into_handler();
    tokio::spawn(serving::serve_https(listener, config, handler, shutdown.clone()));
    let running = tokio::spawn(manager.clone().run(client, || {}, shutdown.clone()));
    let tell = |ips: &[&str]| {
        let ip = |ip: &&str| NodeAddress { type_: "InternalIP".into(), address: (*ip).into() };
        let hostname = NodeAddress { type_: "Hostname".into(), address: "served".into() };
        let list: Vec<_> = ips.iter().map(ip).chain([hostname]).collect();
        tell_addresses(&addresses, "served", &list);
    };

    assert!(handshake(&stand, port, "127.0.0.1").await.is_err(), "there is no certificate");
    // A name alone is nothing to ask with, and what had no address for a moment has lost none.
    tell(&[]);
    tell(&["127.0.0.1"]);
    tell(&[]);
    let signer = "kubernetes.io/kubelet-serving";
    let request = asked(&stand, signer, &BTreeSet::new()).await;
    assert_eq!(request["spec"]["username"], "system:node:served", "{request}");
    assert!(handshake(&stand, port, "127.0.0.1").await.is_err(), "it is not approved");
    approve(&stand, &request, "Approved").await;
    eventually("a handshake", async || handshake(&stand, port, "127.0.0.1").await.ok()).await;
    handshake(&stand, port, "served").await.expect("the host name is in it");
    handshake(&stand, port, "10.0.0.7").await.expect_err("this address is not");

    // The old certificate is shown until the new one is there.
    tell(&["127.0.0.1", "10.0.0.7"]);
    let second = asked(&stand, signer, &[name(&request)].into()).await;
    handshake(&stand, port, "127.0.0.1").await.expect("the old certificate");
    approve(&stand, &second, "Approved").await;
    eventually("a handshake", async || handshake(&stand, port, "10.0.0.7").await.ok()).await;

    // The next start begins with what is stored.
    let (restarted, _) = Manager::serving(&node, None);
    let facts = &restarted.current().expect("a certificate").facts;
    assert!(facts.ips.contains(&[10, 0, 0, 7].into()), "{facts:?}");
    assert!(component_base::metrics::render().contains("kubelet_certificate_manager_server_rotation_seconds_count 1"));
    shutdown.cancel();
    running.await.expect("no panic").expect("it ends with the shutdown");
}

/// Connects as someone who trusts the cluster's CA and looks for this name.
async fn handshake(stand: &Stand, port: u16, name: &str) -> std::io::Result<()> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(stand.path("ca.crt")).expect("the CA");
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).map(|cert| cert.expect("a certificate")));
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map(|_| ())
}
