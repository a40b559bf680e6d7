//! OpenAPI 2 (Swagger): everything in one document, for older clients.

use super::schemas::{Schemas, name};
use super::v3;
use crate::api::Served;
use apimachinery::Value;
use apimachinery::schema::{GroupVersionKind, Schema, TypeId};
use serde_json::{Map, json};
use std::collections::BTreeMap;

pub fn document(served: &Served) -> Vec<u8> {
    let mut schemas = Schemas { base: "#/definitions/", v3: false, wanted: Default::default(), custom: Map::new() };
    let mut kinds: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
    let mut paths = Map::new();
    for ((group, version), table) in &served.versions {
        let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        for endpoint in table.values() {
            let row = &endpoint.row;
            let Some(own) = v3::want(&mut schemas, &mut kinds, &row.kind) else { continue };
            let list_kind = GroupVersionKind { kind: row.list_kind.clone(), ..row.kind.clone() };
            let list = row.storage.as_ref().and_then(|_| v3::want(&mut schemas, &mut kinds, &list_kind));
            let base = if row.namespaced {
                format!("{root}/namespaces/{{namespace}}/{}", row.plural)
            } else {
                format!("{root}/{}", row.plural)
            };
            let (mut collection, mut single) = (Map::new(), Map::new());
            for verb in row.verbs.iter().filter(|v| *v != "watch") {
                let of_list = verb == "list";
                let item = if matches!(verb.as_str(), "list" | "create" | "deletecollection") {
                    &mut collection
                } else {
                    &mut single
                };
                operation(item, verb, &row.kind, if of_list { list.as_ref().unwrap_or(&own) } else { &own });
            }
            paths.insert(base.clone(), collection.into());
            if !single.is_empty() {
                paths.insert(format!("{base}/{{name}}"), single.into());
            }
        }
    }
    let schema = Schema::builtin();
    let mut done = Map::new();
    while let Some(id) = schemas.wanted.iter().copied().find(|id| !done.contains_key(&name(schema.get(TypeId(*id))))) {
        let ty = schema.get(TypeId(id));
        let definition = schemas.definition(ty, kinds.get(&id).map_or(&[], Vec::as_slice));
        done.insert(name(ty), definition);
    }
    let document = json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": component_base::version::GIT_VERSION},
        "paths": paths,
        "definitions": done,
        "securityDefinitions": {"BearerToken": {"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"}},
        "security": [{"BearerToken": []}],
    });
    serde_json::to_vec(&document).unwrap_or_default()
}

fn operation(item: &mut Map<String, Value>, verb: &str, kind: &GroupVersionKind, reference: &Value) {
    let (method, action) = match verb {
        "create" => ("post", "post"),
        "update" => ("put", "put"),
        "patch" => ("patch", "patch"),
        "delete" => ("delete", "delete"),
        "deletecollection" => ("delete", "deletecollection"),
        other => ("get", other),
    };
    let mut parameters = vec![json!({"name": "pretty", "in": "query", "type": "string"})];
    if matches!(verb, "create" | "update" | "patch") {
        let schema = if verb == "patch" { json!({"type": "object"}) } else { reference.clone() };
        parameters.push(json!({"name": "body", "in": "body", "required": true, "schema": schema}));
        for name in ["dryRun", "fieldManager", "fieldValidation"] {
            parameters.push(json!({"name": name, "in": "query", "type": "string", "uniqueItems": true}));
        }
    }
    item.insert(
        method.into(),
        json!({
            "operationId": format!("{verb}{}{}{}", kind.group.replace('.', ""), kind.version, kind.kind),
            "consumes": ["*/*"],
            "produces": ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": v3::gvk_value(kind),
            "parameters": parameters,
            "responses": {"200": {"description": "OK", "schema": reference}, "401": {"description": "Unauthorized"}},
        }),
    );
}
