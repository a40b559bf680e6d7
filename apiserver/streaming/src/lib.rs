//! Requests that end elsewhere: logs, exec, attach and port-forward at a node's kubelet, and the proxies to pods, services and
//! nodes. The server authorizes, finds the place and passes bytes on. Upgraded connections are tunnelled as they are, but for clients
//! that speak WebSocket to kubelets that speak SPDY: exec and attach are translated, port-forward is unwrapped.

mod backend;
mod connect_options;
mod links;
mod log;
mod metrics;
mod spdy_request;
mod targets;
mod translator;
mod tunnel;
mod websocket;
mod websocket_tunnel;

pub use backend::{KubeletClient, client_config, connect, read_identity};
pub use tunnel::{Target, forward};

use component_base::cli::GoDuration;
use handlers::Response;
use handlers::api::authorization::{Attributes, Authorizers};
use handlers::api::{Api, Endpoint};
use http::header::{ACCEPT_ENCODING, HOST, HeaderValue, LOCATION, UPGRADE};
use http::uri::Authority;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use links::Links;
use request::RequestInfo;
use request::User;
use request::status::{Result, Status};
use std::path::PathBuf;
use std::sync::Arc;

/// Flags about connections to kubelets.
#[derive(clap::Args, Debug)]
pub struct KubeletFlags {
    /// Certificate that this server shows to kubelets.
    #[arg(long)]
    pub kubelet_client_certificate: Option<PathBuf>,
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    /// CA of kubelets' serving certificates; they are not checked without it.
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// Kinds of node addresses to reach kubelets at, by preference.
    #[arg(long, value_delimiter = ',', default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP")]
    pub kubelet_preferred_address_types: Vec<String>,
    #[arg(long, default_value = "5s")]
    pub kubelet_timeout: GoDuration,
}

/// What is needed to find the places where requests end, and to connect to them.
pub struct Backends {
    pub api: Arc<Api>,
    pub authorizers: Arc<Authorizers>,
    pub kubelet: KubeletClient,
    /// For pods and services by TLS: whatever certificate they have.
    pub any_tls: Arc<rustls::ClientConfig>,
}

pub async fn handle(
    backends: &Backends,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    user: &User,
    request: Request<Incoming>,
) -> Result<Response> {
    let query = request.uri().query().unwrap_or("").to_owned();
    if info.subresource != "log" {
        connect_options::admit(backends, endpoint, info, user, &query).await?;
    }
    let gates = &backends.api.gates;
    let is_session = matches!(&*info.subresource, "exec" | "attach" | "portforward");
    if is_session && info.verb != "create" && gates.enabled("AuthorizePodWebsocketUpgradeCreatePermission") {
        // A WebSocket begins with a GET, but who may only read may not run commands.
        backends
            .authorizers
            .demand(&backends.api, &Attributes { verb: "create", ..Attributes::of(user, info) })
            .await?;
    }
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    if info.subresource == "proxy" && info.rest.is_empty() && read && !request.headers().contains_key(UPGRADE) {
        // Links of a page are relative to a folder, so its address must end like one.
        return Ok(moved(&info.path, &query));
    }
    let target = match (endpoint.row.plural.as_str(), info.subresource.as_str()) {
        ("pods", "log") => targets::log(backends, endpoint, info, &query).await?,
        ("pods", "exec" | "attach") => targets::exec(backends, endpoint, info, &query).await?,
        ("pods", "portforward") => targets::port_forward(backends, endpoint, info, &query).await?,
        ("pods", "proxy") => targets::pod(backends, endpoint, info, &query).await?,
        ("services", "proxy") => targets::service(backends, endpoint, info, &query).await?,
        ("nodes", "proxy") => targets::node(backends, info, &query).await?,
        _ => return Err(Status::no_such_resource()),
    };
    let headers = request.headers();
    match info.subresource.as_str() {
        "log" if websocket::is_asked_for(headers) => log::stream(target, request).await,
        "proxy" if !headers.contains_key(UPGRADE) => {
            let host = headers.get(HOST).and_then(|v| v.to_str().ok());
            let host = host.or(request.uri().authority().map(Authority::as_str)).unwrap_or_default();
            let links = Links::new(&target, request.uri().path(), &info.rest, host);
            let mut request = request;
            request.headers_mut().remove(ACCEPT_ENCODING); // what is compressed cannot be rewritten
            links.rewrite(tunnel::forward(target, request).await?)
        }
        "exec" | "attach"
            if websocket::is_asked_for(headers)
                && websocket::protocols(headers).any(|protocol| protocol == translator::PROTOCOL)
                && gates.enabled("TranslateStreamCloseWebsocketRequests") =>
        {
            Ok(translator::translate(target, targets::wanted(&query), request))
        }
        "portforward" if websocket_tunnel::is_asked_for(headers) && gates.enabled("PortForwardWebsockets") => {
            websocket_tunnel::tunnel(target, request).await
        }
        _ => tunnel::forward(target, request).await,
    }
}

/// A redirect to the same path with a slash at its end.
fn moved(path: &str, query: &str) -> Response {
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    let mut response = Response::new(component_base::serving::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(&format!("{path}/{query}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
