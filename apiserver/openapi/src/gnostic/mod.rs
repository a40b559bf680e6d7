//! OpenAPI documents as protobuf, in the messages of `gnostic`: packages `openapi.v2` and `openapi.v3`. (OpenAPIv2.proto and
//! OpenAPIv3.proto of google/gnostic.) Which member of which object has which number is a table, one for each version; one
//! function walks documents by either. The tables name what our documents use.

mod v2;
mod v3;

use apimachinery::Value;
use apimachinery::codec::wire::{put_bytes, put_double, put_int, put_message};

/// An OpenAPI 2 document as a message.
pub fn v2(document: &Value) -> Vec<u8> {
    whole(&v2::DOCUMENT, document)
}

/// An OpenAPI 3 document as a message.
pub fn v3(document: &Value) -> Vec<u8> {
    whole(&v3::DOCUMENT, document)
}

fn whole(message: &'static Message, document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, message, document);
    out
}

/// How a value is written as a message.
enum Message {
    /// An object of known members: JSON name, number, form. Vendor extensions (`x-…`) stand under a number of their own.
    Struct(&'static [(&'static str, u32, As)], u32),
    /// An object of any members: a list of names and values under the number.
    Map(u32, &'static Message),
    /// A message of which one field is set; which one, and how, the value tells. None leaves it empty.
    OneOf(fn(&Value) -> Option<(u32, As)>),
}

/// How a value is written as a field.
#[derive(Clone, Copy)]
enum As {
    Text,
    Texts,
    Bool,
    Int,
    Double,
    /// YAML text in a message of its own.
    Any,
    Anys,
    One(&'static Message),
    /// A list of messages.
    Each(&'static Message),
}

fn put(out: &mut Vec<u8>, message: &'static Message, value: &Value) {
    match message {
        Message::Struct(members, extensions) => {
            for (name, number, form) in *members {
                if let Some(member) = value.get(name) {
                    put_member(out, *number, *form, member);
                }
            }
            for (name, extension) in value.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-"))
            {
                put_message(out, *extensions, |named| {
                    put_bytes(named, 1, name.as_bytes());
                    put_any(named, 2, extension);
                });
            }
        }
        Message::Map(number, of) => {
            for (name, value) in value.as_object().into_iter().flatten() {
                put_message(out, *number, |named| {
                    put_bytes(named, 1, name.as_bytes());
                    put_message(named, 2, |out| put(out, of, value));
                });
            }
        }
        Message::OneOf(choice) => {
            if let Some((number, form)) = choice(value) {
                put_member(out, number, form, value);
            }
        }
    }
}

fn put_member(out: &mut Vec<u8>, number: u32, form: As, value: &Value) {
    let items = || value.as_array().into_iter().flatten();
    match form {
        As::Text => put_bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
        As::Texts => items().filter_map(Value::as_str).for_each(|text| put_bytes(out, number, text.as_bytes())),
        As::Bool => put_int(out, number, i64::from(value == true)),
        As::Int => put_int(out, number, value.as_i64().unwrap_or_default()),
        As::Double => put_double(out, number, value.as_f64().unwrap_or_default()),
        As::Any => put_any(out, number, value),
        As::Anys => items().for_each(|item| put_any(out, number, item)),
        As::One(message) => put_message(out, number, |out| put(out, message, value)),
        As::Each(message) => items().for_each(|item| put_message(out, number, |out| put(out, message, item))),
    }
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
    use serde_json::{Map, json};

    /// The bytes of the fields `path` leads through, the first of each number.
    fn dig<'a>(mut bytes: &'a [u8], path: &[u32]) -> Option<&'a [u8]> {
        for wanted in path {
            bytes = fields(bytes).into_iter().find_map(|(number, raw)| match raw {
                Raw::Bytes(inner) if number == *wanted => Some(inner),
                _ => None,
            })?;
        }
        Some(bytes)
    }

    fn fields(bytes: &[u8]) -> Vec<(u32, Raw<'_>)> {
        let mut reader = Reader(bytes);
        std::iter::from_fn(|| reader.field().unwrap()).collect()
    }

    #[test]
    fn members_stand_where_gnostic_looks_for_them() {
        let schema = json!({"type": "object", "properties": {"b": {"type": "array", "items": {"type": "string"}}},
            "x-kubernetes-group-version-kind": [{"kind": "A"}]});
        let v2 = v2(&json!({
            "swagger": "2.0",
            "paths": {"/api": {"get": {"operationId": "read", "parameters": [{"name": "q", "in": "query", "type": "string"}],
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/A"}}}}}},
            "definitions": {"A": schema},
        }));
        let v3 = v3(&json!({
            "openapi": "3.0.0",
            "paths": {"/api": {"get": {"operationId": "read",
                "parameters": [{"name": "q", "in": "query", "schema": {"type": "string"}}],
                "requestBody": {"required": true, "content": {"*/*": {"schema": {"$ref": "#/components/schemas/A"}}}},
                "responses": {"200": {"description": "OK", "content": {"*/*": {"schema": {"$ref": "#/components/schemas/A"}}}}}}}},
            "components": {"schemas": {"A": schema}, "securitySchemes": {"BearerToken": {"type": "apiKey"}}},
        }));
        let cases: [(&[u8], &[u32], &str); 26] = [
            (&v2, &[1], "2.0"),
            (&v2, &[8, 2, 1], "/api"),
            (&v2, &[8, 2, 2, 2, 5], "read"),
            (&v2, &[8, 2, 2, 2, 8, 1, 2, 3, 4], "q"),
            (&v2, &[8, 2, 2, 2, 9, 1, 2, 1, 2, 1, 1], "#/definitions/A"),
            (&v2, &[9, 1, 1], "A"),
            (&v2, &[9, 1, 2, 22, 1], "object"),
            (&v2, &[9, 1, 2, 25, 1, 1], "b"),
            (&v2, &[9, 1, 2, 25, 1, 2, 23, 1, 22, 1], "string"),
            (&v2, &[9, 1, 2, 31, 1], "x-kubernetes-group-version-kind"),
            (&v2, &[9, 1, 2, 31, 2, 2], "[{\"kind\":\"A\"}]\n"),
            (&v3, &[1], "3.0.0"),
            (&v3, &[4, 1, 1], "/api"),
            (&v3, &[4, 1, 2, 4, 5], "read"),
            (&v3, &[4, 1, 2, 4, 6, 1, 1], "q"),
            (&v3, &[4, 1, 2, 4, 6, 1, 10, 1, 25], "string"),
            (&v3, &[4, 1, 2, 4, 7, 1, 2, 1, 1], "*/*"),
            (&v3, &[4, 1, 2, 4, 7, 1, 2, 1, 2, 1, 2, 1], "#/components/schemas/A"),
            (&v3, &[4, 1, 2, 4, 8, 2, 1], "200"),
            (&v3, &[4, 1, 2, 4, 8, 2, 2, 1, 3, 1, 2, 1, 2, 1], "#/components/schemas/A"),
            (&v3, &[5, 1, 1, 1], "A"),
            (&v3, &[5, 1, 1, 2, 1, 25], "object"),
            (&v3, &[5, 1, 1, 2, 1, 31, 1, 1], "b"),
            (&v3, &[5, 1, 1, 2, 1, 31, 1, 2, 1, 30, 1, 1, 25], "string"),
            (&v3, &[5, 1, 1, 2, 1, 36, 2, 2], "[{\"kind\":\"A\"}]\n"),
            (&v3, &[5, 7, 1, 2, 1, 1], "apiKey"),
        ];
        for (bytes, path, text) in cases {
            assert_eq!(dig(bytes, path).map(|b| std::str::from_utf8(b).unwrap()), Some(text), "{path:?}");
        }
    }

    /// A message read back by the table; what is not in the table would be missing.
    fn get(message: &'static Message, bytes: &[u8], like: &Value) -> Value {
        let any = |bytes: &[u8]| serde_json::from_slice(dig(bytes, &[2]).unwrap()).unwrap();
        let text = |bytes: &[u8]| Value::from(std::str::from_utf8(bytes).unwrap());
        let member = |form: As, raws: Vec<Raw<'_>>, like: &Value| -> Value {
            let mut each = raws.iter().enumerate().map(|(i, raw)| match (form, *raw) {
                (As::Text | As::Texts, Raw::Bytes(bytes)) => text(bytes),
                (As::Bool, Raw::Varint(value)) => (value == 1).into(),
                (As::Int, Raw::Varint(value)) => value.into(),
                (As::Double, Raw::Fixed64(bits)) if like.is_i64() || like.is_u64() => {
                    (f64::from_bits(bits) as i64).into()
                }
                (As::Double, Raw::Fixed64(bits)) => f64::from_bits(bits).into(),
                (As::Any | As::Anys, Raw::Bytes(bytes)) => any(bytes),
                (As::One(message), Raw::Bytes(bytes)) => get(message, bytes, like),
                (As::Each(message), Raw::Bytes(bytes)) => get(message, bytes, &like[i]),
                _ => panic!("{raw:?} where {like} should be"),
            });
            match form {
                As::Texts | As::Anys | As::Each(_) => each.collect(),
                _ => each.next_back().unwrap(),
            }
        };
        match message {
            Message::Struct(members, extensions) => {
                let mut object = Map::new();
                for (name, number, form) in *members {
                    let raws: Vec<_> =
                        fields(bytes).into_iter().filter(|(n, _)| n == number).map(|(_, raw)| raw).collect();
                    if !raws.is_empty() {
                        object.insert(name.to_string(), member(*form, raws, &like[*name]));
                    }
                }
                for (_, raw) in fields(bytes).into_iter().filter(|(n, _)| n == extensions) {
                    let named = raw.bytes(*extensions).unwrap();
                    let name = std::str::from_utf8(dig(named, &[1]).unwrap()).unwrap().to_owned();
                    object.insert(name, any(dig(named, &[2]).unwrap()));
                }
                object.into()
            }
            Message::Map(number, of) => {
                let entries = fields(bytes).into_iter().map(|(n, raw)| {
                    assert_eq!(n, *number);
                    let named = raw.bytes(n).unwrap();
                    let name = std::str::from_utf8(dig(named, &[1]).unwrap()).unwrap();
                    (name.to_owned(), get(of, dig(named, &[2]).unwrap(), &like[name]))
                });
                Value::Object(entries.collect())
            }
            Message::OneOf(choice) => match choice(like) {
                Some((number, form)) => {
                    let all = fields(bytes);
                    assert!(all.iter().all(|(n, _)| *n == number), "{like}");
                    member(form, all.into_iter().map(|(_, raw)| raw).collect(), like)
                }
                None => json!({}),
            },
        }
    }

    #[test]
    fn nothing_of_the_documents_is_lost() {
        let (served, texts) = (crate::tests::everything(), api_documentation::Texts::inflate());
        let documentation = texts.index();
        for path in crate::v3::paths(&served) {
            let document = crate::v3::document(&served, &path, &documentation);
            assert_eq!(get(&v3::DOCUMENT, &super::v3(&document), &document), document, "{path}");
        }
        let document = crate::v2::document(&served, &documentation);
        assert_eq!(get(&v2::DOCUMENT, &super::v2(&document), &document), document);
    }
}
