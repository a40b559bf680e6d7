//! JSONPath as Kubernetes' clients and definitions write it (printer columns of custom resources). It is older than RFC 9535 and
//! differs from it: `..` finds no scalars but strings, filters compare one value with one, a key in quotes is a path of its own,
//! and what is not there is no error.
//!
//! | piece | what it finds |
//! |---|---|
//! | `.name`, `['name']` | a member; dots and brackets of its name are escaped by `\` |
//! | `[0]`, `[-1]`, `[1:3]`, `[::2]`, `[*]` | items |
//! | `.*` | all members or items |
//! | `[0,'name']` | the union |
//! | `..name` | the member, wherever it is |
//! | `[?(@.type=="Ready")]`, `[?(@.name)]` | the items for which it holds |
//!
//! What never comes in: templates (`range`, `end`), of which a column uses none.

mod evaluate;
mod parse;

pub use evaluate::EvaluateError;
pub use parse::ParseError;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    /// Those in braces and between them; the first is the path, the others hardly anybody writes.
    paths: Vec<Path>,
}

/// Steps, each taken from all that the one before has found.
type Path = Vec<Step>;

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    Recursive,
    Slice(Slice),
    Union(Vec<Path>),
    /// The items of which there is something at the path.
    Exists(Path),
    Filter(Path, Operator, Path),
    /// A value that stands in the path itself.
    Literal(serde_json::Value),
    /// A word, which means something in templates only.
    Identifier(String),
}

/// Items from `start` up to `end`; each may be left out, and counts from the end if it is negative.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Slice {
    start: i64,
    end: Option<i64>,
    /// The end was not written: one item is meant.
    one: bool,
    step: Option<i64>,
}

/// How a filter compares.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Less,
    LessEqual,
    Equal,
    NotEqual,
    GreaterEqual,
    Greater,
    /// Written, but none of these.
    Unknown,
}
