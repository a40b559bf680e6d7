//! Operators, sizes, conversions.

use super::{Call, Cost, Function, Growth, growing, row, simple};
use crate::error::Error;
use crate::time;
use crate::value::{Text, Value};
use std::cmp::Ordering;

fn overflow<T>(value: Option<T>, kind: &str) -> Result<T, Error> {
    value.ok_or_else(|| Error::new(format!("{kind} overflow")))
}

fn by_zero() -> Error {
    Error::new("division by zero")
}

/// Calls a function of two numbers of one type.
macro_rules! arithmetic {
    ($int:ident, $uint:ident, $double:expr) => {
        Call(|_, args| match args {
            [Value::Int(a), Value::Int(b)] => Ok(Value::Int(overflow(a.$int(*b), "integer")?)),
            [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(overflow(a.$uint(*b), "unsigned integer")?)),
            [Value::Double(a), Value::Double(b)] => Ok(Value::Double($double(*a, *b))),
            _ => Err(Error::NoOverload),
        })
    };
}

macro_rules! ordering {
    ($pattern:pat) => {
        Call(|_, args| Ok(Value::Bool(matches!(args[0].compare(&args[1]), Some($pattern)))))
    };
}

const ORDERED: &[&str] = &[
    "(bool, bool) bool",
    "(int, int) bool",
    "(int, double) bool",
    "(int, uint) bool",
    "(uint, uint) bool",
    "(uint, double) bool",
    "(uint, int) bool",
    "(double, double) bool",
    "(double, int) bool",
    "(double, uint) bool",
    "(string, string) bool",
    "(bytes, bytes) bool",
    "(timestamp, timestamp) bool",
    "(duration, duration) bool",
];

pub const FUNCTIONS: &[Function] = &[
    // Equality is the evaluator's own: these rows are for the checker.
    row("_==_", &["(A, A) bool"], Cost::Compare, Call(|_, args| Ok(Value::Bool(args[0].equals(&args[1]))))),
    row("_!=_", &["(A, A) bool"], Cost::Compare, Call(|_, args| Ok(Value::Bool(!args[0].equals(&args[1]))))),
    row("_<_", ORDERED, Cost::Compare, ordering!(Ordering::Less)),
    row("_<=_", ORDERED, Cost::Compare, ordering!(Ordering::Less | Ordering::Equal)),
    row("_>_", ORDERED, Cost::Compare, ordering!(Ordering::Greater)),
    row("_>=_", ORDERED, Cost::Compare, ordering!(Ordering::Greater | Ordering::Equal)),
    simple(
        "!_",
        &["(bool) bool"],
        Call(|_, args| match args {
            [Value::Bool(b)] => Ok(Value::Bool(!b)),
            _ => Err(Error::NoOverload),
        }),
    ),
    simple(
        "-_",
        &["(int) int", "(double) double"],
        Call(|_, args| match args {
            [Value::Int(n)] => Ok(Value::Int(overflow(n.checked_neg(), "integer")?)),
            [Value::Double(n)] => Ok(Value::Double(-n)),
            _ => Err(Error::NoOverload),
        }),
    ),
    simple(
        "_+_",
        &["(int, int) int", "(uint, uint) uint", "(double, double) double"],
        arithmetic!(checked_add, checked_add, |a: f64, b: f64| a + b),
    ),
    growing(
        "_+_",
        &["(string, string) string", "(bytes, bytes) bytes", "(list<A>, list<A>) list<A>"],
        Cost::Concat,
        Growth::Sum,
        Call(|_, args| match args {
            [Value::String(a), Value::String(b)] => Ok(Value::text(format!("{}{}", &**a, &**b))),
            [Value::Bytes(a), Value::Bytes(b)] => Ok(Value::Bytes([&**a, &**b].concat().into())),
            [Value::List(a), Value::List(b)] => Ok(Value::List(a.concat(b))),
            _ => Err(Error::NoOverload),
        }),
    ),
    simple(
        "_+_",
        &["(duration, duration) duration", "(timestamp, duration) timestamp", "(duration, timestamp) timestamp"],
        Call(|_, args| match args {
            [Value::Duration(a), Value::Duration(b)] => Ok(Value::Duration(overflow(a.checked_add(*b), "duration")?)),
            [Value::Timestamp(t), Value::Duration(d)] | [Value::Duration(d), Value::Timestamp(t)] => {
                super::time::shift(*t, *d)
            }
            _ => Err(Error::NoOverload),
        }),
    ),
    simple(
        "_-_",
        &["(int, int) int", "(uint, uint) uint", "(double, double) double"],
        arithmetic!(checked_sub, checked_sub, |a: f64, b: f64| a - b),
    ),
    simple(
        "_-_",
        &["(duration, duration) duration", "(timestamp, timestamp) duration", "(timestamp, duration) timestamp"],
        Call(|_, args| match args {
            [Value::Duration(a), Value::Duration(b)] => Ok(Value::Duration(overflow(a.checked_sub(*b), "duration")?)),
            [Value::Timestamp(a), Value::Timestamp(b)] => {
                let nanos = i64::try_from(a.as_nanosecond() - b.as_nanosecond()).ok();
                Ok(Value::Duration(overflow(nanos, "timestamp")?))
            }
            [Value::Timestamp(t), Value::Duration(d)] => super::time::shift(*t, overflow(d.checked_neg(), "duration")?),
            _ => Err(Error::NoOverload),
        }),
    ),
    simple(
        "_*_",
        &["(int, int) int", "(uint, uint) uint", "(double, double) double"],
        arithmetic!(checked_mul, checked_mul, |a: f64, b: f64| a * b),
    ),
    simple(
        "_/_",
        &["(int, int) int", "(uint, uint) uint", "(double, double) double"],
        Call(|meter, args| match args {
            [_, Value::Int(0) | Value::Uint(0)] => Err(by_zero()),
            _ => {
                let Call(divide) = arithmetic!(checked_div, checked_div, |a: f64, b: f64| a / b);
                divide(meter, args)
            }
        }),
    ),
    simple(
        "_%_",
        &["(int, int) int", "(uint, uint) uint"],
        Call(|meter, args| match args {
            [_, Value::Int(0) | Value::Uint(0)] => Err(Error::new("modulus by zero")),
            [Value::Double(_), _] => Err(Error::NoOverload),
            _ => {
                let Call(modulo) = arithmetic!(checked_rem, checked_rem, |a: f64, _| a);
                modulo(meter, args)
            }
        }),
    ),
    row(
        "@in",
        &["(A, list<A>) bool"],
        Cost::Items(1),
        Call(|meter, args| match args {
            [value, Value::List(list)] => {
                // What is compared may be large, on both sides.
                meter.pay(crate::meter::scan(value.weight().saturating_mul(list.len() as u64)))?;
                Ok(Value::Bool(list.contains(value)))
            }
            _ => Err(Error::NoOverload),
        }),
    ),
    simple(
        "@in",
        &["(A, map<A, B>) bool"],
        Call(|_, args| match args {
            [key, Value::Map(map)] => Ok(Value::Bool(map.get(key).is_some())),
            _ => Err(Error::NoOverload),
        }),
    ),
    simple("_[_]", &["(list<A>, int) A", "(map<A, B>, A) B"], Call(|_, args| index(&args[0], &args[1]))),
    simple(
        "_[_]",
        &["(optional<list<A>>, int) optional<A>", "(optional<map<A, B>>, A) optional<B>"],
        Call(|_, args| optional_index(&args[0], &args[1])),
    ),
    simple(
        "_[?_]",
        &[
            "(list<A>, int) optional<A>",
            "(map<A, B>, A) optional<B>",
            "(optional<list<A>>, int) optional<A>",
            "(optional<map<A, B>>, A) optional<B>",
        ],
        Call(|_, args| optional_index(&args[0], &args[1])),
    ),
    simple(
        "_?._",
        &["(dyn, string) optional<dyn>"],
        Call(|_, args| {
            let held = match &args[0] {
                Value::Optional(None) => return Ok(Value::Optional(None)),
                Value::Optional(Some(held)) => held,
                held => held,
            };
            let name = args[1].as_str().ok_or(Error::NoOverload)?;
            Ok(held.member(name).map_or(Value::Optional(None), Value::some))
        }),
    ),
    simple(
        "size",
        &["(string) int", "string.() int"],
        Call(|_, args| match args {
            [Value::String(text)] => Ok(Value::Int(text.chars().count() as i64)),
            _ => Err(Error::NoOverload),
        }),
    ),
    simple(
        "size",
        &["(bytes) int", "bytes.() int", "(list<A>) int", "list<A>.() int", "(map<A, B>) int", "map<A, B>.() int"],
        Call(|_, args| Ok(Value::Int(args[0].size() as i64))),
    ),
    simple("type", &["(A) type<A>"], Call(|_, args| Ok(Value::Type(args[0].type_of())))),
    growing("dyn", &["(A) dyn"], Cost::Fixed(1), Growth::Like(0, 1), Call(|_, args| Ok(args[0].clone()))),
    simple(
        "int",
        &["(int) int", "(uint) int", "(double) int", "(timestamp) int"],
        Call(|_, args| match &args[0] {
            Value::Int(n) => Ok(Value::Int(*n)),
            Value::Uint(n) => Ok(Value::Int(overflow(i64::try_from(*n).ok(), "integer")?)),
            Value::Double(n) => {
                Ok(Value::Int(overflow((n.abs() < 9_223_372_036_854_775_807.0).then_some(*n as i64), "integer")?))
            }
            Value::Timestamp(t) => Ok(Value::Int(t.as_second())),
            _ => Err(Error::NoOverload),
        }),
    ),
    simple(
        "uint",
        &["(uint) uint", "(int) uint", "(double) uint"],
        Call(|_, args| match &args[0] {
            Value::Uint(n) => Ok(Value::Uint(*n)),
            Value::Int(n) => Ok(Value::Uint(overflow(u64::try_from(*n).ok(), "unsigned integer")?)),
            Value::Double(n) => {
                let fits = *n >= 0.0 && *n < 18_446_744_073_709_551_615.0;
                Ok(Value::Uint(overflow(fits.then_some(*n as u64), "unsigned integer")?))
            }
            _ => Err(Error::NoOverload),
        }),
    ),
    simple(
        "double",
        &["(double) double", "(int) double", "(uint) double"],
        Call(|_, args| match &args[0] {
            Value::Double(n) => Ok(Value::Double(*n)),
            Value::Int(n) => Ok(Value::Double(*n as f64)),
            Value::Uint(n) => Ok(Value::Double(*n as f64)),
            _ => Err(Error::NoOverload),
        }),
    ),
    simple("int", &["(string) int"], Call(|_, args| parse(&args[0], "int", |t| t.parse().ok().map(Value::Int)))),
    simple("uint", &["(string) uint"], Call(|_, args| parse(&args[0], "uint", |t| t.parse().ok().map(Value::Uint)))),
    simple(
        "double",
        &["(string) double"],
        Call(|_, args| parse(&args[0], "double", |t| t.parse().ok().map(Value::Double))),
    ),
    simple(
        "bool",
        &["(string) bool"],
        Call(|_, args| {
            parse(&args[0], "bool", |text| match text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Value::Bool(true)),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Value::Bool(false)),
                _ => None,
            })
        }),
    ),
    simple("bool", &["(bool) bool"], Call(|_, args| Ok(args[0].clone()))),
    growing("string", &["(string) string"], Cost::Fixed(1), Growth::Like(0, 1), Call(|_, args| Ok(args[0].clone()))),
    growing(
        "string",
        &[
            "(bool) string",
            "(int) string",
            "(uint) string",
            "(double) string",
            "(timestamp) string",
            "(duration) string",
        ],
        Cost::Fixed(1),
        Growth::Bytes(64),
        Call(|_, args| Ok(Value::text(show(&args[0]).ok_or(Error::NoOverload)?))),
    ),
    growing(
        "string",
        &["(bytes) string"],
        Cost::Scan(0, 1),
        Growth::Like(0, 1),
        Call(|_, args| match &args[0] {
            Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Value::text(text)),
                Err(_) => Err(Error::new("invalid UTF-8 in bytes, cannot convert to string")),
            },
            _ => Err(Error::NoOverload),
        }),
    ),
    growing(
        "bytes",
        &["(string) bytes", "(bytes) bytes"],
        Cost::Scan(0, 1),
        Growth::Like(0, 4),
        Call(|_, args| match &args[0] {
            Value::String(text) => Ok(Value::Bytes(text.as_bytes().into())),
            bytes => Ok(bytes.clone()),
        }),
    ),
];

fn parse<'a>(value: &Value<'a>, kind: &str, read: impl Fn(&str) -> Option<Value<'a>>) -> Result<Value<'a>, Error> {
    let text = value.as_str().ok_or(Error::NoOverload)?;
    read(text).ok_or_else(|| Error::new(format!("type conversion error from 'string' to '{kind}'")))
}

/// A value without parts, as text.
pub fn show(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Double(n) => double(*n),
        Value::String(Text::Borrowed(text)) => (*text).to_owned(),
        Value::String(Text::Made(text)) => text.to_string(),
        Value::Timestamp(t) => time::show_timestamp(*t),
        Value::Duration(d) => time::show_duration(*d),
        _ => return None,
    })
}

/// A double in the fewest digits that read back as it, with an exponent where that is far from 0. (Go's `%g`.)
pub fn double(n: f64) -> String {
    if !n.is_finite() {
        return if n.is_nan() {
            "NaN".into()
        } else if n > 0.0 {
            "+Inf".into()
        } else {
            "-Inf".into()
        };
    }
    let text = format!("{n:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = mantissa.chars().filter(char::is_ascii_digit).count() as i32;
    if exponent < -4 || exponent >= digits.max(21) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{n}")
}

fn index<'a>(of: &Value<'a>, at: &Value<'a>) -> Result<Value<'a>, Error> {
    match of {
        Value::List(list) => {
            let index = match at.key() {
                Some(crate::value::Key::Int(index)) => index,
                _ => return Err(Error::NoOverload),
            };
            let found = usize::try_from(index).ok().and_then(|index| list.get(index));
            found.ok_or_else(|| Error::new(format!("index out of bounds: {index}")))
        }
        Value::Map(map) => {
            let shown = show(at).ok_or(Error::NoOverload)?;
            map.get(at).ok_or_else(|| Error::new(format!("no such key: {shown}")))
        }
        _ => Err(Error::NoOverload),
    }
}

fn optional_index<'a>(of: &Value<'a>, at: &Value<'a>) -> Result<Value<'a>, Error> {
    let found = match of {
        Value::Optional(None) => None,
        Value::Optional(Some(inner)) => index(inner, at).ok(),
        value => index(value, at).ok(),
    };
    Ok(found.map_or(Value::Optional(None), Value::some))
}
