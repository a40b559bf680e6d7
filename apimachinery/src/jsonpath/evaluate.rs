//! What a path finds.

use super::{JsonPath, Operator, Path, Slice, Step};
use serde_json::Value;
use std::borrow::Cow;
use std::cmp::Ordering;

/// Values that a path may look at, all steps together.
const VISITS_MAX: usize = 100_000;

/// Why a path finds nothing in an object that it does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    #[error("{0} is not array or slice")]
    NoList(&'static str),
    #[error("array index out of bounds: index {index}, length {length}")]
    OutOfBounds { index: i64, length: usize },
    #[error("step must be > 0")]
    Step,
    #[error("can only compare one element at a time")]
    Several,
    #[error("incompatible types for comparison")]
    Incomparable,
    #[error("unrecognized filter operator")]
    Operator,
    #[error("unrecognized identifier {0}")]
    Identifier(String),
    #[error("the path looks at more than {VISITS_MAX} values")]
    TooMuch,
}

type Result<T> = std::result::Result<T, EvaluateError>;
type Found<'a> = Vec<Cow<'a, Value>>;

impl JsonPath {
    /// All values at the path; none where there is nothing.
    pub fn find<'a>(&self, object: &'a Value) -> Result<Found<'a>> {
        let mut walk = Walk { left: VISITS_MAX };
        let mut paths = self.paths.iter().map(|path| walk.path(vec![Cow::Borrowed(object)], path));
        let first = paths.next().unwrap_or_else(|| Ok(Vec::new()))?;
        paths.try_for_each(|found| found.map(drop))?; // where one fails all do
        Ok(first)
    }
}

struct Walk {
    left: usize,
}

impl Walk {
    fn visit(&mut self, values: usize) -> Result<()> {
        self.left = self.left.checked_sub(values).ok_or(EvaluateError::TooMuch)?;
        Ok(())
    }

    fn path<'a>(&mut self, mut found: Found<'a>, path: &Path) -> Result<Found<'a>> {
        for step in path {
            self.visit(found.len() + 1)?;
            found = self.step(found, step)?;
        }
        Ok(found)
    }

    fn step<'a>(&mut self, input: Found<'a>, step: &Step) -> Result<Found<'a>> {
        let mut found = Found::new();
        match step {
            Step::Literal(text @ Value::String(_)) => found.push(Cow::Owned(text.clone())),
            Step::Literal(value) => found.extend(input.iter().map(|_| Cow::Owned(value.clone()))),
            Step::Identifier(word) => return Err(EvaluateError::Identifier(word.clone())),
            Step::Field(name) => {
                found.extend(input.into_iter().filter_map(|value| each(value, |v| v.get(name).into_iter()).next()));
            }
            Step::Wildcard => {
                for value in input {
                    found.extend(each(value, inside));
                    self.visit(found.len())?;
                }
            }
            Step::Recursive => {
                for value in input {
                    self.recursive(value, &mut found)?;
                }
            }
            Step::Slice(slice) => {
                for value in input.into_iter().filter(|value| !value.is_null()) {
                    let length = list(&value)?.len();
                    let (start, end, step) = slice.bounds(length)?;
                    self.visit(end.saturating_sub(start))?;
                    found.extend(each(value, |v| items(v).take(end).skip(start).step_by(step)));
                }
            }
            Step::Union(paths) => {
                for path in paths {
                    found.extend(self.path(input.clone(), path)?);
                }
            }
            Step::Exists(path) => {
                for value in input {
                    list(&value)?;
                    for item in each(value, items) {
                        // What does not fit is there.
                        let is_there = match self.path(vec![item.clone()], path) {
                            Err(EvaluateError::TooMuch) => return Err(EvaluateError::TooMuch),
                            result => result.map_or(true, |found| !found.is_empty()),
                        };
                        found.extend(is_there.then_some(item));
                    }
                }
            }
            Step::Filter(left, operator, right) => {
                for value in input {
                    list(&value)?;
                    for item in each(value, items) {
                        let left = self.path(vec![item.clone()], left)?;
                        let Some(left) = single(&left)? else { continue };
                        let right = self.path(vec![item.clone()], right)?;
                        let Some(right) = single(&right)? else { continue };
                        if operator.holds(left, right)? {
                            found.push(item);
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    /// The value and what is in it, as far as there is anything in it: a text has characters, a number has nothing.
    fn recursive<'a>(&mut self, value: Cow<'a, Value>, found: &mut Found<'a>) -> Result<()> {
        self.visit(1)?;
        let is_hollow = match &*value {
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
            _ => true,
        };
        if is_hollow {
            return Ok(());
        }
        found.push(value.clone());
        for value in each(value, inside) {
            self.recursive(value, found)?;
        }
        Ok(())
    }
}

/// What `of` finds in a value, borrowed for as long as that is.
fn each<'a, I>(value: Cow<'a, Value>, of: impl Fn(&'a Value) -> I) -> impl Iterator<Item = Cow<'a, Value>>
where
    I: Iterator<Item = &'a Value>,
{
    // Values of the path itself are scalars: there is nothing in them.
    let borrowed = match value {
        Cow::Borrowed(value) => Some(value),
        Cow::Owned(_) => None,
    };
    borrowed.map(of).into_iter().flatten().map(Cow::Borrowed)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Items, or members in the order of their names.
fn inside(value: &Value) -> impl Iterator<Item = &Value> {
    items(value).chain(value.as_object().into_iter().flat_map(|members| members.values()))
}

fn list(value: &Value) -> Result<&Vec<Value>> {
    let kind = match value {
        Value::Array(items) => return Ok(items),
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Object(_) => "map[string]interface {}",
    };
    Err(EvaluateError::NoList(kind))
}

fn single<'b>(found: &'b Found<'_>) -> Result<Option<&'b Value>> {
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(EvaluateError::Several),
    }
}

impl Slice {
    /// The first item, the one behind the last, and how far it is to the next.
    fn bounds(self, length: usize) -> Result<(usize, usize, usize)> {
        let of = i64::try_from(length).unwrap_or(i64::MAX);
        let out = |index| EvaluateError::OutOfBounds { index, length };
        let start = if self.start < 0 { self.start.saturating_add(of) } else { self.start };
        let end = match self.end {
            None => of,
            Some(end) if end < 0 || end == 0 && self.one => end.saturating_add(of),
            Some(end) => end,
        };
        if start != end && start >= of {
            return Err(out(start));
        }
        if start != end && end > of {
            return Err(out(end - 1));
        }
        let step = self.step.unwrap_or(1);
        if step <= 0 {
            return Err(EvaluateError::Step);
        }
        match (usize::try_from(start), usize::try_from(end)) {
            // Nothing is asked for, wherever that may be.
            (Ok(from), Ok(to)) if from <= to => Ok((from, to, step as usize)),
            _ => Err(out(start)),
        }
    }
}

impl Operator {
    fn holds(self, left: &Value, right: &Value) -> Result<bool> {
        let order = match (left, right) {
            (Value::String(left), Value::String(right)) => left.cmp(right),
            (Value::Bool(left), Value::Bool(right)) if matches!(self, Operator::Equal | Operator::NotEqual) => {
                left.cmp(right)
            }
            // A whole number is no fraction, whatever their values.
            (Value::Number(left), Value::Number(right)) if left.is_f64() == right.is_f64() => {
                match (left.as_i64(), right.as_i64()) {
                    (Some(left), Some(right)) => left.cmp(&right),
                    _ => left.as_f64().partial_cmp(&right.as_f64()).ok_or(EvaluateError::Incomparable)?,
                }
            }
            _ => return Err(EvaluateError::Incomparable),
        };
        Ok(match self {
            Operator::Less => order == Ordering::Less,
            Operator::LessEqual => order != Ordering::Greater,
            Operator::Equal => order == Ordering::Equal,
            Operator::NotEqual => order != Ordering::Equal,
            Operator::GreaterEqual => order != Ordering::Less,
            Operator::Greater => order == Ordering::Greater,
            Operator::Unknown => return Err(EvaluateError::Operator),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn find(path: &str, object: &Value) -> Result<Value> {
        let path = JsonPath::parse(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        Ok(path.find(object)?.into_iter().map(Cow::into_owned).collect())
    }

    #[test]
    fn values_are_found() {
        let object = json!({
            "a": [{"n": 1, "t": "x", "b": true}, {"n": 2, "t": "y"}, {"n": 3, "t": "z", "f": 1.5}],
            "m": {"a.b": "dot", "k": "v", "nothing": null},
            "l": [0, 1, 2, 3, 4],
        });
        for (path, want) in [
            (".m.k", json!(["v"])),
            ("$['m']['k']", json!(["v"])),
            (".m.a\\.b", json!(["dot"])),
            (".m['a\\.b']", json!(["dot"])),
            (".m.none.more", json!([])),
            (".m.nothing.more", json!([])),
            (".l[0]", json!([0])),
            (".l[-1]", json!([4])),
            (".l[-2]", json!([3])),
            (".l[1:3]", json!([1, 2])),
            (".l[:2]", json!([0, 1])),
            (".l[-2:]", json!([3, 4])),
            (".l[::2]", json!([0, 2, 4])),
            (".l[5:5]", json!([])),
            (".l[*]", json!([0, 1, 2, 3, 4])),
            (".l[0,2]", json!([0, 2])),
            (".a[*].t", json!(["x", "y", "z"])),
            (".a[*]['t','n']", json!(["x", "y", "z", 1, 2, 3])),
            (".m.*", json!(["dot", "v", null])),
            ("..t", json!(["x", "y", "z"])),
            (".m..", json!([{"a.b": "dot", "k": "v", "nothing": null}, "dot", "v"])),
            (".a[?(@.t==\"y\")].n", json!([2])),
            (".a[?(@.t == 'y')].n", json!([2])),
            (".a[?(@.t!=\"y\")].n", json!([1, 3])),
            (".a[?(@.n>1)].t", json!(["y", "z"])),
            (".a[?(@.n<=2)].t", json!(["x", "y"])),
            (".a[?(@.b)].t", json!(["x"])),
            (".a[?(@.b==true)].t", json!(["x"])),
            (".a[?(@.f>=1.5)].t", json!(["z"])),
            (".a[?(@.none==1)].t", json!([])),
            (".a[?(@.n==@.n)].n", json!([1, 2, 3])),
        ] {
            assert_eq!(find(path, &object), Ok(want), "{path}");
        }
        let out = |index, length| EvaluateError::OutOfBounds { index, length };
        for (path, want) in [
            (".m[0]", EvaluateError::NoList("map[string]interface {}")),
            (".m[?(@.a)]", EvaluateError::NoList("map[string]interface {}")),
            (".l[9]", out(9, 5)),
            (".l[3:9]", out(8, 5)),
            (".l[-9]", out(-4, 5)),
            (".l[::0]", EvaluateError::Step),
            (".a[?(@.n==1.0)]", EvaluateError::Incomparable),
            (".a[?(@.n==\"1\")]", EvaluateError::Incomparable),
            (".a[?(@.n=1)]", EvaluateError::Operator),
            (".a[?(@..t==\"x\")][?(@.*==1)]", EvaluateError::NoList("map[string]interface {}")),
            (".a[?(@.*==1)]", EvaluateError::Several),
            (".m end", EvaluateError::Identifier("end".into())),
            (".m.k} {.l[9]", out(9, 5)),
        ] {
            assert_eq!(find(path, &object), Err(want), "{path}");
        }
    }

    #[test]
    fn what_a_path_looks_at_is_bounded() {
        let object = json!({"l": vec![json!({"l": vec![json!({"a": "x"}); 100]}); 100]});
        assert!(find("..a", &object).is_ok());
        let many = format!(".l[*].l[*][{}]", ["'a'"; 11].join(","));
        assert_eq!(find(&many, &object), Err(EvaluateError::TooMuch));
    }
}
