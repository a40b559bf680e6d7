//! What is served: `/api`, `/apis` and below, plain and aggregated, made from the rows on demand.

use crate::server::Server;
use aggregation::discovery::{add_aggregated, add_groups};
use apimachinery::Value;
use apimachinery::codec::Ordered;
use apimachinery::schema::GroupVersionKind;
use base64::Engine;
use component_base::serving::full;
use handlers::Response;
use handlers::api::{Served, VersionTable};
use handlers::negotiate::accept;
use handlers::render::encode;
use handlers::response::not_found;
use handlers::response::{json_response, respond};
use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Request, StatusCode};
use registry::resource::Resource;
use request::status::{Result, Status};
use serde_json::json;
use sha2::Digest;

/// Answers `/api…` and `/apis…` paths that name no resource.
pub fn answer<B>(server: &Server, path: &str, request: &Request<B>) -> Result<Response> {
    let served = server.api.served.load_full();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["api"] | ["apis"] => {
            if let Some(version) = aggregated_version(request) {
                return Ok(aggregated(server, &served, parts[0] == "api", version, request));
            }
        }
        _ => {}
    }
    let value = match parts.as_slice() {
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": address(server)}),
        ["apis"] => {
            let mut groups: Vec<Value> =
                served.groups().into_iter().filter(|(g, _)| !g.is_empty()).map(|(g, v)| group(g, &v)).collect();
            add_groups(&server.aggregator.table(), &mut groups);
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["api", version] => match served.version("", version) {
            Some(table) => resources("", version, table),
            None => return Err(Status::no_such_resource()),
        },
        ["apis", name] if !name.is_empty() => {
            let local = served.groups().into_iter().find(|(g, _)| g == name);
            let mut groups: Vec<Value> = local.map(|(g, versions)| group(g, &versions)).into_iter().collect();
            add_groups(&server.aggregator.table(), &mut groups);
            match groups.into_iter().find(|group| group["name"] == **name) {
                Some(mut value) => {
                    value["kind"] = "APIGroup".into();
                    value["apiVersion"] = "v1".into();
                    value
                }
                None => return Ok(not_found()),
            }
        }
        ["apis", g, version] => match served.version(g, version) {
            Some(table) => resources(g, version, table),
            None if served.versions.iter().any(|((known, _), _)| known == g) => return Err(Status::no_such_resource()),
            None => return Ok(not_found()),
        },
        _ => return Ok(not_found()),
    };
    let accepted = accept(request.headers(), request.uri().query())?;
    let kind = GroupVersionKind::new("", "v1", value["kind"].as_str().unwrap_or(""));
    Ok(respond(StatusCode::OK, accepted.encoding.content_type(), full(encode(accepted, &kind, None, value)?)))
}

fn address(server: &Server) -> Value {
    json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": server.address}])
}

fn group(name: &str, versions: &[(&str, &VersionTable)]) -> Value {
    let version = |v: &str| json!({"groupVersion": format!("{name}/{v}"), "version": v});
    let all: Vec<Value> = versions.iter().map(|(v, _)| version(v)).collect();
    json!({"name": name, "preferredVersion": all.first(), "versions": all})
}

fn resources(group: &str, version: &str, table: &VersionTable) -> Value {
    let mut list = Vec::new();
    for endpoint in table.values() {
        let row = &endpoint.row;
        let mut entry = json!({
            "name": row.plural, "singularName": row.singular, "namespaced": row.namespaced, "kind": row.kind.kind, "verbs": row.verbs,
        });
        if !row.short_names.is_empty() {
            entry["shortNames"] = row.short_names.clone().into();
        }
        if !row.categories.is_empty() {
            entry["categories"] = row.categories.clone().into();
        }
        if let Some(storage) = &row.storage {
            entry["storageVersionHash"] = storage_hash(&storage.kind).into();
        }
        list.push(entry);
        for sub in &row.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", row.plural, sub.name), "singularName": "", "namespaced": row.namespaced,
                "kind": sub.kind.kind, "verbs": sub.verbs,
            });
            if (&*sub.kind.group, &*sub.kind.version) != (group, version) {
                entry["group"] = sub.kind.group.as_str().into();
                entry["version"] = sub.kind.version.as_str().into();
            }
            list.push(entry);
        }
    }
    let group_version = GroupVersionKind::new(group, version, "").api_version();
    let mut value = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": list});
    if !group.is_empty() {
        value["apiVersion"] = "v1".into();
    }
    value
}

/// Tells clients whether two servers write a resource in the same version: a hash of group, version and kind.
fn storage_hash(kind: &GroupVersionKind) -> String {
    let text = format!("{}/{}/{}", kind.group, kind.version, kind.kind);
    base64::engine::general_purpose::STANDARD.encode(&sha2::Sha256::digest(text)[..8])
}

/// The version of aggregated discovery that the client prefers to plain discovery.
fn aggregated_version<B>(request: &Request<B>) -> Option<&'static str> {
    let header = request.headers().get(ACCEPT)?.to_str().ok()?;
    for clause in header.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next().unwrap_or("");
        let has = |name: &str, value: &str| clause.split(';').any(|p| p.trim() == format!("{name}={value}"));
        if has("g", "apidiscovery.k8s.io") && has("as", "APIGroupDiscoveryList") && media == "application/json" {
            return ["v2", "v2beta1"].into_iter().find(|v| has("v", v));
        }
        if media == "application/json" || media == "*/*" {
            return None;
        }
    }
    None
}

fn aggregated<B>(
    server: &Server,
    served: &Served,
    core: bool,
    version: &'static str,
    request: &Request<B>,
) -> Response {
    let mut items: Vec<Value> = served
        .groups()
        .into_iter()
        .filter(|(g, _)| g.is_empty() == core)
        .map(|(g, versions)| {
            let versions: Vec<Value> = versions
                .into_iter()
                .map(|(v, table)| {
                    let resources: Vec<Value> = table.values().map(|e| aggregated_resource(&e.row)).collect();
                    json!({"version": v, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if g.is_empty() { json!({}) } else { json!({"name": g}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    if !core {
        add_aggregated(|name| server.aggregator.said(name), &server.aggregator.table(), &mut items);
    }
    let value = json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items});
    let mut bytes = serde_json::to_vec(&Ordered::by_kind(&value)).unwrap_or_default();
    bytes.push(b'\n');
    let tag = format!("\"{:X}\"", sha2::Sha512::digest(&bytes));
    let unchanged = request.headers().get(IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let content_type = match version {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    let (code, body) = if unchanged { (StatusCode::NOT_MODIFIED, full("")) } else { (StatusCode::OK, full(bytes)) };
    let mut response = respond(code, content_type, body);
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

fn aggregated_resource(row: &Resource) -> Value {
    let kind = |k: &GroupVersionKind| {
        let own = k.group == row.kind.group && k.version == row.kind.version;
        let (group, version) = if own { ("", "") } else { (&*k.group, &*k.version) };
        json!({"group": group, "version": version, "kind": k.kind})
    };
    let mut entry = json!({
        "resource": row.plural, "responseKind": kind(&row.kind), "singularResource": row.singular, "verbs": row.verbs,
        "scope": if row.namespaced { "Namespaced" } else { "Cluster" },
    });
    if !row.short_names.is_empty() {
        entry["shortNames"] = row.short_names.clone().into();
    }
    if !row.categories.is_empty() {
        entry["categories"] = row.categories.clone().into();
    }
    if !row.subresources.is_empty() {
        let subresources = row
            .subresources
            .iter()
            .map(|s| json!({"subresource": s.name, "responseKind": kind(&s.kind), "verbs": s.verbs}));
        entry["subresources"] = subresources.collect();
    }
    entry
}

/// Every path that the root lists.
pub fn paths(server: &Server) -> Vec<String> {
    let served = server.api.served.load();
    let mut paths = vec![
        "/.well-known/openid-configuration".to_owned(),
        "/api".into(),
        "/api/v1".into(),
        "/apis".into(),
        "/apis/".into(),
    ];
    for (group, versions) in served.groups().into_iter().filter(|(g, _)| !g.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|(v, _)| format!("/apis/{group}/{v}")));
    }
    for remote in &server.aggregator.table().remotes {
        paths.push(format!("/apis/{}", remote.group));
        paths.push(format!("/apis/{}/{}", remote.group, remote.version));
    }
    for path in
        ["/healthz", "/livez", "/readyz", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/version"]
    {
        paths.push(path.into());
    }
    paths.sort();
    paths.dedup();
    paths
}

/// OpenID discovery of the issuer of service account tokens. (OpenID Connect Discovery 1.0 §4.)
pub fn openid_configuration(server: &Server) -> Response {
    let Some(issuer) = &server.authn.service_account else { return not_found() };
    let value = json!({
        "issuer": issuer.issuer(),
        "jwks_uri": format!("https://{}/openid/v1/jwks", server.address),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": issuer.algorithms(),
    });
    json_response(StatusCode::OK, &value)
}

pub fn jwks(server: &Server) -> Response {
    match &server.authn.service_account {
        Some(issuer) => respond(StatusCode::OK, "application/jwk-set+json", full(issuer.jwks().to_string())),
        None => not_found(),
    }
}
