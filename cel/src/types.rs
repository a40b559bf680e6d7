//! The types of the language, each with what is known of the size of its values.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The most that a value can hold: bytes of a string, items of a list, entries of a map. Two types are the same whatever their sizes.
#[derive(Clone, Copy, Debug, PartialOrd)]
pub struct Size(pub u64);

impl Size {
    pub const UNKNOWN: Size = Size(u64::MAX);
}

impl PartialEq for Size {
    fn eq(&self, _: &Size) -> bool {
        true
    }
}

#[derive(Clone, Debug)]
pub enum Type {
    /// Known only when it runs.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String(Size),
    Bytes(Size),
    Duration,
    Timestamp,
    List(Arc<ListType>, Size),
    Map(Arc<(Type, Type)>, Size),
    Object(Arc<ObjectType>),
    /// A type of a library, by name: `quantity`, `url`.
    Opaque(&'static str),
    Optional(Arc<Type>),
    /// The type of types.
    Type(Arc<Type>),
    /// A variable of the checker.
    Param(u32),
}

#[derive(Clone, Debug)]
pub struct ListType {
    pub item: Type,
    pub kind: ListKind,
}

/// How the items of a list relate (`x-kubernetes-list-type`): what is equal, and what a sum is.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ListKind {
    #[default]
    Atomic,
    Set,
    /// Told apart by these members.
    Map(Vec<String>),
}

/// A type with fields.
#[derive(Debug, Default)]
pub struct ObjectType {
    pub name: String,
    /// By the name that expressions use.
    pub fields: BTreeMap<String, Field>,
    /// Fields that are not named may be there and are of any type.
    pub open: bool,
}

#[derive(Clone, Debug)]
pub struct Field {
    /// The member's name in the object, where the language needs it escaped.
    pub member: String,
    pub ty: Type,
}

impl Type {
    pub const STRING: Type = Type::String(Size::UNKNOWN);
    pub const BYTES: Type = Type::Bytes(Size::UNKNOWN);

    pub fn list(item: Type) -> Type {
        Type::List(Arc::new(ListType { item, kind: ListKind::Atomic }), Size::UNKNOWN)
    }

    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new((key, value)), Size::UNKNOWN)
    }

    pub fn optional(inner: Type) -> Type {
        Type::Optional(Arc::new(inner))
    }

    /// The most a value of the type holds; values without parts count as one.
    pub fn size(&self) -> u64 {
        match self {
            Type::String(size) | Type::Bytes(size) | Type::List(_, size) | Type::Map(_, size) => size.0,
            Type::Dyn | Type::Param(_) | Type::Optional(_) => u64::MAX,
            _ => 1,
        }
    }

    /// The type that a word of a signature or a type name in an expression stands for.
    pub fn named(name: &str) -> Option<Type> {
        Some(match name {
            "dyn" => Type::Dyn,
            "null_type" => Type::Null,
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::STRING,
            "bytes" => Type::BYTES,
            "duration" | "google.protobuf.Duration" => Type::Duration,
            "timestamp" | "google.protobuf.Timestamp" => Type::Timestamp,
            "list" => Type::list(Type::Dyn),
            "map" => Type::map(Type::Dyn, Type::Dyn),
            "type" => Type::Type(Arc::new(Type::Dyn)),
            _ => return OPAQUE.iter().find(|(word, _)| *word == name).map(|(_, ty)| Type::Opaque(ty)),
        })
    }
}

/// Types of libraries: the word in signatures, and the name that users see.
const OPAQUE: [(&str, &str); 14] = [
    ("quantity", "kubernetes.Quantity"),
    ("url", "kubernetes.URL"),
    ("ip", "net.IP"),
    ("cidr", "net.CIDR"),
    ("semver", "kubernetes.Semver"),
    ("format", "kubernetes.NamedFormat"),
    ("authorizer", "kubernetes.authorization.Authorizer"),
    ("path_check", "kubernetes.authorization.PathCheck"),
    ("group_check", "kubernetes.authorization.GroupCheck"),
    ("resource_check", "kubernetes.authorization.ResourceCheck"),
    ("decision", "kubernetes.authorization.Decision"),
    ("JSONPatch", "JSONPatch"),
    ("net.IP", "net.IP"),
    ("net.CIDR", "net.CIDR"),
];

impl PartialEq for Type {
    fn eq(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::List(a, _), Type::List(b, _)) => a.item == b.item,
            (Type::Map(a, _), Type::Map(b, _)) => a == b,
            (Type::Object(a), Type::Object(b)) => a.name == b.name,
            (Type::Opaque(a), Type::Opaque(b)) => a == b,
            (Type::Optional(a), Type::Optional(b)) | (Type::Type(a), Type::Type(b)) => a == b,
            (Type::Param(a), Type::Param(b)) => a == b,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn | Type::Param(_) => f.write_str("dyn"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String(_) => f.write_str("string"),
            Type::Bytes(_) => f.write_str("bytes"),
            Type::Duration => f.write_str("google.protobuf.Duration"),
            Type::Timestamp => f.write_str("google.protobuf.Timestamp"),
            Type::List(list, _) => write!(f, "list({})", list.item),
            Type::Map(map, _) => write!(f, "map({}, {})", map.0, map.1),
            Type::Object(object) => f.write_str(&object.name),
            Type::Opaque(name) => f.write_str(name),
            Type::Optional(inner) => write!(f, "optional_type({inner})"),
            Type::Type(inner) => write!(f, "type({inner})"),
        }
    }
}
