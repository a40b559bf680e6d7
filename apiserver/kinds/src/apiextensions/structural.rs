//! Whether a schema is structural (KEP-1160): it says the type of every place once, in its body; `allOf`, `anyOf`, `oneOf` and `not`
//! only add rules on values of places that the body names.

use super::schema::{DEPTH_MAX, JUNCTORS, is_set, properties};
use apimachinery::schema::go_regex;
use apimachinery::validation::Cursor;
use serde_json::json;

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Property,
    Items,
}

/// Members that belong into the body of a structural schema only.
const BODY_ONLY: &[&str] = &[
    "type",
    "default",
    "title",
    "description",
    "nullable",
    "additionalProperties",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
];

/// Checks an `openAPIV3Schema` that holds nothing of [`super::schema::FORBIDDEN`].
pub fn validate(schema: &Cursor<'_>) {
    body(schema, Place::Root, 0);
    completeness(schema, schema, 0);
}

fn body(schema: &Cursor<'_>, place: Place, depth: usize) {
    if depth > DEPTH_MAX {
        return; // said by the rules of OpenAPI
    }
    let flag = |name: &str| schema.field(name).bool();
    let (ty, items, additional) = (schema.field("type"), schema.field("items"), schema.field("additionalProperties"));
    if items.exists() {
        body(&items, Place::Items, depth + 1);
    } else if ty.str() == "array" {
        items.missing("must be specified");
    }
    for (_, property) in properties(schema) {
        body(&property, Place::Property, depth + 1);
    }
    if additional.exists() && place == Place::Root {
        additional.forbid("must not be used at the root");
    }
    if additional.object().is_some() {
        body(&additional, Place::Property, depth + 1);
    }
    let (int_or_string, preserve) = (flag("x-kubernetes-int-or-string"), flag("x-kubernetes-preserve-unknown-fields"));
    let embedded = flag("x-kubernetes-embedded-resource");
    for name in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if int_or_string && flag(name) {
            schema.field(name).invalid("must be false if x-kubernetes-int-or-string is true");
        }
    }
    values(schema, depth);
    match (ty.str(), place) {
        ("object", _) if embedded => {}
        ("", _) if embedded => ty.missing("must be object if x-kubernetes-embedded-resource is true"),
        _ if embedded => ty.invalid("must be object if x-kubernetes-embedded-resource is true"),
        ("", _) if int_or_string || preserve => {}
        ("", Place::Root) => ty.missing("must not be empty at the root"),
        ("", Place::Property) => ty.missing("must not be empty for specified object fields"),
        ("", Place::Items) => ty.missing("must not be empty for specified array items"),
        _ => {}
    }
    if embedded && additional.exists() {
        additional.forbid("must not be used if x-kubernetes-embedded-resource is set");
    }
    if place == Place::Root && !matches!(ty.str(), "" | "object") {
        ty.invalid("must be object at the root");
    }
    if place == Place::Root || embedded {
        type_and_object_meta(schema, place);
    }
    if embedded && !preserve && schema.field("properties").is_empty() {
        let why =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        schema.field("properties").missing(why);
    }
}

/// All objects have the same `apiVersion`, `kind` and metadata; a definition may restrict names.
fn type_and_object_meta(schema: &Cursor<'_>, place: Place) {
    for (name, property) in properties(schema) {
        let ty = property.field("type");
        match name {
            "apiVersion" | "kind" if ty.str() != "string" => ty.invalid_value(ty.str(), "must be string"),
            "metadata" => {
                if ty.str() != "object" {
                    ty.invalid_value(ty.str(), "must be object");
                }
                let named = properties(&property).all(|(name, _)| matches!(name, "name" | "generateName"));
                let members = property.object().into_iter().flatten();
                let others = members.filter(|(name, value)| {
                    !matches!(name.as_str(), "type" | "properties" | "default") && is_set(value)
                });
                if place == Place::Root && (!named || others.count() > 0) {
                    property.forbid(
                        "must not specify anything other than name and generateName, but metadata is implicitly specified",
                    );
                }
            }
            _ => {}
        }
    }
}

/// Rules on values, in a body or in a junctor.
fn values(schema: &Cursor<'_>, depth: usize) {
    // The one type that may stand in a junctor: that an integer or a string may stand here.
    let int_or_string = json!([{"type": "integer"}, {"type": "string"}]);
    let says = |at: &Cursor<'_>| at.field("anyOf").value() == Some(&int_or_string);
    for name in JUNCTORS {
        if name == "anyOf" && says(schema) {
            continue;
        }
        for (i, branch) in schema.field(name).items().enumerate() {
            junctor(&branch, name == "allOf" && i == 0 && says(&branch), depth + 1);
        }
    }
    if schema.field("not").exists() {
        junctor(&schema.field("not"), false, depth + 1);
    }
    let pattern = schema.field("pattern");
    if !pattern.is_empty()
        && let Err(e) = go_regex::compile(pattern.str())
    {
        pattern.invalid(format!("must be a valid regular expression, but isn't: {e}"));
    }
}

/// A schema inside a junctor.
fn junctor(schema: &Cursor<'_>, says_int_or_string: bool, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    if says_int_or_string {
        // Its `anyOf` may name types; nothing else in it is special.
        let mut rest = schema.value().cloned().unwrap_or_default();
        rest.as_object_mut().map(|members| members.remove("anyOf"));
        values(&Cursor::at(Some(&rest), schema.path(), schema.errors()), depth);
    } else {
        values(schema, depth);
    }
    if schema.field("items").exists() {
        junctor(&schema.field("items"), false, depth + 1);
    }
    for (name, property) in properties(schema) {
        junctor(&property, false, depth + 1);
        if name == "metadata" {
            // It could restrict what the server itself sets.
            property.forbid("must not be specified in a nested context");
        }
    }
    for name in BODY_ONLY {
        let is_set = schema.object().and_then(|members| members.get(*name)).is_some_and(is_set);
        if is_set || *name == "additionalProperties" && schema.field(name).exists() {
            schema.field(name).forbid("must be empty to be structural");
        }
    }
}

/// Every place that a junctor of the root names must stand in the body, or its type is unknown. Of junctors further down upstream does not
/// ask it.
fn completeness(rules: &Cursor<'_>, place: &Cursor<'_>, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    let branches = JUNCTORS.iter().flat_map(|name| rules.field(name).items());
    for branch in branches.chain(Some(rules.field("not")).filter(Cursor::exists)) {
        nested_completeness(&branch, place, depth + 1);
    }
}

fn nested_completeness(rules: &Cursor<'_>, place: &Cursor<'_>, depth: usize) {
    if !place.exists() {
        return place.missing(&format!("because it is defined in {}", rules.path()));
    }
    completeness(rules, place, depth);
    if rules.field("items").exists() {
        nested_completeness(&rules.field("items"), &place.field("items"), depth + 1);
    }
    for (name, property) in properties(rules) {
        let named = place.value().and_then(|body| body["properties"].get(name));
        let named = Cursor::at(named, place.path().child("properties").key(name), place.errors());
        nested_completeness(&property, &named, depth + 1);
    }
}
