//! From a request to its handler.

use super::{Server, health};
use crate::component_status;
use crate::discovery;
use crate::subresource;
use apimachinery::schema::{GroupVersionKind, Schema};
use component_base::serving::full;
use handlers::Response;
use handlers::api::Endpoint;
use handlers::body::read_body;
use handlers::decode::{self, body_type};
use handlers::list::respond_objects;
use handlers::read::renderer;
use handlers::response::{json_response, not_found, respond};
use handlers::warnings::warn;
use handlers::write::Write;
use handlers::write::delete::{Deleted, success};
use handlers::write::patch::patch_type;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use registry::edit::typed;
use request::RequestInfo;
use request::User;
use request::options::{DeleteOptions, ListOptions, WriteOptions};
use request::status::{Result, Status};
use serde_json::json;
use std::sync::Arc;

pub async fn route(
    server: &Arc<Server>,
    info: &RequestInfo,
    user: User,
    request: Request<Incoming>,
) -> Result<Response> {
    // The core group is always served here.
    if info.path.starts_with("/apis/") || info.path.starts_with("/openapi/v3/apis/") {
        let table = server.aggregator.table();
        if let Some(remote) = table.of_path(&info.path) {
            return aggregation::proxy::pass_on(&server.aggregator, remote, &user, request).await;
        }
    }
    if !info.is_resource {
        return non_resource(server, info, request).await;
    }
    let served = server.api.served.load_full();
    let Some(table) = served.version(&info.group, &info.version) else {
        let known = served.versions.iter().any(|((g, _), _)| *g == info.group);
        return if known { Err(Status::no_such_resource()) } else { Ok(not_found()) };
    };
    let endpoint = table.get(&info.resource).cloned().ok_or_else(Status::no_such_resource)?;
    let row = &endpoint.row;
    let misplaced = if row.namespaced {
        info.namespace.is_empty() && !info.name.is_empty() && info.is_by_path()
    } else {
        !info.namespace.is_empty() && row.plural != "namespaces"
    };
    if misplaced {
        return Err(Status::no_such_resource());
    }
    let response = by_verb(server, &endpoint, info, user, request).await;
    let response = response.map_err(|status| status.with_warnings(&mut row.deprecation.iter().cloned().collect()))?;
    if let Some(text) = &row.deprecation {
        let gone = text.split_once("unavailable in v").map_or("", |(_, gone)| gone.split('+').next().unwrap_or(""));
        let labels = [&*row.kind.group, &row.kind.version, &row.plural, &info.subresource, gone];
        super::metrics::DEPRECATED.with_label_values(&labels).set(1);
    }
    Ok(warn(response, row.deprecation.as_slice()))
}

async fn by_verb(
    server: &Arc<Server>,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    user: User,
    request: Request<Incoming>,
) -> Result<Response> {
    let row = &endpoint.row;
    if !info.subresource.is_empty() {
        return subresource::handle(server, endpoint, info, user, request).await;
    }
    let verb = if info.verb == "head" { "get" } else { &info.verb };
    if row.terminating && verb == "create" {
        let message = "create not allowed while custom resource definition is terminating";
        return Err(Status { message: message.into(), ..Status::method_not_allowed() });
    }
    if !row.verbs.iter().any(|v| v == verb) {
        return Err(Status::method_not_allowed());
    }
    if info.name.is_empty() && matches!(verb, "update" | "patch" | "delete") {
        return Err(Status::method_not_allowed()); // on a collection
    }
    if endpoint.cache.is_none() && matches!(verb, "get" | "list") {
        // Only ComponentStatuses are read without being kept.
        return match verb {
            "get" => component_status::get(server, endpoint, info, &request).await,
            _ => component_status::list(server, endpoint, &request).await,
        };
    }
    match verb {
        "get" => server.api.get(endpoint, info, &request).await,
        "list" => server.api.list(endpoint, info, &request).await,
        "watch" => server.api.watch(endpoint, info, &request, server.draining.clone()).await,
        _ => write(server, endpoint, info, &user, request).await,
    }
}

async fn write(
    server: &Arc<Server>,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    user: &User,
    request: Request<Incoming>,
) -> Result<Response> {
    let row = &endpoint.row;
    let renderer = renderer(endpoint, &request)?;
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    match info.verb.as_str() {
        "create" => {
            if !info.name.is_empty() {
                return Err(Status::method_not_allowed());
            }
            let options = WriteOptions::parse(&parts.uri, "CreateOptions")?;
            let kind = body_type(headers)?;
            let bytes = read_body(body).await?;
            if row.storage.is_none() {
                let decoded = decode::decode(&bytes, kind, &row.kind, &row.form, options.field_validation)?;
                let mut review = decoded.object;
                Write::requested(&server.api, endpoint, info, user, options.clone(), headers).track_review(&mut review);
                let answer = crate::review::create(server, endpoint, info, user, &options, review, &renderer);
                return Ok(warn(answer.await?, &decoded.warnings));
            }
            let decoded = decode::decode(&bytes, kind, &row.kind, &row.form, options.field_validation)?;
            let mut write = Write::requested(&server.api, endpoint, info, user, options, headers);
            crate::escalation::check(server, endpoint, user, &decoded.object, info).await?;
            let written = write.create(decoded.object, decoded.warnings).await?;
            renderer.written(written)
        }
        "update" => {
            let options = WriteOptions::parse(&parts.uri, "UpdateOptions")?;
            let kind = body_type(headers)?;
            let bytes = read_body(body).await?;
            let decoded = decode::decode(&bytes, kind, &row.kind, &row.form, options.field_validation)?;
            let mut write = Write::requested(&server.api, endpoint, info, user, options, headers);
            write.emptied = decoded.emptied;
            crate::escalation::check(server, endpoint, user, &decoded.object, info).await?;
            let written = write.put(decoded.object, decoded.warnings).await?;
            renderer.written(written)
        }
        "patch" => {
            let options = WriteOptions::parse(&parts.uri, "PatchOptions")?;
            let kind = patch_type(headers, row.is_custom())?;
            let bytes = read_body(body).await?;
            let mut write = Write::requested(&server.api, endpoint, info, user, options, headers);
            let written = write.patch(kind, &bytes).await?;
            renderer.written(written)
        }
        "delete" | "deletecollection" => {
            let options = delete_options(&parts, body).await?;
            let write_options = WriteOptions { dry_run: options.dry_run, ..WriteOptions::default() };
            let write = Write::requested(&server.api, endpoint, info, user, write_options, headers);
            let mut warnings = Vec::new();
            if info.verb == "deletecollection" {
                let list = ListOptions::parse(&parts.uri)?;
                let (objects, revision) = write.delete_collection(&list, &options, &mut warnings).await?;
                let metadata = json!({"resourceVersion": revision.to_string()});
                return Ok(warn(respond_objects(renderer, objects, &metadata), &warnings));
            }
            let deleted = write.delete(&options, &mut warnings).await?;
            let bytes = match deleted {
                Deleted::Gone(object) if !row.strategy.return_deleted => {
                    renderer.encode(&GroupVersionKind::new("", "v1", "Status"), None, success(&write, &object))?
                }
                Deleted::Gone(object) | Deleted::Marked(object) => {
                    renderer.value(typed(object, &row.kind), &json!({}))?
                }
            };
            Ok(warn(renderer.respond(StatusCode::OK, bytes), &warnings))
        }
        _ => Err(Status::method_not_allowed()),
    }
}

/// DeleteOptions of a request, from query and body.
async fn delete_options(parts: &http::request::Parts, body: Incoming) -> Result<DeleteOptions> {
    let bytes = read_body(body).await?;
    if bytes.is_empty() {
        return DeleteOptions::parse(&parts.uri, None);
    }
    let kind = GroupVersionKind::new("meta.k8s.io", "v1", "DeleteOptions");
    let (mut tree, _) = decode::parse(&bytes, body_type(&parts.headers)?, &kind)?;
    let schema = Schema::builtin();
    if let Some(ty) = schema.kind(&kind.group, &kind.version, &kind.kind) {
        apimachinery::codec::normalize(schema, ty, &mut tree, &mut Default::default())
            .map_err(|e| Status::bad_request(format!("DeleteOptions: {e}")))?;
    }
    DeleteOptions::parse(&parts.uri, Some(&tree))
}

/// Everything that is no resource: discovery, health, metrics, version, OpenAPI, token keys.
async fn non_resource(server: &Arc<Server>, info: &RequestInfo, request: Request<Incoming>) -> Result<Response> {
    let path = info.path.trim_end_matches('/');
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    let first = path.split('/').nth(1).unwrap_or("");
    if matches!(first, "healthz" | "livez" | "readyz") && read {
        return Ok(health::answer(server, path, request.uri().query()).await.unwrap_or_else(not_found));
    }
    if !read {
        return Ok(not_found());
    }
    match first {
        "version" if path == "/version" => Ok(json_response(StatusCode::OK, &component_base::version::info())),
        "metrics" if path == "/metrics" => Ok(respond(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            full(component_base::metrics::render()),
        )),
        "api" | "apis" => discovery::answer(server, path, &request),
        "openapi" => openapi::answer(&server.aggregator, path, &request),
        ".well-known" if path == "/.well-known/openid-configuration" => Ok(discovery::openid_configuration(server)),
        "openid" if path == "/openid/v1/jwks" => Ok(discovery::jwks(server)),
        "" => Ok(json_response(StatusCode::OK, &json!({"paths": discovery::paths(server)}))),
        _ => Ok(not_found()),
    }
}
