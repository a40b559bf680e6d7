//! Asking a kubelet for a SPDY connection.

use super::tunnel::{Target, send};
use bytes::Bytes;
use http::header::{CONNECTION, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::time::Duration;

pub const SPDY: &str = "SPDY/3.1";
/// The version of what is spoken in the streams: offered by the client, chosen by the server.
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// Time for the kubelet's answer once it is connected: it asks its container runtime first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Of an answer that is not an upgrade.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Whether the answer of a server says that SPDY comes next.
pub fn is_accepted(status: StatusCode, headers: &HeaderMap) -> bool {
    let says = |name: HeaderName, what: &str| {
        let value = headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
        value.to_ascii_lowercase().contains(what)
    };
    status == StatusCode::SWITCHING_PROTOCOLS && says(CONNECTION, "upgrade") && says(UPGRADE, "spdy/3.1")
}

/// The connection, and the protocol that was chosen of those offered (empty if the server said nothing). The error is a
/// `metav1.Status`: the kubelet's own, or what upstream makes of an answer that is no upgrade.
pub async fn connect(target: &Target, offered: &[&'static str]) -> Result<(TokioIo<Upgraded>, String), Value> {
    let mut request = Request::new(Full::<Bytes>::default());
    *request.method_mut() = http::Method::POST;
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
    for protocol in offered {
        headers.append(PROTOCOL_VERSION, HeaderValue::from_static(protocol));
    }
    let asking = async {
        let mut answer = send(target, request).await.map_err(|status| internal(&status.message))?;
        if !is_accepted(answer.status(), answer.headers()) {
            return Err(refusal(answer).await);
        }
        let chosen = answer.headers().get(PROTOCOL_VERSION).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        let upgraded = hyper::upgrade::on(&mut answer).await;
        let upgraded = upgraded.map_err(|e| internal(&format!("unable to upgrade connection: {e}")))?;
        Ok((TokioIo::new(upgraded), chosen))
    };
    match tokio::time::timeout(target.timeout + ANSWER_TIMEOUT, asking).await {
        Ok(result) => result,
        Err(_) => Err(internal(&format!("{}:{} does not answer", target.host, target.port))),
    }
}

/// An internal error as upstream tells it in a stream.
pub fn internal(why: &str) -> Value {
    json!({"metadata": {}, "status": "Failure", "message": format!("Internal error occurred: {why}"),
        "reason": "InternalError", "details": {"causes": [{"message": why}]}, "code": 500})
}

async fn refusal(answer: http::Response<Incoming>) -> Value {
    let body = Limited::new(answer.into_body(), REFUSAL_BYTES_MAX).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    match serde_json::from_slice::<Value>(&body) {
        Ok(status) if status["kind"] == "Status" && status["apiVersion"] == "v1" => status,
        _ => internal(&format!("unable to upgrade connection: {}", String::from_utf8_lossy(&body).trim_end())),
    }
}
