//! OpenAPI 3: a document for each group and version.

use super::schemas::{Schemas, name};
use crate::api::{Served, VersionTable};
use crate::registry::table::{Form, Resource};
use apimachinery::Value;
use apimachinery::schema::{GroupVersionKind, Schema, Shape, TypeId};
use serde_json::{Map, json};
use std::collections::BTreeMap;

/// Paths under `/openapi/v3/`.
pub fn paths(served: &Served) -> Vec<String> {
    let mut paths = vec![
        ".well-known/openid-configuration".to_owned(),
        "api".into(),
        "apis".into(),
        "openid/v1/jwks".into(),
        "version".into(),
    ];
    for (group, versions) in served.groups() {
        if !group.is_empty() {
            paths.push(format!("apis/{group}"));
        }
        paths.extend(versions.iter().map(|(v, _)| group_version_path(group, v)));
    }
    paths
}

fn group_version_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// One document; an empty one for paths that serve no resources.
pub fn document(served: &Served, path: &str) -> Vec<u8> {
    let mut schemas =
        Schemas { base: "#/components/schemas/", v3: true, wanted: Default::default(), custom: Map::new() };
    let mut paths = Map::new();
    let mut kinds: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
    let table = served.versions.iter().find(|((g, v), _)| group_version_path(g, v) == path).map(|(_, t)| t);
    if let Some(table) = table {
        describe(served, table, path, &mut schemas, &mut paths, &mut kinds);
    }
    let mut done = Map::new();
    let schema = Schema::builtin();
    // Each definition may want others; until none is missing.
    while let Some(id) = schemas.wanted.iter().copied().find(|id| !done.contains_key(&name(schema.get(TypeId(*id))))) {
        let ty = schema.get(TypeId(id));
        let definition = schemas.definition(ty, kinds.get(&id).map_or(&[], Vec::as_slice));
        done.insert(name(ty), definition);
    }
    done.append(&mut schemas.custom);
    let security = json!({"BearerToken": {"type": "apiKey", "in": "header", "name": "authorization", "description": "Bearer Token authentication"}});
    let document = json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": component_base::version::GIT_VERSION},
        "paths": paths,
        "components": {"schemas": done, "securitySchemes": security},
    });
    serde_json::to_vec(&document).unwrap_or_default()
}

pub fn gvk_value(kind: &GroupVersionKind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

/// The type of a kind, noted as wanted.
pub fn want(schemas: &mut Schemas, kinds: &mut BTreeMap<u32, Vec<Value>>, kind: &GroupVersionKind) -> Option<Value> {
    let ty = Schema::builtin().kind(&kind.group, &kind.version, &kind.kind)?;
    let list = kinds.entry(ty.id.0).or_default();
    let value = gvk_value(kind);
    if !list.contains(&value) {
        list.push(value);
    }
    Some(schemas.reference(ty.id))
}

fn describe(
    served: &Served,
    table: &VersionTable,
    path: &str,
    schemas: &mut Schemas,
    paths: &mut Map<String, Value>,
    kinds: &mut BTreeMap<u32, Vec<Value>>,
) {
    for endpoint in table.values() {
        let row = &endpoint.row;
        let (own, list) = match &row.form {
            Form::Builtin(Shape::Struct(id)) => {
                kinds.entry(id.0).or_default().push(gvk_value(&row.kind));
                let own = schemas.reference(*id);
                let list_kind = GroupVersionKind { kind: row.list_kind.clone(), ..row.kind.clone() };
                (own, if row.storage.is_some() { want(schemas, kinds, &list_kind) } else { None })
            }
            Form::Builtin(_) => continue,
            Form::Custom(_) => {
                let (own, list) = super::custom::define(served, row, schemas);
                (own, Some(list))
            }
        };
        for (suffix, item) in operations(row, path, &own, list.as_ref()) {
            paths.insert(suffix, item);
        }
        for sub in &row.subresources {
            let is_own = row.is_custom() && sub.kind == row.kind;
            let wanted = if is_own { Some(own.clone()) } else { want(schemas, kinds, &sub.kind) };
            let Some(reference) = wanted else { continue };
            let base = base_path(row, path);
            let mut item = Map::new();
            for verb in &sub.verbs {
                insert(
                    &mut item,
                    verb,
                    &sub.kind,
                    &reference,
                    &format!("{}{}", capital(&row.kind.kind), capital(&sub.name)),
                );
            }
            paths.insert(format!("{base}/{{name}}/{}", sub.name), item.into());
        }
    }
}

fn base_path(row: &Resource, path: &str) -> String {
    if row.namespaced {
        format!("/{path}/namespaces/{{namespace}}/{}", row.plural)
    } else {
        format!("/{path}/{}", row.plural)
    }
}

/// Paths of a resource, each with its operations.
fn operations(row: &Resource, path: &str, own: &Value, list: Option<&Value>) -> Vec<(String, Value)> {
    let base = base_path(row, path);
    let (mut collection, mut single) = (Map::new(), Map::new());
    for verb in &row.verbs {
        match verb.as_str() {
            "list" => insert(&mut collection, verb, &row.kind, list.unwrap_or(own), &capital(&row.kind.kind)),
            "create" | "deletecollection" => insert(&mut collection, verb, &row.kind, own, &capital(&row.kind.kind)),
            "watch" => {}
            _ => insert(&mut single, verb, &row.kind, own, &capital(&row.kind.kind)),
        }
    }
    let mut all = vec![(base.clone(), collection.into())];
    if !single.is_empty() {
        all.push((format!("{base}/{{name}}"), single.into()));
    }
    if row.namespaced
        && let Some(list) = list
    {
        let mut everywhere = Map::new();
        insert(&mut everywhere, "list", &row.kind, list, &format!("{}ForAllNamespaces", row.kind.kind));
        all.push((format!("/{path}/{}", row.plural), everywhere.into()));
    }
    all
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn insert(item: &mut Map<String, Value>, verb: &str, kind: &GroupVersionKind, reference: &Value, of: &str) {
    let method = match verb {
        "create" => "post",
        "update" => "put",
        "patch" => "patch",
        "delete" | "deletecollection" => "delete",
        _ => "get",
    };
    let content = json!({"application/json": {"schema": reference}, "application/yaml": {"schema": reference}, "application/vnd.kubernetes.protobuf": {"schema": reference}});
    let mut operation = json!({
        "operationId": format!("{verb}{}{of}", capital(&kind.version)),
        "x-kubernetes-action": if verb == "create" { "post" } else if verb == "update" { "put" } else { verb },
        "x-kubernetes-group-version-kind": gvk_value(kind),
        "responses": {"200": {"description": "OK", "content": content}, "401": {"description": "Unauthorized"}},
        "parameters": parameters(verb),
    });
    if matches!(verb, "create" | "update") {
        operation["requestBody"] = json!({"required": true, "content": {"*/*": {"schema": reference}}});
    }
    if verb == "patch" {
        let any = json!({"schema": {"type": "object"}});
        operation["requestBody"] = json!({"required": true, "content": {
            "application/json-patch+json": any, "application/merge-patch+json": any,
            "application/strategic-merge-patch+json": any, "application/apply-patch+yaml": any,
        }});
    }
    item.insert(method.into(), operation);
}

/// Query parameters; clients look here for `dryRun` and `fieldValidation` before they use them.
fn parameters(verb: &str) -> Value {
    let text = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let names: &[&str] = match verb {
        "create" | "update" => &["dryRun", "fieldManager", "fieldValidation", "pretty"],
        "patch" => &["dryRun", "fieldManager", "fieldValidation", "force", "pretty"],
        "delete" => &["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy", "pretty"],
        "list" | "deletecollection" => &[
            "labelSelector",
            "fieldSelector",
            "limit",
            "continue",
            "resourceVersion",
            "resourceVersionMatch",
            "timeoutSeconds",
            "watch",
            "allowWatchBookmarks",
            "sendInitialEvents",
            "pretty",
        ],
        _ => &["pretty"],
    };
    names.iter().map(|n| text(n)).collect()
}
