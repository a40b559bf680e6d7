//! The functions and operators of the language: rows of tables, one table per library.
//!
//! A row is a name, the signatures it has, what calls it, what a call costs and how large its result can be. The checker, the
//! estimator and the evaluator read the same row. Of several rows with a name, the first whose signature takes the values is called.

mod access;
mod core;
pub mod format;
mod lists;
mod network;
mod numbers;
mod optional;
pub mod regex;
mod sets;
mod strings;
pub mod time;

use crate::error::Error;
use crate::meter::{Meter, scan};
use crate::types::Type;
use crate::value::{Opaque, Value};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::OnceLock;

/// What runs a function. Its arguments, the receiver first, are of the types of one of the row's signatures.
pub struct Call(pub for<'m, 'a> fn(&mut Meter<'m>, &[Value<'a>]) -> Result<Value<'a>, Error>);

/// A row.
pub struct Function {
    pub name: &'static str,
    /// `string.(int) string` for a method, `(string) int` for a function. Capital letters stand for any type.
    pub signatures: &'static [&'static str],
    pub call: Call,
    pub cost: Cost,
    pub growth: Growth,
}

/// What a call costs, in the unit of one simple operation. Numbers name arguments, the receiver first.
#[derive(Clone, Copy, Debug)]
pub enum Cost {
    Fixed(u64),
    /// Looks so many times at all of an argument.
    Scan(usize, u64),
    /// One for each item.
    Items(usize),
    /// Compares each item with others.
    Each(usize),
    /// Looks at the two arguments up to the end of the shorter.
    Compare,
    /// Copies both.
    Concat,
    /// Looks for the one at each place of the other.
    Product,
    /// Each item of the one with each item of the other, `factor` times.
    Sets(u64),
    /// A regular expression (the second) on a text (the first).
    Regex,
    /// Copies the items of a list and the separator between them.
    Join,
}

/// How large a result can be, in bytes or items.
#[derive(Clone, Copy, Debug)]
pub enum Growth {
    /// As its type says.
    Type,
    /// So many bytes.
    Bytes(u64),
    /// As large as an argument, some times over.
    Like(usize, u64),
    Sum,
    Join,
    Replace,
}

/// Sizes of the arguments of a call: what there is, or the most that there can be.
pub struct Sizes<'s> {
    pub of: &'s [u64],
    /// Sizes of items, for arguments that are lists.
    pub items: &'s [u64],
}

impl Cost {
    /// What a call with these arguments costs.
    pub fn of(&self, values: &[Value<'_>]) -> u64 {
        let sizes: Vec<u64> = match self {
            Cost::Fixed(cost) => return *cost,
            Cost::Compare | Cost::Sets(_) => values.iter().map(Value::weight).collect(),
            _ => values.iter().map(Value::size).collect(),
        };
        // Of lists that are there, the weight is known as a whole: it stands for items of the mean size.
        let items: Vec<u64> = match self {
            Cost::Each(_) | Cost::Join => {
                values.iter().map(|v| v.weight().checked_div(v.size()).unwrap_or(0) + 1).collect()
            }
            _ => Vec::new(),
        };
        self.price(&Sizes { of: &sizes, items: &items })
    }

    /// What a call with arguments of these sizes costs.
    pub fn price(&self, sizes: &Sizes<'_>) -> u64 {
        let of = |i: usize| sizes.of.get(i).copied().unwrap_or(1);
        let item = |i: usize| sizes.items.get(i).copied().unwrap_or(1);
        match *self {
            Cost::Fixed(cost) => cost,
            Cost::Scan(i, times) => scan(of(i).saturating_mul(times)).max(1),
            Cost::Items(i) => of(i).saturating_add(1),
            Cost::Each(i) => of(i).saturating_mul(1 + scan(item(i))),
            Cost::Compare => scan(of(0).min(of(1))),
            Cost::Concat => scan(of(0).saturating_add(of(1))).max(1),
            Cost::Product => scan(of(0)).saturating_mul(scan(of(1))).saturating_add(1),
            Cost::Sets(factor) => of(0).saturating_mul(of(1)).saturating_mul(factor).saturating_add(1),
            Cost::Regex => scan(of(0).saturating_add(1)).saturating_mul(of(1).div_ceil(4).max(1)),
            Cost::Join => scan(Growth::Join.size(sizes, 0)).saturating_add(1),
        }
    }
}

impl Growth {
    /// The size of the result, which its type says is at most `of_type`.
    pub fn size(&self, sizes: &Sizes<'_>, of_type: u64) -> u64 {
        let of = |i: usize| sizes.of.get(i).copied().unwrap_or(0);
        match *self {
            Growth::Type => of_type,
            Growth::Bytes(bytes) => bytes,
            Growth::Like(i, times) => of(i).saturating_mul(times),
            Growth::Sum => of(0).saturating_add(of(1)),
            Growth::Join => {
                let item = sizes.items.first().copied().unwrap_or(0);
                of(0).saturating_mul(item.saturating_add(of(1)))
            }
            // At worst every character is replaced, and the empty text between them is too.
            Growth::Replace => of(0).saturating_add(of(0).saturating_add(1).saturating_mul(of(2))),
        }
    }
}

/// A signature of a row.
#[derive(Debug)]
pub struct Overload {
    pub function: &'static Function,
    /// Called on a receiver, which is the first of `params`.
    pub member: bool,
    pub params: Vec<Type>,
    pub result: Type,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A row whose cost is that of any simple call.
const fn simple(name: &'static str, signatures: &'static [&'static str], call: Call) -> Function {
    row(name, signatures, Cost::Fixed(1), call)
}

const fn row(name: &'static str, signatures: &'static [&'static str], cost: Cost, call: Call) -> Function {
    growing(name, signatures, cost, Growth::Type, call)
}

const fn growing(
    name: &'static str,
    signatures: &'static [&'static str],
    cost: Cost,
    growth: Growth,
    call: Call,
) -> Function {
    Function { name, signatures, call, cost, growth }
}

const TABLES: [&[Function]; 11] = [
    core::FUNCTIONS,
    strings::FUNCTIONS,
    lists::FUNCTIONS,
    sets::FUNCTIONS,
    regex::FUNCTIONS,
    time::FUNCTIONS,
    numbers::FUNCTIONS,
    network::FUNCTIONS,
    format::FUNCTIONS,
    optional::FUNCTIONS,
    access::FUNCTIONS,
];

/// The overloads of a function, in the order of the tables; empty if there is no such function.
pub fn overloads(name: &str) -> &'static [Overload] {
    static ALL: OnceLock<HashMap<&'static str, Vec<Overload>>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let mut all: HashMap<&'static str, Vec<Overload>> = HashMap::new();
        for function in TABLES.iter().copied().flatten() {
            let of = all.entry(function.name).or_default();
            of.extend(function.signatures.iter().map(|text| signature(function, text)));
        }
        all
    });
    all.get(name).map_or(&[], Vec::as_slice)
}

/// Reads `receiver.(param, param) result`.
fn signature(function: &'static Function, text: &str) -> Overload {
    let (receiver, rest) = text.split_once('(').unwrap_or(("", text));
    let (params, result) = rest.rsplit_once(") ").unwrap_or((rest, "dyn"));
    let receiver = receiver.trim_end_matches('.');
    let mut list: Vec<Type> = Vec::new();
    if !receiver.is_empty() {
        list.push(word(receiver));
    }
    list.extend(split(params).into_iter().map(word));
    Overload { function, member: !receiver.is_empty(), params: list, result: word(result) }
}

/// Splits at commas outside of angle brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        parts.push(text[start..].trim());
    }
    parts
}

fn word(text: &str) -> Type {
    if let Some((outer, inner)) = text.split_once('<') {
        let mut inner = split(inner.trim_end_matches('>')).into_iter().map(word);
        let mut next = || inner.next().unwrap_or(Type::Dyn);
        return match outer {
            "list" => Type::list(next()),
            "optional" => Type::optional(next()),
            "type" => Type::Type(next().into()),
            _ => {
                let key = next();
                Type::map(key, next())
            }
        };
    }
    match text.as_bytes() {
        [letter @ b'A'..=b'D'] => Type::Param(u32::from(letter - b'A')),
        _ => Type::named(text).unwrap_or(Type::Dyn),
    }
}

/// One operation of a JSON patch out of the members that an expression gave it.
pub fn json_patch(members: &BTreeMap<Rc<str>, Value<'_>>) -> Result<Opaque, Error> {
    let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or("");
    let mut patch = json!({"op": text("op"), "path": text("path")});
    if members.contains_key("from") {
        patch["from"] = text("from").into();
    }
    if let Some(value) = members.get("value") {
        patch["value"] = value.to_json().ok_or_else(|| Error::new("value of a JSON patch has no JSON form"))?;
    }
    Ok(Opaque::JsonPatch(patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_is_of_known_types() {
        for function in TABLES.iter().copied().flatten() {
            for text in function.signatures {
                let bare = text.replace(['(', ')', '<', '>', ','], " ").replace(". ", " ");
                for part in bare.split_whitespace() {
                    let known = Type::named(part).is_some() || matches!(part, "optional" | "A" | "B" | "C" | "D");
                    assert!(known, "{} {text}: {part}", function.name);
                }
            }
        }
        let overload = &overloads("@in")[1];
        assert_eq!(overload.params, [Type::Param(0), Type::map(Type::Param(0), Type::Param(1))]);
    }
}
