//! What form an answer takes: the `Accept` header, read as upstream reads it.

use http::HeaderMap;
use request::status::{Result, Status};
use std::sync::OnceLock;

/// Whether CBOR is spoken; set once, before the first request.
static CBOR: OnceLock<bool> = OnceLock::new();

/// Switches CBOR on or off, as the feature gate CBORServingAndStorage is. Off until somebody says.
pub fn serve_cbor(on: bool) {
    let _ = CBOR.set(on); // a second word does not count
}

/// Whether CBOR is spoken (KEP-4222).
pub fn cbor_is_served() -> bool {
    CBOR.get().copied().unwrap_or(false)
}

/// A list of media types for an answer that says what would be taken, with `cbor` behind it where that is spoken.
pub fn media_types(known: &str, cbor: &str) -> String {
    if cbor_is_served() { format!("{known}, {cbor}") } else { known.to_owned() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
    Cbor,
}

impl Encoding {
    pub fn content_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
            Encoding::Cbor => "application/cbor",
        }
    }
}

/// What the client wants to see of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Whole,
    /// Rows and columns, as kubectl prints them.
    Table,
    /// `PartialObjectMetadata`: only the metadata.
    Metadata,
    MetadataList,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub encoding: Encoding,
    pub view: View,
    pub pretty: bool,
    /// Large answers may be compressed.
    pub gzip: bool,
}

const SUPPORTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// Whether an answer is indented: where the query says so, else for programs in which people read it.
fn is_pretty(headers: &HeaderMap, query: Option<&str>) -> bool {
    let asked = query.and_then(|q| q.split('&').find(|p| *p == "pretty" || p.starts_with("pretty=")));
    match asked {
        Some(value) => matches!(value, "pretty" | "pretty=" | "pretty=1" | "pretty=true"),
        None => {
            let agent = headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
            ["curl/", "Wget/", "Mozilla/"].iter().any(|program| agent.starts_with(program))
        }
    }
}

/// Picks the first form in the header that we can make.
pub fn accept(headers: &HeaderMap, query: Option<&str>) -> Result<Accepted> {
    let header = headers.get(http::header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let pretty = is_pretty(headers, query);
    let gzip = super::compress::accepts(headers);
    if header.trim().is_empty() {
        return Ok(Accepted { encoding: Encoding::Json, view: View::Whole, pretty, gzip });
    }
    for clause in header.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        let encoding = match parts.next().unwrap_or("").to_ascii_lowercase().as_str() {
            "application/json" | "*/*" | "application/*" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            "application/vnd.kubernetes.protobuf" => Encoding::Protobuf,
            "application/cbor" if cbor_is_served() => Encoding::Cbor,
            _ => continue,
        };
        let (mut kind, mut group, mut version) = ("", "", "");
        let mut pretty = pretty;
        for (name, value) in parts.filter_map(|p| p.split_once('=')) {
            match name.trim() {
                "as" => kind = value.trim(),
                "g" => group = value.trim(),
                "v" => version = value.trim(),
                "pretty" => pretty = value == "1",
                _ => {}
            }
        }
        let view = match (kind, group, version) {
            ("", ..) => View::Whole,
            ("Table", "meta.k8s.io", "v1" | "v1beta1") => View::Table,
            ("PartialObjectMetadata", "meta.k8s.io", "v1" | "v1beta1") => View::Metadata,
            ("PartialObjectMetadataList", "meta.k8s.io", "v1" | "v1beta1") => View::MetadataList,
            _ => continue,
        };
        return Ok(Accepted { encoding, view, pretty, gzip });
    }
    Err(Status::not_acceptable(&media_types(SUPPORTED, "application/cbor, application/cbor-seq")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_can_be_made_is_taken() {
        let cases = [
            ("", Encoding::Json, View::Whole),
            ("*/*", Encoding::Json, View::Whole),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Encoding::Json, View::Table),
            ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Encoding::Json, View::Whole),
            ("application/vnd.kubernetes.protobuf;stream=watch", Encoding::Protobuf, View::Whole),
            ("text/html, application/yaml", Encoding::Yaml, View::Whole),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Encoding::Json, View::MetadataList),
        ];
        for (header, encoding, view) in cases {
            let mut headers = HeaderMap::new();
            headers.insert("accept", header.parse().unwrap());
            assert_eq!(
                accept(&headers, None).unwrap(),
                Accepted { encoding, view, pretty: false, gzip: false },
                "{header}"
            );
        }
        let mut headers = HeaderMap::new();
        headers.insert("accept", "text/html".parse().unwrap());
        assert!(accept(&headers, None).is_err());
    }
}
