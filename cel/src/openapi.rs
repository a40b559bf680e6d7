//! Types of objects, out of the schemas that an API server publishes (OpenAPI v3).

use crate::schema::escape;
use crate::types::{Field, ObjectType, Type};
use apimachinery::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Steps down a schema that are followed. Types may hold themselves (JSONSchemaProps); below, anything goes.
const DEPTH_MAX: usize = 16;

/// The schema of a kind in a document of its group and version.
pub fn of_kind<'a>(document: &'a Json, group: &str, version: &str, kind: &str) -> Option<&'a Json> {
    let is = |named: &Json| named["group"] == group && named["version"] == version && named["kind"] == kind;
    let names = |schema: &Json| schema["x-kubernetes-group-version-kind"].as_array().is_some_and(|l| l.iter().any(is));
    document["components"]["schemas"].as_object()?.values().find(|schema| names(schema))
}

/// The type that a schema of a document describes. What it leaves open is known only when an expression runs.
pub fn declare(document: &Json, schema: &Json) -> Type {
    of(document, schema, "object", 0)
}

fn of(document: &Json, schema: &Json, name: &str, depth: usize) -> Type {
    if depth > DEPTH_MAX {
        return Type::Dyn;
    }
    if let Some(referred) = referred(document, schema) {
        return of(document, referred, name, depth + 1);
    }
    let below = |schema: &Json, what: &str| of(document, schema, &format!("{name}.{what}"), depth + 1);
    match schema["type"].as_str() {
        _ if schema["x-kubernetes-int-or-string"] == true || schema["format"] == "int-or-string" => Type::Dyn,
        Some("object") if schema["additionalProperties"].is_object() => {
            Type::map(Type::STRING, below(&schema["additionalProperties"], "@values"))
        }
        Some("object") => {
            let members = schema["properties"].as_object();
            let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
            if members.is_none_or(|members| members.is_empty()) {
                // Of an object of which nothing is said, everything may be asked.
                return Type::Dyn;
            }
            let field = |(member, schema): (&String, &Json)| {
                (escape(member), Field { member: member.clone(), ty: below(schema, member) })
            };
            let fields: BTreeMap<String, Field> = members.into_iter().flatten().map(field).collect();
            Type::Object(Arc::new(ObjectType { name: name.to_owned(), fields, open }))
        }
        Some("array") => Type::list(below(&schema["items"], "@items")),
        Some("string") => match schema["format"].as_str() {
            Some("byte") => Type::BYTES,
            Some("duration") => Type::Duration,
            Some("date" | "date-time") => Type::Timestamp,
            _ => Type::STRING,
        },
        Some("integer") => Type::Int,
        Some("number") => Type::Double,
        Some("boolean") => Type::Bool,
        _ => Type::Dyn,
    }
}

/// The schema of the same document that one refers to, itself or as the only one it is made of.
fn referred<'a>(document: &'a Json, schema: &Json) -> Option<&'a Json> {
    let reference = match schema["$ref"].as_str() {
        Some(reference) => reference,
        None => match schema["allOf"].as_array()?.as_slice() {
            [one] => one["$ref"].as_str()?,
            _ => return None,
        },
    };
    document["components"]["schemas"].get(reference.strip_prefix("#/components/schemas/")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Program, admission};
    use serde_json::json;

    #[test]
    fn published_schemas_tell_expressions_that_cannot_work() {
        let document = json!({"components": {"schemas": {
            "a.Thing": {"type": "object", "x-kubernetes-group-version-kind": [{"group": "a", "version": "v1", "kind": "Thing"}],
                "properties": {
                    "spec": {"allOf": [{"$ref": "#/components/schemas/a.Spec"}], "default": {}},
                    "self": {"$ref": "#/components/schemas/a.Thing"}}},
            "a.Spec": {"type": "object", "properties": {
                "replicas": {"type": "integer", "format": "int32"}, "when": {"type": "string", "format": "date-time"},
                "port": {"format": "int-or-string", "oneOf": []}, "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "items": {"type": "array", "items": {"type": "string"}}, "anything": {"type": "object"}}},
        }}});
        assert!(of_kind(&document, "a", "v2", "Thing").is_none());
        let ty = declare(&document, of_kind(&document, "a", "v1", "Thing").unwrap());
        let env = admission::environment(ty, None);
        for (expression, fits) in [
            ("object.spec.replicas > 1", true),
            ("object.spec.replicas == '1'", false),
            ("object.spec.replica > 1", false),
            ("object.spec.when < timestamp('2026-01-01T00:00:00Z')", true),
            ("object.spec.port == 'http' || object.spec.port == 80", true),
            ("object.spec.labels['a'] == 'b' && 'c' in object.spec.labels", true),
            ("object.spec.items.all(i, i.startsWith('a'))", true),
            ("object.spec.items.all(i, i > 1)", false),
            ("object.spec.anything.goes == 1", true),
            ("oldObject == null || object.self.self.spec.replicas == oldObject.spec.replicas", true),
            ("params.x == 1", false),
        ] {
            assert_eq!(Program::compile(expression, &env).is_ok(), fits, "{expression}");
        }
    }
}
