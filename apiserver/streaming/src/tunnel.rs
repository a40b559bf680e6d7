//! Passing a request on, and both directions of an upgraded connection.

use super::backend::connect;
use component_base::serving;
use handlers::Response;
use http::header::{CONNECTION, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use request::status::{Result, Status};
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;

/// Where a request goes on.
pub struct Target {
    pub host: String,
    pub port: u16,
    pub tls: Option<Arc<ClientConfig>>,
    /// The name that its certificate must be for, if not the host.
    pub server_name: Option<String>,
    /// Path and query.
    pub path: String,
    /// For connecting; streams last as long as they last.
    pub timeout: Duration,
}

/// Headers that are between the client and us, or say who the client is to us.
const NOT_PASSED: [HeaderName; 3] = [http::header::AUTHORIZATION, http::header::CONTENT_LENGTH, TRANSFER_ENCODING];

/// Takes out of a client's headers what is not for others.
pub fn prepare(headers: &mut HeaderMap) {
    for name in NOT_PASSED {
        headers.remove(name);
    }
    headers.retain_names(|name| !name.as_str().starts_with("impersonate-"));
}

/// Sends a request to a target, on a connection of its own. The target says host and path.
pub async fn send<B>(target: &Target, mut request: Request<B>) -> Result<http::Response<Incoming>>
where
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = target.path.parse().map_err(|_| Status::bad_request(format!("invalid path {:?}", target.path)))?;
    *request.uri_mut() = path;
    *request.version_mut() = http::Version::HTTP_11;
    if let Ok(host) = HeaderValue::from_str(&format!("{}:{}", target.host, target.port)) {
        request.headers_mut().insert(HOST, host);
    }
    let name = target.server_name.as_deref().unwrap_or(&target.host);
    let stream = connect(&target.host, target.port, target.tls.as_ref().map(|tls| (tls, name)), target.timeout).await?;
    let failed = |e: hyper::Error| {
        Status::internal(format!("error sending the request to {}:{}: {e}", target.host, target.port))
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // Ends with the connection: when the answer is read to its end, or the tunnel closes.
    tokio::spawn(async move {
        if let Err(e) = connection.with_upgrades().await {
            tracing::debug!(error = %e, "a proxied connection ended");
        }
    });
    sender.send_request(request).await.map_err(failed)
}

/// An answer of a target as ours.
pub fn answer_of(answer: http::Response<Incoming>) -> Response {
    let (mut parts, body) = answer.into_parts();
    parts.headers.remove(CONNECTION);
    parts.headers.remove(TRANSFER_ENCODING);
    Response::from_parts(parts, body.map_err(Into::into).boxed_unsync())
}

/// Sends `request` to `target` and answers with what comes back. An upgrade is passed on too: after it, bytes flow both ways
/// until either side ends.
pub async fn forward(target: Target, mut request: Request<Incoming>) -> Result<Response> {
    let upgrading = request.headers().contains_key(UPGRADE);
    let from_client = upgrading.then(|| hyper::upgrade::on(&mut request));
    prepare(request.headers_mut());
    if !upgrading {
        request.headers_mut().remove(CONNECTION);
    }
    let mut answer = send(&target, request).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(from_client) = from_client
    {
        let from_backend = hyper::upgrade::on(&mut answer);
        tokio::spawn(async move {
            let (Ok(client), Ok(backend)) = tokio::join!(from_client, from_backend) else { return };
            let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
            if let Err(e) = tokio::io::copy_bidirectional(&mut client, &mut backend).await {
                tracing::debug!(error = %e, "a stream ended");
            }
        });
        let (parts, _) = answer.into_parts();
        return Ok(Response::from_parts(parts, serving::empty()));
    }
    Ok(answer_of(answer))
}

/// Keeping some headers only.
trait RetainNames {
    fn retain_names(&mut self, keep: impl Fn(&HeaderName) -> bool);
}

impl RetainNames for HeaderMap {
    fn retain_names(&mut self, keep: impl Fn(&HeaderName) -> bool) {
        let gone: Vec<HeaderName> = self.keys().filter(|n| !keep(n)).cloned().collect();
        for name in gone {
            self.remove(name);
        }
    }
}
