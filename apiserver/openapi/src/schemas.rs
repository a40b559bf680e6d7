//! The type table as JSON schemas.

use super::enums;
use api_documentation::Documentation;
use apimachinery::Value;
use apimachinery::schema::{Field, GroupVersionKind, ListType, Schema, Shape, Type, TypeId};
use handlers::descriptions::{OBJECT_META, open_name};
use serde_json::{Map, json};
use std::collections::{BTreeMap, BTreeSet};

/// `io.k8s.api.core.v1.Pod`: the name of a type in OpenAPI.
pub fn name(ty: &Type) -> String {
    open_name(&ty.name)
}

pub fn gvk_value(kind: &GroupVersionKind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

/// A kind whose texts on `apiVersion`, `kind` and `metadata` are those of all kinds, and one whose text on `metadata` is that of
/// all lists.
const ANY_KIND: &str = "io.k8s.api.core.v1.Pod";
const ANY_LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

const LIST_META: &str = "k8s.io.apimachinery.pkg.apis.meta.v1.ListMeta";

/// What is said of a list of objects, and of its `items`: the documentation has no lists.
pub fn of_list(kind: &str) -> String {
    format!("A list of objects of kind {kind}.")
}

pub fn of_items(kind: &str) -> String {
    format!("The objects of kind {kind}.")
}

/// Makes schemas and keeps track of the types they refer to.
pub struct Schemas<'a> {
    documentation: &'a Documentation<'a>,
    /// `#/components/schemas/` or `#/definitions/`.
    pub base: &'static str,
    /// OpenAPI 3 wraps references that carry defaults or descriptions.
    pub v3: bool,
    /// Types referred to so far.
    wanted: BTreeSet<u32>,
    /// The kinds that a type stands for.
    kinds: BTreeMap<u32, Vec<Value>>,
    /// Finished schemas by name: of custom resources, and of values that have a name but no members.
    pub custom: Map<String, Value>,
}

/// Values that OpenAPI knows by a name, so that `kubectl explain` and generators of clients show it.
fn named(shape: &Shape, v3: bool) -> Option<(String, Value)> {
    let machinery = |name: &str, schema| Some((format!("io.k8s.apimachinery.pkg.{name}"), schema));
    // Values of several types: nothing is said of them that holds in both versions of OpenAPI.
    let open =
        |name: &str| Some((format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.{name}"), json!({})));
    match shape {
        Shape::Quantity if v3 => {
            machinery("api.resource.Quantity", json!({"oneOf": [{"type": "string"}, {"type": "number"}]}))
        }
        Shape::Quantity => machinery("api.resource.Quantity", json!({"type": "string"})),
        Shape::IntOrString if v3 => machinery(
            "util.intstr.IntOrString",
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        ),
        Shape::IntOrString => {
            machinery("util.intstr.IntOrString", json!({"type": "string", "format": "int-or-string"}))
        }
        Shape::Time => machinery("apis.meta.v1.Time", json!({"type": "string", "format": "date-time"})),
        Shape::MicroTime => machinery("apis.meta.v1.MicroTime", json!({"type": "string", "format": "date-time"})),
        Shape::RawExtension => machinery("runtime.RawExtension", json!({"type": "object"})),
        Shape::FieldsV1 => machinery("apis.meta.v1.FieldsV1", json!({"type": "object"})),
        Shape::Json => open("JSON"),
        Shape::SchemaOrArray(_) => open("JSONSchemaPropsOrArray"),
        Shape::SchemaOrBool(_) => open("JSONSchemaPropsOrBool"),
        Shape::SchemaOrStringArray(_) => open("JSONSchemaPropsOrStringArray"),
        _ => None,
    }
}

impl<'a> Schemas<'a> {
    /// `v3` says for which version of OpenAPI.
    pub fn new(v3: bool, documentation: &'a Documentation<'a>) -> Schemas<'a> {
        let base = if v3 { "#/components/schemas/" } else { "#/definitions/" };
        Schemas { documentation, base, v3, wanted: BTreeSet::new(), kinds: BTreeMap::new(), custom: Map::new() }
    }

    /// A reference to the type of a built-in kind.
    pub fn kind(&mut self, kind: &GroupVersionKind) -> Option<Value> {
        let ty = Schema::builtin().kind(&kind.group, &kind.version, &kind.kind)?;
        let list = self.kinds.entry(ty.id.0).or_default();
        let value = gvk_value(kind);
        if !list.contains(&value) {
            list.push(value);
        }
        Some(self.reference(ty.id))
    }

    /// All schemas that are referred to, by name.
    pub fn finish(mut self) -> Map<String, Value> {
        let schema = Schema::builtin();
        let mut done = Map::new();
        let mut finished = BTreeSet::new();
        // Each definition may want others; until none is missing.
        while let Some(id) = self.wanted.difference(&finished).next().copied() {
            finished.insert(id);
            let ty = schema.get(TypeId(id));
            let kinds = self.kinds.remove(&id).unwrap_or_default();
            let definition = self.definition(ty, &kinds);
            done.insert(name(ty), definition);
        }
        done.append(&mut self.custom);
        done
    }

    pub fn reference(&mut self, id: TypeId) -> Value {
        self.wanted.insert(id.0);
        json!({"$ref": format!("{}{}", self.base, name(Schema::builtin().get(id)))})
    }

    /// A reference to a type by its name in the type table.
    pub fn of_name(&mut self, name: &str) -> Value {
        Schema::builtin().by_name(name).map_or_else(|| json!({}), |ty| self.reference(ty.id))
    }

    /// A reference to the type of patches, of which nothing is said but its name.
    pub fn patch(&mut self) -> Value {
        const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
        let mut schema = json!({"type": "object"});
        if let Some(text) = self.documentation.of_type(PATCH) {
            schema["description"] = text.into();
        }
        self.custom.insert(PATCH.into(), schema);
        json!({"$ref": format!("{}{PATCH}", self.base)})
    }

    /// The schema of a struct, with the kinds it is the type of.
    fn definition(&mut self, ty: &Type, kinds: &[Value]) -> Value {
        let schema = Schema::builtin();
        let mut properties = Map::new();
        let mut required: Vec<&str> = Vec::new();
        if ty.type_meta {
            properties.extend(self.type_meta());
        }
        for field in schema.members(ty) {
            properties.insert(field.name.into(), self.property(ty, field));
            if field.required {
                required.push(field.name);
            }
        }
        let mut definition = json!({"type": "object"});
        if let Some(text) = self.text(ty, "") {
            definition["description"] = text.into();
        }
        if !properties.is_empty() {
            definition["properties"] = properties.into();
        }
        if !required.is_empty() {
            definition["required"] = required.into();
        }
        if ty.atomic {
            definition["x-kubernetes-map-type"] = "atomic".into();
        }
        if !kinds.is_empty() {
            definition["x-kubernetes-group-version-kind"] = kinds.into();
        }
        definition
    }

    /// The members `apiVersion` and `kind`, which every object has.
    pub fn type_meta(&self) -> [(String, Value); 2] {
        ["apiVersion", "kind"].map(|name| {
            let text = self.documentation.of_field(ANY_KIND, name).unwrap_or_default();
            (name.to_owned(), json!({"type": "string", "description": text}))
        })
    }

    /// The member `metadata` of objects, or of lists of them.
    pub fn metadata(&mut self, list: bool) -> Value {
        let (ty, of) = if list { (LIST_META, ANY_LIST) } else { (OBJECT_META, ANY_KIND) };
        let shape = Schema::builtin().by_name(ty).map_or(Shape::Any, |ty| Shape::Struct(ty.id));
        let text = self.documentation.of_field(of, "metadata").unwrap_or_default();
        self.told(&shape, [("description", text.into())])
    }

    /// What is said of a field, or under the empty name of the type. Lists of objects are all described alike.
    fn text(&self, ty: &Type, field: &str) -> Option<String> {
        let documented = self.documentation.of_field(&name(ty), field);
        documented.map(str::to_owned).or_else(|| match (ty.short.strip_suffix("List")?, field) {
            (kind, "") => Some(of_list(kind)),
            (_, "metadata") => self.documentation.of_field(ANY_LIST, field).map(str::to_owned),
            (kind, "items") => Some(of_items(kind)),
            _ => None,
        })
    }

    fn property(&mut self, of: &Type, field: &Field) -> Value {
        let mut said: Vec<(&str, Value)> = Vec::new();
        said.extend(self.text(of, field.name).map(|text| ("description", text.into())));
        if !field.pointer {
            said.extend(self.default(&field.shape, field.omitempty));
        }
        if let Shape::List(_) = field.shape {
            match &field.list_type {
                ListType::Atomic => said.push(("x-kubernetes-list-type", "atomic".into())),
                ListType::Set => said.push(("x-kubernetes-list-type", "set".into())),
                ListType::Map(keys) => {
                    said.push(("x-kubernetes-list-map-keys", keys.clone().into()));
                    said.push(("x-kubernetes-list-type", "map".into()));
                }
            };
        }
        if field.atomic || field.granular {
            let merged = if field.atomic { "atomic" } else { "granular" };
            said.push(("x-kubernetes-map-type", merged.into()));
        }
        if field.patch.merge || field.patch.retain_keys {
            let strategy = match (field.patch.merge, field.patch.retain_keys) {
                (true, true) => "merge,retainKeys",
                (true, false) => "merge",
                _ => "retainKeys",
            };
            said.push(("x-kubernetes-patch-strategy", strategy.into()));
        }
        if let Some(key) = field.patch.key {
            said.push(("x-kubernetes-patch-merge-key", key.into()));
        }
        let mut schema = self.told(&field.shape, said);
        if let Some(values) = enums::values(of, field.name) {
            let of = match field.shape {
                Shape::List(_) => &mut schema["items"],
                Shape::Map(_) => &mut schema["additionalProperties"],
                _ => &mut schema,
            };
            of["enum"] = values.into();
        }
        schema
    }

    /// A schema with more said about it. Version 3 allows nothing beside a reference, so there it is wrapped.
    fn told(&mut self, shape: &Shape, said: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
        let mut schema = self.shape(shape);
        let mut said = said.into_iter().peekable();
        if self.v3 && schema.get("$ref").is_some() && said.peek().is_some() {
            schema = json!({"allOf": [schema]});
        }
        if let Some(members) = schema.as_object_mut() {
            members.extend(said.map(|(name, value)| (name.to_owned(), value)));
        }
        schema
    }

    /// What a value is when it is not given, as version 3 says it: the zero value of what is no pointer. Structs are always there,
    /// scalars where they are not left out when empty.
    fn default(&self, shape: &Shape, omitempty: bool) -> Option<(&'static str, Value)> {
        let value = match shape {
            Shape::Struct(_) => json!({}),
            Shape::String if !omitempty => "".into(),
            Shape::Bool if !omitempty => false.into(),
            Shape::Int32 | Shape::Int64 | Shape::Double if !omitempty => 0.into(),
            _ => return None,
        };
        self.v3.then_some(("default", value))
    }

    fn shape(&mut self, shape: &Shape) -> Value {
        if let Some((name, mut schema)) = named(shape, self.v3) {
            if let Some(text) = self.documentation.of_type(&name) {
                schema["description"] = text.into();
            }
            let reference = json!({"$ref": format!("{}{name}", self.base)});
            self.custom.insert(name, schema);
            return reference;
        }
        match shape {
            Shape::String => json!({"type": "string"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Double => json!({"type": "number", "format": "double"}),
            Shape::ExtraValue => json!({"type": "array", "items": {"type": "string"}}),
            Shape::Struct(id) => self.reference(*id),
            Shape::List(items) => json!({"type": "array", "items": self.told(items, self.default(items, false))}),
            Shape::Map(values) => {
                json!({"type": "object", "additionalProperties": self.told(values, self.default(values, false))})
            }
            _ => json!({"x-kubernetes-preserve-unknown-fields": true}),
        }
    }
}
