//! Subresources. `status` and its like are writes of the object under other rules; the others have a file each.

pub mod binding;
pub mod eviction;
pub mod scale;
pub mod token;

use crate::server::Server;
use apimachinery::Value;
use apimachinery::schema::{GroupVersionKind, Schema, Shape};
use handlers::Response;
use handlers::api::Endpoint;
use handlers::api::admission::{Attributes, Operation, RequestOptions};
use handlers::body::read_body;
use handlers::decode::{self, body_type};
use handlers::read::renderer;
use handlers::render::Renderer;
use handlers::write::Write;
use http::{Method, Request};
use hyper::body::Incoming;
use request::RequestInfo;
use request::User;
use request::options::{FieldValidation, WriteOptions};
use request::status::{Result, Status};
use std::sync::Arc;

pub async fn handle(
    server: &Arc<Server>,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    user: User,
    request: Request<Incoming>,
) -> Result<Response> {
    let row = &endpoint.row;
    let sub = row.subresource(&info.subresource).ok_or_else(Status::no_such_resource)?;
    // No verb stands for OPTIONS, but a proxy passes it on.
    let passes = sub.verbs.contains(&info.verb) || sub.name == "proxy" && request.method() == Method::OPTIONS;
    if !passes {
        return Err(Status::method_not_allowed());
    }
    match (row.plural.as_str(), sub.name.as_str()) {
        (_, "scale") => return scale::handle(server, endpoint, info, &user, request).await,
        ("pods", "binding") | ("pods", "eviction") | ("serviceaccounts", "token") => {}
        ("pods", "log" | "exec" | "attach" | "portforward" | "proxy") | ("nodes" | "services", "proxy") => {
            return streaming::handle(&server.backends, endpoint, info, &user, request).await;
        }
        _ => return same_kind(server, endpoint, info, &user, request).await,
    }
    let renderer = renderer(endpoint, &request)?;
    let (parts, body) = request.into_parts();
    let kind = body_type(&parts.headers)?;
    let bytes = read_body(body).await?;
    let options = WriteOptions::parse(&parts.uri, "CreateOptions")?;
    let object = decode_other(&bytes, kind, &sub.kind, options.field_validation)?;
    let object = admit(server, endpoint, info, &user, &options, object).await?;
    match sub.name.as_str() {
        "binding" => binding::bind(server, &user, &info.namespace, &info.name, &object, &renderer).await,
        "eviction" => eviction::evict(server, endpoint, info, &user, &object, options, &renderer).await,
        _ => token::request(server, endpoint, info, object, &renderer).await,
    }
}

/// Admission of a body that makes no object of its own: a Binding, an Eviction, a TokenRequest. What comes out of it is done.
async fn admit(
    server: &Server,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    user: &User,
    options: &WriteOptions,
    object: Value,
) -> Result<Value> {
    let of = (&*info.namespace, &*info.name);
    let mut attributes = Attributes {
        options: RequestOptions::Write(options),
        object: Some(object),
        dry_run: options.dry_run,
        ..Attributes::new(endpoint, Operation::Create, &info.subresource, of, user)
    };
    server.api.admission.pass(&server.api, &mut attributes).await?;
    Ok(attributes.object.unwrap_or_default())
}

/// A body of a built-in kind that is not the endpoint's.
fn decode_other(
    bytes: &[u8],
    body: decode::BodyType,
    kind: &GroupVersionKind,
    validation: FieldValidation,
) -> Result<Value> {
    let ty = Schema::builtin().kind(&kind.group, &kind.version, &kind.kind).ok_or_else(Status::no_such_resource)?;
    let form = registry::resource::Form::Builtin(Shape::Struct(ty.id));
    Ok(decode::decode(bytes, body, kind, &form, validation)?.object)
}

/// The object's own kind under the rules of a subresource.
async fn same_kind(
    server: &Arc<Server>,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    user: &User,
    request: Request<Incoming>,
) -> Result<Response> {
    if info.verb == "get" {
        return server.api.get(endpoint, info, &request).await;
    }
    let row = &endpoint.row;
    let renderer: Renderer = renderer(endpoint, &request)?;
    let (parts, body) = request.into_parts();
    let patch = info.verb == "patch";
    let options = WriteOptions::parse(&parts.uri, if patch { "PatchOptions" } else { "UpdateOptions" })?;
    let validation = options.field_validation;
    let mut write = Write::requested(&server.api, endpoint, info, user, options, &parts.headers);
    let written = if patch {
        let kind = handlers::write::patch::patch_type(&parts.headers, row.is_custom())?;
        write.patch(kind, &read_body(body).await?).await?
    } else {
        let kind = body_type(&parts.headers)?;
        let bytes = read_body(body).await?;
        let decoded = decode::decode(&bytes, kind, &row.kind, &row.form, validation)?;
        write.put(decoded.object, decoded.warnings).await?
    };
    if row.plural == "namespaces" && info.subresource == "finalize" {
        finalize_namespace(server, &write, &write.tree(written.object.clone())?).await?;
    }
    renderer.written(written)
}

/// A namespace whose last finalizer went is gone.
async fn finalize_namespace(server: &Server, write: &Write<'_>, object: &Value) -> Result<()> {
    let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    let going = !object["metadata"]["deletionTimestamp"].is_null();
    if going
        && empty(&object["spec"]["finalizers"])
        && empty(&object["metadata"]["finalizers"])
        && !write.options.dry_run
    {
        let options = request::options::DeleteOptions::default();
        // The deletion was admitted when it was asked for.
        let mut write = Write::internal(&server.api, write.endpoint, write.user, "", &write.name);
        write.raw = true;
        match write.delete(&options, &mut Vec::new()).await {
            Err(status) if status.reason != "NotFound" => return Err(status),
            _ => {}
        }
    }
    Ok(())
}
