//! A place in an object's schema, whatever the schema came from.

use super::{Field, ListType, PatchTag, Schema, Shape};

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
    Keyed(&'a [&'static str]),
    /// No schema: objects are granular, lists are atomic.
    Untyped,
}

impl<'a> Node<'a> {
    /// The root of a built-in kind.
    pub fn root(schema: &'a Schema, shape: &'a Shape) -> Self {
        Node::Builtin { schema, shape, field: None }
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
            Node::Untyped => Some(Node::Untyped),
        }
    }

    /// An item of the list here.
    pub fn item(&self) -> Node<'a> {
        match *self {
            Node::Builtin { schema, shape: Shape::List(items), .. } => {
                Node::Builtin { schema, shape: items, field: None }
            }
            _ => Node::Untyped,
        }
    }

    /// How apply tracks ownership here.
    pub fn granularity(&self) -> Granularity<'a> {
        match *self {
            Node::Untyped => Granularity::Untyped,
            Node::Builtin { schema, shape, field } => match shape {
                Shape::Struct(id) if schema.get(*id).atomic => Granularity::Leaf,
                Shape::Struct(_) | Shape::Map(_) if field.is_some_and(|f| f.atomic) => Granularity::Leaf,
                Shape::Struct(_) | Shape::Map(_) => Granularity::Object,
                Shape::RawExtension | Shape::Any => Granularity::Untyped,
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
        match (self, key) {
            (Node::Builtin { schema, shape: Shape::Struct(id), .. }, "protocol") => {
                let name = schema.get(*id).short;
                matches!(name, "ContainerPort" | "ServicePort").then(|| "TCP".into())
            }
            _ => None,
        }
    }
}
