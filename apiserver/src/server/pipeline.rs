//! The way of a request, top to bottom. Stages that are still to come stand here as comments, in their place.

use super::{Server, impersonation, metrics, route};
use futures::FutureExt;
use handlers::Response;
use handlers::api::authorization::Attributes;
use handlers::negotiate::accept;
use handlers::render::status_response;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use request::RequestInfo;
use request::status::{Result, Status};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

/// Answers a request; whatever happens inside, the client gets an answer and the process lives.
pub async fn serve(server: Arc<Server>, request: Request<Incoming>) -> Response {
    let started = Instant::now();
    let info = RequestInfo::new(request.method(), request.uri());
    let accepted = accept(request.headers(), request.uri().query()).ok();
    let dry_run = request.uri().query().is_some_and(|q| q.split('&').any(|p| p == "dryRun=All"));
    let audit_id = request.headers().get("audit-id").cloned().unwrap_or_else(new_audit_id);

    let stages = AssertUnwindSafe(stages(&server, &info, request)).catch_unwind();
    let mut response = match stages.await {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => status_response(&status, accepted),
        Err(_panic) => {
            tracing::error!(path = info.path, verb = info.verb, "a request panicked; this is a bug");
            status_response(
                &Status::internal("This request caused apiserver to panic. Look in the logs for details."),
                accepted,
            )
        }
    };
    response.headers_mut().insert("audit-id", audit_id);
    if let Some(directives) = &server.transport_security {
        response.headers_mut().insert(http::header::STRICT_TRANSPORT_SECURITY, directives.clone());
    }
    // Only what never changes says otherwise.
    let caching = response.headers_mut().entry(http::header::CACHE_CONTROL);
    caching.or_insert(HeaderValue::from_static("no-cache, private"));
    let bytes = http_body::Body::size_hint(response.body()).exact();
    count(&info, dry_run, response.status().as_u16(), bytes, started);
    response
}

fn new_audit_id() -> HeaderValue {
    HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

async fn stages(server: &Arc<Server>, info: &RequestInfo, request: Request<Incoming>) -> Result<Response> {
    let user = server.authn.authenticate(&server.api, &request).await?;
    // Audit stands here.
    let user = impersonation::impersonate(server, user, request.headers()).await?;
    let long_running = is_long_running(info);
    let _place = if long_running { None } else { Some(server.inflight.enter(info.is_read_only()).await?) };
    server.authz.demand(&server.api, &Attributes::of(&user, info)).await?;
    if long_running {
        return route::route(server, info, user, request).await;
    }
    match tokio::time::timeout(server.request_timeout, route::route(server, info, user, request)).await {
        Ok(result) => result,
        Err(_) => Err(Status::new(
            http::StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            "request did not complete within the allotted timeout",
        )),
    }
}

/// Watches and streams take as long as they take.
fn is_long_running(info: &RequestInfo) -> bool {
    info.verb == "watch" || matches!(&*info.subresource, "exec" | "attach" | "portforward" | "proxy" | "log")
}

fn count(info: &RequestInfo, dry_run: bool, code: u16, bytes: Option<u64>, started: Instant) {
    let verb = info.verb.to_ascii_uppercase();
    let scope = match (info.is_resource, info.name.is_empty(), info.namespace.is_empty()) {
        (false, ..) => "",
        (true, false, _) => "resource",
        (true, true, false) => "namespace",
        (true, true, true) => "cluster",
    };
    // Labels must come from a bounded set: an unknown resource is what somebody typed.
    if code == 404 && (!info.is_resource || info.name.is_empty()) {
        return;
    }
    let dry_run = if dry_run { "All" } else { "" };
    let (group, version, resource, subresource) = (&*info.group, &*info.version, &*info.resource, &*info.subresource);
    let code = code.to_string();
    metrics::REQUESTS
        .with_label_values(&[&*verb, dry_run, group, version, resource, subresource, scope, "apiserver", &code])
        .inc();
    if !is_long_running(info) {
        metrics::DURATION
            .with_label_values(&[&*verb, dry_run, group, version, resource, subresource, scope, "apiserver"])
            .observe(started.elapsed().as_secs_f64());
    }
    if let Some(bytes) = bytes.filter(|_| matches!(&*verb, "GET" | "LIST")) {
        metrics::RESPONSE_SIZES
            .with_label_values(&[&*verb, group, version, resource, subresource, scope, "apiserver"])
            .observe(bytes as f64);
    }
}
