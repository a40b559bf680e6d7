//! OpenAPI of everything that is served, version 2 in one document and version 3 in one per group and version. Made from the
//! type table when first asked for, kept while the set of resources stays the same.

mod custom;
mod gnostic;
mod schemas;
mod v2;
mod v3;

use crate::aggregation::openapi::{add_v3, merge_v2, v2_parts};
use crate::api::Served;
use crate::handlers::render::respond;
use crate::handlers::{Response, compress};
use crate::server::Server;
use crate::server::route::not_found;
use crate::status::Result;
use bytes::Bytes;
use component_base::serving::full;
use http::header::{ACCEPT, CACHE_CONTROL, ETAG, EXPIRES, HeaderValue, IF_NONE_MATCH, LOCATION, VARY};
use http::{Request, StatusCode};
use parking_lot::Mutex;
use serde_json::json;
use sha2::Digest;
use std::collections::HashMap;
use std::sync::Arc;

/// A finished document.
#[derive(Clone)]
struct Document {
    bytes: Bytes,
    tag: String,
}

impl Document {
    fn new(bytes: Vec<u8>) -> Document {
        let tag = crate::discovery::hex(&sha2::Sha512::digest(&bytes));
        Document { bytes: bytes.into(), tag }
    }
}

/// Documents of one set of resources.
#[derive(Default)]
struct Cache {
    of: Option<Arc<Served>>,
    documents: HashMap<String, Document>,
}

static CACHE: Mutex<Option<Cache>> = Mutex::new(None);

/// The document under `key`, made by `make` if the cached one is of other resources.
fn document(served: &Arc<Served>, key: &str, make: impl FnOnce() -> Vec<u8>) -> Document {
    let mut guard = CACHE.lock();
    let cache = guard.get_or_insert_with(Cache::default);
    if !cache.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, served)) {
        *cache = Cache { of: Some(served.clone()), documents: HashMap::new() };
    }
    if key.starts_with("v2") {
        // Of the one large document only the latest is kept.
        cache.documents.retain(|kept, _| !kept.starts_with("v2") || kept == key);
    }
    cache.documents.entry(key.to_owned()).or_insert_with(|| Document::new(make())).clone()
}

/// How a document is sent.
const JSON: &str = "application/json";
const PROTO_V2: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// What it is called in answers, since `@` may not stand in a media type (RFC 9110 §8.3.1) and clients parse it; some ask so.
const PROTO_V2_SENT: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The first of `offered` that the client takes, in the client's order. (RFC 9110 §12.5.1, without weights other than 0.)
fn negotiate<B>(request: &Request<B>, offered: &[&'static str]) -> Result<&'static str> {
    let header = request.headers().get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
    let ranges = header.split(',').map(|clause| clause.split(';').next().unwrap_or("").trim());
    ranges
        .filter_map(|range| {
            offered.iter().find(|o| **o == range || matches!(range, "*/*" | "application/*") && **o == JSON)
        })
        .next()
        .copied()
        .ok_or_else(|| crate::status::Status::not_acceptable(&offered.join(", ")))
}

pub fn answer<B>(server: &Server, path: &str, request: &Request<B>) -> Result<Response> {
    let served = server.api.served.load_full();
    Ok(match path.strip_prefix("/openapi/").unwrap_or("") {
        "v2" => {
            let (parts, said) = v2_parts(server);
            let make = || merge_v2(v2::document(&served), &parts);
            match negotiate(request, &[JSON, PROTO_V2, PROTO_V2_SENT])? {
                JSON => send(document(&served, &format!("v2 {said}"), || text(&make())), JSON, request),
                _ => {
                    let document = document(&served, &format!("v2 protobuf {said}"), || gnostic::document(&make()));
                    send(document, PROTO_V2_SENT, request)
                }
            }
        }
        "v3" => {
            let mut paths = serde_json::Map::new();
            for path in v3::paths(&served) {
                let document = document(&served, &path, || text(&v3::document(&served, &path)));
                let url = format!("/openapi/v3/{path}?hash={}", document.tag);
                paths.insert(path, json!({"serverRelativeURL": url}));
            }
            add_v3(server, &mut paths);
            // Upstream names no type here, and its HTTP library guesses.
            respond(StatusCode::OK, "text/plain; charset=utf-8", full(json!({"paths": paths}).to_string()))
        }
        rest => match rest.strip_prefix("v3/") {
            Some(of) if v3::paths(&served).iter().any(|p| p == of) => {
                let media = negotiate(request, &[JSON])?;
                let document = document(&served, of, || text(&v3::document(&served, of)));
                match crate::request::options::query(request.uri()).find(|(name, _)| name == "hash") {
                    None => send(document, media, request),
                    // What a hash names never changes.
                    Some((_, hash)) if hash == document.tag => {
                        let mut response = send(document, media, request);
                        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
                        let year = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 365);
                        let expires = year.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
                        response.headers_mut().extend(HeaderValue::from_str(&expires).ok().map(|v| (EXPIRES, v)));
                        response
                    }
                    Some(_) => {
                        let mut response = respond(StatusCode::MOVED_PERMANENTLY, JSON, full(""));
                        let now = format!("/openapi/v3/{of}?hash={}", document.tag);
                        response.headers_mut().extend(HeaderValue::from_str(&now).ok().map(|v| (LOCATION, v)));
                        response
                    }
                }
            }
            _ => not_found(),
        },
    })
}

fn text(document: &apimachinery::Value) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}

fn send<B>(document: Document, content_type: &'static str, request: &Request<B>) -> Response {
    let tag = format!("\"{}\"", document.tag);
    let known = request.headers().get(IF_NONE_MATCH).and_then(|v| v.to_str().ok()).unwrap_or("");
    let unchanged = known.split(',').any(|k| k.trim().trim_start_matches("W/") == tag || k.trim() == "*");
    let mut response = if unchanged {
        respond(StatusCode::NOT_MODIFIED, content_type, full(""))
    } else if compress::accepts(request.headers()) && document.bytes.len() > compress::THRESHOLD {
        compress::full(StatusCode::OK, content_type, document.bytes)
    } else {
        respond(StatusCode::OK, content_type, full(document.bytes))
    };
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept"));
    response.headers_mut().extend(HeaderValue::from_str(&tag).ok().map(|tag| (ETAG, tag)));
    response
}
