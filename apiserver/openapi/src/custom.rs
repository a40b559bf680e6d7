//! Schemas of custom resources: what the definition says, completed as its objects are sent. Read from the stored definition
//! each time a document is made, so that nothing large is kept twice.

use super::schemas::{Schemas, gvk_value, of_items, of_list};
use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use handlers::api::Served;
use registry::resource::Resource;
use serde_json::json;

/// References to the schemas of an object and of a list of them, which are put among `schemas`.
pub fn define(served: &Served, row: &Resource, schemas: &mut Schemas<'_>) -> (Value, Value) {
    let stored = stored_schema(served, row);
    let open = stored.as_ref().is_none_or(|s| s["x-kubernetes-preserve-unknown-fields"] == true);
    let mut object = stored.unwrap_or_else(|| json!({"type": "object"}));
    if open && !schemas.v3 {
        // Any member at all is allowed, and kubectl's check of version 2 allows none besides those that are named.
        object = json!({"type": "object", "x-kubernetes-group-version-kind": [gvk_value(&row.kind)]});
    } else {
        if !schemas.v3 {
            reduce(&mut object);
        }
        complete(&mut object, &row.kind, false, schemas);
        embed(&mut object, schemas, true);
    }
    let own = put(schemas, &row.kind, object);
    let list_kind = GroupVersionKind { kind: row.list_kind.clone(), ..row.kind.clone() };
    let mut list = json!({"type": "object", "description": of_list(&row.kind.kind), "required": ["items"],
        "properties": {"items": {"type": "array", "description": of_items(&row.kind.kind), "items": own}}});
    complete(&mut list, &list_kind, true, schemas);
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

/// Takes out what OpenAPI 2 has no words for, so that clients that check by it refuse nothing that the server takes.
fn reduce(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    for name in ["allOf", "anyOf", "oneOf", "not"] {
        members.remove(name);
    }
    let nullable = members.remove("nullable").is_some_and(|n| n == true);
    let open = members.get("x-kubernetes-preserve-unknown-fields").is_some_and(|p| p == true);
    if nullable || open {
        for name in ["items", "properties", "additionalProperties"] {
            members.remove(name);
        }
    }
    if nullable || members.get("x-kubernetes-int-or-string").is_some_and(|i| i == true) {
        members.remove("type");
    }
    let nullable_members: Vec<String> = members
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, s)| s["nullable"] == true)
        .map(|(name, _)| name.clone())
        .collect();
    if let Some(required) = members.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !nullable_members.iter().any(|n| name == n.as_str()));
    }
    if members.get("required").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        members.remove("required");
    }
    for (name, member) in members.iter_mut() {
        match (name.as_str(), member) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(reduce),
            ("items" | "additionalProperties", member) => reduce(member),
            _ => {}
        }
    }
}

/// Adds what every object has, or every list of objects.
fn complete(schema: &mut Value, kind: &GroupVersionKind, list: bool, schemas: &mut Schemas<'_>) {
    for (name, member) in schemas.type_meta() {
        schema["properties"][name] = member;
    }
    schema["properties"]["metadata"] = schemas.metadata(list);
    schema["x-kubernetes-group-version-kind"] = json!([gvk_value(kind)]);
}

/// Embedded objects have what every object has, too.
fn embed(schema: &mut Value, schemas: &mut Schemas<'_>, root: bool) {
    let Some(members) = schema.as_object_mut() else { return };
    if !root && members.get("x-kubernetes-embedded-resource").is_some_and(|e| e == true) {
        let properties = members.entry("properties").or_insert_with(|| json!({}));
        for (name, member) in schemas.type_meta() {
            properties[name] = member;
        }
        properties["metadata"] = schemas.metadata(false);
    }
    for (name, member) in members.iter_mut() {
        match (name.as_str(), member) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(|p| embed(p, schemas, false)),
            ("items" | "additionalProperties", member) => embed(member, schemas, false),
            _ => {}
        }
    }
}

fn put(schemas: &mut Schemas<'_>, kind: &GroupVersionKind, schema: Value) -> Value {
    let domain: Vec<&str> = kind.group.split('.').rev().collect();
    let name = format!("{}.{}.{}", domain.join("."), kind.version, kind.kind);
    let reference = json!({"$ref": format!("{}{name}", schemas.base)});
    schemas.custom.insert(name, schema);
    reference
}
