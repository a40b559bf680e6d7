//! OpenAPI of everything that is served, version 2 in one document and version 3 in one per group and version. Made from the
//! type table when first asked for, kept while the set of resources stays the same.

mod custom;
mod schemas;
mod v2;
mod v3;

use crate::aggregation::openapi::{add_v3, merge_v2, v2_parts};
use crate::api::Served;
use crate::handlers::Response;
use crate::handlers::render::{json_response, respond};
use crate::server::Server;
use crate::server::route::not_found;
use crate::status::Result;
use bytes::Bytes;
use component_base::serving::full;
use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
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

pub fn answer<B>(server: &Server, path: &str, request: &Request<B>) -> Result<Response> {
    let served = server.api.served.load_full();
    Ok(match path.strip_prefix("/openapi/").unwrap_or("") {
        "v2" => {
            let accept = request.headers().get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
            // Old kubectl asks for protobuf first and takes JSON after it.
            if !accept.contains("json") && !accept.contains("*/*") && !accept.contains("application/*") {
                return Err(crate::status::Status::not_acceptable("application/json"));
            }
            let (parts, said) = v2_parts(server);
            let make = || merge_v2(v2::document(&served), &parts);
            send(document(&served, &format!("v2 {said}"), make), "application/json", request)
        }
        "v3" => {
            let mut paths = serde_json::Map::new();
            for path in v3::paths(&served) {
                let document = document(&served, &path, || v3::document(&served, &path));
                paths.insert(
                    path.clone(),
                    json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={}", document.tag)}),
                );
            }
            add_v3(server, &mut paths);
            let mut response = json_response(StatusCode::OK, &json!({"paths": paths}));
            response
                .headers_mut()
                .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            response
        }
        rest => match rest.strip_prefix("v3/") {
            Some(of) if v3::paths(&served).iter().any(|p| p == of) => {
                send(document(&served, of, || v3::document(&served, of)), "application/json", request)
            }
            _ => not_found(),
        },
    })
}

fn send<B>(document: Document, content_type: &'static str, request: &Request<B>) -> Response {
    let tag = format!("\"{}\"", document.tag);
    let unchanged = request.headers().get(IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let (code, body) =
        if unchanged { (StatusCode::NOT_MODIFIED, full("")) } else { (StatusCode::OK, full(document.bytes)) };
    let mut response = respond(code, content_type, body);
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}
