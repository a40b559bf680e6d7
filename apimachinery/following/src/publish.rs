//! For tests: an API as a document of OpenAPI, written by other code than what reads it.

use crate::api::{Api, Field, Kind, NO_STRUCTS, Resource, TYPE_META};
use serde_json::{Map, Value, json};

/// How a document is written.
#[derive(Clone, Copy, Debug)]
pub enum Dialect {
    OpenApi2,
    OpenApi3,
    Bundle,
}

pub const DIALECTS: [Dialect; 3] = [Dialect::OpenApi2, Dialect::OpenApi3, Dialect::Bundle];

/// What a server with that API would serve.
pub fn document(api: &Api, dialect: Dialect) -> Value {
    let reachable = api.types.iter().filter(|(_, ty)| ty.reachable);
    let schemas: Map<String, Value> = reachable
        .map(|(name, ty)| {
            let properties = ty.fields.iter().map(|(name, field)| (name.clone(), property(field, dialect)));
            let mut properties: Map<String, Value> = properties.collect();
            if ty.object {
                properties.extend(TYPE_META.map(|name| (name.to_owned(), json!({"type": "string"}))));
            }
            let mut schema = json!({"type": "object", "properties": properties});
            let required = ty.fields.iter().filter(|(_, field)| field.required).map(|(name, _)| name.as_str());
            schema["required"] = required.collect();
            if ty.atomic {
                schema["x-kubernetes-map-type"] = "atomic".into();
            }
            schema["x-kubernetes-group-version-kind"] = kinds(api, name).map(gvk).collect();
            (format!("io.k8s.api.{name}"), schema)
        })
        .chain(NO_STRUCTS.map(|name| (format!("io.k8s.{name}"), json!({"type": "string"}))))
        .collect();
    let mut document = match dialect {
        Dialect::OpenApi2 => json!({"definitions": schemas}),
        Dialect::OpenApi3 => json!({"components": {"schemas": schemas}}),
        Dialect::Bundle => json!({"$defs": schemas}),
    };
    document["paths"] = paths(api).into();
    document
}

/// The kinds of a type: those of its name whose group and version the name has too, `core.v1.Pod`.
fn kinds<'a>(api: &'a Api, name: &'a str) -> impl Iterator<Item = &'a Kind> {
    let mut parts = name.split('.');
    let (package, version, short) = (parts.next(), parts.next(), parts.next());
    api.kinds.iter().filter(move |kind| {
        let group = match kind.version.group_name() {
            "internal.apiserver.k8s.io" => "apiserverinternal",
            group => group.split('.').next().unwrap_or(group),
        };
        (Some(group), Some(&*kind.version.version), Some(&*kind.name)) == (package, version, short)
    })
}

fn gvk(kind: &Kind) -> Value {
    json!({"group": kind.version.group, "version": kind.version.version, "kind": kind.name})
}

fn property(field: &Field, dialect: Dialect) -> Value {
    let mut schema = shape(&field.shape, dialect);
    let reference = schema.get("$ref").is_some();
    if reference && matches!(dialect, Dialect::OpenApi3) {
        schema = json!({"allOf": [schema], "default": {}});
    }
    match (field.merge.strip_prefix("map by "), schema["type"] == "array") {
        (Some(keys), _) => {
            schema["x-kubernetes-list-type"] = "map".into();
            schema["x-kubernetes-list-map-keys"] = keys.split(',').collect();
        }
        (None, true) => schema["x-kubernetes-list-type"] = field.merge.clone().into(),
        (None, false) if !field.merge.is_empty() => schema["x-kubernetes-map-type"] = field.merge.clone().into(),
        _ => {}
    }
    let (strategy, key) = field.patch.split_once(" by ").unwrap_or((&field.patch, ""));
    for (name, text) in [("x-kubernetes-patch-strategy", strategy), ("x-kubernetes-patch-merge-key", key)] {
        if !text.is_empty() {
            schema[name] = text.into();
        }
    }
    if !field.values.is_empty() {
        let holders = ["items", "additionalProperties"];
        let holder = holders.into_iter().find(|name| schema.get(name).is_some());
        let of = match holder {
            Some(name) => &mut schema[name],
            None => &mut schema,
        };
        of["enum"] = field.values.iter().cloned().collect();
    }
    schema
}

fn shape(name: &str, dialect: Dialect) -> Value {
    let base = match dialect {
        Dialect::OpenApi2 => "#/definitions/",
        Dialect::OpenApi3 => "#/components/schemas/",
        Dialect::Bundle => "#/$defs/",
    };
    if let Some(items) = name.strip_prefix("[]") {
        return json!({"type": "array", "items": shape(items, dialect)});
    }
    if let Some(values) = name.strip_prefix("map[string]") {
        return json!({"type": "object", "additionalProperties": shape(values, dialect)});
    }
    match name {
        "any" => json!({}),
        "bytes" => json!({"type": "string", "format": "byte"}),
        "double" => json!({"type": "number", "format": "double"}),
        "int32" | "int64" => json!({"type": "integer", "format": name}),
        "string" | "boolean" if matches!(dialect, Dialect::Bundle) => json!({"type": [name, "null"]}),
        "string" | "boolean" => json!({"type": name}),
        _ => json!({"$ref": format!("{base}io.k8s.api.{name}")}),
    }
}

fn paths(api: &Api) -> Map<String, Value> {
    let mut paths = Map::new();
    for (version, resources) in &api.resources {
        let root = match &*version.group {
            "" => format!("/api/{}", version.version),
            group => format!("/apis/{group}/{}", version.version),
        };
        for (name, resource) in resources {
            let (plural, sub) = name.split_once('/').unwrap_or((name, ""));
            let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
            let collection = format!("{root}{scope}/{plural}");
            let one = format!("{collection}/{{name}}{}{sub}", if sub.is_empty() { "" } else { "/" });
            for verb in &resource.verbs {
                let (path, method, action) = match (&**verb, sub.is_empty()) {
                    ("create", true) => (&collection, "post", "post"),
                    ("list", _) => (&collection, "get", "list"),
                    ("deletecollection", _) => (&collection, "delete", "deletecollection"),
                    ("watch", _) => (&format!("{root}/watch{scope}/{plural}"), "get", "watchlist"),
                    ("create", false) => (&one, "post", "connect"),
                    ("update", _) => (&one, "put", "put"),
                    (same, _) => (&one, same, same),
                };
                paths.entry(path.clone()).or_insert_with(|| json!({}))[method] = operation(resource, action);
            }
        }
    }
    paths
}

fn operation(resource: &Resource, action: &str) -> Value {
    let kind = resource.kind.as_ref().map(gvk);
    json!({"x-kubernetes-action": action, "x-kubernetes-group-version-kind": kind})
}
