//! What a schema of a definition may say. (The rules of `apiextensions.k8s.io/v1`; [`super::structural`] has those of its shape.)

use super::structural;
use apimachinery::Value;
use apimachinery::codec::Report;
use apimachinery::schema::Structural;
use apimachinery::validation::{Cursor, Errors};
use registry::expressions::definition;

/// Members that OpenAPI knows and that no definition may have.
const FORBIDDEN: [&str; 6] = ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];

/// What the root may hold where the status is a subresource, which is checked by its part of the schema alone.
const ROOT_WITH_STATUS: &[&str] = &[
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

pub(super) const JUNCTORS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
const REASONS: [&str; 4] = ["FieldValueRequired", "FieldValueForbidden", "FieldValueInvalid", "FieldValueDuplicate"];

/// Deeper schemas are refused: whoever walks them must end.
pub(super) const DEPTH_MAX: usize = 64;

/// Formats that values are held against (`apiextensions.k8s.io/v1`), without dashes, which do not count.
const FORMATS: &[&str] = &[
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

/// Checks an `openAPIV3Schema`. `status`: the version has the subresource. `defaults`: false for definitions that keep unknown fields.
pub fn validate(schema: &Cursor<'_>, status: bool, defaults: bool) {
    if status {
        root_with_status(schema);
    }
    if schema.field("nullable").bool() {
        let at = Cursor::at(None, schema.path().child("nullable"), schema.errors());
        at.forbid("nullable cannot be true at the root");
    }
    // What has members that no schema may have cannot be read any further.
    let errors = Errors::new();
    structural::validate(&Cursor::at(schema.value(), schema.path(), &errors));
    let errors = errors.into_vec();
    let is_structural = errors.is_empty();
    if !has_forbidden(schema.value().unwrap_or(&Value::Null), 0) {
        schema.errors().extend(errors);
    }
    if is_structural {
        // What a default must fit can only be asked of a schema that has a shape.
        let whole = schema.value().cloned().unwrap_or_default();
        self::defaults(schema, &Structural::read(&whole));
    }
    let why = if defaults { None } else { Some("must not be set when the definition preserves unknown fields") };
    node(schema, &Inside { no_defaults: why.map(str::to_owned), ..Inside::default() }, true, 0);
}

/// Whether a member counts: false, empty and null are as good as absent.
pub(super) fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => true,
    }
}

/// The properties of a schema, at `properties[name]`.
pub(super) fn properties<'a>(schema: &Cursor<'a>) -> impl Iterator<Item = (&'a str, Cursor<'a>)> + use<'a> {
    schema.field("properties").entries()
}

fn has_forbidden(schema: &Value, depth: usize) -> bool {
    match schema {
        Value::Object(members) if depth < DEPTH_MAX * 2 => {
            FORBIDDEN.iter().any(|name| members.get(*name).is_some_and(is_set))
                || members.get("items").is_some_and(Value::is_array)
                || members.values().any(|value| has_forbidden(value, depth + 1))
        }
        Value::Array(items) if depth < DEPTH_MAX * 2 => items.iter().any(|item| has_forbidden(item, depth + 1)),
        _ => false,
    }
}

fn root_with_status(schema: &Cursor<'_>) {
    let ty = schema.field("type");
    let members = schema.object().into_iter().flatten();
    let mut others = members.filter(|(name, value)| is_set(value) && !ROOT_WITH_STATUS.contains(&name.as_str()));
    let mut others = others.by_ref().peekable();
    let only = |what: &str| format!("only {what} at the root of the schema if the status subresource is enabled");
    // The first of both, in the order of the type's fields.
    let first = others.peek().is_some_and(|(name, _)| matches!(name.as_str(), "id" | "$schema" | "$ref"));
    if !first && !matches!(ty.str(), "" | "object") {
        ty.invalid(only("\"object\" is allowed as the type"));
    } else if others.next().is_some() {
        schema.invalid(only(&format!("{ROOT_WITH_STATUS:?} fields are allowed")));
    }
}

/// What a place in a schema is inside of.
#[derive(Clone, Default)]
struct Inside {
    /// Why there may be no defaults.
    no_defaults: Option<String>,
    /// Of `apiVersion`, `kind` or `metadata` of an object.
    meta: bool,
}

fn node(schema: &Cursor<'_>, inside: &Inside, root: bool, depth: usize) {
    if depth > DEPTH_MAX {
        return schema.forbid(format!("schemas may be nested {DEPTH_MAX} levels deep"));
    }
    members(schema, inside);
    let below = |at: &Cursor<'_>, inside: &Inside| node(at, inside, false, depth + 1);
    let additional = schema.field("additionalProperties");
    if additional.object().is_some() || additional.value() == Some(&Value::Bool(false)) {
        if !schema.field("properties").is_empty() {
            additional.forbid("additionalProperties and properties are mutual exclusive");
        }
        let mut inside = inside.clone();
        if inside.meta {
            inside.no_defaults = Some("must not be set inside additionalProperties applying to object metadata".into());
        }
        if additional.object().is_some() {
            below(&additional, &inside);
        }
    }
    for (name, property) in properties(schema) {
        let is_object = root || schema.field("x-kubernetes-embedded-resource").bool();
        let mut inside = inside.clone();
        if is_object && matches!(name, "apiVersion" | "kind" | "metadata") {
            inside.meta = true;
            if root {
                inside.no_defaults = Some(format!("must not be set in top-level {name}"));
            }
        }
        below(&property, &inside);
    }
    let items = schema.field("items");
    if items.value().is_some_and(Value::is_array) {
        items.items().for_each(|item| below(&item, inside));
    } else if items.exists() {
        below(&items, inside);
    }
    for name in JUNCTORS {
        schema.field(name).items().for_each(|branch| below(&branch, inside));
    }
    if schema.field("not").exists() {
        below(&schema.field("not"), inside);
    }
    extensions(schema);
    rules(schema);
}

fn members(schema: &Cursor<'_>, inside: &Inside) {
    let (ty, items, embedded) =
        (schema.field("type"), schema.field("items"), schema.field("x-kubernetes-embedded-resource"));
    ty.one_of(TYPES);
    if ty.str() == "null" {
        ty.forbid("type cannot be set to null, use nullable as an alternative");
    }
    if let Some(why) = &inside.no_defaults
        && schema.field("default").exists()
    {
        schema.field("default").forbid(why.as_str());
    }
    for name in FORBIDDEN {
        if schema.field(name).value().is_some_and(is_set) {
            schema.field(name).forbid(format!("{name} is not supported"));
        }
    }
    if items.value().is_some_and(Value::is_array) {
        items.forbid("items must be a schema object and not an array");
    }
    if inside.meta && embedded.bool() {
        embedded.forbid("must not be used inside of resource meta");
    }
    if schema.field("uniqueItems").bool() {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        schema.field("uniqueItems").forbid(why);
    }
}

/// `x-kubernetes-*`: lists and maps that apply tells apart.
fn extensions(schema: &Cursor<'_>) {
    if schema.field("x-kubernetes-preserve-unknown-fields").value() == Some(&Value::Bool(false)) {
        schema.field("x-kubernetes-preserve-unknown-fields").invalid("must be true or undefined");
    }
    let ty = schema.field("type");
    let must_be = |wanted: &str, of: &str| match ty.str() {
        is if is == wanted => {}
        "" => ty.missing(&format!("must be {wanted} if {of} is specified")),
        _ => ty.invalid(format!("must be {wanted} if {of} is specified")),
    };
    let map = schema.field("x-kubernetes-map-type");
    if map.exists() {
        must_be("object", "x-kubernetes-map-type");
        map.one_of(&["atomic", "granular"]);
    }
    let (list, keys, items) =
        (schema.field("x-kubernetes-list-type"), schema.field("x-kubernetes-list-map-keys"), schema.field("items"));
    if list.exists() {
        must_be("array", "x-kubernetes-list-type");
        list.one_of(&["atomic", "set", "map"]);
    }
    if !keys.is_empty() {
        match list.opt_str() {
            Some("map") => {}
            Some(_) => list.invalid("must be map if x-kubernetes-list-map-keys is non-empty"),
            None => list.missing("must be map if x-kubernetes-list-map-keys is non-empty"),
        }
    }
    match list.str() {
        "map" => {
            if keys.is_empty() {
                keys.missing("must not be empty if x-kubernetes-list-type is map");
            }
            match items.value() {
                None => items.missing("must have a schema if x-kubernetes-list-type is map"),
                Some(Value::Object(_)) if items.field("type").str() == "object" => map_keys(&keys, &items),
                Some(Value::Object(_)) => items.field("type").invalid_value(
                    items.field("type").str(),
                    "must be object if parent array's x-kubernetes-list-type is map",
                ),
                Some(_) => items.invalid("must only have a single schema if x-kubernetes-list-type is map"),
            }
        }
        "set" if ty.str() == "array" => {
            let inner = |name: &'static str| items.field(name);
            let (at, whole) = match inner("type").str() {
                "array" => ("x-kubernetes-list-type", matches!(inner("x-kubernetes-list-type").str(), "" | "atomic")),
                "object" => ("x-kubernetes-map-type", inner("x-kubernetes-map-type").str() == "atomic"),
                _ => ("", true),
            };
            if !whole {
                inner(at).invalid("must be atomic as item of a list with x-kubernetes-list-type=set");
            }
        }
        _ => {}
    }
    if matches!(list.str(), "map" | "set") && items.field("nullable").bool() {
        items.field("nullable").forbid(format!("cannot be nullable when x-kubernetes-list-type is {}", list.str()));
    }
}

/// The members that tell the items of a list apart: they are there, scalars, and never null.
fn map_keys(keys: &Cursor<'_>, items: &Cursor<'_>) {
    let mut seen = Vec::new();
    for key in keys.items() {
        if seen.contains(&key.str()) {
            keys.invalid("must not contain duplicate entries");
        }
        seen.push(key.str());
        let property = items.value().and_then(|i| i["properties"].get(key.str()));
        let at = Cursor::at(property, items.path().child("properties").key(key.str()), items.errors());
        if !at.exists() {
            keys.invalid("entries must all be names of item properties");
            continue;
        }
        if matches!(at.field("type").str(), "array" | "object") {
            at.field("type").invalid("must be a scalar type if parent array's x-kubernetes-list-type is map");
        }
        let is_required = items.field("required").array().iter().any(|r| r == key.str());
        if !is_required && !at.field("default").exists() {
            at.field("default").missing(
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            );
        }
        if at.field("nullable").bool() {
            at.field("nullable").forbid("this property is in x-kubernetes-list-map-keys, so it cannot be nullable");
        }
    }
}

/// `x-kubernetes-validations`, but for the expressions themselves.
fn rules(schema: &Cursor<'_>) {
    let list = schema.field("x-kubernetes-validations");
    if list.is_empty() {
        return;
    }
    let structural = Structural::read(schema.value().unwrap_or(&Value::Null));
    for rule in list.items() {
        let (text, message, reason, path) =
            (rule.field("rule"), rule.field("message"), rule.field("reason"), rule.field("fieldPath"));
        let line = message.str().trim();
        if text.str().trim().is_empty() {
            text.missing("rule is not specified");
        } else if !message.is_empty() && line.is_empty() {
            message.invalid("must be non-empty if specified");
        } else if line.contains(['\n', '\r']) {
            message.invalid("must not contain line breaks");
        } else if text.str().trim().contains(['\n', '\r']) && line.is_empty() {
            message.missing("message must be specified if rule contains line breaks");
        }
        let expression = rule.field("messageExpression");
        if !expression.is_empty() && expression.str().trim().is_empty() {
            expression.missing("messageExpression must be non-empty if specified");
        }
        if reason.opt_str().is_some_and(|reason| !REASONS.contains(&reason)) {
            reason.not_supported(&REASONS);
        }
        if !path.is_empty() {
            if path.str().trim().is_empty() {
                path.invalid("must be non-empty if specified");
            }
            if path.str().contains(['\n', '\r']) {
                path.invalid("must not contain line breaks");
            }
            if !definition::leads_somewhere(&structural, path.str()) {
                path.invalid("must be a valid path");
            }
        }
    }
}

/// Defaults must be values that the server would take: of the type, known to the schema, keeping its rules.
fn defaults(schema: &Cursor<'_>, structural: &Structural) {
    if let Some(default) = schema.field("default").value() {
        one_default(&schema.field("default"), default, structural);
    }
    for (name, property) in properties(schema) {
        if let Some(inner) = structural.properties.get(name) {
            defaults(&property, inner);
        }
    }
    if let Some(inner) = &structural.items {
        defaults(&schema.field("items"), inner);
    }
}

fn one_default(at: &Cursor<'_>, default: &Value, structural: &Structural) {
    let mut pruned = default.clone();
    let mut report = Report::default();
    structural.prune_value(&mut pruned, &mut report);
    if !report.unknown.is_empty() {
        at.invalid("must not have unknown fields");
    }
    let mut filled = default.clone();
    structural.fill_in(&mut filled);
    let errors = Errors::new();
    structural.judge_value(&Cursor::at(Some(&filled), at.path(), &errors));
    at.errors().extend(errors.into_vec());
}

/// Formats of strings in a schema that no value is held against: whoever wrote them would be surprised.
pub fn unrecognized_formats(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            let format = schema["format"].as_str().unwrap_or("");
            if schema["type"] == "string" && !format.is_empty() && !FORMATS.contains(&format.replace('-', "").as_str())
            {
                found.push(format.to_owned());
            }
            for (name, below) in members {
                match name.as_str() {
                    "properties" => {
                        below.as_object().into_iter().flatten().for_each(|(_, p)| unrecognized_formats(p, found))
                    }
                    "items" | "not" | "additionalProperties" | "allOf" | "anyOf" | "oneOf" => {
                        unrecognized_formats(below, found);
                    }
                    _ => {}
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| unrecognized_formats(item, found)),
        _ => {}
    }
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
        validate(&Cursor::root(&schema, &errors), false, true);
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
                "open": {"type": "object", "additionalProperties": true, "properties": {"x": {"type": "string"}}},
                "none": {"type": "object", "additionalProperties": false},
                "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                    "items": {"type": "object", "required": ["n"], "properties": {"n": {"type": "string"}}}},
                "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
            }, "oneOf": [{"required": ["a"]}, {"properties": {"a": {"minLength": 2}}}]},
        }});
        assert_eq!(problems(schema), [""; 0]);
    }

    #[test]
    fn formats_that_nothing_is_held_against_are_told() {
        let text = |format: &str| json!({"type": "string", "format": format});
        let schema = json!({"type": "object", "properties": {"a": text("date-time"), "b": text("ip"), "c": {"type": "integer",
            "format": "int32"}, "d": {"type": "array", "items": text("k8s-short-name")}, "e": {"additionalProperties": text("x")},
            "format": {"type": "object", "properties": {"format": {"type": "string"}}}}});
        let mut found = Vec::new();
        unrecognized_formats(&schema, &mut found);
        assert_eq!(found, ["ip", "x"]);
    }

    #[test]
    fn with_a_status_of_its_own_the_root_says_little() {
        let told = |schema: Value| {
            let errors = Errors::new();
            validate(&Cursor::root(&schema, &errors), true, true);
            errors.into_vec().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            told(json!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object"}}})),
            [""; 0]
        );
        let more = told(json!({"type": "object", "anyOf": [{"required": ["spec"]}]}));
        assert!(more.len() == 1 && more[0].contains("if the status subresource is enabled"), "{more:?}");
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
                of(json!({"type": "object", "additionalProperties": false, "properties": {"b": {"type": "string"}}})),
                "properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ),
            (
                of(json!({"type": "text", "default": 1})),
                "properties[a].default: Invalid value: \"integer\": properties[a].default in body must be of type",
            ),
            (
                of(json!({"type": "object", "x-kubernetes-validations": [{"rule": " "}]})),
                "properties[a].x-kubernetes-validations[0].rule: Required value: rule is not specified",
            ),
            (
                of(json!({"type": "object", "x-kubernetes-validations": [{"rule": "true", "message": "a\nb"}]})),
                "properties[a].x-kubernetes-validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks",
            ),
            (
                of(json!({"type": "object", "x-kubernetes-validations": [{"rule": "true", "reason": ""}]})),
                "properties[a].x-kubernetes-validations[0].reason: Unsupported value: \"\"",
            ),
            (
                of(json!({"type": "object", "x-kubernetes-validations": [{"rule": "true", "fieldPath": ".b"}]})),
                "properties[a].x-kubernetes-validations[0].fieldPath: Invalid value: \".b\": must be a valid path",
            ),
            (
                json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "default": "x"}}}}}),
                "properties[metadata].properties[name].default: Forbidden: must not be set in top-level metadata",
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
                json!({"type": "object", "oneOf": [{"properties": {"b": {"minLength": 1}}}]}),
                "properties[b]: Required value: because it is defined in oneOf[0].properties[b]",
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
