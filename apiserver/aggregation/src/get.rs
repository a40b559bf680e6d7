//! Asking another API server something, as this server itself.

use super::Aggregator;
use super::proxy::identify;
use super::table::Remote;
use component_base::serving::empty;
use http::header::ACCEPT;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use request::User;
use std::time::Duration;

/// What a server may take to say what it serves.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// A GET as this server itself; code, body and entity tag.
pub async fn get(
    aggregator: &Aggregator,
    remote: &Remote,
    path: &str,
    accept: &'static str,
    bytes_max: usize,
) -> Result<(StatusCode, bytes::Bytes, String), String> {
    let mut request = Request::new(empty());
    *request.method_mut() = Method::GET;
    let uri = format!("https://{}{path}", remote.destination.authority);
    *request.uri_mut() = uri.parse().map_err(|e: http::uri::InvalidUri| e.to_string())?;
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
    let user = User { name: "system:kube-aggregator".into(), groups: vec!["system:masters".into()], ..User::default() };
    identify(request.headers_mut(), &user);
    let asked = async {
        let answer =
            aggregator.api.callout.send(&remote.destination, true, request).await.map_err(|e| e.to_string())?;
        let code = answer.status();
        let tag = answer.headers().get(http::header::ETAG).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        let body = Limited::new(answer.into_body(), bytes_max).collect().await.map_err(|e| e.to_string())?;
        Ok((code, body.to_bytes(), tag))
    };
    let late = || Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned());
    tokio::time::timeout(CHECK_TIMEOUT, asked).await.unwrap_or_else(|_| late())
}
