//! An HTTPS server in the test, for the API server to call: found through a Service of type ExternalName, known by the
//! certificate of `hook.default.svc`. Shorthands for requests that take and give plain JSON.

use base64::Engine;
use component_base::serving::{self, full};
use component_base::tls::{self, CertifiedFiles, ServerTls};
use http::Response;
use http_body_util::BodyExt;
use kube::Client;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A request as the server got it.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub query: String,
    pub headers: http::HeaderMap,
    /// The caller showed a certificate.
    pub with_certificate: bool,
    pub body: Value,
}

pub struct WebhookServer {
    pub port: u16,
    /// base64, for `caBundle`.
    pub ca: String,
    pub calls: Arc<Mutex<Vec<Call>>>,
    _stop: DropGuard,
    _folder: tempfile::TempDir,
}

/// Answers a call; `None` never answers.
pub type Answer = dyn Fn(&Call) -> Option<Value> + Send + Sync;

impl WebhookServer {
    pub async fn start(answer: impl Fn(&Call) -> Option<Value> + Send + Sync + 'static) -> WebhookServer {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "hook-ca");
        let ca_key = KeyPair::generate().unwrap();
        let ca = base64::engine::general_purpose::STANDARD.encode(params.self_signed(&ca_key).unwrap().pem());
        let issuer = Issuer::new(params, ca_key);
        let own_key = KeyPair::generate().unwrap();
        let own =
            CertificateParams::new(vec!["hook.default.svc".into()]).unwrap().signed_by(&own_key, &issuer).unwrap();
        std::fs::write(&cert, own.pem()).unwrap();
        std::fs::write(&key, own_key.serialize_pem()).unwrap();
        let config =
            tls::server_config(ServerTls::new(tls::from_files(CertifiedFiles { cert, key }).unwrap())).unwrap();
        let listener = serving::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let (seen, answer): (_, Arc<Answer>) = (calls.clone(), Arc::new(answer));
        let handler = serving::handler(move |request: http::Request<hyper::body::Incoming>| {
            let (seen, answer) = (seen.clone(), answer.clone());
            async move {
                if request.headers().contains_key("upgrade") {
                    return echo(request);
                }
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                let call = Call {
                    path: parts.uri.path().to_owned(),
                    query: parts.uri.query().unwrap_or("").to_owned(),
                    with_certificate: parts.extensions.get::<tls::PeerCertificates>().is_some(),
                    headers: parts.headers,
                    body: serde_json::from_slice(&bytes).unwrap_or_default(),
                };
                seen.lock().push(call.clone());
                match answer(&call) {
                    Some(value) => Response::new(full(value.to_string())),
                    None => std::future::pending().await,
                }
            }
        });
        let stop = CancellationToken::new();
        tokio::spawn(serving::serve_https(listener, config, handler, stop.clone()));
        WebhookServer { port, ca, calls, _stop: stop.drop_guard(), _folder: folder }
    }

    /// The Service through which it is found.
    pub async fn publish(&self, client: &Client) {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"},
            "spec": {"type": "ExternalName", "externalName": "localhost"}});
        create(client, "/api/v1/namespaces/default/services", service).await.unwrap();
    }

    /// A `clientConfig` that leads here.
    pub fn client(&self, path: &str) -> Value {
        let service = json!({"namespace": "default", "name": "hook", "path": path, "port": self.port});
        json!({"service": service, "caBundle": self.ca})
    }
}

/// Takes an upgrade and says back whatever it hears.
fn echo(mut request: http::Request<hyper::body::Incoming>) -> Response<serving::Body> {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(hyper_util::rt::TokioIo::new(upgraded.await.unwrap()));
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    let user = request.headers()["x-remote-user"].clone();
    let answer = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "SPDY/3.1");
    answer.header("seen-user", user).body(serving::empty()).unwrap()
}

/// The code and message of a refusal.
pub type Refusal = (u16, String);

pub async fn send(client: &Client, method: &str, path: &str, content: &str, body: &Value) -> Result<Value, Refusal> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = http::Request::builder().method(method).uri(path).header("content-type", content).body(body).unwrap();
    match client.request::<Value>(request).await {
        Ok(value) => Ok(value),
        Err(kube::Error::Api(status)) => Err((status.code, status.message.clone())),
        Err(e) => panic!("{method} {path}: {e}"),
    }
}

pub async fn create(client: &Client, path: &str, body: Value) -> Result<Value, Refusal> {
    send(client, "POST", path, "application/json", &body).await
}

pub async fn merge(client: &Client, path: &str, body: Value) -> Result<Value, Refusal> {
    send(client, "PATCH", path, "application/merge-patch+json", &body).await
}

pub async fn get(client: &Client, path: &str) -> Result<Value, Refusal> {
    send(client, "GET", path, "application/json", &Value::Null).await
}

pub async fn delete(client: &Client, path: &str) -> Result<Value, Refusal> {
    send(client, "DELETE", path, "application/json", &Value::Null).await
}
