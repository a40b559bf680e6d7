//! CBOR (RFC 8949) to trees and back, as Kubernetes restricts it (KEP-4222).
//!
//! - What is written stands in the tag "self-described", so that its first bytes tell it from other encodings.
//! - Strings, and the names of members, are written as byte strings and read as either kind of string.
//! - `[]byte` is written as what it is, in the tag that says that JSON has it in base64 (22); so marked, bytes are read as their
//!   base64 text.
//! - Members stand in the order of their bytes, numbers in the shortest form.
//! - Refused, where JSON would let them pass or could not say them: duplicate members, names that are no strings, integers
//!   beyond 64 bits, NaN and infinities, text that is not UTF-8, nesting beyond [`DEPTH_MAX`].

use crate::schema::{Schema, Shape};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use minicbor::data::{Tag, Type};
use minicbor::{Decoder, Encoder};
use serde_json::{Map, Number, Value};

/// Upstream's bound, below that of other encodings.
pub const DEPTH_MAX: usize = 64;

/// The head of the tag that all CBOR of Kubernetes stands in (RFC 8949 §3.4.6).
pub const SELF_DESCRIBED: [u8; 3] = [0xd9, 0xd9, 0xf7];

/// Whether bytes say of themselves that they are CBOR.
pub fn is_self_described(bytes: &[u8]) -> bool {
    bytes.starts_with(&SELF_DESCRIBED)
}

/// Why bytes are no object in CBOR.
#[derive(Debug, thiserror::Error)]
pub enum CborError {
    #[error("cbor: {0}")]
    Malformed(#[from] minicbor::decode::Error),
    #[error("cbor: exceeded max nested level {DEPTH_MAX}")]
    Depth,
    #[error("cbor: found duplicate map key {name:?} at map element index {index}")]
    Duplicate { name: String, index: usize },
    #[error("cbor: invalid map key type: {0}")]
    Key(Type),
    #[error("cbor: cannot unmarshal {0} into a value of JSON")]
    Value(String),
    #[error("cbor: invalid UTF-8 string")]
    Utf8,
    #[error("cbor: {0} bytes of extraneous data starting at index {1}")]
    Extraneous(usize, usize),
}

type Result<T> = std::result::Result<T, CborError>;

/// Reads one item, all of the bytes.
pub fn parse(bytes: &[u8]) -> Result<Value> {
    let mut decoder = Decoder::new(bytes);
    let value = item(&mut decoder, 0)?;
    match bytes.len() - decoder.position() {
        0 => Ok(value),
        left => Err(CborError::Extraneous(left, decoder.position())),
    }
}

fn item(decoder: &mut Decoder, depth: usize) -> Result<Value> {
    if depth > DEPTH_MAX {
        return Err(CborError::Depth);
    }
    Ok(match decoder.datatype()? {
        Type::Bool => decoder.bool()?.into(),
        Type::Null => {
            decoder.null()?;
            Value::Null
        }
        Type::Undefined => {
            decoder.undefined()?;
            Value::Null
        }
        Type::U8 | Type::U16 | Type::U32 | Type::U64 | Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Int => {
            let number = i128::from(decoder.int()?);
            let number = i64::try_from(number).map_err(|_| CborError::Value(format!("the integer {number}")))?;
            number.into()
        }
        Type::F16 => float(decoder.f16()?.into())?,
        Type::F32 => float(decoder.f32()?.into())?,
        Type::F64 => float(decoder.f64()?)?,
        Type::Bytes | Type::BytesIndef => utf8(bytes(decoder)?)?.into(),
        Type::String | Type::StringIndef => text(decoder)?.into(),
        Type::Array | Type::ArrayIndef => array(decoder, depth)?,
        Type::Map | Type::MapIndef => map(decoder, depth)?,
        Type::Tag => {
            let tag = decoder.tag()?.as_u64();
            tagged(decoder, tag, depth)?
        }
        other => return Err(CborError::Value(other.to_string())),
    })
}

fn float(number: f64) -> Result<Value> {
    Number::from_f64(number).map(Value::Number).ok_or_else(|| CborError::Value(number.to_string()))
}

fn utf8(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| CborError::Utf8)
}

fn bytes(decoder: &mut Decoder) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    for piece in decoder.bytes_iter()? {
        whole.extend_from_slice(piece?);
    }
    Ok(whole)
}

fn text(decoder: &mut Decoder) -> Result<String> {
    let mut whole = String::new();
    for piece in decoder.str_iter()? {
        whole.push_str(piece?);
    }
    Ok(whole)
}

/// Whether another item follows in a list or map of `count` items, or of as many as there are before the break.
fn more(decoder: &mut Decoder, count: Option<u64>, read: u64) -> Result<bool> {
    match count {
        Some(count) => Ok(read < count),
        None if decoder.datatype()? == Type::Break => {
            decoder.set_position(decoder.position() + 1);
            Ok(false)
        }
        None => Ok(true),
    }
}

fn array(decoder: &mut Decoder, depth: usize) -> Result<Value> {
    let count = decoder.array()?;
    let mut items = Vec::new(); // not as long as it says that it is: it may say anything
    while more(decoder, count, items.len() as u64)? {
        items.push(item(decoder, depth + 1)?);
    }
    Ok(Value::Array(items))
}

fn map(decoder: &mut Decoder, depth: usize) -> Result<Value> {
    let count = decoder.map()?;
    let mut members = Map::new();
    while more(decoder, count, members.len() as u64)? {
        let name = match decoder.datatype()? {
            Type::Bytes | Type::BytesIndef => utf8(bytes(decoder)?)?,
            Type::String | Type::StringIndef => text(decoder)?,
            other => return Err(CborError::Key(other)),
        };
        let value = item(decoder, depth + 1)?;
        if members.contains_key(&name) {
            return Err(CborError::Duplicate { name, index: members.len() });
        }
        members.insert(name, value);
    }
    Ok(Value::Object(members))
}

/// What stands in a tag; tags that mean nothing to JSON are passed over.
fn tagged(decoder: &mut Decoder, tag: u64, depth: usize) -> Result<Value> {
    let is_bytes = matches!(decoder.datatype()?, Type::Bytes | Type::BytesIndef);
    match tag {
        // A time as text, and in seconds.
        0 | 1 => {
            let inside = item(decoder, depth + 1)?;
            let time = match (&inside, tag) {
                (Value::String(text), 0) => text.parse::<jiff::Timestamp>().ok(),
                (Value::Number(seconds), 1) => match seconds.as_i64() {
                    Some(seconds) => jiff::Timestamp::from_second(seconds).ok(),
                    None => seconds
                        .as_f64()
                        .and_then(|s| jiff::SignedDuration::try_from_secs_f64(s).ok())
                        .and_then(|since| jiff::Timestamp::UNIX_EPOCH.checked_add(since).ok()),
                },
                _ => None,
            };
            let time = time.ok_or_else(|| CborError::Value(format!("{inside} in tag {tag}")))?;
            Ok(if tag == 0 { inside } else { time.to_string().into() })
        }
        2 | 3 => Err(CborError::Value("a bignum".into())),
        // Bytes that JSON has as text of some form.
        21 if is_bytes => Ok(URL_SAFE_NO_PAD.encode(bytes(decoder)?).into()),
        22 if is_bytes => Ok(STANDARD.encode(bytes(decoder)?).into()),
        23 if is_bytes => {
            Ok(bytes(decoder)?.iter().flat_map(|b| [b >> 4, b & 15]).map(digit).collect::<String>().into())
        }
        _ => item(decoder, depth + 1),
    }
}

fn digit(nibble: u8) -> char {
    char::from_digit(nibble.into(), 16).unwrap_or('0').to_ascii_uppercase()
}

/// Appends a value as an item that describes itself. `shape` says where there are bytes; without it there are none.
pub fn encode(schema: &Schema, shape: Option<&Shape>, value: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(&SELF_DESCRIBED);
    put(schema, shape, value, out);
}

/// Appends the head of a map whose members follow by [`put_name`] and [`put`], in the order of [`order`].
pub fn put_map(members: usize, out: &mut Vec<u8>) {
    infallible(Encoder::new(out).map(members as u64).map(drop));
}

/// Appends the head of a list whose items follow by [`put`].
pub fn put_array(items: usize, out: &mut Vec<u8>) {
    infallible(Encoder::new(out).array(items as u64).map(drop));
}

/// Appends the name of a member.
pub fn put_name(name: &str, out: &mut Vec<u8>) {
    infallible(Encoder::new(out).bytes(name.as_bytes()).map(drop));
}

/// By what members are sorted: the bytes that their names become, the first of which say how long they are.
pub fn order(name: &str) -> (usize, &str) {
    (name.len(), name)
}

/// Appends a value, bare.
pub fn put(schema: &Schema, shape: Option<&Shape>, value: &Value, out: &mut Vec<u8>) {
    let mut encoder = Encoder::new(&mut *out);
    let scalar = match (value, shape) {
        (Value::Null, _) => encoder.null().map(drop),
        (Value::Bool(b), _) => encoder.bool(*b).map(drop),
        (Value::Number(number), Some(Shape::Double)) => put_float(&mut encoder, number.as_f64().unwrap_or(0.0)),
        (Value::Number(number), _) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => encoder.i64(number).map(drop),
            (_, Some(number)) => encoder.u64(number).map(drop),
            _ => put_float(&mut encoder, number.as_f64().unwrap_or(0.0)),
        },
        (Value::String(text), Some(Shape::Bytes)) => match STANDARD.decode(text) {
            Ok(bytes) => encoder.tag(Tag::new(22)).and_then(|e| e.bytes(&bytes)).map(drop),
            Err(_) => encoder.bytes(text.as_bytes()).map(drop),
        },
        (Value::String(text), _) => encoder.bytes(text.as_bytes()).map(drop),
        (Value::Array(items), _) => {
            put_array(items.len(), out);
            let of = match shape {
                Some(Shape::List(of)) => Some(&**of),
                _ => None,
            };
            return items.iter().for_each(|item| put(schema, of, item, out));
        }
        (Value::Object(members), _) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| order(name));
            put_map(members.len(), out);
            for (name, value) in members {
                let of = match shape {
                    Some(Shape::Struct(id)) => schema.member(schema.get(*id), name).map(|field| &field.shape),
                    Some(Shape::Map(of)) => Some(&**of),
                    _ => None,
                };
                put_name(name, out);
                put(schema, of, value, out);
            }
            return;
        }
    };
    infallible(scalar);
}

/// The encoder writes to memory.
fn infallible(result: std::result::Result<(), minicbor::encode::Error<std::convert::Infallible>>) {
    debug_assert!(result.is_ok());
}

/// The shortest form that says the same.
fn put_float<W: minicbor::encode::Write>(
    encoder: &mut Encoder<W>,
    number: f64,
) -> std::result::Result<(), minicbor::encode::Error<W::Error>> {
    let single = number as f32;
    if f64::from(single) != number {
        return encoder.f64(number).map(drop);
    }
    // Half precision has ten bits of fraction, exponents from -14, and below that multiples of 2^-24.
    let fits = if single.abs() >= 2f32.powi(-14) {
        single.abs() <= 65504.0 && single.to_bits() & 0x1fff == 0
    } else {
        (single * 2f32.powi(24)).fract() == 0.0
    };
    if fits { encoder.f16(single).map(drop) } else { encoder.f32(single).map(drop) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn encoded(shape: Option<&Shape>, value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        encode(Schema::builtin(), shape, value, &mut out);
        out
    }

    #[test]
    fn trees_are_read_back() {
        for value in [
            json!(null),
            json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"k": "v", "": "ä"}, "n": [1, -1, 0.5, true, {}]}),
            json!([i64::MAX, i64::MIN, 23, 24, 255, 256, 65536, 1e300, 0.1, 65504.0, 1e-7, 5.0]),
        ] {
            let bytes = encoded(None, &value);
            assert!(is_self_described(&bytes));
            assert_eq!(parse(&bytes).unwrap(), value);
        }
    }

    /// RFC 8949, appendix A, but for strings.
    #[test]
    fn what_is_written_is_short_and_in_order() {
        for (value, want) in [
            (json!(0), &[0x00][..]),
            (json!(-500), &[0x39, 0x01, 0xf3]),
            (json!(1000000), &[0x1a, 0x00, 0x0f, 0x42, 0x40]),
            (json!(1.5), &[0xf9, 0x3e, 0x00]),
            (json!(5.960464477539063e-8), &[0xf9, 0x00, 0x01]),
            (json!(100000.0), &[0xfa, 0x47, 0xc3, 0x50, 0x00]),
            (json!(1.1), &[0xfb, 0x3f, 0xf1, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a]),
            (json!("a"), &[0x41, b'a']),
            (json!({"bb": 1, "c": 2, "a": 3}), &[0xa3, 0x41, b'a', 3, 0x41, b'c', 2, 0x42, b'b', b'b', 1]),
        ] {
            let bytes = encoded(None, &value);
            assert_eq!(&bytes[3..], want, "{value}");
            assert_eq!(parse(&bytes).unwrap(), value);
        }
    }

    #[test]
    fn bytes_are_bytes_where_the_type_says_so() {
        let schema = Schema::builtin();
        let shape = Shape::Struct(schema.kind("", "v1", "Secret").unwrap().id);
        let secret = json!({"data": {"k": "aGVsbG8="}, "type": "Opaque"});
        let bytes = encoded(Some(&shape), &secret);
        assert!(bytes.windows(7).any(|w| w == [&[0xd6, 0x45][..], b"hello"].concat()), "{bytes:x?}");
        assert_eq!(parse(&bytes).unwrap(), secret);
        // Doubles stay what they are, whatever the digits.
        assert_eq!(encoded(Some(&Shape::Double), &json!(1))[3..], [0xf9, 0x3c, 0x00]);
    }

    #[test]
    fn other_ways_to_say_it_are_understood() {
        for (bytes, want) in [
            (&[0x61, b'a'][..], json!("a")),
            // Of unknown length, in pieces.
            (&[0x5f, 0x41, b'a', 0x41, b'b', 0xff], json!("ab")),
            (&[0x7f, 0x61, b'a', 0xff], json!("a")),
            (&[0x9f, 1, 2, 0xff], json!([1, 2])),
            (&[0xbf, 0x61, b'a', 1, 0xff], json!({"a": 1})),
            (&[0xf7], json!(null)),
            // Bytes for base64url, base64, base16; text in the same tag; a tag that nobody knows.
            (&[0xd5, 0x42, 0xff, 0xef], json!("_-8")),
            (&[0xd6, 0x42, 0xff, 0xef], json!("/+8=")),
            (&[0xd7, 0x42, 0xff, 0xef], json!("FFEF")),
            (&[0xd6, 0x61, b'a'], json!("a")),
            (&[0xd8, 100, 1], json!(1)),
            (&[&[0xc0, 0x74][..], b"2013-03-21T20:04:00Z"].concat(), json!("2013-03-21T20:04:00Z")),
            (&[0xc1, 0x1a, 0x51, 0x4b, 0x67, 0xb0], json!("2013-03-21T20:04:00Z")),
        ] {
            assert_eq!(parse(bytes).unwrap(), want, "{bytes:x?}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = |levels| [vec![0x81; levels], vec![0]].concat();
        assert!(parse(&deep(DEPTH_MAX)).is_ok());
        for (bytes, why) in [
            (&[][..], "cbor: "),
            (&[0xa2, 0x61, b'a', 1, 0x41, b'a', 2], "cbor: found duplicate map key \"a\" at map element index 1"),
            (&[0xa1, 1, 1], "cbor: invalid map key type: "),
            (&[0x1b, 0x80, 0, 0, 0, 0, 0, 0, 0], "cbor: cannot unmarshal the integer 9223372036854775808"),
            (&[0xf9, 0x7e, 0], "cbor: cannot unmarshal NaN"),
            (&[0xf9, 0x7c, 0], "cbor: cannot unmarshal inf"),
            (&[0xc2, 0x41, 1], "cbor: cannot unmarshal a bignum"),
            (&[0xc0, 0x61, b'a'], "cbor: cannot unmarshal \"a\" in tag 0"),
            (&[0xe0], "cbor: cannot unmarshal "),
            (&[0xff], "cbor: cannot unmarshal "),
            (&[0x41, 0xff], "cbor: invalid UTF-8 string"),
            (&[0x61, 0xff], "cbor: "),
            (&[1, 1, 1], "cbor: 2 bytes of extraneous data starting at index 1"),
            (&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "cbor: "),
            (&deep(DEPTH_MAX + 1), "cbor: exceeded max nested level 64"),
        ] {
            let error = parse(bytes).unwrap_err().to_string();
            assert!(error.starts_with(why), "{bytes:x?}: {error}");
        }
    }
}
