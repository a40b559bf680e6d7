//! Whether a schema of a definition is structural, and says nothing that the server could not keep to. (KEP-1160; the rules of
//! `apiextensions.k8s.io/v1`.)
//!
//! A structural schema says the type of every place once, in its body; `allOf`, `anyOf`, `oneOf` and `not` only add rules on
//! values.

use apimachinery::Value;
use apimachinery::codec::Report;
use apimachinery::schema::{Structural, go_regex};
use apimachinery::validation::{Cursor, Errors, FieldError};

/// Members that OpenAPI knows and that no definition may have.
const FORBIDDEN: &[(&str, &str)] = &[
    ("$ref", "$ref is not supported"),
    ("id", "id is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("additionalItems", "additionalItems is not supported"),
];

/// Members that belong into the body of a structural schema only.
const BODY_ONLY: &[&str] = &[
    "type",
    "default",
    "additionalProperties",
    "nullable",
    "title",
    "description",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
];

const JUNCTORS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];

/// Deeper schemas are refused: whoever walks them must end.
const DEPTH_MAX: usize = 64;

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Property,
    /// Of a list: a list map's keys are looked for here.
    Items,
}

/// Checks an `openAPIV3Schema`. `default_allowed` is false for definitions that keep unknown fields.
pub fn validate(schema: &Cursor<'_>, default_allowed: bool) {
    node(schema, Place::Root, 0);
    metadata_of(schema);
    if schema.errors().is_empty() {
        // What a default must fit can only be asked of a schema that is right.
        let whole = schema.value().cloned().unwrap_or_default();
        defaults(schema, &Structural::read(&whole), default_allowed);
    }
}

/// The properties of a schema, at `properties[name]`.
fn properties<'a>(schema: &Cursor<'a>) -> impl Iterator<Item = (&'a str, Cursor<'a>)> + use<'a> {
    schema.field("properties").entries()
}

fn node(schema: &Cursor<'_>, place: Place, depth: usize) {
    if depth > DEPTH_MAX {
        schema.forbid(format!("schemas may be nested {DEPTH_MAX} levels deep"));
        return;
    }
    for (name, why) in FORBIDDEN {
        if schema.field(name).exists() {
            schema.field(name).forbid(*why);
        }
    }
    types(schema, place);
    values(schema);
    extensions(schema);
    let additional = schema.field("additionalProperties");
    if additional.exists() {
        if additional.value() == Some(&Value::Bool(false)) {
            additional.forbid("additionalProperties cannot be set to false");
        }
        if !schema.field("properties").is_empty() {
            additional.forbid("additionalProperties and properties are mutual exclusive");
        }
        if place == Place::Root {
            additional.forbid("must not be used at the root");
        }
        if additional.object().is_some() {
            node(&additional, Place::Property, depth + 1);
        }
    }
    for (_, property) in properties(schema) {
        node(&property, Place::Property, depth + 1);
    }
    let items = schema.field("items");
    if items.value().is_some_and(Value::is_array) {
        items.forbid("items must be a schema object and not an array");
    } else if items.exists() {
        node(&items, Place::Items, depth + 1);
    } else if schema.field("type").str() == "array" {
        items.missing("must be specified");
    }
    for name in JUNCTORS {
        for branch in schema.field(name).items() {
            junctor(&branch, schema, depth + 1);
        }
    }
    if schema.field("not").exists() {
        junctor(&schema.field("not"), schema, depth + 1);
    }
}

fn types(schema: &Cursor<'_>, place: Place) {
    let flag = |name: &str| schema.field(name).bool();
    let ty = schema.field("type");
    let (int_or_string, preserve) = (flag("x-kubernetes-int-or-string"), flag("x-kubernetes-preserve-unknown-fields"));
    match (ty.str(), place) {
        ("", Place::Root) => ty.missing("must not be empty at the root"),
        ("object", Place::Root) => {}
        (other, Place::Root) => {
            ty.invalid("must be object at the root");
            ty.one_of(TYPES);
            if other == "null" {
                ty.forbid("type cannot be set to null, use nullable as an alternative");
            }
        }
        ("", _) if int_or_string || preserve => {}
        ("", _) if flag("x-kubernetes-embedded-resource") => {}
        ("", Place::Property) => ty.missing("must not be empty for specified object fields"),
        ("", Place::Items) => ty.missing("must not be empty for specified array items"),
        ("null", _) => ty.forbid("type cannot be set to null, use nullable as an alternative"),
        (other, _) if !TYPES.contains(&other) => ty.not_supported(TYPES),
        _ => {}
    }
    for name in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if int_or_string && flag(name) {
            schema.field(name).invalid("must be false if x-kubernetes-int-or-string is true");
        }
    }
    if flag("x-kubernetes-embedded-resource") {
        match ty.str() {
            "object" => {}
            "" => ty.missing("must be object if x-kubernetes-embedded-resource is true"),
            _ => ty.invalid("must be object if x-kubernetes-embedded-resource is true"),
        }
        if !preserve && schema.field("properties").is_empty() {
            let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            schema.field("properties").missing(why);
        }
        metadata_of(schema);
    }
}

/// Rules on values that would cost too much or cannot be read.
fn values(schema: &Cursor<'_>) {
    if schema.field("uniqueItems").bool() {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        schema.field("uniqueItems").forbid(why);
    }
    let pattern = schema.field("pattern");
    if !pattern.is_empty()
        && let Err(e) = go_regex::compile(pattern.str())
    {
        pattern.invalid(format!("must be a valid regular expression, but isn't: {e}"));
    }
    for name in ["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"] {
        schema.field(name).non_negative();
    }
}

/// `x-kubernetes-*`: lists and maps that apply tells apart.
fn extensions(schema: &Cursor<'_>) {
    if schema.field("x-kubernetes-preserve-unknown-fields").value() == Some(&Value::Bool(false)) {
        schema.field("x-kubernetes-preserve-unknown-fields").invalid("must be true or undefined");
    }
    let (list, keys) = (schema.field("x-kubernetes-list-type"), schema.field("x-kubernetes-list-map-keys"));
    let (ty, items) = (schema.field("type"), schema.field("items"));
    if list.exists() {
        list.one_of(&["atomic", "map", "set"]);
        if ty.str() != "array" {
            let at = if ty.is_empty() { "" } else { ty.str() };
            ty.invalid_value(at, "must be array if x-kubernetes-list-type is specified");
        }
    }
    let scalar = |schema: &Cursor<'_>| {
        // What is no type at all is an error of its own.
        !matches!(schema.field("type").str(), "array" | "object" | "")
            || schema.field("x-kubernetes-int-or-string").bool()
    };
    match list.str() {
        "map" => {
            if keys.is_empty() {
                keys.missing("must not be empty if x-kubernetes-list-type is map");
            }
            if items.field("type").str() != "object" {
                items.field("type").invalid("must be object if parent array's x-kubernetes-list-type is map");
            }
            let required = items.field("required");
            let mut seen = Vec::new();
            for key in keys.items() {
                if seen.contains(&key.str()) {
                    key.duplicate();
                }
                seen.push(key.str());
                let property = items.value().and_then(|i| i["properties"].get(key.str()));
                let at = Cursor::at(property, items.path().child("properties").key(key.str()), items.errors());
                if !at.exists() {
                    key.invalid("entries must all be names of item properties");
                    continue;
                }
                if !scalar(&at) {
                    at.field("type").invalid("must be a scalar type if parent array's x-kubernetes-list-type is map");
                }
                let is_required = required.array().iter().any(|r| r == key.str());
                if !is_required && at.value().is_none_or(|p| p.get("default").is_none()) {
                    at.field("default").missing(
                        "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                    );
                }
                if at.field("nullable").bool() {
                    at.field("nullable")
                        .forbid("this property is in x-kubernetes-list-map-keys, so it cannot be nullable");
                }
            }
        }
        "set" => {
            if items.field("nullable").bool() {
                items.field("nullable").forbid("cannot be nullable when x-kubernetes-list-type is set");
            }
            let whole = match items.field("type").str() {
                "object" => items.field("x-kubernetes-map-type").str() == "atomic",
                "array" => matches!(items.field("x-kubernetes-list-type").str(), "" | "atomic"),
                _ => true,
            };
            if !whole {
                let at = if items.field("type").str() == "object" {
                    "x-kubernetes-map-type"
                } else {
                    "x-kubernetes-list-type"
                };
                items.field(at).invalid("must be atomic as item of a list with x-kubernetes-list-type=set");
            }
        }
        _ => {}
    }
    if list.str() != "map" && !keys.is_empty() {
        list.invalid("must be map if x-kubernetes-list-map-keys is non-empty");
    }
    let map = schema.field("x-kubernetes-map-type");
    if map.exists() {
        map.one_of(&["atomic", "granular"]);
        if ty.str() != "object" {
            ty.invalid("must be object if x-kubernetes-map-type is specified");
        }
    }
}

/// A schema inside a junctor: only rules on values, of places that the body names.
fn junctor(schema: &Cursor<'_>, body: &Cursor<'_>, depth: usize) {
    if depth > DEPTH_MAX {
        schema.forbid(format!("schemas may be nested {DEPTH_MAX} levels deep"));
        return;
    }
    // The one thing that may be said twice: that an integer or a string may stand here.
    let int_or_string = body.field("x-kubernetes-int-or-string").bool();
    for name in BODY_ONLY {
        let only_type = *name == "type" && int_or_string;
        if schema.value().is_some_and(|v| v.get(name).is_some()) && !only_type {
            schema.field(name).forbid("must be empty to be structural");
        }
    }
    values(schema);
    let body_additional = body.field("additionalProperties");
    for (name, property) in properties(schema) {
        let named = body.value().and_then(|b| b["properties"].get(name));
        let place = body.path().child("properties").key(name);
        let wanted = Cursor::at(named, place, body.errors());
        if wanted.exists() {
            junctor(&property, &wanted, depth + 1);
        } else if body_additional.object().is_some() {
            junctor(&property, &body_additional, depth + 1);
        } else if !body.field("x-kubernetes-preserve-unknown-fields").bool() {
            wanted.missing(&format!("because it is defined in {}", property.path()));
        }
    }
    let items = schema.field("items");
    if items.exists() {
        if body.field("items").exists() {
            junctor(&items, &body.field("items"), depth + 1);
        } else {
            body.field("items").missing(&format!("because it is defined in {}", items.path()));
        }
    }
    for name in JUNCTORS {
        for branch in schema.field(name).items() {
            junctor(&branch, body, depth + 1);
        }
    }
    if schema.field("not").exists() {
        junctor(&schema.field("not"), body, depth + 1);
    }
}

/// All objects have the same metadata; a definition may restrict names.
fn metadata_of(schema: &Cursor<'_>) {
    let Some((_, at)) = properties(schema).find(|(name, _)| *name == "metadata") else { return };
    if !matches!(at.field("type").str(), "" | "object") {
        at.field("type").invalid("must be object");
    }
    let others = at
        .object()
        .into_iter()
        .flatten()
        .any(|(name, _)| !matches!(name.as_str(), "type" | "properties" | "description"));
    let named = at.field("properties");
    let only_names = named.entries().all(|(name, _)| matches!(name, "name" | "generateName"));
    if others || !only_names {
        at.forbid("must not specify anything other than name and generateName, but metadata is implicitly specified");
    }
}

/// Defaults must be values that the server would take: of the type, known to the schema, keeping its rules.
fn defaults(schema: &Cursor<'_>, structural: &Structural, allowed: bool) {
    let default = schema.value().and_then(|v| v.get("default"));
    if let Some(default) = default {
        let at = Cursor::at(Some(default), schema.path().child("default"), schema.errors());
        if !allowed {
            at.forbid("must not be set when the definition preserves unknown fields");
        } else {
            one_default(&at, default, structural);
        }
    }
    for (name, property) in properties(schema) {
        if let Some(inner) = structural.properties.get(name) {
            defaults(&property, inner, allowed);
        }
    }
    if let Some(inner) = &structural.items {
        defaults(&schema.field("items"), inner, allowed);
    }
    if let Some(inner) = structural.member("").filter(|_| schema.field("additionalProperties").object().is_some()) {
        defaults(&schema.field("additionalProperties"), inner, allowed);
    }
}

fn one_default(at: &Cursor<'_>, default: &Value, structural: &Structural) {
    if default.is_null() {
        if !structural.nullable {
            at.push(FieldError::invalid(at.path(), Value::Null, "must not be null where the schema is not nullable"));
        }
        return;
    }
    let mut pruned = default.clone();
    let mut report = Report::default();
    structural.prune_value(&mut pruned, &mut report);
    if !report.unknown.is_empty() {
        at.invalid(format!("must not have unknown fields: {}", report.unknown.join(", ")));
        return;
    }
    let mut filled = default.clone();
    structural.fill_in(&mut filled);
    let errors = Errors::new();
    structural.judge_value(&Cursor::at(Some(&filled), at.path().clone(), &errors));
    at.errors().extend(errors.into_vec());
}

/// Follows a simple path (`.spec.color`) through a schema, without lists.
pub fn at_path<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    let names = path.strip_prefix('.')?.split('.');
    names.into_iter().try_fold(schema, |schema, name| schema["properties"].get(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(schema: Value) -> Vec<String> {
        let errors = Errors::new();
        validate(&Cursor::root(&schema, &errors), true);
        errors.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn schemas_that_are_structural_pass() {
        let schema = json!({"type": "object", "description": "d", "properties": {
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}},
            "spec": {"type": "object", "required": ["a"], "default": {"a": "x"}, "properties": {
                "a": {"type": "string", "pattern": "^[a-z]*$"},
                "any": {"x-kubernetes-preserve-unknown-fields": true},
                "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "map": {"type": "object", "additionalProperties": {"type": "integer", "default": 1}},
                "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                    "items": {"type": "object", "required": ["n"], "properties": {"n": {"type": "string"}}}},
                "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
            }, "oneOf": [{"required": ["a"]}, {"properties": {"a": {"minLength": 2}}}]},
        }});
        assert_eq!(problems(schema), [""; 0]);
    }

    #[test]
    fn schemas_that_are_not_say_where() {
        let of = |property: Value| json!({"type": "object", "properties": {"a": property}});
        for (schema, want) in [
            (json!({"properties": {}}), "type: Required value: must not be empty at the root"),
            (
                json!({"type": "array", "items": {"type": "string"}}),
                "type: Invalid value: \"array\": must be object at the root",
            ),
            (of(json!({})), "properties[a].type: Required value: must not be empty for specified object fields"),
            (of(json!({"type": "text"})), "properties[a].type: Unsupported value: \"text\""),
            (of(json!({"type": "array"})), "properties[a].items: Required value: must be specified"),
            (
                of(json!({"type": "array", "items": {}})),
                "properties[a].items.type: Required value: must not be empty for specified array items",
            ),
            (
                of(json!({"type": "string", "pattern": "("})),
                "properties[a].pattern: Invalid value: \"(\": must be a valid regular expression",
            ),
            (
                of(json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}})),
                "properties[a].uniqueItems: Forbidden",
            ),
            (of(json!({"type": "object", "$ref": "#/x"})), "properties[a].$ref: Forbidden: $ref is not supported"),
            (
                of(json!({"type": "object", "additionalProperties": false})),
                "properties[a].additionalProperties: Forbidden: additionalProperties cannot be set to false",
            ),
            (
                of(
                    json!({"type": "object", "additionalProperties": {"type": "string"}, "properties": {"b": {"type": "string"}}}),
                ),
                "properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ),
            (
                of(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false})),
                "properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
            ),
            (
                of(json!({"type": "object", "x-kubernetes-embedded-resource": true})),
                "properties[a].properties: Required value: must not be empty if x-kubernetes-embedded-resource",
            ),
            (
                of(json!({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}})),
                "properties[a].x-kubernetes-list-map-keys: Required value",
            ),
            (
                of(
                    json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "properties": {"k": {"type": "string"}}}}),
                ),
                "properties[a].items.properties[k].default: Required value",
            ),
            (
                of(json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}})),
                "properties[a].items.x-kubernetes-map-type: Invalid value",
            ),
            (
                of(json!({"type": "object", "anyOf": [{"type": "object"}]})),
                "properties[a].anyOf[0].type: Forbidden: must be empty to be structural",
            ),
            (
                of(json!({"type": "object", "oneOf": [{"properties": {"b": {"minLength": 1}}}]})),
                "properties[a].properties[b]: Required value: because it is defined in properties[a].oneOf[0].properties[b]",
            ),
            (
                json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
                "properties[metadata]: Forbidden: must not specify anything other than name and generateName",
            ),
            (of(json!({"type": "string", "default": 1})), "properties[a].default: Invalid value: \"integer\""),
            (
                of(json!({"type": "object", "default": {"x": 1}})),
                "properties[a].default: Invalid value: {\"x\":1}: must not have unknown fields",
            ),
            (of(json!({"type": "integer", "default": 5, "maximum": 3})), "properties[a].default: Invalid value: 5"),
        ] {
            let told = problems(schema.clone());
            assert!(told.iter().any(|t| t.starts_with(want)), "{schema}: {told:?}");
        }
    }
}
