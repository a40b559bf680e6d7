//! OpenAPI 3: a document for each group and version.

use super::schemas::{Schemas, gvk_value};
use crate::api::{Served, VersionTable};
use crate::handlers::negotiate::cbor_is_served;
use crate::registry::table::{Form, Resource};
use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use serde_json::{Map, json};

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

pub fn group_version_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// One document; an empty one for paths that serve no resources.
pub fn document(served: &Served, path: &str) -> Value {
    let mut schemas = Schemas::new("#/components/schemas/", true);
    let mut paths = Map::new();
    let table = served.versions.iter().find(|((g, v), _)| group_version_path(g, v) == path).map(|(_, t)| t);
    if let Some(table) = table {
        describe(served, table, path, &mut schemas, &mut paths);
    }
    let security = json!({"BearerToken": {"type": "apiKey", "in": "header", "name": "authorization", "description": "Bearer Token authentication"}});
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": component_base::version::GIT_VERSION},
        "paths": paths,
        "components": {"schemas": schemas.finish(), "securitySchemes": security},
    })
}

/// The operations on every resource of a group and version.
pub fn describe(
    served: &Served,
    table: &VersionTable,
    path: &str,
    schemas: &mut Schemas,
    paths: &mut Map<String, Value>,
) {
    for endpoint in table.values() {
        let row = &endpoint.row;
        let (own, list) = match &row.form {
            Form::Builtin(_) => {
                let Some(own) = schemas.kind(&row.kind) else { continue };
                let list_kind = GroupVersionKind { kind: row.list_kind.clone(), ..row.kind.clone() };
                (own, if row.verbs.iter().any(|v| v == "list") { schemas.kind(&list_kind) } else { None })
            }
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
            let wanted = if is_own { Some(own.clone()) } else { schemas.kind(&sub.kind) };
            let Some(reference) = wanted else { continue };
            let mut item = path_item(row, true);
            for verb in &sub.verbs {
                let of = format!("{}{}", row.kind.kind, capital(&sub.name));
                insert(&mut item, verb, row, &sub.kind, &reference, &of);
            }
            paths.insert(format!("{}/{{name}}/{}", base_path(row, path), sub.name), item.into());
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

/// What all operations on a path take.
fn path_item(row: &Resource, named: bool) -> Map<String, Value> {
    let parameter = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}});
    let mut parameters = Vec::new();
    if named {
        parameters.push(parameter("name"));
    }
    if row.namespaced {
        parameters.push(parameter("namespace"));
    }
    if parameters.is_empty() { Map::new() } else { Map::from_iter([("parameters".to_owned(), parameters.into())]) }
}

/// Paths of a resource, each with its operations.
fn operations(row: &Resource, path: &str, own: &Value, list: Option<&Value>) -> Vec<(String, Value)> {
    let base = base_path(row, path);
    let (mut collection, mut single) = (path_item(row, false), path_item(row, true));
    let named = row.verbs.iter().any(|v| !matches!(v.as_str(), "list" | "create" | "deletecollection" | "watch"));
    for verb in &row.verbs {
        match verb.as_str() {
            "list" => insert(&mut collection, verb, row, &row.kind, list.unwrap_or(own), &row.kind.kind),
            "create" | "deletecollection" => insert(&mut collection, verb, row, &row.kind, own, &row.kind.kind),
            "watch" => {}
            _ => insert(&mut single, verb, row, &row.kind, own, &row.kind.kind),
        }
    }
    let mut all = vec![(base.clone(), collection.into())];
    if named {
        all.push((format!("{base}/{{name}}"), single.into()));
    }
    if row.namespaced
        && let Some(list) = list
    {
        let mut everywhere = Map::new();
        insert(&mut everywhere, "list", row, &row.kind, list, &format!("{}ForAllNamespaces", row.kind.kind));
        all.push((format!("/{path}/{}", row.plural), everywhere.into()));
    }
    all
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// `Core`, `Apps`, `RbacAuthorization`, `StableExampleCom`: a group in the names of operations.
fn group_title(group: &str) -> String {
    match group.strip_suffix(".k8s.io").unwrap_or(group) {
        "" => "Core".into(),
        rest => rest.split(['.', '-']).map(capital).collect(),
    }
}

/// `createCoreV1NamespacedPod`, `listAppsV1DeploymentForAllNamespaces`: unique among all operations.
fn operation_id(verb: &str, row: &Resource, of: &str) -> String {
    let action = match verb {
        "get" => "read",
        "update" => "replace",
        "deletecollection" => "deleteCollection",
        other => other,
    };
    let place = if row.namespaced && !of.ends_with("ForAllNamespaces") { "Namespaced" } else { "" };
    format!("{action}{}{}{place}{of}", group_title(&row.kind.group), capital(&row.kind.version))
}

fn insert(
    item: &mut Map<String, Value>,
    verb: &str,
    row: &Resource,
    kind: &GroupVersionKind,
    reference: &Value,
    of: &str,
) {
    let (method, action) = match verb {
        "create" => ("post", "post"),
        "update" => ("put", "put"),
        "patch" => ("patch", "patch"),
        "delete" => ("delete", "delete"),
        "deletecollection" => ("delete", "deletecollection"),
        other => ("get", other),
    };
    let of_schema = json!({"schema": reference});
    let mut content = json!({"application/json": of_schema, "application/yaml": of_schema});
    if !row.is_custom() {
        content["application/vnd.kubernetes.protobuf"] = of_schema.clone();
    }
    if cbor_is_served() {
        content["application/cbor"] = of_schema.clone();
    }
    let mut operation = json!({
        "operationId": operation_id(verb, row, of),
        "tags": [format!("{}_{}", group_title(&row.kind.group).to_lowercase(), row.kind.version)],
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk_value(kind),
        "responses": {"200": {"description": "OK", "content": content}, "401": {"description": "Unauthorized"}},
        "parameters": parameters(verb),
    });
    match verb {
        "create" | "update" => {
            operation["requestBody"] = json!({"required": true, "content": {"*/*": of_schema}});
            operation["responses"]["201"] = json!({"description": "Created", "content": content});
        }
        "patch" => {
            let any = json!({"schema": {"type": "object"}});
            let forms = ["json-patch+json", "merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml"];
            let forms = forms.into_iter().chain(cbor_is_served().then_some("apply-patch+cbor"));
            let forms = forms.filter(|f| !(row.is_custom() && f.starts_with("strategic")));
            let content: Map<_, _> = forms.map(|f| (format!("application/{f}"), any.clone())).collect();
            operation["requestBody"] = json!({"required": true, "content": content});
        }
        _ => {}
    }
    item.insert(method.into(), operation);
}

/// Query parameters; clients look here for `dryRun` and `fieldValidation` before they use them.
fn parameters(verb: &str) -> Value {
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
    let form = |name: &str| match name {
        "limit" | "timeoutSeconds" | "gracePeriodSeconds" => "integer",
        "watch" | "allowWatchBookmarks" | "sendInitialEvents" | "force" | "orphanDependents" => "boolean",
        _ => "string",
    };
    names
        .iter()
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": form(name), "uniqueItems": true}}))
        .collect()
}
