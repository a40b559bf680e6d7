//! Messages of `openapi.v3`.

use super::As::*;
use super::Message::{self, *};
use apimachinery::Value;

pub static DOCUMENT: Message = Struct(
    &[("openapi", 1, Text), ("info", 2, One(&INFO)), ("paths", 4, One(&PATHS)), ("components", 5, One(&COMPONENTS))],
    9,
);

static INFO: Message = Struct(&[("title", 1, Text), ("description", 2, Text), ("version", 6, Text)], 7);

static COMPONENTS: Message =
    Struct(&[("schemas", 1, One(&SCHEMAS)), ("securitySchemes", 7, One(&SECURITY_SCHEMES))], 10);

static PATHS: Message = Map(1, &PATH_ITEM);

static PATH_ITEM: Message = Struct(
    &[
        ("summary", 2, Text),
        ("description", 3, Text),
        ("get", 4, One(&OPERATION)),
        ("put", 5, One(&OPERATION)),
        ("post", 6, One(&OPERATION)),
        ("delete", 7, One(&OPERATION)),
        ("options", 8, One(&OPERATION)),
        ("head", 9, One(&OPERATION)),
        ("patch", 10, One(&OPERATION)),
        ("parameters", 13, Each(&PARAMETER_OR_REFERENCE)),
    ],
    14,
);

static OPERATION: Message = Struct(
    &[
        ("tags", 1, Texts),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("parameters", 6, Each(&PARAMETER_OR_REFERENCE)),
        ("requestBody", 7, One(&BODY_OR_REFERENCE)),
        ("responses", 8, One(&RESPONSES)),
    ],
    13,
);

static PARAMETER_OR_REFERENCE: Message = OneOf(|_| Some((1, One(&PARAMETER))));

static PARAMETER: Message = Struct(
    &[
        ("name", 1, Text),
        ("in", 2, Text),
        ("description", 3, Text),
        ("required", 4, Bool),
        ("schema", 10, One(&SCHEMA_OR_REFERENCE)),
    ],
    14,
);

static BODY_OR_REFERENCE: Message = OneOf(|_| Some((1, One(&BODY))));
static BODY: Message = Struct(&[("description", 1, Text), ("content", 2, One(&MEDIA_TYPES)), ("required", 3, Bool)], 4);

/// Statuses only; a `default` response would have a number of its own.
static RESPONSES: Message = Map(2, &RESPONSE_OR_REFERENCE);
static RESPONSE_OR_REFERENCE: Message = OneOf(|_| Some((1, One(&RESPONSE))));
static RESPONSE: Message = Struct(&[("description", 1, Text), ("content", 3, One(&MEDIA_TYPES))], 5);

static MEDIA_TYPES: Message = Map(1, &MEDIA_TYPE);
static MEDIA_TYPE: Message = Struct(&[("schema", 1, One(&SCHEMA_OR_REFERENCE))], 5);

static SCHEMAS: Message = Map(1, &SCHEMA_OR_REFERENCE);

static SCHEMA_OR_REFERENCE: Message =
    OneOf(|schema| Some(if schema.get("$ref").is_some() { (2, One(&REFERENCE)) } else { (1, One(&SCHEMA)) }));

static REFERENCE: Message = Struct(&[("$ref", 1, Text)], 0);

static SCHEMA: Message = Struct(
    &[
        ("nullable", 1, Bool),
        ("readOnly", 3, Bool),
        ("writeOnly", 4, Bool),
        ("externalDocs", 6, One(&EXTERNAL_DOCS)),
        ("example", 7, Any),
        ("deprecated", 8, Bool),
        ("title", 9, Text),
        ("multipleOf", 10, Double),
        ("maximum", 11, Double),
        ("exclusiveMaximum", 12, Bool),
        ("minimum", 13, Double),
        ("exclusiveMinimum", 14, Bool),
        ("maxLength", 15, Int),
        ("minLength", 16, Int),
        ("pattern", 17, Text),
        ("maxItems", 18, Int),
        ("minItems", 19, Int),
        ("uniqueItems", 20, Bool),
        ("maxProperties", 21, Int),
        ("minProperties", 22, Int),
        ("required", 23, Texts),
        ("enum", 24, Anys),
        ("type", 25, Text),
        ("allOf", 26, Each(&SCHEMA_OR_REFERENCE)),
        ("oneOf", 27, Each(&SCHEMA_OR_REFERENCE)),
        ("anyOf", 28, Each(&SCHEMA_OR_REFERENCE)),
        ("not", 29, One(&SCHEMA)),
        ("items", 30, One(&ITEMS)),
        ("properties", 31, One(&SCHEMAS)),
        ("additionalProperties", 32, One(&ADDITIONAL_PROPERTIES)),
        ("default", 33, One(&DEFAULT)),
        ("description", 34, Text),
        ("format", 35, Text),
    ],
    36,
);

static EXTERNAL_DOCS: Message = Struct(&[("description", 1, Text), ("url", 2, Text)], 3);

static ITEMS: Message = OneOf(|_| Some((1, One(&SCHEMA_OR_REFERENCE))));

static ADDITIONAL_PROPERTIES: Message = OneOf(|value| match value {
    Value::Bool(_) => Some((2, Bool)),
    _ => Some((1, One(&SCHEMA_OR_REFERENCE))),
});

/// Only scalars have a form here; a default that is an object or a list is there but empty, upstream's too.
static DEFAULT: Message = OneOf(|value| match value {
    Value::Number(_) => Some((1, Double)),
    Value::Bool(_) => Some((2, Bool)),
    Value::String(_) => Some((3, Text)),
    _ => None,
});

static SECURITY_SCHEMES: Message = Map(1, &SECURITY_SCHEME_OR_REFERENCE);
static SECURITY_SCHEME_OR_REFERENCE: Message = OneOf(|_| Some((1, One(&SECURITY_SCHEME))));
static SECURITY_SCHEME: Message =
    Struct(&[("type", 1, Text), ("description", 2, Text), ("name", 3, Text), ("in", 4, Text)], 9);
