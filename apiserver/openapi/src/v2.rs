//! OpenAPI 2 (Swagger): everything in one document, for older clients. Operations are those of version 3, said in the words of
//! version 2.

use super::schemas::Schemas;
use super::v3;
use api_documentation::Documentation;
use apimachinery::Value;
use handlers::api::Served;
use handlers::negotiate::cbor_is_served;
use serde_json::{Map, json};

pub fn document(served: &Served, documentation: &Documentation<'_>) -> Value {
    let mut schemas = Schemas::new(false, documentation);
    let mut paths = Map::new();
    for ((group, version), table) in &served.versions {
        let root = v3::group_version_path(group, version);
        v3::describe(served, table, &root, &mut schemas, &mut paths);
    }
    for item in paths.values_mut().filter_map(Value::as_object_mut) {
        for (name, member) in item.iter_mut() {
            match name.as_str() {
                "parameters" => flatten_parameters(member),
                _ => operation(member),
            }
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": component_base::version::GIT_VERSION},
        "paths": paths,
        "definitions": schemas.finish(),
        "securityDefinitions": {"BearerToken": {"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"}},
        "security": [{"BearerToken": []}],
    })
}

/// In version 2 the form of a parameter is said in the parameter itself.
fn flatten_parameters(list: &mut Value) {
    for parameter in list.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(Value::Object(schema)) = parameter.remove("schema") {
            parameter.extend(schema);
        }
    }
}

fn operation(operation: &mut Value) {
    let Some(members) = operation.as_object_mut() else { return };
    flatten_parameters(members.entry("parameters").or_insert_with(|| json!([])));
    let media = |content: &Value| -> Vec<Value> {
        content.as_object().into_iter().flatten().map(|(media, _)| media.as_str().into()).collect()
    };
    let schema = |content: &Value| content.as_object().and_then(|c| c.values().next()).map(|c| c["schema"].clone());
    members.insert("consumes".into(), json!(["*/*"]));
    if let Some(body) = members.remove("requestBody") {
        let mut parameter = json!({"name": "body", "in": "body", "schema": schema(&body["content"])});
        if body["required"] == true {
            parameter["required"] = true.into();
        }
        if let Some(parameters) = members.get_mut("parameters").and_then(Value::as_array_mut) {
            parameters.push(parameter);
        }
        members.insert("consumes".into(), media(&body["content"]).into());
    }
    for response in members.get_mut("responses").and_then(Value::as_object_mut).into_iter().flat_map(|r| r.values_mut())
    {
        let Some(response) = response.as_object_mut() else { continue };
        if let Some(content) = response.remove("content") {
            response.extend(schema(&content).map(|s| ("schema".to_owned(), s)));
        }
    }
    let mut produces = vec!["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
    produces.extend(cbor_is_served().then_some("application/cbor"));
    members.insert("produces".into(), json!(produces));
    members.insert("schemes".into(), json!(["https"]));
}
