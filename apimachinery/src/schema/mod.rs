//! The type table: every built-in API type, its members and how each is written, patched and merged.
//!
//! [`Schema::builtin`] parses the tables in `types/` once (under 5 ms) and is read-only from then on. Custom resources have a
//! schema of their own, see [`structural`]; code that works on both (strategic patch, apply, pruning) walks a [`Node`].

mod embedded;
mod formats;
pub mod go_regex;
mod junctors;
mod name_table;
mod node;
mod packages;
pub mod structural;
mod table;

pub use node::{Granularity, Node};
pub use structural::Structural;
pub use table::TableError;

use name_table::NameTable;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

/// Index of a [`Type`] in [`Schema::types`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(pub u32);

/// How a value is written. Pointer-ness and `omitempty` belong to the [`Field`], not to the shape.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    String,
    /// `[]byte`: base64 in JSON, raw bytes in protobuf.
    Bytes,
    Bool,
    Int32,
    Int64,
    Double,
    /// `metav1.Time`: RFC 3339 with seconds, UTC.
    Time,
    /// `metav1.MicroTime`: RFC 3339 with microseconds, UTC.
    MicroTime,
    Quantity,
    IntOrString,
    /// An embedded object of any kind; in protobuf a message holding its JSON (or envelope) bytes.
    RawExtension,
    /// A set of field paths; JSON in JSON, a message holding JSON bytes in protobuf.
    FieldsV1,
    /// `apiextensions.JSON`: any JSON value.
    Json,
    /// JSON whose type is one or the other, in protobuf a message with a field for each.
    SchemaOrArray(TypeId),
    SchemaOrBool(TypeId),
    SchemaOrStringArray(TypeId),
    /// A list of strings that is a type of its own in Go (`authentication.ExtraValue`, `meta.Verbs`): in protobuf a message with a
    /// repeated string.
    ExtraValue,
    /// Anything at all; only in types that have no protobuf form.
    Any,
    Struct(TypeId),
    List(Box<Shape>),
    Map(Box<Shape>),
}

/// How server-side apply merges a list (`x-kubernetes-list-type`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map(Vec<Cow<'static, str>>),
}

/// The tags that steer strategic merge patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchTag {
    /// Lists are merged instead of replaced.
    pub merge: bool,
    /// Members that the patch does not name in `$retainKeys` are dropped.
    pub retain_keys: bool,
    /// The member that identifies an item of a merged list; none for lists of scalars.
    pub key: Option<&'static str>,
}

/// One member of a struct.
#[derive(Clone, Debug)]
pub struct Field {
    /// JSON name; empty for an inlined struct.
    pub name: &'static str,
    /// Protobuf field number; 0 where the type has no protobuf form.
    pub number: u32,
    pub shape: Shape,
    /// A Go pointer: its zero value is written, its absence is nil.
    pub pointer: bool,
    pub omitempty: bool,
    pub required: bool,
    /// A struct whose members are members of this one in JSON, but a message of its own in protobuf.
    pub inline: bool,
    pub list_type: ListType,
    /// The struct or map under this field is replaced as a whole by apply.
    pub atomic: bool,
    /// The struct under this field is merged by member although its type is replaced as a whole elsewhere.
    pub granular: bool,
    pub patch: PatchTag,
}

/// A struct type.
#[derive(Debug)]
pub struct Type {
    pub id: TypeId,
    /// Full upstream name, such as `k8s.io.api.core.v1.Pod`.
    pub name: String,
    /// The name without its package, such as `Pod`.
    pub short: &'static str,
    /// Carries `apiVersion` and `kind`: can be sent by itself.
    pub type_meta: bool,
    /// Apply replaces values of this type as a whole.
    pub atomic: bool,
    pub fields: Vec<Field>,
    /// JSON members in order, inlined structs flattened: which type and which of its fields.
    pub members: Vec<(TypeId, u16)>,
    /// Positions in `members`, found by JSON name.
    names: NameTable,
    /// Positions in `fields`, sorted by protobuf number: the order on the wire.
    wire: Vec<u16>,
}

/// Group, version and kind of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    pub group: String,
    pub version: String,
    pub kind: String,
}

impl GroupVersionKind {
    pub fn new(group: &str, version: &str, kind: &str) -> Self {
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// `apiVersion` as it stands in an object: `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Splits an `apiVersion` into group and version.
    pub fn split_api_version(api_version: &str) -> (&str, &str) {
        api_version.split_once('/').unwrap_or(("", api_version))
    }
}

/// All types and the kinds among them.
#[derive(Debug)]
pub struct Schema {
    pub types: Vec<Type>,
    by_name: HashMap<String, TypeId>,
    /// (group, version) → kind → type.
    kinds: HashMap<(&'static str, &'static str), HashMap<&'static str, TypeId>>,
}

impl Schema {
    /// The table of all built-in types.
    pub fn builtin() -> &'static Schema {
        static SCHEMA: OnceLock<Schema> = OnceLock::new();
        SCHEMA.get_or_init(|| table::parse(packages::PACKAGES).unwrap_or_else(|e| panic!("built-in type table: {e}")))
    }

    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[id.0 as usize]
    }

    /// A type by its full upstream name.
    pub fn by_name(&self, name: &str) -> Option<&Type> {
        self.by_name.get(name).map(|id| self.get(*id))
    }

    /// The type of a kind. Kinds that belong to every group (`DeleteOptions`, `Status`, …) are found under any.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Type> {
        let find = |g, v| self.kinds.get(&(g, v)).and_then(|k| k.get(kind));
        find(group, version).or_else(|| find("meta.k8s.io", "v1")).map(|id| self.get(*id))
    }

    /// The member `name` of `ty`, inlined structs included.
    pub fn member(&self, ty: &Type, name: &str) -> Option<&Field> {
        self.position(ty, name).map(|at| self.member_at(ty, at))
    }

    /// Where the member `name` stands in [`Type::members`].
    pub fn position(&self, ty: &Type, name: &str) -> Option<usize> {
        ty.names.find(name, |at| self.member_at(ty, at).name)
    }

    /// The member at a position of [`Type::members`].
    pub fn member_at(&self, ty: &Type, i: usize) -> &Field {
        let (owner, field) = ty.members[i];
        &self.get(owner).fields[field as usize]
    }

    /// The field with a protobuf number.
    pub fn numbered<'a>(&self, ty: &'a Type, number: u32) -> Option<&'a Field> {
        let at = ty.wire.binary_search_by_key(&number, |&i| ty.fields[i as usize].number).ok()?;
        Some(&ty.fields[ty.wire[at] as usize])
    }

    /// Fields with a protobuf form, in the order of their numbers.
    pub fn on_wire<'a>(&self, ty: &'a Type) -> impl Iterator<Item = &'a Field> {
        ty.wire.iter().map(|&i| &ty.fields[i as usize])
    }

    /// JSON members of `ty` in upstream's order.
    pub fn members<'a>(&'a self, ty: &'a Type) -> impl Iterator<Item = &'a Field> {
        (0..ty.members.len()).map(|i| self.member_at(ty, i))
    }
}

impl Shape {
    /// Go's name of the type, as decoding errors show it: `[]v1.Container`, `map[string]string`.
    pub fn go_name(&self, schema: &Schema) -> String {
        match self {
            Shape::String => "string".into(),
            Shape::Bytes => "[]uint8".into(),
            Shape::Bool => "bool".into(),
            Shape::Int32 => "int32".into(),
            Shape::Int64 => "int64".into(),
            Shape::Double => "float64".into(),
            Shape::Time => "v1.Time".into(),
            Shape::MicroTime => "v1.MicroTime".into(),
            Shape::Quantity => "resource.Quantity".into(),
            Shape::IntOrString => "intstr.IntOrString".into(),
            Shape::RawExtension => "runtime.RawExtension".into(),
            Shape::FieldsV1 => "v1.FieldsV1".into(),
            Shape::ExtraValue => "v1.ExtraValue".into(),
            Shape::Json | Shape::SchemaOrArray(_) | Shape::SchemaOrBool(_) | Shape::SchemaOrStringArray(_) => {
                "v1.JSON".into()
            }
            Shape::Any => "interface {}".into(),
            Shape::Struct(id) => {
                let ty = schema.get(*id);
                let package = ty.name[..ty.name.len() - ty.short.len() - 1].rsplit('.').next().unwrap_or("");
                format!("{package}.{}", ty.short)
            }
            Shape::List(items) => format!("[]{}", items.go_name(schema)),
            Shape::Map(values) => format!("map[string]{}", values.go_name(schema)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_in_the_table_resolves() {
        let schema = Schema::builtin();
        assert!(schema.types.len() > 1000);
        let pod = schema.kind("", "v1", "Pod").unwrap();
        assert_eq!(pod.name, "k8s.io.api.core.v1.Pod");
        assert!(schema.member(pod, "spec").is_some());
    }

    #[test]
    fn inlined_members_are_found_by_their_own_name() {
        let schema = Schema::builtin();
        let volume = schema.by_name("k8s.io.api.core.v1.Volume").unwrap();
        assert_eq!(schema.member(volume, "emptyDir").unwrap().number, 2);
        assert!(schema.member(volume, "").is_none());
    }

    #[test]
    fn list_and_patch_tags_are_read() {
        let schema = Schema::builtin();
        let spec = schema.by_name("k8s.io.api.core.v1.ServiceSpec").unwrap();
        let ports = schema.member(spec, "ports").unwrap();
        assert_eq!(ports.list_type, ListType::Map(vec!["port".into(), "protocol".into()]));
        assert_eq!(ports.patch, PatchTag { merge: true, retain_keys: false, key: Some("port") });
    }

    #[test]
    fn ephemeral_containers_are_merged_as_containers_are() {
        let schema = Schema::builtin();
        let [ephemeral, plain] = ["EphemeralContainer", "Container"]
            .map(|name| schema.by_name(&format!("k8s.io.api.core.v1.{name}")).unwrap());
        for field in schema.members(plain) {
            let same = schema.member(ephemeral, field.name).unwrap();
            let told = |field: &Field| (field.required, field.list_type.clone(), field.patch.clone());
            assert_eq!(told(field), told(same), "{}", field.name);
        }
    }

    #[test]
    fn go_names_show_the_package() {
        let schema = Schema::builtin();
        let spec = schema.by_name("k8s.io.api.core.v1.PodSpec").unwrap();
        assert_eq!(schema.member(spec, "containers").unwrap().shape.go_name(schema), "[]v1.Container");
    }
}
