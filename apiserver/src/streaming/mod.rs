//! Requests that end elsewhere: logs, exec, attach and port-forward at a node's kubelet, and the proxies to pods, services and
//! nodes. The server authorizes, finds the place and passes bytes on; streams of SPDY and WebSocket are tunnelled as they are.

mod backend;
mod connect_options;
mod targets;
mod tunnel;

pub use backend::{KubeletClient, client_config, connect, read_identity};
pub use tunnel::{Target, forward};

use crate::api::Endpoint;
use crate::authn::User;
use crate::handlers::Response;
use crate::request::RequestInfo;
use crate::server::Server;
use crate::status::{Result, Status};
use http::Request;
use hyper::body::Incoming;
use std::sync::Arc;

pub async fn handle(
    server: &Arc<Server>,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    user: &User,
    request: Request<Incoming>,
) -> Result<Response> {
    let query = request.uri().query().unwrap_or("").to_owned();
    if info.subresource != "log" {
        connect_options::admit(server, endpoint, info, user, &query).await?;
    }
    let target = match (endpoint.row.plural.as_str(), info.subresource.as_str()) {
        ("pods", "log") => targets::log(server, endpoint, info, &query).await?,
        ("pods", "exec" | "attach") => targets::exec(server, endpoint, info, &query).await?,
        ("pods", "portforward") => targets::port_forward(server, endpoint, info, &query).await?,
        ("pods", "proxy") => targets::pod(server, endpoint, info, &query).await?,
        ("services", "proxy") => targets::service(server, endpoint, info, &query).await?,
        ("nodes", "proxy") => targets::node(server, info, &query).await?,
        _ => return Err(Status::no_such_resource()),
    };
    tunnel::forward(target, request).await
}
