//! Messages of `openapi.v2`.

use super::As::*;
use super::Message::{self, *};
use apimachinery::Value;

pub static DOCUMENT: Message = Struct(
    &[
        ("swagger", 1, Text),
        ("info", 2, One(&INFO)),
        ("paths", 8, One(&PATHS)),
        ("definitions", 9, One(&SCHEMAS)),
        ("security", 12, Each(&SECURITY_REQUIREMENT)),
        ("securityDefinitions", 13, One(&SECURITY_DEFINITIONS)),
    ],
    16,
);

static INFO: Message = Struct(&[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)], 7);

static PATHS: Message = Map(2, &PATH_ITEM);

static PATH_ITEM: Message = Struct(
    &[
        ("get", 2, One(&OPERATION)),
        ("put", 3, One(&OPERATION)),
        ("post", 4, One(&OPERATION)),
        ("delete", 5, One(&OPERATION)),
        ("options", 6, One(&OPERATION)),
        ("head", 7, One(&OPERATION)),
        ("patch", 8, One(&OPERATION)),
        ("parameters", 9, Each(&PARAMETERS_ITEM)),
    ],
    10,
);

static OPERATION: Message = Struct(
    &[
        ("tags", 1, Texts),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Texts),
        ("consumes", 7, Texts),
        ("parameters", 8, Each(&PARAMETERS_ITEM)),
        ("responses", 9, One(&RESPONSES)),
        ("schemes", 10, Texts),
    ],
    13,
);

static PARAMETERS_ITEM: Message = OneOf(|_| Some((1, One(&PARAMETER))));

static PARAMETER: Message = OneOf(|parameter| match parameter["in"].as_str() {
    Some("body") => Some((1, One(&BODY_PARAMETER))),
    _ => Some((2, One(&NON_BODY_PARAMETER))),
});

static NON_BODY_PARAMETER: Message = OneOf(|parameter| match parameter["in"].as_str() {
    Some("path") => Some((4, One(&PATH_PARAMETER))),
    _ => Some((3, One(&QUERY_PARAMETER))),
});

static BODY_PARAMETER: Message = Struct(
    &[("description", 1, Text), ("name", 2, Text), ("in", 3, Text), ("required", 4, Bool), ("schema", 5, One(&SCHEMA))],
    6,
);

static QUERY_PARAMETER: Message = Struct(
    &[
        ("required", 1, Bool),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 6, Text),
        ("format", 7, Text),
        ("uniqueItems", 20, Bool),
    ],
    23,
);

static PATH_PARAMETER: Message = Struct(
    &[
        ("required", 1, Bool),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("uniqueItems", 19, Bool),
    ],
    22,
);

static RESPONSES: Message = Map(1, &RESPONSE_VALUE);
static RESPONSE_VALUE: Message = OneOf(|_| Some((1, One(&RESPONSE))));
static RESPONSE: Message = Struct(&[("description", 1, Text), ("schema", 2, One(&ONE_SCHEMA))], 5);

static SCHEMAS: Message = Map(1, &SCHEMA);
/// A schema inside a message that could hold something else.
static ONE_SCHEMA: Message = OneOf(|_| Some((1, One(&SCHEMA))));

static SCHEMA: Message = Struct(
    &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("multipleOf", 6, Double),
        ("maximum", 7, Double),
        ("exclusiveMaximum", 8, Bool),
        ("minimum", 9, Double),
        ("exclusiveMinimum", 10, Bool),
        ("maxLength", 11, Int),
        ("minLength", 12, Int),
        ("pattern", 13, Text),
        ("maxItems", 14, Int),
        ("minItems", 15, Int),
        ("uniqueItems", 16, Bool),
        ("maxProperties", 17, Int),
        ("minProperties", 18, Int),
        ("required", 19, Texts),
        ("enum", 20, Anys),
        ("additionalProperties", 21, One(&ADDITIONAL_PROPERTIES)),
        ("type", 22, One(&TYPE)),
        ("items", 23, One(&ONE_SCHEMA)),
        ("allOf", 24, Each(&SCHEMA)),
        ("properties", 25, One(&SCHEMAS)),
        ("readOnly", 27, Bool),
        ("example", 30, Any),
    ],
    31,
);

static ADDITIONAL_PROPERTIES: Message = OneOf(|value| match value {
    Value::Bool(_) => Some((2, Bool)),
    _ => Some((1, One(&SCHEMA))),
});

/// One type, or several.
static TYPE: Message = OneOf(|value| Some((1, if value.is_string() { Text } else { Texts })));

static SECURITY_DEFINITIONS: Message = Map(1, &SECURITY_DEFINITION);
static SECURITY_DEFINITION: Message = OneOf(|_| Some((2, One(&API_KEY))));
static API_KEY: Message = Struct(&[("type", 1, Text), ("name", 2, Text), ("in", 3, Text), ("description", 4, Text)], 5);
static SECURITY_REQUIREMENT: Message = Map(1, &STRINGS);
static STRINGS: Message = OneOf(|_| Some((1, Texts)));
