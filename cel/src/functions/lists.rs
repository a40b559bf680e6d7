//! Lists: order, sums, extremes, places. (Kubernetes' own library.)

use super::{Call, Cost, Function, row};
use crate::error::Error;
use crate::value::{List, Value};
use std::cmp::Ordering;

pub const FUNCTIONS: &[Function] = &[
    row(
        "isSorted",
        &[
            "list<int>.() bool",
            "list<uint>.() bool",
            "list<double>.() bool",
            "list<bool>.() bool",
            "list<duration>.() bool",
            "list<timestamp>.() bool",
            "list<string>.() bool",
            "list<bytes>.() bool",
        ],
        Cost::Each(0),
        Call(|_, args| {
            let Value::List(list) = &args[0] else { return Err(Error::NoOverload) };
            for i in 1..list.len() {
                let (Some(a), Some(b)) = (list.get(i - 1), list.get(i)) else { break };
                if a.compare(&b).ok_or(Error::NoOverload)? == Ordering::Greater {
                    return Ok(Value::Bool(false));
                }
            }
            Ok(Value::Bool(true))
        }),
    ),
    row(
        "sum",
        &["list<int>.() int", "list<uint>.() uint", "list<double>.() double", "list<duration>.() duration"],
        Cost::Each(0),
        Call(|_, args| {
            let Value::List(list) = &args[0] else { return Err(Error::NoOverload) };
            let overflow = || Error::new("integer overflow");
            let mut sum = None;
            for item in list.iter() {
                sum = Some(match (sum, item) {
                    (None, first) => first,
                    (Some(Value::Int(a)), Value::Int(b)) => Value::Int(a.checked_add(b).ok_or_else(overflow)?),
                    (Some(Value::Uint(a)), Value::Uint(b)) => Value::Uint(a.checked_add(b).ok_or_else(overflow)?),
                    (Some(Value::Double(a)), Value::Double(b)) => Value::Double(a + b),
                    (Some(Value::Duration(a)), Value::Duration(b)) => {
                        Value::Duration(a.checked_add(b).ok_or_else(overflow)?)
                    }
                    _ => return Err(Error::NoOverload),
                });
            }
            Ok(sum.unwrap_or(Value::Int(0)))
        }),
    ),
    row("min", EXTREMES, Cost::Each(0), Call(|_, args| extreme(args, Ordering::Less, "min"))),
    row("max", EXTREMES, Cost::Each(0), Call(|_, args| extreme(args, Ordering::Greater, "max"))),
    row(
        "indexOf",
        &["list<A>.(A) int"],
        Cost::Each(0),
        Call(|_, args| place(args, |list, value| list.iter().position(|item| item.equals(value)))),
    ),
    row(
        "lastIndexOf",
        &["list<A>.(A) int"],
        Cost::Each(0),
        Call(|_, args| {
            place(args, |list, value| {
                (0..list.len()).rev().find(|i| list.get(*i).is_some_and(|item| item.equals(value)))
            })
        }),
    ),
];

const EXTREMES: &[&str] = &[
    "list<int>.() int",
    "list<uint>.() uint",
    "list<double>.() double",
    "list<bool>.() bool",
    "list<duration>.() duration",
    "list<timestamp>.() timestamp",
    "list<string>.() string",
    "list<bytes>.() bytes",
];

fn extreme<'a>(args: &[Value<'a>], wanted: Ordering, name: &str) -> Result<Value<'a>, Error> {
    let Value::List(list) = &args[0] else { return Err(Error::NoOverload) };
    let mut best: Option<Value<'a>> = None;
    for item in list.iter() {
        let better = match &best {
            Some(best) => item.compare(best).ok_or(Error::NoOverload)? == wanted,
            None => true,
        };
        if better {
            best = Some(item);
        }
    }
    best.ok_or_else(|| Error::new(format!("{name} called on empty list")))
}

fn place<'a>(args: &[Value<'a>], find: fn(&List<'a>, &Value<'a>) -> Option<usize>) -> Result<Value<'a>, Error> {
    let [Value::List(list), value] = args else { return Err(Error::NoOverload) };
    Ok(Value::Int(find(list, value).map_or(-1, |at| at as i64)))
}
