//! `scale`: the number of replicas of whatever has replicas, as one kind.

use crate::server::Server;
use apimachinery::Value;
use apimachinery::patch::{json_patch, merge_patch, strategic_merge_patch};
use apimachinery::schema::{GroupVersionKind, Schema, Shape};
use apimachinery::selector::LabelSelector;
use apimachinery::validation::{FieldError, Path};
use component_base::serving::full;
use handlers::Response;
use handlers::api::Endpoint;
use handlers::body::read_body;
use handlers::decode::{self, body_type};
use handlers::negotiate::accept;
use handlers::render::encode;
use handlers::response::respond;
use handlers::write::Write;
use handlers::write::patch::{PatchType, patch_type};
use handlers::write::update::Preconditions;
use handlers::write::{View, meta_text};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use registry::edit::typed;
use registry::resource::{Form, Resource};
use request::RequestInfo;
use request::User;
use request::options::WriteOptions;
use request::status::{Result, Status};
use serde_json::json;
use std::sync::Arc;

fn kind() -> GroupVersionKind {
    GroupVersionKind::new("autoscaling", "v1", "Scale")
}

fn form() -> Result<Form> {
    let ty = Schema::builtin().kind("autoscaling", "v1", "Scale").ok_or_else(Status::no_such_resource)?;
    Ok(Form::Builtin(Shape::Struct(ty.id)))
}

/// The Scale of an object, which for a custom resource is where its definition says.
fn scale_of(row: &Resource, object: &Value) -> Result<Value> {
    let meta = &object["metadata"];
    let at = |path: &[String]| path.iter().try_fold(object, |value, name| value.get(name));
    let mut scale = json!({"metadata": {}, "spec": {}, "status": {"replicas": 0}});
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !meta[name].is_null() {
            scale["metadata"][name] = meta[name].clone();
        }
    }
    let mut replicas = |spec: Option<i64>, status: Option<i64>| {
        if let Some(n) = spec.filter(|n| *n != 0) {
            scale["spec"]["replicas"] = n.into();
        }
        scale["status"]["replicas"] = status.unwrap_or(0).into();
    };
    if let Some(paths) = &row.scale {
        let spec = at(&paths.spec).and_then(Value::as_i64).ok_or_else(|| {
            let path = paths.spec.join(".");
            Status::internal(format!("Internal error occurred: the spec replicas field \".{path}\" does not exist"))
        })?;
        replicas(Some(spec), at(&paths.status).and_then(Value::as_i64));
        let selector = paths.selector.as_deref().and_then(at).and_then(Value::as_str);
        if let Some(text) = selector.filter(|s| !s.is_empty()) {
            scale["status"]["selector"] = text.into();
        }
        return Ok(scale);
    }
    replicas(object["spec"]["replicas"].as_i64(), object["status"]["replicas"].as_i64());
    let selector = &object["spec"]["selector"];
    // Replication controllers select by a plain map.
    let selector = if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() {
        LabelSelector::from_object(Some(selector)).ok()
    } else {
        selector.as_object().map(|_| LabelSelector::from_map(Some(selector)))
    };
    if let Some(text) = selector.map(|s| s.to_string()).filter(|s| !s.is_empty()) {
        scale["status"]["selector"] = text.into();
    }
    Ok(scale)
}

/// Puts the replicas of a Scale where the object keeps them.
fn set_replicas(row: &Resource, object: &mut Value, replicas: i64) {
    let Some(paths) = &row.scale else {
        object["spec"]["replicas"] = replicas.into();
        return;
    };
    let mut at = object;
    for name in &paths.spec {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[name.as_str()];
    }
    *at = replicas.into();
}

/// Admission sees the Scale.
struct ScaleView<'a>(&'a Resource);

impl View for ScaleView<'_> {
    fn of(&self, object: &Value) -> Result<Value> {
        scale_of(self.0, object)
    }

    fn put(&self, object: &mut Value, view: &Value) {
        set_replicas(self.0, object, view["spec"]["replicas"].as_i64().unwrap_or(0));
    }
}

pub async fn handle(
    server: &Arc<Server>,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    user: &User,
    request: Request<Incoming>,
) -> Result<Response> {
    let accepted = accept(request.headers(), request.uri().query())?;
    let scale = if info.verb == "get" {
        let object = server.api.fetch(endpoint, &info.namespace, &info.name).await?;
        scale_of(&endpoint.row, &server.api.readable_one(endpoint, object).await?.tree())?
    } else {
        change(server, endpoint, info, user, request).await?
    };
    let bytes = encode(accepted, &kind(), Some(&form()?), typed(scale, &kind()))?;
    Ok(respond(StatusCode::OK, accepted.encoding.content_type(), full(bytes)))
}

async fn change(
    server: &Arc<Server>,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    user: &User,
    request: Request<Incoming>,
) -> Result<Value> {
    let (parts, body) = request.into_parts();
    let patch = info.verb == "patch";
    let options = WriteOptions::parse(&parts.uri, if patch { "PatchOptions" } else { "UpdateOptions" })?;
    let validation = options.field_validation;
    let view = ScaleView(&endpoint.row);
    let mut write = Write::requested(&server.api, endpoint, info, user, options, &parts.headers);
    write.view = Some(&view);
    let patch = if patch { Some(patch_type(&parts.headers, false)?) } else { None };
    let encoding = match patch {
        None => body_type(&parts.headers)?,
        Some(PatchType::Apply(encoding)) => encoding,
        Some(_) => decode::BodyType::Yaml,
    };
    let bytes = read_body(body).await?;
    let (given, duplicates) = decode::parse(&bytes, encoding, &kind())?;
    let form = form()?;
    let mut set = |object: &Value| {
        let current = typed(scale_of(&endpoint.row, object)?, &kind());
        let wanted = match patch {
            None => given.clone(),
            Some(patch) => {
                let mut tree = current;
                match patch {
                    PatchType::Json => {
                        json_patch(&mut tree, given.clone()).map_err(|e| Status::bad_request(e.to_string()))?
                    }
                    PatchType::Merge | PatchType::Apply(_) => merge_patch(&mut tree, &given),
                    PatchType::Strategic => {
                        strategic_merge_patch(&mut tree, given.clone(), form.node())
                            .map_err(|e| Status::bad_request(e.to_string()))?;
                    }
                }
                tree
            }
        };
        let scale = decode::finish(wanted, duplicates.clone(), &kind(), &form, validation)?.object;
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            let error = FieldError::invalid(Path::new("spec.replicas"), replicas, "must be greater than or equal to 0");
            return Err(Status::invalid("autoscaling", "Scale", &write.name, &[error]));
        }
        let (uid, version) = (meta_text(&scale, "uid"), meta_text(&scale, "resourceVersion"));
        if !uid.is_empty() && uid != meta_text(object, "uid") {
            return Err(Status::conflict(write.about(), "the uid in the scale is not that of the object"));
        }
        if !version.is_empty() && version != meta_text(object, "resourceVersion") {
            return Err(Status::modified(write.about()));
        }
        let mut object = object.clone();
        set_replicas(&endpoint.row, &mut object, replicas);
        Ok(object)
    };
    let written = write.update(&Preconditions::default(), &mut Vec::new(), &mut set).await?;
    scale_of(&endpoint.row, &write.tree(written.object)?)
}
