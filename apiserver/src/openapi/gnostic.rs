//! The OpenAPI 2 document as protobuf, in the messages of `gnostic`'s `openapi.v2` package. (OpenAPIv2.proto of google/gnostic.)
//! Which member of which object has which number is a table; one function walks the document by it.

use apimachinery::Value;
use apimachinery::codec::wire::{put_bytes, put_double, put_int, put_message};

/// Messages, as far as our documents use them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Message {
    Document,
    Info,
    PathItem,
    Operation,
    BodyParameter,
    QueryParameter,
    PathParameter,
    Response,
    Schema,
    ApiKeySecurity,
}

/// How a member is written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum As {
    Text,
    Texts,
    Bool,
    Int,
    Double,
    /// YAML text in a message of its own.
    Any,
    Anys,
    One(Message),
    /// Names and values of an object, under a field of a message that holds nothing else.
    Named(u32, Message),
    /// A list of parameters, each of its kind.
    Parameters,
    Responses,
    /// A schema inside a message that could hold something else.
    SchemaItem,
    /// A list of schemas.
    Schemas,
    Items,
    AdditionalProperties,
    Type,
    SecurityDefinitions,
    Security,
}

/// Members of a message: JSON name, number, form. A member that is not here is a vendor extension if it starts with `x-`.
type Members = &'static [(&'static str, u32, As)];

impl Message {
    /// Its members, and the number of its vendor extensions.
    fn members(self) -> (Members, u32) {
        use As::*;
        match self {
            Message::Document => (
                &[
                    ("swagger", 1, Text),
                    ("info", 2, One(Message::Info)),
                    ("paths", 8, Named(2, Message::PathItem)),
                    ("definitions", 9, Named(1, Message::Schema)),
                    ("security", 12, Security),
                    ("securityDefinitions", 13, SecurityDefinitions),
                ],
                16,
            ),
            Message::Info => (&[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)], 7),
            Message::PathItem => (
                &[
                    ("get", 2, One(Message::Operation)),
                    ("put", 3, One(Message::Operation)),
                    ("post", 4, One(Message::Operation)),
                    ("delete", 5, One(Message::Operation)),
                    ("options", 6, One(Message::Operation)),
                    ("head", 7, One(Message::Operation)),
                    ("patch", 8, One(Message::Operation)),
                    ("parameters", 9, Parameters),
                ],
                10,
            ),
            Message::Operation => (
                &[
                    ("tags", 1, Texts),
                    ("description", 3, Text),
                    ("operationId", 5, Text),
                    ("produces", 6, Texts),
                    ("consumes", 7, Texts),
                    ("parameters", 8, Parameters),
                    ("responses", 9, Responses),
                    ("schemes", 10, Texts),
                ],
                13,
            ),
            Message::BodyParameter => (
                &[
                    ("description", 1, Text),
                    ("name", 2, Text),
                    ("in", 3, Text),
                    ("required", 4, Bool),
                    ("schema", 5, One(Message::Schema)),
                ],
                6,
            ),
            Message::QueryParameter => (
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
            ),
            Message::PathParameter => (
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
            ),
            Message::Response => (&[("description", 1, Text), ("schema", 2, SchemaItem)], 5),
            Message::Schema => (
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
                    ("additionalProperties", 21, AdditionalProperties),
                    ("type", 22, Type),
                    ("items", 23, Items),
                    ("allOf", 24, Schemas),
                    ("properties", 25, Named(1, Message::Schema)),
                    ("readOnly", 27, Bool),
                    ("example", 30, Any),
                ],
                31,
            ),
            Message::ApiKeySecurity => {
                (&[("type", 1, Text), ("name", 2, Text), ("in", 3, Text), ("description", 4, Text)], 5)
            }
        }
    }
}

/// An OpenAPI 2 document as a message.
pub fn document(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, Message::Document, document);
    out
}

fn put(out: &mut Vec<u8>, message: Message, value: &Value) {
    let (members, extensions) = message.members();
    for (name, number, form) in members {
        if let Some(member) = value.get(name) {
            put_member(out, *number, *form, member);
        }
    }
    for (name, extension) in value.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-")) {
        put_message(out, extensions, |named| {
            put_bytes(named, 1, name.as_bytes());
            put_any(named, 2, extension);
        });
    }
}

fn put_member(out: &mut Vec<u8>, number: u32, form: As, value: &Value) {
    let items = || value.as_array().into_iter().flatten();
    let entries = || value.as_object().into_iter().flatten();
    let texts = |out: &mut Vec<u8>, number: u32| {
        for text in items().filter_map(Value::as_str) {
            put_bytes(out, number, text.as_bytes());
        }
    };
    match form {
        As::Text => put_bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
        As::Texts => texts(out, number),
        As::Bool => put_int(out, number, i64::from(value == true)),
        As::Int => put_int(out, number, value.as_i64().unwrap_or_default()),
        As::Double => put_double(out, number, value.as_f64().unwrap_or_default()),
        As::Any => put_any(out, number, value),
        As::Anys => items().for_each(|item| put_any(out, number, item)),
        As::One(message) => put_message(out, number, |out| put(out, message, value)),
        As::Named(inner, message) => put_message(out, number, |out| {
            for (name, value) in entries() {
                put_message(out, inner, |named| {
                    put_bytes(named, 1, name.as_bytes());
                    put_message(named, 2, |out| put(out, message, value));
                });
            }
        }),
        As::Parameters => items().for_each(|item| put_message(out, number, |out| put_parameter(out, item))),
        As::Responses => put_message(out, number, |out| {
            for (code, response) in entries() {
                put_message(out, 1, |named| {
                    put_bytes(named, 1, code.as_bytes());
                    put_message(named, 2, |value| put_message(value, 1, |out| put(out, Message::Response, response)));
                });
            }
        }),
        As::SchemaItem => {
            put_message(out, number, |item| put_message(item, 1, |out| put(out, Message::Schema, value)));
        }
        As::Schemas => items().for_each(|item| put_message(out, number, |out| put(out, Message::Schema, item))),
        As::Items => put_message(out, number, |list| put_message(list, 1, |out| put(out, Message::Schema, value))),
        As::AdditionalProperties => put_message(out, number, |item| match value {
            Value::Bool(any) => put_int(item, 2, i64::from(*any)),
            schema => put_message(item, 1, |out| put(out, Message::Schema, schema)),
        }),
        As::Type => put_message(out, number, |out| match value.as_str() {
            Some(one) => put_bytes(out, 1, one.as_bytes()),
            None => texts(out, 1),
        }),
        As::SecurityDefinitions => put_message(out, number, |out| {
            for (name, definition) in entries() {
                put_message(out, 1, |named| {
                    put_bytes(named, 1, name.as_bytes());
                    put_message(named, 2, |item| {
                        put_message(item, 2, |out| put(out, Message::ApiKeySecurity, definition))
                    });
                });
            }
        }),
        As::Security => {
            for name in items().filter_map(Value::as_object).flat_map(|requirement| requirement.keys()) {
                put_message(out, number, |out| {
                    put_message(out, 1, |named| {
                        put_bytes(named, 1, name.as_bytes());
                        put_bytes(named, 2, b""); // a list without items
                    });
                });
            }
        }
    }
}

/// A `ParametersItem`: a parameter of the body, of the path or of the query.
fn put_parameter(out: &mut Vec<u8>, parameter: &Value) {
    put_message(out, 1, |out| match parameter["in"].as_str() {
        Some("body") => put_message(out, 1, |out| put(out, Message::BodyParameter, parameter)),
        Some("path") => {
            put_message(out, 2, |other| put_message(other, 4, |out| put(out, Message::PathParameter, parameter)));
        }
        _ => put_message(out, 2, |other| put_message(other, 3, |out| put(out, Message::QueryParameter, parameter))),
    });
}

/// Any value, as YAML text. JSON is YAML.
fn put_any(out: &mut Vec<u8>, number: u32, value: &Value) {
    let mut text = value.to_string();
    text.push('\n');
    put_message(out, number, |any| put_bytes(any, 2, text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::codec::wire::{Raw, Reader};
    use serde_json::json;

    /// The bytes of the fields `path` leads through, the first of each number.
    fn dig<'a>(mut bytes: &'a [u8], path: &[u32]) -> Option<&'a [u8]> {
        for wanted in path {
            let mut reader = Reader(bytes);
            bytes = loop {
                match reader.field().unwrap()? {
                    (number, Raw::Bytes(inner)) if number == *wanted => break inner,
                    _ => {}
                }
            };
        }
        Some(bytes)
    }

    #[test]
    fn members_stand_where_gnostic_looks_for_them() {
        let bytes = document(&json!({
            "swagger": "2.0",
            "paths": {"/api": {"get": {"operationId": "read", "parameters": [{"name": "q", "in": "query", "type": "string"}],
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/A"}}}}}},
            "definitions": {"A": {"type": "object", "properties": {"b": {"type": "array", "items": {"type": "string"}}},
                "x-kubernetes-group-version-kind": [{"kind": "A"}]}},
        }));
        let text = |path: &[u32]| dig(&bytes, path).map(|b| std::str::from_utf8(b).unwrap());
        assert_eq!(text(&[1]), Some("2.0"));
        assert_eq!(text(&[8, 2, 1]), Some("/api"));
        assert_eq!(text(&[8, 2, 2, 2, 5]), Some("read"));
        assert_eq!(text(&[8, 2, 2, 2, 8, 1, 2, 3, 4]), Some("q"));
        assert_eq!(text(&[8, 2, 2, 2, 9, 1, 2, 1, 2, 1, 1]), Some("#/definitions/A"));
        assert_eq!(text(&[9, 1, 1]), Some("A"));
        assert_eq!(text(&[9, 1, 2, 22, 1]), Some("object"));
        assert_eq!(text(&[9, 1, 2, 25, 1, 1]), Some("b"));
        assert_eq!(text(&[9, 1, 2, 25, 1, 2, 23, 1, 22, 1]), Some("string"));
        assert_eq!(text(&[9, 1, 2, 31, 1]), Some("x-kubernetes-group-version-kind"));
        assert_eq!(text(&[9, 1, 2, 31, 2, 2]), Some("[{\"kind\":\"A\"}]\n"));
    }
}
