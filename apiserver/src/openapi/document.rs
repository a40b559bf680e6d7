//! Finished documents: kept compressed while the set of resources stays the same, and sent as each client takes them.

use crate::api::Served;
use crate::handlers::render::respond;
use crate::handlers::{Response, compress};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_LENGTH, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Request, StatusCode};
use parking_lot::Mutex;
use sha2::Digest;
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

/// A document that is made once and sent often.
#[derive(Clone)]
pub struct Document {
    /// In gzip, which most clients take. Texts shrink to a twelfth.
    packed: Bytes,
    /// Bytes before they were packed.
    length: usize,
    /// Its entity tag, without quotes: the hash of its JSON.
    pub tag: String,
}

impl Document {
    /// Packs a document. Without a tag it gets the hash of what it is.
    pub fn new(bytes: &[u8], tag: Option<String>) -> Document {
        let tag = tag.unwrap_or_else(|| crate::discovery::hex(&sha2::Sha512::digest(bytes)));
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        let _ = packer.write_all(bytes); // into memory, which does not fail
        let packed = packer.finish().unwrap_or_default().into_boxed_slice();
        Document { packed: packed.into(), length: bytes.len(), tag }
    }

    /// The answer to who asks for it; 304 to who has it.
    pub fn send<B>(self, content_type: &'static str, request: &Request<B>) -> Response {
        let tag = format!("\"{}\"", self.tag);
        let known = request.headers().get(IF_NONE_MATCH).and_then(|v| v.to_str().ok()).unwrap_or("");
        let unchanged = known.split(',').any(|k| k.trim().trim_start_matches("W/") == tag || k.trim() == "*");
        let mut response = if unchanged {
            respond(StatusCode::NOT_MODIFIED, content_type, component_base::serving::full(""))
        } else if compress::accepts(request.headers()) && self.length > compress::THRESHOLD {
            compress::packed(StatusCode::OK, content_type, self.packed)
        } else {
            let mut response = compress::unpacked(StatusCode::OK, content_type, self.packed);
            response.headers_mut().insert(CONTENT_LENGTH, self.length.into());
            response
        };
        response.headers_mut().append(VARY, HeaderValue::from_static("Accept"));
        response.headers_mut().extend(HeaderValue::from_str(&tag).ok().map(|tag| (ETAG, tag)));
        response
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
pub fn document(served: &Arc<Served>, key: &str, make: impl FnOnce() -> Document) -> Document {
    let mut guard = CACHE.lock();
    let cache = guard.get_or_insert_with(Cache::default);
    if !cache.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, served)) {
        *cache = Cache { of: Some(served.clone()), documents: HashMap::new() };
    }
    if let Some(kind) = key.split(' ').next().filter(|kind| kind.starts_with("v2")) {
        // Of the one large document only the latest is kept.
        let old = |kept: &str| kept != key && kept.split(' ').next() == Some(kind);
        cache.documents.retain(|kept, _| !old(kept));
    }
    cache.documents.entry(key.to_owned()).or_insert_with(make).clone()
}
