//! Quantities and semantic versions. Both compare by the same methods.

use super::{Call, Cost, Function, row, simple};
use crate::error::Error;
use crate::value::{Opaque, Value};
use apimachinery::quantity::{Format, Quantity};
use std::cmp::Ordering;

macro_rules! compared {
    ($name:literal, $result:literal, $map:expr) => {
        simple(
            $name,
            &[concat!("quantity.(quantity) ", $result), concat!("semver.(semver) ", $result)],
            Call(|_, args| {
                let map: fn(Ordering) -> Value<'static> = $map;
                Ok(map(compare(args)?))
            }),
        )
    };
}

pub const FUNCTIONS: &[Function] = &[
    compared!("compareTo", "int", |o| Value::Int(o as i64)),
    compared!("isGreaterThan", "bool", |o| Value::Bool(o == Ordering::Greater)),
    compared!("isLessThan", "bool", |o| Value::Bool(o == Ordering::Less)),
    row(
        "quantity",
        &["(string) quantity"],
        Cost::Scan(0, 1),
        Call(|_, args| {
            let text = args[0].as_str().ok_or(Error::NoOverload)?;
            let quantity = Quantity::parse(text).map_err(|error| Error::new(error.to_string()))?;
            Ok(Value::opaque(Opaque::Quantity(quantity)))
        }),
    ),
    row(
        "isQuantity",
        &["(string) bool"],
        Cost::Scan(0, 1),
        Call(|_, args| Ok(Value::Bool(Quantity::parse(args[0].as_str().ok_or(Error::NoOverload)?).is_ok()))),
    ),
    simple("sign", &["quantity.() int"], Call(|_, args| Ok(Value::Int(quantity(&args[0])?.sign().into())))),
    simple("isInteger", &["quantity.() bool"], Call(|_, args| Ok(Value::Bool(quantity(&args[0])?.as_i64().is_some())))),
    simple(
        "asInteger",
        &["quantity.() int"],
        Call(|_, args| {
            let whole = quantity(&args[0])?.as_i64();
            whole.map(Value::Int).ok_or_else(|| Error::new("cannot convert value to integer"))
        }),
    ),
    simple(
        "asApproximateFloat",
        &["quantity.() double"],
        Call(|_, args| Ok(Value::Double(quantity(&args[0])?.as_f64()))),
    ),
    simple(
        "add",
        &["quantity.(quantity) quantity", "quantity.(int) quantity"],
        Call(|_, args| Ok(Value::opaque(Opaque::Quantity(quantity(&args[0])?.add(&other(&args[1])?))))),
    ),
    simple(
        "sub",
        &["quantity.(quantity) quantity", "quantity.(int) quantity"],
        Call(|_, args| Ok(Value::opaque(Opaque::Quantity(quantity(&args[0])?.sub(&other(&args[1])?))))),
    ),
    row(
        "semver",
        &["(string) semver", "(string, bool) semver"],
        Cost::Scan(0, 1),
        Call(|_, args| {
            let version = version(args).ok_or_else(|| Error::new("No Major.Minor.Patch elements found"))?;
            Ok(Value::opaque(Opaque::Semver(version)))
        }),
    ),
    row(
        "isSemver",
        &["(string) bool", "(string, bool) bool"],
        Cost::Scan(0, 1),
        Call(|_, args| Ok(Value::Bool(version(args).is_some()))),
    ),
    simple("major", &["semver.() int"], Call(|_, args| part(args, |v| v.major))),
    simple("minor", &["semver.() int"], Call(|_, args| part(args, |v| v.minor))),
    simple("patch", &["semver.() int"], Call(|_, args| part(args, |v| v.patch))),
];

fn quantity<'v>(value: &'v Value<'_>) -> Result<&'v Quantity, Error> {
    match value {
        Value::Opaque(opaque) => match &**opaque {
            Opaque::Quantity(quantity) => Ok(quantity),
            _ => Err(Error::NoOverload),
        },
        _ => Err(Error::NoOverload),
    }
}

fn other(value: &Value<'_>) -> Result<Quantity, Error> {
    match value {
        Value::Int(n) => Ok(Quantity::new(*n, Format::DecimalSi)),
        value => quantity(value).cloned(),
    }
}

fn compare(args: &[Value<'_>]) -> Result<Ordering, Error> {
    let [Value::Opaque(a), Value::Opaque(b)] = args else { return Err(Error::NoOverload) };
    match (&**a, &**b) {
        (Opaque::Quantity(a), Opaque::Quantity(b)) => Ok(a.cmp(b)),
        (Opaque::Semver(a), Opaque::Semver(b)) => Ok(a.cmp_precedence(b)),
        _ => Err(Error::NoOverload),
    }
}

fn part<'a>(args: &[Value<'a>], part: fn(&semver::Version) -> u64) -> Result<Value<'a>, Error> {
    match args {
        [Value::Opaque(opaque)] => match &**opaque {
            Opaque::Semver(version) => Ok(Value::Int(part(version) as i64)),
            _ => Err(Error::NoOverload),
        },
        _ => Err(Error::NoOverload),
    }
}

/// Reads a version; with `true` also `v1`, `1.2` and numbers with leading zeroes.
fn version(args: &[Value<'_>]) -> Option<semver::Version> {
    let text = args.first()?.as_str()?;
    if !matches!(args.get(1), Some(Value::Bool(true))) {
        return semver::Version::parse(text).ok();
    }
    let text = text.trim().trim_start_matches('v');
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let mut parts: Vec<&str> =
        numbers.split('.').map(|n| n.trim_start_matches('0')).map(|n| if n.is_empty() { "0" } else { n }).collect();
    if !rest.is_empty() && parts.len() < 3 {
        return None; // what comes behind needs all three numbers before it
    }
    while parts.len() < 3 {
        parts.push("0");
    }
    semver::Version::parse(&format!("{}{rest}", parts.join("."))).ok()
}
