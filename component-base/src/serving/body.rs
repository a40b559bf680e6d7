//! Bodies of answers.

use std::convert::Infallible;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use http::{Response, StatusCode, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use serde::Serialize;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Any body a handler may answer with.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

fn never(error: Infallible) -> BoxError {
    match error {}
}

pub fn empty() -> Body {
    Empty::new().map_err(never).boxed_unsync()
}

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// A body of unknown length, sent as its pieces come.
pub fn stream<E: Into<BoxError> + 'static>(pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static) -> Body {
    StreamBody::new(pieces.map_ok(Frame::data).map_err(Into::into)).boxed_unsync()
}

/// A plain text answer.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", text.into())
}

/// A JSON answer.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => with_type(status, "application/json", bytes.into()),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot encode the answer: {error}\n")),
    }
}

/// A failure in the form of the API's `Status`.
pub fn status(code: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let value = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    });
    json(code, &value)
}

pub(super) fn with_type(status: StatusCode, media_type: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(media_type));
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    response
}
