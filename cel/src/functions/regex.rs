//! Regular expressions, in RE2's syntax. Matching takes time linear in the text, and the size of what a pattern compiles to is bounded.

use super::{Call, Cost, Function, Growth, growing, row};
use crate::error::Error;
use crate::meter::{Meter, scan};
use crate::value::Value;
use apimachinery::schema::go_regex;
use regex::Regex;

pub const FUNCTIONS: &[Function] = &[
    row(
        "matches",
        &["string.(string) bool", "(string, string) bool"],
        Cost::Regex,
        Call(|meter, args| dynamic("matches", meter, args)),
    ),
    growing(
        "find",
        &["string.(string) string"],
        Cost::Regex,
        Growth::Like(0, 1),
        Call(|meter, args| dynamic("find", meter, args)),
    ),
    growing(
        "findAll",
        &["string.(string) list<string>", "string.(string, int) list<string>"],
        Cost::Regex,
        Growth::Like(0, 1),
        Call(|meter, args| dynamic("findAll", meter, args)),
    ),
];

/// Compiles a pattern.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    go_regex::compile(pattern).map_err(|text| {
        let last = text.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
        format!("error parsing regexp: {last}: `{pattern}`")
    })
}

fn dynamic<'a>(name: &str, meter: &mut Meter<'_>, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let pattern = args.get(1).and_then(Value::as_str).ok_or(Error::NoOverload)?;
    // Compiling is the dear part, and a pattern that is no literal may be another one each time.
    meter.pay(100 + pattern.len() as u64)?;
    let regex = compile(pattern).map_err(Error::new)?;
    with(name, &regex, args, meter)
}

/// Calls the function with a pattern that is compiled already.
pub fn with<'a>(name: &str, regex: &Regex, args: &[Value<'a>], meter: &mut Meter<'_>) -> Result<Value<'a>, Error> {
    let text = args.first().and_then(Value::as_str).ok_or(Error::NoOverload)?;
    match name {
        "matches" => Ok(Value::Bool(regex.is_match(text))),
        "find" => Ok(Value::text(regex.find(text).map_or("", |found| found.as_str()))),
        _ => {
            let max = match args.get(2) {
                Some(Value::Int(max)) => usize::try_from(*max).unwrap_or(usize::MAX),
                _ => usize::MAX,
            };
            let found: Vec<Value<'a>> =
                regex.find_iter(text).take(max).map(|found| Value::text(found.as_str())).collect();
            meter.pay(scan(found.len() as u64))?;
            Ok(Value::list(found))
        }
    }
}
