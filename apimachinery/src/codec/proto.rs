//! Objects as protobuf messages, both ways, driven by the schema.
//!
//! Upstream's generated code writes every member that is no pointer, zero or not, and the reader cannot tell a zero from an
//! absence; the normal form decides what is shown, so a decoded message is normalized like any other input.

use super::timestamp::{from_unix, from_unix_micro, to_unix};
use super::wire::{Raw, Reader, WireError, put_bytes, put_double, put_int, put_message};
use super::{MAX_DEPTH, envelope};
use crate::schema::{Field, Schema, Shape, TypeId};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

/// Decodes a message of type `id`. The tree is not normalized yet.
pub fn decode(schema: &Schema, id: TypeId, bytes: &[u8]) -> Result<Value, WireError> {
    let mut members = Map::new();
    decode_into(schema, id, bytes, &mut members, 0)?;
    Ok(Value::Object(members))
}

/// Appends `value`, in normal form, as a message of type `id`.
pub fn encode(schema: &Schema, id: TypeId, value: &Value, out: &mut Vec<u8>) {
    let empty = Map::new();
    encode_struct(schema, id, value.as_object().unwrap_or(&empty), out);
}

fn decode_into(
    schema: &Schema,
    id: TypeId,
    bytes: &[u8],
    members: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), WireError> {
    if depth > MAX_DEPTH {
        return Err(WireError::Depth);
    }
    let ty = schema.get(id);
    let mut reader = Reader(bytes);
    while let Some((number, raw)) = reader.field()? {
        let Some(field) = schema.numbered(ty, number) else { continue };
        if field.inline {
            if let Shape::Struct(inner) = field.shape {
                decode_into(schema, inner, raw.bytes(number)?, members, depth + 1)?;
            }
            continue;
        }
        match &field.shape {
            Shape::List(shape) => {
                let items = members.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(items) = items else { continue };
                match (&**shape, raw) {
                    // Packed scalars: upstream does not write them, other writers may.
                    (Shape::Int32 | Shape::Int64, Raw::Bytes(packed)) => {
                        let mut reader = Reader(packed);
                        while !reader.0.is_empty() {
                            items.push((reader.varint()? as i64).into());
                        }
                    }
                    _ => items.push(decode_value(schema, shape, number, raw, depth)?),
                }
            }
            Shape::Map(shape) => {
                let entry = members.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(entries) = entry else { continue };
                let (mut key, mut value) = (String::new(), Value::Null);
                let mut reader = Reader(raw.bytes(number)?);
                while let Some((n, raw)) = reader.field()? {
                    match n {
                        1 => key = raw.text(1)?.to_owned(),
                        2 => value = decode_value(schema, shape, 2, raw, depth)?,
                        _ => {}
                    }
                }
                entries.insert(key, value);
            }
            shape => {
                let value = decode_value(schema, shape, number, raw, depth)?;
                members.insert(field.name.to_owned(), value);
            }
        }
    }
    Ok(())
}

fn decode_value(schema: &Schema, shape: &Shape, number: u32, raw: Raw, depth: usize) -> Result<Value, WireError> {
    Ok(match shape {
        Shape::String => Value::String(raw.text(number)?.to_owned()),
        Shape::Bytes => Value::String(BASE64.encode(raw.bytes(number)?)),
        Shape::Bool => Value::Bool(raw.varint(number)? != 0),
        Shape::Int32 => (raw.varint(number)? as i64 as i32).into(),
        Shape::Int64 => (raw.varint(number)? as i64).into(),
        Shape::Double => match raw {
            Raw::Fixed64(bits) => {
                let float = f64::from_bits(bits);
                // Whole numbers are written without a fraction, as Go does.
                if float.fract() == 0.0 && float.abs() < 1e15 { (float as i64).into() } else { float.into() }
            }
            _ => return Err(WireError::WireType(0, number)),
        },
        Shape::Time | Shape::MicroTime => {
            let (mut seconds, mut nanos) = (0i64, 0i64);
            let mut any = false;
            let mut reader = Reader(raw.bytes(number)?);
            while let Some((n, raw)) = reader.field()? {
                any = true;
                match n {
                    1 => seconds = raw.varint(1)? as i64,
                    2 => nanos = raw.varint(2)? as i32 as i64,
                    _ => {}
                }
            }
            let text = match shape {
                _ if !any => None,
                Shape::Time => from_unix(seconds),
                _ => from_unix_micro(seconds, nanos),
            };
            text.map_or(Value::Null, Value::String)
        }
        Shape::Quantity => {
            let mut text = "0";
            let mut reader = Reader(raw.bytes(number)?);
            while let Some((n, raw)) = reader.field()? {
                if n == 1 {
                    text = raw.text(1)?;
                }
            }
            Value::String(text.to_owned())
        }
        Shape::IntOrString => {
            let (mut is_text, mut int, mut text) = (false, 0i64, "");
            let mut reader = Reader(raw.bytes(number)?);
            while let Some((n, raw)) = reader.field()? {
                match n {
                    1 => is_text = raw.varint(1)? == 1,
                    2 => int = raw.varint(2)? as i32 as i64,
                    3 => text = raw.text(3)?,
                    _ => {}
                }
            }
            if is_text { Value::String(text.to_owned()) } else { int.into() }
        }
        Shape::RawExtension => {
            let bytes = only_bytes(raw.bytes(number)?)?;
            match envelope::open(bytes) {
                // An embedded object may itself be in protobuf.
                Some(envelope) => {
                    let envelope = envelope?;
                    let (group, version) = crate::schema::GroupVersionKind::split_api_version(envelope.api_version);
                    let Some(ty) = schema.kind(group, version, envelope.kind) else { return Ok(Value::Null) };
                    let mut members = Map::new();
                    members.insert("apiVersion".into(), envelope.api_version.into());
                    members.insert("kind".into(), envelope.kind.into());
                    decode_into(schema, ty.id, envelope.raw, &mut members, depth + 1)?;
                    Value::Object(members)
                }
                None => parse_json(bytes)?,
            }
        }
        Shape::FieldsV1 | Shape::Json => parse_json(only_bytes(raw.bytes(number)?)?)?,
        Shape::SchemaOrArray(id) | Shape::SchemaOrStringArray(id) | Shape::SchemaOrBool(id) => {
            either(schema, shape, *id, raw.bytes(number)?, depth)?
        }
        Shape::ExtraValue => {
            let mut items = Vec::new();
            let mut reader = Reader(raw.bytes(number)?);
            while let Some((n, raw)) = reader.field()? {
                if n == 1 {
                    items.push(Value::String(raw.text(1)?.to_owned()));
                }
            }
            Value::Array(items)
        }
        Shape::Struct(id) => {
            let mut members = Map::new();
            decode_into(schema, *id, raw.bytes(number)?, &mut members, depth + 1)?;
            Value::Object(members)
        }
        Shape::Any | Shape::List(_) | Shape::Map(_) => Value::Null,
    })
}

/// The types of JSON schema that are one thing or the other.
fn either(schema: &Schema, shape: &Shape, id: TypeId, bytes: &[u8], depth: usize) -> Result<Value, WireError> {
    let mut value = match shape {
        Shape::SchemaOrBool(_) => Value::Bool(false),
        _ => Value::Null,
    };
    let mut items = Vec::new();
    let mut reader = Reader(bytes);
    while let Some((n, raw)) = reader.field()? {
        match (shape, n) {
            (Shape::SchemaOrBool(_), 1) if !value.is_object() => {
                value = Value::Bool(raw.varint(1)? != 0);
            }
            (Shape::SchemaOrBool(_), 2) | (_, 1) => {
                let mut members = Map::new();
                decode_into(schema, id, raw.bytes(n)?, &mut members, depth + 1)?;
                value = Value::Object(members);
            }
            (Shape::SchemaOrArray(_), 2) => {
                let mut members = Map::new();
                decode_into(schema, id, raw.bytes(n)?, &mut members, depth + 1)?;
                items.push(Value::Object(members));
            }
            (_, 2) => items.push(Value::String(raw.text(2)?.to_owned())),
            _ => {}
        }
    }
    Ok(if items.is_empty() { value } else { Value::Array(items) })
}

fn only_bytes(message: &[u8]) -> Result<&[u8], WireError> {
    let mut bytes: &[u8] = b"";
    let mut reader = Reader(message);
    while let Some((n, raw)) = reader.field()? {
        if n == 1 {
            bytes = raw.bytes(1)?;
        }
    }
    Ok(bytes)
}

fn parse_json(bytes: &[u8]) -> Result<Value, WireError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(bytes).map_err(|e| WireError::Json(e.to_string()))
}

fn encode_struct(schema: &Schema, id: TypeId, members: &Map<String, Value>, out: &mut Vec<u8>) {
    for field in schema.on_wire(schema.get(id)) {
        if field.inline {
            if let Shape::Struct(inner) = field.shape {
                put_message(out, field.number, |out| encode_struct(schema, inner, members, out));
            }
            continue;
        }
        match members.get(field.name) {
            Some(value) if !value.is_null() => encode_field(schema, &field.shape, field.number, value, out),
            _ if field.pointer => {}
            _ => encode_zero(schema, field, out),
        }
    }
}

/// Upstream writes members that are no pointers even when zero; readers of other makes may depend on it.
fn encode_zero(schema: &Schema, field: &Field, out: &mut Vec<u8>) {
    match &field.shape {
        Shape::String => put_bytes(out, field.number, b""),
        Shape::Bool | Shape::Int32 | Shape::Int64 => put_int(out, field.number, 0),
        Shape::Double => put_double(out, field.number, 0.0),
        Shape::Struct(id) => put_message(out, field.number, |out| encode_struct(schema, *id, &Map::new(), out)),
        Shape::Time | Shape::MicroTime | Shape::RawExtension => put_bytes(out, field.number, b""),
        Shape::Quantity => encode_field(schema, &field.shape, field.number, &Value::String("0".into()), out),
        Shape::IntOrString => encode_field(schema, &field.shape, field.number, &Value::from(0), out),
        _ => {}
    }
}

fn encode_field(schema: &Schema, shape: &Shape, number: u32, value: &Value, out: &mut Vec<u8>) {
    match (shape, value) {
        (Shape::String, Value::String(text)) => put_bytes(out, number, text.as_bytes()),
        (Shape::Bytes, Value::String(text)) => put_bytes(out, number, &BASE64.decode(text).unwrap_or_default()),
        (Shape::Bool, Value::Bool(b)) => put_int(out, number, i64::from(*b)),
        (Shape::Int32 | Shape::Int64, Value::Number(n)) => put_int(out, number, n.as_i64().unwrap_or(0)),
        (Shape::Double, Value::Number(n)) => put_double(out, number, n.as_f64().unwrap_or(0.0)),
        (Shape::Time | Shape::MicroTime, Value::String(text)) => {
            let (seconds, nanos) = to_unix(text).unwrap_or_default();
            put_message(out, number, |out| {
                put_int(out, 1, seconds);
                put_int(out, 2, i64::from(nanos));
            });
        }
        (Shape::Quantity, Value::String(text)) => put_message(out, number, |out| put_bytes(out, 1, text.as_bytes())),
        (Shape::IntOrString, value) => put_message(out, number, |out| {
            put_int(out, 1, i64::from(value.is_string()));
            put_int(out, 2, value.as_i64().unwrap_or(0));
            put_bytes(out, 3, value.as_str().unwrap_or("").as_bytes());
        }),
        (Shape::RawExtension | Shape::FieldsV1 | Shape::Json, value) => {
            // Not `to_string`, which goes through the formatting machinery a character run at a time.
            put_message(out, number, |out| put_bytes(out, 1, &serde_json::to_vec(value).unwrap_or_default()));
        }
        (Shape::SchemaOrBool(_), Value::Bool(b)) => put_message(out, number, |out| put_int(out, 1, i64::from(*b))),
        (Shape::SchemaOrBool(id), Value::Object(members)) => put_message(out, number, |out| {
            put_int(out, 1, 1);
            put_message(out, 2, |out| encode_struct(schema, *id, members, out));
        }),
        (Shape::SchemaOrArray(id) | Shape::SchemaOrStringArray(id), Value::Object(members)) => {
            put_message(out, number, |out| put_message(out, 1, |out| encode_struct(schema, *id, members, out)));
        }
        (Shape::SchemaOrArray(id), Value::Array(items)) => put_message(out, number, |out| {
            for item in items.iter().filter_map(Value::as_object) {
                put_message(out, 2, |out| encode_struct(schema, *id, item, out));
            }
        }),
        (Shape::SchemaOrStringArray(_) | Shape::ExtraValue, Value::Array(items)) => put_message(out, number, |out| {
            let number = if *shape == Shape::ExtraValue { 1 } else { 2 };
            for item in items.iter().filter_map(Value::as_str) {
                put_bytes(out, number, item.as_bytes());
            }
        }),
        (Shape::Struct(id), Value::Object(members)) => {
            put_message(out, number, |out| encode_struct(schema, *id, members, out));
        }
        (Shape::List(shape), Value::Array(items)) => {
            for item in items {
                encode_field(schema, shape, number, item, out);
            }
        }
        (Shape::Map(shape), Value::Object(members)) => {
            for (key, value) in members {
                put_message(out, number, |out| {
                    put_bytes(out, 1, key.as_bytes());
                    match value {
                        Value::Null => put_bytes(out, 2, b""), // a zero time
                        value => encode_field(schema, shape, 2, value, out),
                    }
                });
            }
        }
        // Not the normal form; the caller's promise is broken, and leaving the member out is the least harm.
        _ => {}
    }
}
