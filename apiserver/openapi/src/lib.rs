//! OpenAPI of everything that is served, version 2 in one document and version 3 in one per group and version. Made from the
//! type table and the documentation of its types when first asked for, kept while the resources that it tells of stay the same.

mod connect;
mod custom;
mod document;
mod enums;
mod gnostic;
mod operation;
pub mod schemas;
mod v2;
mod v3;

use aggregation::Aggregator;
use aggregation::openapi::{add_v3, merge_v2, v2_parts};
use api_documentation::Texts;
use apimachinery::Value;
use component_base::serving::full;
use document::{Document, document};
use handlers::Response;
use handlers::response::not_found;
use handlers::response::respond;
use http::header::{ACCEPT, CACHE_CONTROL, EXPIRES, HeaderValue, LOCATION};
use http::{Request, StatusCode};
use request::status::Result;
use serde_json::json;
use std::cell::LazyCell;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// How a document is sent.
const JSON: &str = "application/json";
const PROTO_V2: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// What it is called in answers, since `@` may not stand in a media type (RFC 9110 §8.3.1) and clients parse it; some ask so.
const PROTO_V2_SENT: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const PROTO_V3: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
const PROTO_V3_SENT: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";

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
        .ok_or_else(|| request::status::Status::not_acceptable(&offered.join(", ")))
}

/// Answers below `/openapi/`. Documents take long to make, so other requests of this thread go on elsewhere meanwhile, where there
/// are other threads.
pub fn answer<B>(aggregator: &Aggregator, path: &str, request: &Request<B>) -> Result<Response> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => block_in_place(|| find(aggregator, path, request)),
        _ => find(aggregator, path, request),
    }
}

fn find<B>(aggregator: &Aggregator, path: &str, request: &Request<B>) -> Result<Response> {
    let served = aggregator.api.served.load_full();
    // Read when the first document has to be made, dropped with this request.
    let texts = LazyCell::new(Texts::inflate);
    let documentation = LazyCell::new(|| texts.index());
    let v3_json = |path: &str| document(&served, path, || json(&v3::document(&served, path, &documentation)));
    Ok(match path.strip_prefix("/openapi/").unwrap_or("") {
        "v2" => {
            let (parts, said) = v2_parts(aggregator);
            let make = || merge_v2(v2::document(&served, &documentation), &parts);
            match negotiate(request, &[JSON, PROTO_V2, PROTO_V2_SENT])? {
                JSON => document(&served, &format!("v2 {said}"), || json(&make())).send(JSON, request),
                _ => {
                    let make = || Document::new(&gnostic::v2(&make()), None);
                    document(&served, &format!("v2-protobuf {said}"), make).send(PROTO_V2_SENT, request)
                }
            }
        }
        "v3" => {
            let mut paths = serde_json::Map::new();
            for path in v3::paths(&served) {
                let url = format!("/openapi/v3/{path}?hash={}", v3_json(&path).tag);
                paths.insert(path, json!({"serverRelativeURL": url}));
            }
            add_v3(aggregator, &mut paths);
            // Upstream names no type here, and its HTTP library guesses.
            respond(StatusCode::OK, "text/plain; charset=utf-8", full(json!({"paths": paths}).to_string()))
        }
        rest => match rest.strip_prefix("v3/") {
            Some(of) if v3::paths(&served).iter().any(|p| p == of) => {
                let media = negotiate(request, &[JSON, PROTO_V3, PROTO_V3_SENT])?;
                let document = v3_json(of);
                // In either encoding a document has the same tag, as the list of all documents names one only.
                let tag = document.tag.clone();
                let send = || match media {
                    JSON => document.send(JSON, request),
                    _ => {
                        let make = || gnostic::v3(&v3::document(&served, of, &documentation));
                        let make = || Document::new(&make(), Some(tag.clone()));
                        document::document(&served, &format!("{of} protobuf"), make).send(PROTO_V3_SENT, request)
                    }
                };
                match request::options::query(request.uri()).find(|(name, _)| name == "hash") {
                    None => send(),
                    // What a hash names never changes.
                    Some((_, hash)) if hash == tag => {
                        let mut response = send();
                        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
                        let year = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 365);
                        let expires = year.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
                        response.headers_mut().extend(HeaderValue::from_str(&expires).ok().map(|v| (EXPIRES, v)));
                        response
                    }
                    Some(_) => {
                        let mut response = respond(StatusCode::MOVED_PERMANENTLY, JSON, full(""));
                        let now = format!("/openapi/v3/{of}?hash={tag}");
                        response.headers_mut().extend(HeaderValue::from_str(&now).ok().map(|v| (LOCATION, v)));
                        response
                    }
                }
            }
            _ => not_found(),
        },
    })
}

/// A document in JSON.
fn json(value: &Value) -> Document {
    Document::new(&serde_json::to_vec(value).unwrap_or_default(), None)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use handlers::api::{Endpoint, Served};
    use kinds::rows::builtin;
    use std::sync::Arc;

    /// Every built-in resource, also those that are off by default.
    pub fn everything() -> Served {
        let mut served = Served::default();
        for row in builtin() {
            let of = (row.kind.group.clone(), row.kind.version.clone());
            let endpoint = Arc::new(Endpoint { row: row.clone(), cache: None });
            let at = served.versions.iter().position(|(version, _)| *version == of).unwrap_or_else(|| {
                served.versions.push((of, Default::default()));
                served.versions.len() - 1
            });
            served.versions[at].1.insert(row.plural.clone(), endpoint);
        }
        served
    }

    /// Types, and fields (`*`: all) of types, of which Kubernetes says nothing.
    const SILENT: &[(&str, &str)] = &[
        ("io.k8s.api.admissionregistration.v1alpha1.MatchCondition", ""),
        ("io.k8s.api.certificates.v1.CertificateSigningRequest", "metadata"),
        ("io.k8s.api.networking.v1.IngressRule", "http"),
        ("io.k8s.apimachinery.pkg.apis.meta.v1.GroupResource", "*"),
        ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.ExternalDocumentation", "*"),
        ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps", "*"),
        // Selectors that this version has no more; objects from before may have them.
        ("io.k8s.api.resource.v1alpha3.CELDeviceSelector", "*"),
        ("io.k8s.api.resource.v1alpha3.DeviceSelector", "*"),
        ("io.k8s.api.resource.v1alpha3.DeviceTaintSelector", "*"),
    ];

    #[test]
    fn deletions_take_options_and_answer_a_status_or_the_object() {
        let (served, texts) = (everything(), Texts::inflate());
        let documentation = texts.index();
        let (v2, v3) = (v2::document(&served, &documentation), v3::document(&served, "api/v1", &documentation));
        for (path, answer) in [
            ("configmaps", "io.k8s.apimachinery.pkg.apis.meta.v1.Status"),
            ("pods", "io.k8s.api.core.v1.Pod"),
            ("services", "io.k8s.api.core.v1.Service"),
        ] {
            let path = format!("/api/v1/namespaces/{{namespace}}/{path}/{{name}}");
            let delete = &v3["paths"][&path]["delete"];
            let options = &delete["requestBody"]["content"]["*/*"]["schema"]["$ref"];
            assert_eq!(options, "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
            assert_eq!(delete["requestBody"].get("required"), None);
            for code in ["200", "202"] {
                let schema = &delete["responses"][code]["content"]["application/json"]["schema"]["$ref"];
                assert_eq!(schema, &format!("#/components/schemas/{answer}"), "{path}");
            }
            let delete = &v2["paths"][&path]["delete"];
            assert_eq!(delete["responses"]["200"]["schema"]["$ref"], format!("#/definitions/{answer}"));
            let body = delete["parameters"].as_array().unwrap().iter().find(|p| p["in"] == "body").unwrap();
            assert_eq!(body.get("required"), None);
        }
        let collection = &v3["paths"]["/api/v1/namespaces/{namespace}/pods"]["delete"];
        let schema = &collection["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(schema, "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Status");
    }

    #[test]
    fn values_of_enumerations_are_told_where_they_stand() {
        let (served, texts) = (everything(), Texts::inflate());
        let documentation = texts.index();
        let (v2, v3) = (v2::document(&served, &documentation), v3::document(&served, "api/v1", &documentation));
        for definitions in [&v2["definitions"], &v3["components"]["schemas"]] {
            let fields = |ty: &str| definitions[format!("io.k8s.api.core.v1.{ty}")]["properties"].clone();
            let types = json!(["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
            assert_eq!(fields("ServiceSpec")["type"]["enum"], types);
            let modes = &fields("PersistentVolumeClaimSpec")["accessModes"];
            assert_eq!(modes["items"]["enum"][0], "ReadOnlyMany");
            assert_eq!(modes.get("enum"), None);
            let states = &fields("PersistentVolumeClaimStatus")["allocatedResourceStatuses"];
            assert_eq!(states["additionalProperties"]["enum"][0], "ControllerResizeInProgress");
            // Of an inlined type.
            assert_eq!(fields("EphemeralContainer")["imagePullPolicy"]["enum"][0], "Always");
        }
    }

    #[test]
    fn every_type_and_field_is_described() {
        let (served, texts) = (everything(), Texts::inflate());
        let documentation = texts.index();
        for path in v3::paths(&served) {
            let document = v3::document(&served, &path, &documentation);
            for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
                let fields = schema["properties"].as_object().into_iter().flatten();
                for (field, schema) in fields.map(|(field, schema)| (field.as_str(), schema)).chain([("", schema)]) {
                    let silent = SILENT.iter().any(|(of, what)| of == name && (*what == "*" || *what == field));
                    let text = schema["description"].as_str().unwrap_or_default();
                    assert!(silent || !text.is_empty(), "{path}: {name} {field}");
                }
            }
        }
    }
}
