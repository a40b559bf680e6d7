//! One POST of a JSON document and its JSON answer.

use super::client::{Callout, ConnectError};
use super::config::Destination;
use apimachinery::Value;
use bytes::Bytes;
use component_base::serving::full;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::time::Duration;

/// How much of an error's body is told on.
const TOLD_MAX: usize = 2048;

/// What a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub timeout: Duration,
    /// Of the answer.
    pub bytes_max: usize,
}

/// Why a call brought no answer, worded as clients of upstream know it.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("Post {url:?}: {why}")]
    Transport { url: String, why: String },
    #[error("Post {url:?}: context deadline exceeded")]
    Timeout { url: String },
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Undecodable(String),
}

impl CallError {
    /// The HTTP code that metrics tell.
    pub fn code(&self) -> u16 {
        match self {
            CallError::Timeout { .. } => 504,
            _ => 500,
        }
    }
}

impl Callout {
    /// Posts `body` and reads the answer as JSON. The time the server has is told to it as `?timeout=`.
    ///
    /// # Errors
    /// When it cannot be reached, answers late, too much, not with 2xx, or not with JSON.
    pub async fn post(&self, to: &Destination, body: Bytes, limits: Limits) -> Result<Value, CallError> {
        let url = format!("https://{}{}?timeout={}s", to.authority, to.path, limits.timeout.as_secs());
        let asked = tokio::time::timeout(limits.timeout, self.exchange(to, &url, body, limits.bytes_max)).await;
        let (code, bytes) = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return Err(CallError::Transport { url, why }),
            Err(_) => return Err(CallError::Timeout { url }),
        };
        if !code.is_success() {
            return Err(CallError::Refused(refusal(code, &bytes)));
        }
        serde_json::from_slice(&bytes)
            .map_err(|e| CallError::Undecodable(format!("couldn't get version/kind; json parse error: {e}")))
    }

    async fn exchange(
        &self,
        to: &Destination,
        url: &str,
        body: Bytes,
        bytes_max: usize,
    ) -> Result<(StatusCode, Bytes), String> {
        let mut request = Request::new(full(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.parse().map_err(|e: http::uri::InvalidUri| e.to_string())?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
        headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"));
        let answer = self.send(to, false, request).await.map_err(|e| match e {
            ConnectError::Tls(why) => format!("tls: {why}"),
            other => other.to_string(),
        })?;
        let code = answer.status();
        match Limited::new(answer.into_body(), bytes_max).collect().await {
            Ok(collected) => Ok((code, collected.to_bytes())),
            Err(e) if e.is::<LengthLimitError>() => Err(format!("the answer is larger than {bytes_max} bytes")),
            Err(e) => Err(e.to_string()),
        }
    }
}

/// An answer that is not 2xx, in the words of upstream's client.
fn refusal(code: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(TOLD_MAX)]);
    let told = text.trim();
    match code.as_u16() {
        400 => "the server rejected our request for an unknown reason".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        403 => "unknown".into(),
        404 => "the server could not find the requested resource".into(),
        405 => "the server does not allow this method on the requested resource".into(),
        415 => "the server was unable to respond with a content type that the client supports".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => "the server is currently unable to handle the request".into(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .into()
        }
        500.. if told.is_empty() => {
            "an error on the server (\"unknown\") has prevented the request from succeeding".into()
        }
        500.. => format!("an error on the server ({told:?}) has prevented the request from succeeding"),
        code => format!("the server responded with the status code {code} but did not return more information"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_worded_as_upstreams_client_words_them() {
        for (code, body, want) in [
            (500, "boom\n", "an error on the server (\"boom\") has prevented the request from succeeding"),
            (404, "x", "the server could not find the requested resource"),
            (302, "", "the server responded with the status code 302 but did not return more information"),
        ] {
            assert_eq!(refusal(StatusCode::from_u16(code).unwrap(), body.as_bytes()), want);
        }
    }
}
