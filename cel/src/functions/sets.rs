//! Lists as sets.

use super::{Call, Cost, Function, row};
use crate::error::Error;
use crate::value::{List, Value};

pub const FUNCTIONS: &[Function] = &[
    row("sets.contains", &["(list<A>, list<A>) bool"], Cost::Sets(1), Call(|_, args| with(args, contains))),
    row(
        "sets.equivalent",
        &["(list<A>, list<A>) bool"],
        Cost::Sets(2),
        Call(|_, args| with(args, |a, b| contains(a, b) && contains(b, a))),
    ),
    row(
        "sets.intersects",
        &["(list<A>, list<A>) bool"],
        Cost::Sets(1),
        Call(|_, args| with(args, |a, b| b.iter().any(|item| a.contains(&item)))),
    ),
];

fn contains<'a>(all: &List<'a>, some: &List<'a>) -> bool {
    some.iter().all(|item| all.contains(&item))
}

fn with<'a>(args: &[Value<'a>], test: fn(&List<'a>, &List<'a>) -> bool) -> Result<Value<'a>, Error> {
    let [Value::List(a), Value::List(b)] = args else { return Err(Error::NoOverload) };
    Ok(Value::Bool(test(a, b)))
}
