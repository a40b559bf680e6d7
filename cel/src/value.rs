//! Values of expressions. What comes from an object stays there: a list or map of JSON is a reference, and its parts become values
//! when they are looked at.

use crate::error::Error;
use crate::types::{ListKind, ListType, ObjectType, Type};
use apimachinery::quantity::Quantity;
use serde_json::{Map as JsonMap, Value as Json};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::rc::Rc;

static DYN: Type = Type::Dyn;

/// What texts of a format are checked for.
pub struct NamedFormat {
    pub name: &'static str,
    /// What is wrong with a text; empty if nothing is.
    pub check: fn(&str) -> Vec<String>,
}

impl std::fmt::Debug for NamedFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A string, borrowed from an object or expression, or made while it runs.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Made(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Made(text) => text,
        }
    }
}

#[derive(Clone, Debug)]
pub enum List<'a> {
    Json(&'a [Json], &'a ListType),
    Made(Rc<[Value<'a>]>),
}

#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// Members of an object; their type is a map's value type or their object's field.
    Json(&'a JsonMap<String, Json>, Members<'a>),
    Made(Rc<BTreeMap<Key, Value<'a>>>),
}

#[derive(Clone, Copy, Debug)]
pub enum Members<'a> {
    Any(&'a Type),
    Fields(&'a ObjectType),
}

/// A key of a map. Numbers that are equal are the same key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Rc<str>),
}

/// Values of the libraries' types.
#[derive(Clone, Debug)]
pub enum Opaque {
    Quantity(Quantity),
    Url(url::Url, String),
    Ip(IpAddr),
    Cidr(ipnet::IpNet, IpAddr),
    Semver(semver::Version),
    Format(&'static NamedFormat),
    /// Asks for the user of the request, or for a service account (namespace and name).
    Authorizer(Option<(String, String)>),
    PathCheck(String, Option<(String, String)>),
    ResourceCheck(ResourceCheck),
    Decision(Decision),
    JsonPatch(Json),
}

/// Access to a resource, as an expression asks for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceCheck {
    pub group: String,
    /// Empty until the expression has named it: a group alone can't be checked.
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
    /// `namespace/name` of another identity to ask for.
    pub service_account: Option<(String, String)>,
}

/// What an authorizer says to a check.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    /// Not empty if the check itself failed.
    pub error: String,
}

#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Rc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    Timestamp(jiff::Timestamp),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Rc<Value<'a>>>),
    Type(Type),
    /// An object that an expression made: its type's name and its members.
    Struct(Rc<str>, Rc<BTreeMap<Rc<str>, Value<'a>>>),
    Opaque(Rc<Opaque>),
}

impl<'a> Value<'a> {
    pub fn text(text: impl Into<Rc<str>>) -> Value<'a> {
        Value::String(Text::Made(text.into()))
    }

    pub fn list(items: Vec<Value<'a>>) -> Value<'a> {
        Value::List(List::Made(items.into()))
    }

    pub fn opaque(value: Opaque) -> Value<'a> {
        Value::Opaque(Rc::new(value))
    }

    pub fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Rc::new(value)))
    }

    /// A JSON value of no declared type.
    pub fn untyped(json: &'a Json) -> Value<'a> {
        Value::of(json, &DYN)
    }

    /// A JSON value of a declared type: that type's dates, durations and bytes are strings in JSON.
    pub fn of(json: &'a Json, ty: &'a Type) -> Value<'a> {
        match (json, ty) {
            (Json::Null, _) => Value::Null,
            (Json::Bool(b), _) => Value::Bool(*b),
            (Json::Number(n), Type::Double) => Value::Double(n.as_f64().unwrap_or_default()),
            (Json::Number(n), Type::Int) if n.is_f64() => Value::Int(n.as_f64().unwrap_or_default() as i64),
            (Json::Number(n), _) => match (n.as_i64(), n.as_u64()) {
                (Some(int), _) => Value::Int(int),
                (_, Some(uint)) => Value::Uint(uint),
                _ => Value::Double(n.as_f64().unwrap_or_default()),
            },
            (Json::String(text), Type::Duration) => {
                crate::time::parse_duration(text).map_or(Value::String(Text::Borrowed(text)), Value::Duration)
            }
            (Json::String(text), Type::Timestamp) => {
                crate::time::parse_date_or_timestamp(text).map_or(Value::String(Text::Borrowed(text)), Value::Timestamp)
            }
            (Json::String(text), Type::Bytes(_)) => {
                use base64::Engine;
                let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                bytes.map_or(Value::String(Text::Borrowed(text)), |bytes| Value::Bytes(bytes.into()))
            }
            (Json::String(text), _) => Value::String(Text::Borrowed(text)),
            (Json::Array(items), Type::List(list, _)) => Value::List(List::Json(items, list)),
            (Json::Array(items), _) => Value::List(List::Json(items, any_list())),
            (Json::Object(members), Type::Map(map, _)) => Value::Map(Map::Json(members, Members::Any(&map.1))),
            (Json::Object(members), Type::Object(object)) => Value::Map(Map::Json(members, Members::Fields(object))),
            (Json::Object(members), _) => Value::Map(Map::Json(members, Members::Any(&DYN))),
        }
    }

    /// What JSON the value is; none for what JSON has no form for.
    pub fn to_json(&self) -> Option<Json> {
        use base64::Engine;
        Some(match self {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(n) => Json::from(*n),
            Value::Uint(n) => Json::from(*n),
            Value::Double(n) => serde_json::Number::from_f64(*n).map(Json::Number)?,
            Value::String(text) => Json::from(&**text),
            Value::Bytes(bytes) => Json::from(base64::engine::general_purpose::STANDARD.encode(bytes)),
            Value::Duration(nanos) => Json::from(crate::time::show_duration(*nanos)),
            Value::Timestamp(time) => Json::from(crate::time::show_timestamp(*time)),
            Value::List(List::Json(items, _)) => Json::Array(items.to_vec()),
            Value::List(list) => Json::Array(list.iter().map(|item| item.to_json()).collect::<Option<_>>()?),
            Value::Map(Map::Json(members, _)) => Json::Object((*members).clone()),
            Value::Map(Map::Made(entries)) => {
                let member = |(key, value): (&Key, &Value<'_>)| Some((key.to_string(), value.to_json()?));
                Json::Object(entries.iter().map(member).collect::<Option<_>>()?)
            }
            Value::Struct(_, members) => {
                let member = |(name, value): (&Rc<str>, &Value<'_>)| Some((name.to_string(), value.to_json()?));
                Json::Object(members.iter().map(member).collect::<Option<_>>()?)
            }
            Value::Optional(Some(value)) => value.to_json()?,
            Value::Opaque(opaque) => match &**opaque {
                Opaque::JsonPatch(patch) => patch.clone(),
                _ => return None,
            },
            Value::Optional(None) | Value::Type(_) => return None,
        })
    }

    /// Whether every `Object…{}` in it is named after the place where it stands: `Object.spec{}` in the field `spec` of an `Object{}`.
    ///
    /// # Errors
    /// The first that is not, in upstream's words.
    pub fn check_names(&self) -> Result<(), String> {
        match self {
            Value::Struct(..) => self.named_as("Object"),
            Value::List(List::Made(items)) => items.iter().try_for_each(Value::check_names),
            _ => Ok(()),
        }
    }

    fn named_as(&self, path: &str) -> Result<(), String> {
        match self {
            Value::Struct(name, members) => {
                if &**name != path {
                    return Err(format!(
                        "unexpected type name {name:?}, expected {path:?}, which matches field name path from root Object type"
                    ));
                }
                members.iter().try_for_each(|(field, value)| value.named_as(&format!("{path}.{field}")))
            }
            Value::List(List::Made(items)) => items.iter().try_for_each(|item| item.named_as(path)),
            Value::Map(Map::Made(entries)) => entries.values().try_for_each(|value| value.named_as(path)),
            Value::Optional(Some(value)) => value.named_as(path),
            _ => Ok(()),
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Bytes, items or entries; 1 for what has no parts.
    pub fn size(&self) -> u64 {
        match self {
            Value::String(text) => text.len() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::List(list) => list.len() as u64,
            Value::Map(map) => map.len() as u64,
            Value::Struct(_, members) => members.len() as u64,
            Value::Optional(Some(value)) => value.size(),
            _ => 1,
        }
    }

    /// What it costs to look at all of the value.
    pub fn weight(&self) -> u64 {
        fn of(json: &Json) -> u64 {
            match json {
                Json::String(text) => text.len() as u64,
                Json::Array(items) => items.iter().map(of).sum::<u64>() + 1,
                Json::Object(members) => members.values().map(of).sum::<u64>() + 1,
                _ => 1,
            }
        }
        match self {
            Value::List(List::Json(items, _)) => items.iter().map(of).sum(),
            Value::Map(Map::Json(members, _)) => members.values().map(of).sum(),
            Value::List(List::Made(items)) => items.iter().map(Value::weight).sum(),
            Value::Map(Map::Made(entries)) => entries.values().map(Value::weight).sum(),
            Value::Struct(_, members) => members.values().map(Value::weight).sum(),
            Value::Optional(Some(value)) => value.weight(),
            value => value.size(),
        }
    }

    pub fn type_of(&self) -> Type {
        match self {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::STRING,
            Value::Bytes(_) => Type::BYTES,
            Value::Duration(_) => Type::Duration,
            Value::Timestamp(_) => Type::Timestamp,
            Value::List(_) => Type::list(Type::Dyn),
            Value::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Value::Struct(name, _) => {
                Type::Object(ObjectType { name: name.to_string(), open: true, ..ObjectType::default() }.into())
            }
            Value::Optional(_) => Type::optional(Type::Dyn),
            Value::Type(_) => Type::Type(Type::Dyn.into()),
            Value::Opaque(opaque) => Type::named(opaque.word()).unwrap_or(Type::Dyn),
        }
    }

    /// Whether a function takes the value for an argument of the type. Parts are looked at when they are used.
    pub fn fits(&self, ty: &Type) -> bool {
        match (self, ty) {
            (_, Type::Dyn | Type::Param(_)) => true,
            (Value::Map(_) | Value::Struct(..), Type::Object(_)) => true,
            (Value::List(_), Type::List(..)) | (Value::Map(_), Type::Map(..)) => true,
            (Value::Optional(_), Type::Optional(_)) | (Value::Type(_), Type::Type(_)) => true,
            (value, ty) => value.type_of() == *ty,
        }
    }

    /// Whether two values are equal. Numbers are equal across their types; values of different types are not.
    pub fn equals(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) => **a == **b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::List(a), Value::List(b)) => a.equals(b),
            (Value::Map(a), Value::Map(b)) => a.equals(b),
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::Optional(a), Value::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b),
                (a, b) => a.is_none() && b.is_none(),
            },
            (Value::Struct(a, m), Value::Struct(b, n)) => {
                a == b && m.len() == n.len() && m.iter().all(|(k, v)| n.get(k).is_some_and(|w| v.equals(w)))
            }
            (Value::Opaque(a), Value::Opaque(b)) => a.equals(b),
            _ => self.compare(other) == Some(Ordering::Equal),
        }
    }

    /// The order of two values of one type that has one, and of numbers of any type. None also where one is not a number.
    pub fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        use Value::*;
        let of_double = |int: i128, double: f64| {
            if double.is_nan() {
                return None;
            }
            // Exact: the double is cut to an integer, and its fraction decides where they meet.
            let cut = if double.abs() < 1e20 {
                double.trunc() as i128
            } else if double > 0.0 {
                i128::MAX
            } else {
                i128::MIN
            };
            Some(int.cmp(&cut).then_with(|| 0.0f64.partial_cmp(&double.fract()).unwrap_or(Ordering::Equal)))
        };
        match (self, other) {
            (Bool(a), Bool(b)) => Some(a.cmp(b)),
            (String(a), String(b)) => Some((**a).cmp(&**b)),
            (Bytes(a), Bytes(b)) => Some(a.cmp(b)),
            (Duration(a), Duration(b)) => Some(a.cmp(b)),
            (Timestamp(a), Timestamp(b)) => Some(a.cmp(b)),
            (Double(a), Double(b)) => a.partial_cmp(b),
            (Double(a), _) => of_double(other.integer()?, *a).map(Ordering::reverse),
            (_, Double(b)) => of_double(self.integer()?, *b),
            _ => Some(self.integer()?.cmp(&other.integer()?)),
        }
    }

    fn integer(&self) -> Option<i128> {
        match self {
            Value::Int(n) => Some((*n).into()),
            Value::Uint(n) => Some((*n).into()),
            _ => None,
        }
    }

    /// The value as a key of a map; none if it can be none.
    pub fn key(&self) -> Option<Key> {
        Some(match self {
            Value::Bool(b) => Key::Bool(*b),
            Value::String(text) => Key::String((**text).into()),
            Value::Double(n) if n.fract() == 0.0 && n.abs() < 9e18 => Key::Int(*n as i64),
            _ => {
                let n = self.integer()?;
                i64::try_from(n).map(Key::Int).ok().or_else(|| u64::try_from(n).ok().map(Key::Uint))?
            }
        })
    }
}

fn any_list() -> &'static ListType {
    static ANY: ListType = ListType { item: Type::Dyn, kind: ListKind::Atomic };
    &ANY
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Bool(b) => write!(f, "{b}"),
            Key::Int(n) => write!(f, "{n}"),
            Key::Uint(n) => write!(f, "{n}"),
            Key::String(text) => f.write_str(text),
        }
    }
}

impl Key {
    pub fn value<'a>(&self) -> Value<'a> {
        match self {
            Key::Bool(b) => Value::Bool(*b),
            Key::Int(n) => Value::Int(*n),
            Key::Uint(n) => Value::Uint(*n),
            Key::String(text) => Value::String(Text::Made(text.clone())),
        }
    }
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            List::Json(items, _) => items.len(),
            List::Made(items) => items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            List::Json(items, list) => items.get(index).map(|item| Value::of(item, &list.item)),
            List::Made(items) => items.get(index).cloned(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    fn kind(&self) -> &'a ListKind {
        match self {
            List::Json(_, list) => &list.kind,
            List::Made(_) => &any_list().kind,
        }
    }

    pub fn contains(&self, value: &Value<'_>) -> bool {
        self.iter().any(|item| item.equals(value))
    }

    /// Sets and maps by key have no order: lists of those kinds are equal whatever theirs is.
    fn equals(&self, other: &List<'_>) -> bool {
        if self.len() != other.len() {
            return false;
        }
        match (self.kind(), other.kind()) {
            (ListKind::Atomic, ListKind::Atomic) => self.iter().zip(other.iter()).all(|(a, b)| a.equals(&b)),
            _ => self.iter().all(|item| other.contains(&item)),
        }
    }

    /// `self + other`: a set takes what it does not have; a map by key also replaces what it has.
    pub fn concat(&self, other: &List<'a>) -> List<'a> {
        let mut items: Vec<Value<'a>> = self.iter().collect();
        for item in other.iter() {
            match self.kind() {
                ListKind::Atomic => items.push(item),
                ListKind::Set if items.iter().any(|i| i.equals(&item)) => {}
                ListKind::Set => items.push(item),
                ListKind::Map(keys) => {
                    let same = |a: &Value<'_>| {
                        keys.iter().all(|key| match (a.member(key), item.member(key)) {
                            (Some(a), Some(b)) => a.equals(&b),
                            (a, b) => a.is_none() && b.is_none(),
                        })
                    };
                    match items.iter().position(same) {
                        Some(at) => items[at] = item,
                        None => items.push(item),
                    }
                }
            }
        }
        List::Made(items.into())
    }
}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Map::Json(members, _) => members.len(),
            Map::Made(entries) => entries.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn get_str(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Map::Json(members, Members::Any(ty)) => members.get(name).map(|value| Value::of(value, ty)),
            Map::Json(members, Members::Fields(object)) => match object.fields.get(name) {
                Some(field) => members.get(&field.member).map(|value| Value::of(value, &field.ty)),
                None if object.open => members.get(name).map(Value::untyped),
                None => None,
            },
            Map::Made(entries) => entries.get(&Key::String(name.into())).cloned(),
        }
    }

    pub fn get(&self, key: &Value<'_>) -> Option<Value<'a>> {
        match (self, key) {
            (map, Value::String(name)) => map.get_str(name),
            (Map::Made(entries), key) => entries.get(&key.key()?).cloned(),
            (Map::Json(..), _) => None,
        }
    }

    /// Entries in the order of their keys.
    pub fn entries(&self) -> Vec<(Value<'a>, Value<'a>)> {
        match self {
            Map::Json(members, of) => members
                .iter()
                .map(|(name, value)| {
                    let value = match of {
                        Members::Any(ty) => Value::of(value, ty),
                        Members::Fields(object) => match object.fields.values().find(|field| field.member == *name) {
                            Some(field) => Value::of(value, &field.ty),
                            None => Value::untyped(value),
                        },
                    };
                    (Value::String(Text::Borrowed(name)), value)
                })
                .collect(),
            Map::Made(entries) => entries.iter().map(|(key, value)| (key.value(), value.clone())).collect(),
        }
    }

    fn equals(&self, other: &Map<'_>) -> bool {
        self.len() == other.len()
            && self.entries().iter().all(|(key, value)| {
                let there = match (other, key) {
                    // Members are compared by their own names, not by those that expressions use.
                    (Map::Json(members, of), Value::String(name)) => members.get(&**name).map(|value| match of {
                        Members::Any(ty) => Value::of(value, ty),
                        Members::Fields(object) => {
                            let field = object.fields.values().find(|field| field.member == **name);
                            field.map_or_else(|| Value::untyped(value), |field| Value::of(value, &field.ty))
                        }
                    }),
                    _ => other.get(key),
                };
                there.is_some_and(|there| value.equals(&there))
            })
    }
}

impl<'a> Value<'a> {
    /// A member by name; none if there is none or the value has no members.
    pub fn member(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Value::Map(map) => map.get_str(name),
            Value::Struct(_, members) => members.get(name).cloned(),
            _ => None,
        }
    }

    /// Items or keys, in order.
    pub fn items(&self) -> Result<Vec<Value<'a>>, Error> {
        match self {
            Value::List(list) => Ok(list.iter().collect()),
            Value::Map(map) => Ok(map.entries().into_iter().map(|(key, _)| key).collect()),
            _ => Err(Error::no_overload()),
        }
    }
}

impl Opaque {
    /// The type's word in signatures.
    fn word(&self) -> &'static str {
        match self {
            Opaque::Quantity(_) => "quantity",
            Opaque::Url(..) => "url",
            Opaque::Ip(_) => "ip",
            Opaque::Cidr(..) => "cidr",
            Opaque::Semver(_) => "semver",
            Opaque::Format(_) => "format",
            Opaque::Authorizer(_) => "authorizer",
            Opaque::PathCheck(..) => "path_check",
            Opaque::ResourceCheck(check) if check.resource.is_empty() => "group_check",
            Opaque::ResourceCheck(_) => "resource_check",
            Opaque::Decision(_) => "decision",
            Opaque::JsonPatch(_) => "JSONPatch",
        }
    }

    fn equals(&self, other: &Opaque) -> bool {
        match (self, other) {
            (Opaque::Quantity(a), Opaque::Quantity(b)) => a == b,
            (Opaque::Url(_, a), Opaque::Url(_, b)) => a == b,
            (Opaque::Ip(a), Opaque::Ip(b)) => a == b,
            (Opaque::Cidr(n, a), Opaque::Cidr(m, b)) => a == b && n.prefix_len() == m.prefix_len(),
            (Opaque::Semver(a), Opaque::Semver(b)) => a.cmp_precedence(b) == Ordering::Equal,
            (Opaque::Format(a), Opaque::Format(b)) => std::ptr::eq(*a, *b),
            (Opaque::PathCheck(a, i), Opaque::PathCheck(b, j)) => a == b && i == j,
            (Opaque::ResourceCheck(a), Opaque::ResourceCheck(b)) => a == b,
            (Opaque::Decision(a), Opaque::Decision(b)) => a == b,
            (Opaque::JsonPatch(a), Opaque::JsonPatch(b)) => a == b,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_across_types_exactly() {
        let big = 1i64 << 53;
        for (a, b, want) in [
            (Value::Int(1), Value::Uint(1), Some(Ordering::Equal)),
            (Value::Int(-1), Value::Uint(u64::MAX), Some(Ordering::Less)),
            (Value::Int(1), Value::Double(1.5), Some(Ordering::Less)),
            (Value::Int(-1), Value::Double(-1.5), Some(Ordering::Greater)),
            (Value::Int(big + 1), Value::Double(big as f64), Some(Ordering::Greater)),
            (Value::Uint(3), Value::Double(f64::INFINITY), Some(Ordering::Less)),
            (Value::Double(f64::NAN), Value::Int(0), None),
            (Value::text("a"), Value::text("b"), Some(Ordering::Less)),
            (Value::text("1"), Value::Int(1), None),
        ] {
            assert_eq!(a.compare(&b), want, "{a:?} {b:?}");
        }
    }
}
