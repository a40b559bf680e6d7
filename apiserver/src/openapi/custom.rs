//! Schemas of custom resources: what the definition says, completed as its objects are sent. Read from the stored definition
//! each time a document is made, so that nothing large is kept twice.

use super::schemas::Schemas;
use super::v3::gvk_value;
use crate::api::Served;
use crate::registry::table::Resource;
use apimachinery::Value;
use apimachinery::schema::{GroupVersionKind, Schema};
use serde_json::json;

const OBJECT_META: &str = "k8s.io.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "k8s.io.apimachinery.pkg.apis.meta.v1.ListMeta";

/// References to the schemas of an object and of a list of them, which are put among `schemas`.
pub fn define(served: &Served, row: &Resource, schemas: &mut Schemas) -> (Value, Value) {
    let mut object = stored_schema(served, row).unwrap_or_else(|| json!({"type": "object"}));
    complete(&mut object, &row.kind, OBJECT_META, schemas);
    let own = put(schemas, &row.kind, object);
    let list_kind = GroupVersionKind { kind: row.list_kind.clone(), ..row.kind.clone() };
    let mut list =
        json!({"type": "object", "required": ["items"], "properties": {"items": {"type": "array", "items": own}}});
    complete(&mut list, &list_kind, LIST_META, schemas);
    let list = put(schemas, &list_kind, list);
    (own, list)
}

/// The schema as the definition in the cache has it.
fn stored_schema(served: &Served, row: &Resource) -> Option<Value> {
    let definitions = served.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")?.cache.as_ref()?;
    let definition = definitions.get(&format!("{}.{}", row.plural, row.kind.group))?.tree();
    let version = definition["spec"]["versions"].as_array()?.iter().find(|v| v["name"] == row.kind.version.as_str())?;
    version["schema"].get("openAPIV3Schema").filter(|schema| schema.is_object()).cloned()
}

/// Adds what every object has.
fn complete(schema: &mut Value, kind: &GroupVersionKind, metadata: &str, schemas: &mut Schemas) {
    for name in ["apiVersion", "kind"] {
        schema["properties"][name] = json!({"type": "string"});
    }
    if let Some(ty) = Schema::builtin().by_name(metadata) {
        schema["properties"]["metadata"] = schemas.reference(ty.id);
    }
    schema["x-kubernetes-group-version-kind"] = json!([gvk_value(kind)]);
}

fn put(schemas: &mut Schemas, kind: &GroupVersionKind, schema: Value) -> Value {
    let domain: Vec<&str> = kind.group.split('.').rev().collect();
    let name = format!("{}.{}.{}", domain.join("."), kind.version, kind.kind);
    let reference = json!({"$ref": format!("{}{name}", schemas.base)});
    schemas.custom.insert(name, schema);
    reference
}
