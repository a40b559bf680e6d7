//! One step of a path into an object.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value};

use crate::schema::{Granularity, Node};

/// How a member or an item is told apart from its siblings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathElement {
    /// A member of a struct or map.
    Field(Box<str>),
    /// An item of a keyed list; the keys sorted by name.
    Key(Box<[(Box<str>, Value)]>),
    /// An item of a set.
    Value(Value),
    /// An item by position. Upstream writes none of these but reads them.
    Index(i64),
}

impl PathElement {
    pub fn field(name: &str) -> Self {
        PathElement::Field(name.into())
    }

    /// What tells `item` apart in the list at `node`. A key that the item lacks and the schema has no default for counts as null.
    pub fn of_item(node: &Node<'_>, item: &Value) -> Self {
        match node.granularity() {
            Granularity::Keyed(keys) => {
                let value =
                    |key: &str| item.get(key).cloned().or_else(|| node.item().key_default(key)).unwrap_or_default();
                let mut keys: Vec<_> = keys.iter().map(|key| (Box::from(&**key), value(key))).collect();
                keys.sort_by(|a: &(Box<str>, _), b| a.0.cmp(&b.0));
                PathElement::Key(keys.into())
            }
            _ => PathElement::Value(item.clone()),
        }
    }

    /// Whether it stands for an item that lacks a key of its list.
    pub fn is_unkeyed(&self) -> bool {
        matches!(self, PathElement::Key(keys) if keys.iter().any(|(_, value)| value.is_null()))
    }

    /// Reads a key of `FieldsV1`: `f:name`, `k:{"name":"c"}`, `v:"x"`, `i:0`.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(PathElement::field(rest)),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                let mut keys: Vec<_> = keys.into_iter().map(|(k, v)| (k.into_boxed_str(), v)).collect();
                keys.sort_by(|a, b| a.0.cmp(&b.0));
                (!keys.is_empty()).then(|| PathElement::Key(keys.into()))
            }
            "v" => serde_json::from_str(rest).ok().map(PathElement::Value),
            "i" => rest.parse().ok().map(PathElement::Index),
            _ => None,
        }
    }

    /// The key of `FieldsV1`.
    pub fn to_key(&self) -> String {
        let json = |value: &Value| serde_json::to_string(value).unwrap_or_default();
        match self {
            PathElement::Field(name) => ["f:", name].concat(),
            PathElement::Key(keys) => {
                let mut key = String::from("k:{");
                for (i, (name, value)) in keys.iter().enumerate() {
                    if i > 0 {
                        key.push(',');
                    }
                    key.push_str(&json(&Value::from(&**name)));
                    key.push(':');
                    key.push_str(&json(value));
                }
                key.push('}');
                key
            }
            PathElement::Value(value) => ["v:", &json(value)].concat(),
            PathElement::Index(index) => format!("i:{index}"),
        }
    }

    /// The node of the value that this element leads to.
    pub fn step<'a>(&self, node: &Node<'a>) -> Node<'a> {
        match self {
            PathElement::Field(name) => node.member(name).unwrap_or(Node::Untyped),
            _ => node.item(),
        }
    }
}

/// As error messages show it: `.name`, `[name="c"]`, `[="x"]`, `[0]`.
impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathElement::Field(name) => write!(f, ".{name}"),
            PathElement::Key(keys) => {
                let keys: Vec<_> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
            PathElement::Value(value) => write!(f, "[={value}]"),
            PathElement::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// The order in which upstream writes the members of a `FieldsV1`.
impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        use PathElement::{Field, Index, Key, Value};
        match (self, other) {
            (Field(a), Field(b)) => a.cmp(b),
            (Key(a), Key(b)) => {
                let pairs = a.iter().zip(b).map(|((ak, av), (bk, bv))| ak.cmp(bk).then_with(|| compare_values(av, bv)));
                pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
            }
            (Value(a), Value(b)) => compare_values(a, b),
            (Index(a), Index(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PathElement {
    fn rank(&self) -> u8 {
        match self {
            PathElement::Field(_) => 0,
            PathElement::Key(_) => 1,
            PathElement::Value(_) => 2,
            PathElement::Index(_) => 3,
        }
    }
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A total order of JSON values: numbers, strings, booleans, lists, objects, null.
fn compare_values(a: &Value, b: &Value) -> Ordering {
    let rank = |v: &Value| match v {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)),
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => a.to_string().cmp(&b.to_string()),
        _ => rank(a).cmp(&rank(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_written_and_shown() {
        for (text, shown) in [
            ("f:spec", ".spec"),
            (r#"k:{"name":"c"}"#, r#"[name="c"]"#),
            (r#"k:{"port":80,"protocol":"TCP"}"#, r#"[port=80,protocol="TCP"]"#),
            (r#"v:"a.b/c""#, r#"[="a.b/c"]"#),
            ("v:true", "[=true]"),
            ("i:3", "[3]"),
        ] {
            let element = PathElement::parse(text).unwrap();
            assert_eq!((element.to_key().as_str(), element.to_string().as_str()), (text, shown));
        }
        for text in ["", "f", "x:1", "k:{}", "k:[]", "v:", "i:x"] {
            assert_eq!(PathElement::parse(text), None, "{text}");
        }
    }

    #[test]
    fn elements_sort_as_upstream_writes_them() {
        let sorted = ["f:a", "f:b", r#"k:{"a":1}"#, r#"k:{"a":"x"}"#, r#"k:{"b":0}"#, "v:1", "v:\"a\"", "i:1"];
        let elements: Vec<_> = sorted.iter().map(|t| PathElement::parse(t).unwrap()).collect();
        assert!(elements.is_sorted());
    }
}
