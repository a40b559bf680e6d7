//! `pods/binding`: the scheduler gives a pod its node.

use crate::server::Server;
use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use apimachinery::validation::{FieldError, Path};
use handlers::Response;
use handlers::render::Renderer;
use handlers::write::update::Preconditions;
use handlers::write::{Write, metadata};
use http::StatusCode;
use request::User;
use request::status::{About, Result, Status};
use serde_json::json;

pub async fn bind(
    server: &Server,
    user: &User,
    namespace: &str,
    name: &str,
    binding: &Value,
    renderer: &Renderer,
) -> Result<Response> {
    let target = &binding["target"];
    let mut errors = Vec::new();
    if !matches!(target["kind"].as_str().unwrap_or(""), "" | "Node") {
        errors.push(FieldError::not_supported(Path::new("target.kind"), target["kind"].clone(), &["Node", "<empty>"]));
    }
    let node = target["name"].as_str().unwrap_or("");
    if node.is_empty() {
        errors.push(FieldError::required(Path::new("target.name"), ""));
    }
    if !errors.is_empty() {
        return Err(Status::invalid("", "Binding", name, &errors));
    }
    let pods = server.api.builtin("", "v1", "pods")?;
    let mut write = Write::internal(&server.api, &pods, user, namespace, name);
    write.subresource = "binding".into();
    write.raw = true;
    let now = write.now.clone();
    let mut assign = |pod: &Value| assign(pod, name, node, binding, &now);
    let preconditions =
        Preconditions { uid: binding["metadata"]["uid"].as_str().map(str::to_owned), resource_version: None };
    write.update(&preconditions, &mut Vec::new(), &mut assign).await?;
    let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    let bytes = renderer.encode(&GroupVersionKind::new("", "v1", "Status"), None, success)?;
    Ok(renderer.respond(StatusCode::CREATED, bytes))
}

fn assign(pod: &Value, name: &str, node: &str, binding: &Value, now: &str) -> Result<Value> {
    let refuse = |why: &str| Err(Status::conflict(About { group: "", resource: "pods/binding", name }, why));
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return refuse(&format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if let Some(there) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
        return refuse(&format!("pod {name} is already assigned to node \"{there}\""));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        return refuse(&format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = node.into();
    if let Some(annotations) = binding["metadata"]["annotations"].as_object() {
        let own = metadata(&mut pod).entry("annotations").or_insert_with(|| json!({}));
        if let Some(own) = own.as_object_mut() {
            own.extend(annotations.clone());
        }
    }
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    match conditions.iter_mut().find(|c| c["type"] == "PodScheduled") {
        Some(condition) => *condition = scheduled,
        None => conditions.push(scheduled),
    }
    pod["status"]["conditions"] = conditions.into();
    Ok(pod)
}
