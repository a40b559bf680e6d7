//! Fuzz targets of what only this crate reads: paths, queries, headers, continue tokens, tokens and certificates of clients, bodies by
//! row. The fuzzer is the crate of that name; its corpora lie there too.

use ::fuzz::Target;
use apimachinery::Value;
use apimachinery::validation::{Cursor, Errors};
use authentication::token_file::TokenFile;
use component_base::tls::subject;
use handlers::decode::{BodyType, body_type, decode};
use handlers::negotiate::accept;
use handlers::read::{Continue, resource_version};
use http::{HeaderMap, HeaderValue, Method, Uri};
use kinds::{apiextensions, rows};
use request::RequestInfo;
use request::options::{DeleteOptions, FieldValidation, ListOptions, WriteOptions};

const URI: &[&str] = &[
    "/api",
    "/apis",
    "/v1",
    "/namespaces/",
    "/pods/",
    "watch=1",
    "&",
    "=",
    "?",
    "%2F",
    "%00",
    "%ff",
    "%",
    "..",
    "//",
    "limit=-1",
    "continue=",
    "resourceVersion=0",
    "resourceVersionMatch=Exact",
    "labelSelector=",
    "fieldSelector=",
    "timeoutSeconds=",
    "sendInitialEvents=true",
    "dryRun=All",
];
const MEDIA: &[&str] = &[
    "application/json",
    "application/vnd.kubernetes.protobuf",
    "application/yaml",
    ";as=Table",
    ";g=meta.k8s.io",
    ";v=v1",
    ";q=0.5",
    ";stream=watch",
    ",",
    ";",
    "*/*",
    "=",
    "application/*",
    "as=PartialObjectMetadata",
];
const TOKEN: &[&str] = &["meta.k8s.io/v1", "\"rv\"", "\"start\"", "-1", "..", "=", "_", "-", "/"];

const TARGETS: [Target; 6] = [
    Target { name: "uri", words: URI, run: uri },
    Target { name: "headers", words: MEDIA, run: headers },
    Target { name: "continue", words: TOKEN, run: continue_token },
    Target {
        name: "credentials",
        words: &["eyJ", ".", "{\"alg\":\"none\"}", "kid", "RS256", ",", "\"", "\n"],
        run: credentials,
    },
    Target { name: "bodies", words: &["spec", "metadata", "kind", "apiVersion", "name", "$patch"], run: bodies },
    Target {
        name: "definitions",
        words: &["type", "object", "properties", "items", "default", "x-kubernetes-list-type", "map"],
        run: definitions,
    },
];

fn uri(parts: &[&[u8]]) {
    let Ok(uri) = String::from_utf8_lossy(parts[0]).parse::<Uri>() else { return };
    for method in [Method::GET, Method::POST, Method::DELETE, Method::PATCH] {
        let info = RequestInfo::new(&method, &uri);
        assert!(!info.is_resource || !info.resource.is_empty() || info.name.is_empty(), "{info:?}");
    }
    if let Ok(options) = ListOptions::parse(&uri) {
        let _ = (options.validate(true), options.validate(false));
        let _ = resource_version(&options.resource_version);
    }
    let _ = WriteOptions::parse(&uri, "CreateOptions");
    let _ = DeleteOptions::parse(&uri, serde_json::from_slice(parts[1]).ok().as_ref());
}

fn headers(parts: &[&[u8]]) {
    let Ok(value) = HeaderValue::from_bytes(parts[0]) else { return };
    let mut headers = HeaderMap::new();
    for name in ["accept", "content-type", "accept-encoding"] {
        headers.insert(name, value.clone());
    }
    let _ = accept(&headers, Some("pretty=1"));
    let _ = body_type(&headers);
}

fn continue_token(parts: &[&[u8]]) {
    if let Ok(token) = Continue::decode(&String::from_utf8_lossy(parts[0])) {
        assert!(Continue::decode(&token.encode()).is_ok(), "what was made is not taken");
    }
}

fn credentials(parts: &[&[u8]]) {
    let text = String::from_utf8_lossy(parts[0]);
    let _ = jsonwebtoken::decode_header(&*text);
    let _ = TokenFile::parse(&text);
    let _ = subject(&rustls_pki_types::CertificateDer::from(parts[0]));
}

/// A body sent to every kind's place, in whatever encoding.
fn bodies(parts: &[&[u8]]) {
    static ROWS: std::sync::LazyLock<Vec<std::sync::Arc<registry::resource::Resource>>> =
        std::sync::LazyLock::new(rows::builtin);
    // Which kind follows from the bytes, so that it is the same for the same input.
    let row = &ROWS[parts[0].iter().fold(0, |sum, byte| sum * 31usize % 65_521 + usize::from(*byte)) % ROWS.len()];
    for body in [BodyType::Json, BodyType::Yaml, BodyType::Protobuf] {
        let _ = decode(parts[0], body, &row.kind, &row.form, FieldValidation::Strict);
    }
}

fn definitions(parts: &[&[u8]]) {
    let Ok(schema) = serde_json::from_slice::<Value>(parts[0]) else { return };
    let errors = Errors::default();
    apiextensions::schema::validate(&Cursor::root(&schema, &errors), true, true);
}

#[test]
fn no_request_makes_a_parser_fail_badly() {
    ::fuzz::check(&TARGETS, 1_500);
}
