//! Answers as HTTP has them, whatever they say.

use component_base::serving;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

/// Bodies of answers.
pub type Body = serving::Body;
pub type Response = http::Response<Body>;

/// What is at a path where nothing is.
pub fn not_found() -> Response {
    respond(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", serving::full("404 page not found\n"))
}

pub fn respond(code: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = http::Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A JSON answer that is no API object. Upstream indents those.
pub fn json_response(code: StatusCode, value: &impl Serialize) -> Response {
    respond(code, "application/json", serving::full(serde_json::to_vec_pretty(value).unwrap_or_default()))
}
