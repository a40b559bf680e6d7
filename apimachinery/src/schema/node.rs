//! A place in an object's schema, whatever the schema came from.

use super::embedded::metadata_shape;
use super::structural::{Additional, Kind, Structural};
use super::{Field, ListType, PatchTag, Schema, Shape, TypeId};
use std::borrow::Cow;
use std::sync::LazyLock;

/// Where a walk over an object stands: what the value there is, and how it merges.
///
/// Apply, strategic patch and pruning take a `Node` beside each value and step down with [`Node::member`] and [`Node::item`].
#[derive(Clone, Copy, Debug)]
pub enum Node<'a> {
    Builtin {
        schema: &'a Schema,
        shape: &'a Shape,
        field: Option<&'a Field>,
    },
    /// A place in a custom resource.
    Structural {
        schema: &'a Structural,
        /// An object with a `metadata` of its own: the whole, or an embedded one.
        whole: bool,
    },
    /// Nothing is known of what lies here: objects and lists are taken as they come.
    Untyped,
}

/// How apply sees the value at a [`Node`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Granularity<'a> {
    /// Owned as one: scalars, atomic lists, maps and structs.
    Leaf,
    /// Each member is owned by itself.
    Object,
    /// A list without duplicates; each value is owned by itself.
    Set,
    /// A list of objects told apart by these members.
    Keyed(&'a [Cow<'static, str>]),
    /// No schema: objects are granular, lists are atomic.
    Untyped,
}

impl<'a> Node<'a> {
    /// The root of a built-in kind.
    pub fn root(schema: &'a Schema, shape: &'a Shape) -> Self {
        Node::Builtin { schema, shape, field: None }
    }

    /// The root of objects of a built-in struct.
    pub fn of_type(id: TypeId) -> Node<'static> {
        static SHAPES: LazyLock<Vec<Shape>> =
            LazyLock::new(|| (0..Schema::builtin().types.len() as u32).map(|id| Shape::Struct(TypeId(id))).collect());
        match SHAPES.get(id.0 as usize) {
            Some(shape) => Node::root(Schema::builtin(), shape),
            None => Node::Untyped,
        }
    }

    /// The root of a custom resource.
    pub fn custom(schema: &'a Structural) -> Self {
        Node::Structural { schema, whole: true }
    }

    fn structural(schema: &'a Structural) -> Self {
        Node::Structural { schema, whole: schema.embedded }
    }

    /// Whether `name` is a member that the schema names, not an entry of a map.
    pub fn names(&self, name: &str) -> bool {
        match self {
            Node::Builtin { shape: Shape::Struct(_), .. } => self.member(name).is_some(),
            Node::Structural { schema, whole } => {
                schema.properties.contains_key(name) || *whole && matches!(name, "apiVersion" | "kind" | "metadata")
            }
            _ => false,
        }
    }

    /// The member `name` of the object here; `None` where the schema has no such member.
    pub fn member(&self, name: &str) -> Option<Node<'a>> {
        match *self {
            Node::Builtin { schema, shape: Shape::Struct(id), .. } => {
                let ty = schema.get(*id);
                if ty.type_meta && (name == "apiVersion" || name == "kind") {
                    return Some(Node::Builtin { schema, shape: &Shape::String, field: None });
                }
                let field = schema.member(ty, name)?;
                Some(Node::Builtin { schema, shape: &field.shape, field: Some(field) })
            }
            Node::Builtin { schema, shape: Shape::Map(values), .. } => {
                Some(Node::Builtin { schema, shape: values, field: None })
            }
            Node::Builtin { shape: Shape::RawExtension | Shape::Json | Shape::FieldsV1 | Shape::Any, .. } => {
                Some(Node::Untyped)
            }
            Node::Builtin {
                schema,
                shape: Shape::SchemaOrArray(id) | Shape::SchemaOrBool(id) | Shape::SchemaOrStringArray(id),
                ..
            } => {
                let field = schema.member(schema.get(*id), name)?;
                Some(Node::Builtin { schema, shape: &field.shape, field: Some(field) })
            }
            Node::Builtin { .. } => None,
            Node::Structural { whole: true, .. } if name == "metadata" => {
                Some(Node::Builtin { schema: Schema::builtin(), shape: metadata_shape(), field: None })
            }
            Node::Structural { whole: true, .. } if matches!(name, "apiVersion" | "kind") => {
                Some(Node::Builtin { schema: Schema::builtin(), shape: &Shape::String, field: None })
            }
            Node::Structural { schema, .. } => match schema.member(name) {
                Some(member) => Some(Node::structural(member)),
                None if schema.preserve || matches!(schema.additional, Additional::Any) => Some(Node::Untyped),
                None => None,
            },
            Node::Untyped => Some(Node::Untyped),
        }
    }

    /// An item of the list here.
    pub fn item(&self) -> Node<'a> {
        match *self {
            Node::Builtin { schema, shape: Shape::List(items), .. } => {
                Node::Builtin { schema, shape: items, field: None }
            }
            Node::Structural { schema, .. } => schema.items.as_deref().map_or(Node::Untyped, Node::structural),
            _ => Node::Untyped,
        }
    }

    /// How apply tracks ownership here.
    pub fn granularity(&self) -> Granularity<'a> {
        match *self {
            Node::Untyped => Granularity::Untyped,
            Node::Structural { schema, .. } => match schema.kind {
                Kind::Object if schema.atomic => Granularity::Leaf,
                Kind::Object if schema.properties.is_empty() && schema.preserve => Granularity::Untyped,
                Kind::Object => Granularity::Object,
                Kind::Array => match &schema.list_type {
                    ListType::Set => Granularity::Set,
                    ListType::Map(keys) => Granularity::Keyed(keys),
                    ListType::Atomic => Granularity::Leaf,
                },
                Kind::Any if !schema.int_or_string => Granularity::Untyped,
                _ => Granularity::Leaf,
            },
            Node::Builtin { schema, shape, field } => match shape {
                Shape::Struct(id) if schema.get(*id).atomic && !field.is_some_and(|f| f.granular) => Granularity::Leaf,
                Shape::Struct(_) | Shape::Map(_) if field.is_some_and(|f| f.atomic) => Granularity::Leaf,
                Shape::Struct(_) | Shape::Map(_) => Granularity::Object,
                Shape::RawExtension => Granularity::Leaf,
                Shape::Any => Granularity::Untyped,
                Shape::List(_) => match field.map(|f| &f.list_type) {
                    Some(ListType::Set) => Granularity::Set,
                    Some(ListType::Map(keys)) => Granularity::Keyed(keys),
                    _ => Granularity::Leaf,
                },
                _ => Granularity::Leaf,
            },
        }
    }

    /// How strategic merge patch treats the value here.
    pub fn patch(&self) -> PatchTag {
        match self {
            Node::Builtin { field: Some(field), .. } => field.patch.clone(),
            _ => PatchTag::default(),
        }
    }

    /// The default of a list key that an item may leave out (`protocol: TCP` of ports): upstream's schema declares it, and
    /// apply needs it to tell items apart.
    pub fn key_default(&self, key: &str) -> Option<serde_json::Value> {
        if let Node::Structural { schema, .. } = self {
            return schema.properties.get(key)?.default.clone();
        }
        match (self, key) {
            (Node::Builtin { schema, shape: Shape::Struct(id), .. }, "protocol") => {
                let name = schema.get(*id).short;
                matches!(name, "ContainerPort" | "ServicePort").then(|| "TCP".into())
            }
            _ => None,
        }
    }
}
