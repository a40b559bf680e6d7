//! ComponentStatuses: a look at the other parts of the control plane on this machine, taken when somebody asks. Nothing of it
//! is kept. (Deprecated since v1.19, still what `kubectl get componentstatuses` shows.)

use crate::server::Server;
use apimachinery::Value;
use bytes::Bytes;
use handlers::Response;
use handlers::api::Endpoint;
use handlers::list::respond_items;
use handlers::read::renderer;
use handlers::selection::Selection;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use registry::edit::typed;
use request::RequestInfo;
use request::options::ListOptions;
use request::status::{About, Result, Status};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A component that does not answer in this time is not well. (Upstream's limit.)
const PROBE_MAX: Duration = Duration::from_secs(20);
/// Of an answer; more is not read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Name, and the port of `/healthz` on this host; none for etcd, which is asked as for everything else.
const COMPONENTS: [(&str, Option<u16>); 3] =
    [("controller-manager", Some(10257)), ("etcd-0", None), ("scheduler", Some(10259))];

pub async fn list<B>(server: &Server, endpoint: &Arc<Endpoint>, request: &Request<B>) -> Result<Response> {
    let renderer = renderer(endpoint, request)?;
    let options = ListOptions::parse(request.uri())?;
    options.validate(false)?;
    let selection = Selection::new(&endpoint.row, "", &options)?;
    let chosen = COMPONENTS.iter().filter(|(name, _)| selection.matches_named(name));
    let items = futures::future::join_all(chosen.map(|(name, port)| status(server, name, *port))).await;
    let items = items.into_iter().map(|item| renderer.view(typed(item, &endpoint.row.kind))).collect();
    Ok(respond_items(&renderer, items, &json!({})))
}

pub async fn get<B>(
    server: &Server,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    request: &Request<B>,
) -> Result<Response> {
    let renderer = renderer(endpoint, request)?;
    let about = About { group: "", resource: &endpoint.row.plural, name: &info.name };
    let (name, port) =
        COMPONENTS.iter().find(|(name, _)| *name == info.name).ok_or_else(|| Status::not_found(about))?;
    let item = typed(status(server, name, *port).await, &endpoint.row.kind);
    Ok(renderer.respond(StatusCode::OK, renderer.value(item, &json!({}))?))
}

async fn status(server: &Server, name: &str, port: Option<u16>) -> Value {
    let probe = async {
        match port {
            None => server.api.etcd.healthy().await.map(|()| "ok".to_owned()).map_err(|e| e.to_string()),
            Some(port) => healthz(server, port).await,
        }
    };
    let result = tokio::time::timeout(PROBE_MAX, probe).await.unwrap_or_else(|_| Err("it does not answer".into()));
    let condition = match result {
        Ok(message) => json!({"type": "Healthy", "status": "True", "message": message}),
        Err(error) => json!({"type": "Healthy", "status": "False", "error": error}),
    };
    json!({"metadata": {"name": name}, "conditions": [condition]})
}

/// What `https://127.0.0.1:port/healthz` says. Whose certificate it is does not matter for that.
async fn healthz(server: &Server, port: u16) -> std::result::Result<String, String> {
    let why = |e: &dyn std::fmt::Display| format!("Get \"https://127.0.0.1:{port}/healthz\": {e}");
    let stream = streaming::connect("127.0.0.1", port, Some((&server.backends.any_tls, "127.0.0.1")), PROBE_MAX)
        .await
        .map_err(|status| why(&status.message))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| why(&e))?;
    let driver = tokio::spawn(connection);
    let request = Request::get("/healthz").header(http::header::HOST, "127.0.0.1").body(Empty::<Bytes>::new());
    let answer = sender.send_request(request.map_err(|e| why(&e))?).await.map_err(|e| why(&e))?;
    let code = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|e| why(&e))?.to_bytes();
    driver.abort();
    let text = String::from_utf8_lossy(&body).into_owned();
    if code.is_success() { Ok(text) } else { Err(format!("unhealthy http status code: {}", code.as_u16())) }
}
