//! Finished documents: kept compressed while the resources that they tell of stay the same, and sent as each client takes them.

use crate::v3::group_version_path;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use handlers::api::Served;
use handlers::response::respond;
use handlers::{Response, compress};
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
        let tag = tag.unwrap_or_else(|| format!("{:X}", sha2::Sha512::digest(bytes)));
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

/// Documents by key. Keys of version 2 begin with `v2`; those of version 3 are paths, and more behind a space where there are
/// several documents of a path.
#[derive(Default)]
struct Cache {
    of: Option<Arc<Served>>,
    documents: HashMap<String, Document>,
}

static CACHE: Mutex<Option<Cache>> = Mutex::new(None);

/// Whether a document is the same when other resources are served: one of version 3 about built-in resources that did not change.
/// Custom resources come and go, and what is said of them is read from their definitions.
fn stays(before: &Served, now: &Served, key: &str) -> bool {
    let path = key.split(' ').next().unwrap_or_default();
    let table = |of: &Served| of.versions.iter().position(|((g, v), _)| group_version_path(g, v) == path);
    match (table(before), table(now)) {
        (Some(i), Some(j)) => {
            let (old, new) = (&before.versions[i].1, &now.versions[j].1);
            old.len() == new.len()
                && old.values().zip(new.values()).all(|(old, new)| Arc::ptr_eq(old, new) && !new.row.is_custom())
        }
        (None, None) => !path.starts_with("v2"),
        _ => false,
    }
}

/// The document under `key`, made by `make` if the cached one is of other resources.
pub fn document(served: &Arc<Served>, key: &str, make: impl FnOnce() -> Document) -> Document {
    let mut guard = CACHE.lock();
    let cache = guard.get_or_insert_with(Cache::default);
    if !cache.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, served)) {
        let before = cache.of.replace(served.clone()).unwrap_or_default();
        cache.documents.retain(|key, _| stays(&before, served, key));
    }
    if let Some(kind) = key.split(' ').next().filter(|kind| kind.starts_with("v2")) {
        // Of the one large document only the latest is kept.
        let old = |kept: &str| kept != key && kept.split(' ').next() == Some(kind);
        cache.documents.retain(|kept, _| !old(kept));
    }
    cache.documents.entry(key.to_owned()).or_insert_with(make).clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::everything;

    #[test]
    fn documents_outlive_changes_that_are_not_theirs() {
        let before = everything();
        let mut now = before.clone();
        let apps = now.versions.iter_mut().find(|((group, _), _)| group == "apps").unwrap();
        apps.1.remove("deployments");
        for (key, kept) in [
            ("api/v1", true),
            ("api/v1 protobuf", true),
            ("version", true),
            ("apis/apps/v1", false),
            ("apis/apps/v1 protobuf", false),
            ("v2 tag", false),
            ("v2-protobuf ", false),
        ] {
            assert_eq!(stays(&before, &now, key), kept, "{key}");
        }
    }

    #[test]
    fn documents_are_packed_and_tagged_by_what_they_say() {
        let text = b"a document ".repeat(1000);
        let document = Document::new(&text, None);
        assert!(document.packed.len() < 200 && document.length == text.len());
        assert_eq!(document.tag, Document::new(&text, None).tag);
        assert_ne!(document.tag, Document::new(b"another", None).tag);
        assert_eq!(Document::new(b"another", Some("given".into())).tag, "given");
    }
}
