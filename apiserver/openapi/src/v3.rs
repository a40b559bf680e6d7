//! OpenAPI 3: a document for each group and version.

use super::connect;
use super::operation::{About, operation_id, path_item, tag};
use super::schemas::{Schemas, gvk_value};
use api_documentation::Documentation;
use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use handlers::api::{Served, VersionTable};
use handlers::negotiate::cbor_is_served;
use registry::resource::{Form, Resource};
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
pub fn document(served: &Served, path: &str, documentation: &Documentation<'_>) -> Value {
    let mut schemas = Schemas::new(true, documentation);
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
    schemas: &mut Schemas<'_>,
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
        for (suffix, item) in operations(row, path, &own, list.as_ref(), schemas) {
            paths.insert(suffix, item);
        }
        for sub in &row.subresources {
            let root = format!("{}/{{name}}", base_path(row, path));
            if connect::connects(sub) {
                let below = connect::paths(row, sub).into_iter();
                paths.extend(below.map(|(path, item)| (format!("{root}/{path}"), item)));
                continue;
            }
            let is_own = row.is_custom() && sub.kind == row.kind;
            let wanted = if is_own { Some(own.clone()) } else { schemas.kind(&sub.kind) };
            let Some(reference) = wanted else { continue };
            let mut item = path_item(row, true);
            for verb in &sub.verbs {
                let about = About { kind: &sub.kind, schema: &reference, part: Some(&sub.name), everywhere: false };
                insert(&mut item, verb, row, &about, schemas);
            }
            paths.insert(format!("{root}/{}", sub.name), item.into());
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
fn operations(
    row: &Resource,
    path: &str,
    own: &Value,
    list: Option<&Value>,
    schemas: &mut Schemas<'_>,
) -> Vec<(String, Value)> {
    let base = base_path(row, path);
    let about = |schema| About { kind: &row.kind, schema, part: None, everywhere: false };
    let (mut collection, mut single) = (path_item(row, false), path_item(row, true));
    let named = row.verbs.iter().any(|v| !matches!(v.as_str(), "list" | "create" | "deletecollection" | "watch"));
    for verb in &row.verbs {
        match verb.as_str() {
            "list" => insert(&mut collection, verb, row, &about(list.unwrap_or(own)), schemas),
            "create" | "deletecollection" => insert(&mut collection, verb, row, &about(own), schemas),
            "watch" => {}
            _ => insert(&mut single, verb, row, &about(own), schemas),
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
        insert(&mut everywhere, "list", row, &About { everywhere: true, ..about(list) }, schemas);
        all.push((format!("/{path}/{}", row.plural), everywhere.into()));
    }
    all
}

/// What an operation does, in a few words.
fn described(verb: &str, row: &Resource, about: &About<'_>) -> String {
    let kind = &row.kind.kind;
    let one = match about.part {
        Some(part) => format!("{part} of a {kind}"),
        None => format!("a {kind}"),
    };
    match verb {
        "create" => format!("create {one}"),
        "get" => format!("read {one}"),
        "update" => format!("replace {one}"),
        "patch" => format!("change parts of {one}"),
        "delete" => format!("delete {one}"),
        "deletecollection" => format!("delete objects of kind {kind}"),
        _ => format!("list or watch objects of kind {kind}"),
    }
}

/// Types of bodies and answers that are no objects.
const DELETE_OPTIONS: &str = "k8s.io.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const STATUS: &str = "k8s.io.apimachinery.pkg.apis.meta.v1.Status";

fn insert(item: &mut Map<String, Value>, verb: &str, row: &Resource, about: &About<'_>, schemas: &mut Schemas<'_>) {
    let (method, action) = match verb {
        "create" => ("post", "post"),
        "update" => ("put", "put"),
        "patch" => ("patch", "patch"),
        "delete" => ("delete", "delete"),
        "deletecollection" => ("delete", "deletecollection"),
        other => ("get", other),
    };
    let of_schema = match verb {
        "delete" if row.strategy.return_deleted => json!({"schema": about.schema}),
        "delete" | "deletecollection" => json!({"schema": schemas.of_name(STATUS)}),
        _ => json!({"schema": about.schema}),
    };
    let mut content = json!({"application/json": of_schema, "application/yaml": of_schema});
    if !row.is_custom() {
        content["application/vnd.kubernetes.protobuf"] = of_schema.clone();
    }
    if cbor_is_served() {
        content["application/cbor"] = of_schema.clone();
    }
    let mut operation = json!({
        "description": described(verb, row, about),
        "operationId": operation_id(verb, row, about),
        "tags": [tag(row)],
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk_value(about.kind),
        "responses": {"200": {"description": "OK", "content": content}, "401": {"description": "Unauthorized"}},
        "parameters": parameters(verb),
    });
    match verb {
        "create" | "update" => {
            operation["requestBody"] = json!({"required": true, "content": {"*/*": of_schema}});
            operation["responses"]["201"] = json!({"description": "Created", "content": content});
        }
        "patch" => {
            let any = json!({"schema": schemas.patch()});
            let forms = ["json-patch+json", "merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml"];
            let forms = forms.into_iter().chain(cbor_is_served().then_some("apply-patch+cbor"));
            let forms = forms.filter(|f| !(row.is_custom() && f.starts_with("strategic")));
            let patches: Map<_, _> = forms.map(|f| (format!("application/{f}"), any.clone())).collect();
            operation["requestBody"] = json!({"required": true, "content": patches});
            operation["responses"]["201"] = json!({"description": "Created", "content": content});
        }
        "delete" | "deletecollection" => {
            let options = json!({"schema": schemas.of_name(DELETE_OPTIONS)});
            operation["requestBody"] = json!({"content": {"*/*": options}});
            if verb == "delete" {
                operation["responses"]["202"] = json!({"description": "Accepted", "content": content});
            }
        }
        _ => {}
    }
    item.insert(method.into(), operation);
}

/// Parameters of the query: name, type, what it says.
const PARAMETERS: &[(&str, &str, &str)] = &[
    ("allowWatchBookmarks", "boolean", "A watch tells now and then how far it has come."),
    ("continue", "string", "The token of the last page, which leads to the next."),
    ("dryRun", "string", "All: do everything except keeping the result."),
    ("fieldManager", "string", "Who owns the fields that are written, by name."),
    ("fieldSelector", "string", "Only objects whose fields match."),
    ("fieldValidation", "string", "What becomes of fields that are unknown or given twice: Ignore, Warn or Strict."),
    ("force", "boolean", "Apply takes fields that others own."),
    ("gracePeriodSeconds", "integer", "Seconds in which the object may end; 0 is at once."),
    ("labelSelector", "string", "Only objects whose labels match."),
    ("limit", "integer", "Objects on a page, at most."),
    ("orphanDependents", "boolean", "Deprecated; see propagationPolicy."),
    ("pretty", "string", "true: indent the answer."),
    ("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
    ("resourceVersion", "string", "The version to read; see resourceVersionMatch."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "A watch begins with the objects that exist."),
    ("timeoutSeconds", "integer", "Seconds after which the request ends."),
    ("watch", "boolean", "Send changes as they happen instead of a list."),
];

/// Query parameters; clients look here for `dryRun` and `fieldValidation` before they use them.
fn parameters(verb: &str) -> Value {
    let names: &[&str] = match verb {
        "create" | "update" => &["dryRun", "fieldManager", "fieldValidation", "pretty"],
        "patch" => &["dryRun", "fieldManager", "fieldValidation", "force", "pretty"],
        "delete" => &["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy", "pretty"],
        "deletecollection" => &[
            "continue",
            "dryRun",
            "fieldSelector",
            "gracePeriodSeconds",
            "labelSelector",
            "limit",
            "orphanDependents",
            "propagationPolicy",
            "resourceVersion",
            "resourceVersionMatch",
            "sendInitialEvents",
            "timeoutSeconds",
            "pretty",
        ],
        "list" => &[
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
    let rows = names.iter().filter_map(|name| PARAMETERS.iter().find(|(row, ..)| row == name));
    rows.map(|(name, form, text)| {
        json!({"name": name, "in": "query", "description": text, "schema": {"type": form, "uniqueItems": true}})
    })
    .collect()
}
