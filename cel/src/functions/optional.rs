//! Values that may be absent.

use super::{Call, Function, simple};
use crate::error::Error;
use crate::value::Value;

pub const FUNCTIONS: &[Function] = &[
    simple("optional.of", &["(A) optional<A>"], Call(|_, args| Ok(Value::some(args[0].clone())))),
    simple("optional.none", &["() optional<A>"], Call(|_, _| Ok(Value::Optional(None)))),
    simple(
        "optional.ofNonZeroValue",
        &["(A) optional<A>"],
        Call(|_, args| {
            let zero = match &args[0] {
                Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Duration(0) => true,
                Value::Double(n) => *n == 0.0,
                Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => args[0].size() == 0,
                Value::Optional(inner) => inner.is_none(),
                _ => false,
            };
            Ok(if zero { Value::Optional(None) } else { Value::some(args[0].clone()) })
        }),
    ),
    simple(
        "hasValue",
        &["optional<A>.() bool"],
        Call(|_, args| match &args[0] {
            Value::Optional(inner) => Ok(Value::Bool(inner.is_some())),
            _ => Err(Error::NoOverload),
        }),
    ),
    simple(
        "value",
        &["optional<A>.() A"],
        Call(|_, args| match &args[0] {
            Value::Optional(Some(inner)) => Ok((**inner).clone()),
            _ => Err(Error::new("optional.none() dereference")),
        }),
    ),
    simple(
        "or",
        &["optional<A>.(optional<A>) optional<A>"],
        Call(|_, args| match &args[0] {
            Value::Optional(Some(_)) => Ok(args[0].clone()),
            _ => Ok(args[1].clone()),
        }),
    ),
    simple(
        "orValue",
        &["optional<A>.(A) A"],
        Call(|_, args| match &args[0] {
            Value::Optional(Some(inner)) => Ok((**inner).clone()),
            _ => Ok(args[1].clone()),
        }),
    ),
];
