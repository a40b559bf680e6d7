//! The type table as JSON schemas.

use apimachinery::Value;
use apimachinery::schema::{Field, GroupVersionKind, ListType, Schema, Shape, Type, TypeId};
use serde_json::{Map, json};
use std::collections::{BTreeMap, BTreeSet};

/// `io.k8s.api.core.v1.Pod`: the name of a type in OpenAPI.
pub fn name(ty: &Type) -> String {
    match ty.name.strip_prefix("k8s.io.") {
        Some(rest) => format!("io.k8s.{rest}"),
        None => ty.name.clone(),
    }
}

pub fn gvk_value(kind: &GroupVersionKind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

/// Makes schemas and keeps track of the types they refer to.
pub struct Schemas {
    /// `#/components/schemas/` or `#/definitions/`.
    pub base: &'static str,
    /// OpenAPI 3 wraps references that carry defaults or descriptions.
    pub v3: bool,
    /// Types referred to so far.
    wanted: BTreeSet<u32>,
    /// The kinds that a type stands for.
    kinds: BTreeMap<u32, Vec<Value>>,
    /// Finished schemas by name: of custom resources, and of scalars that have a name.
    pub custom: Map<String, Value>,
}

const PACKAGE: &str = "io.k8s.apimachinery.pkg";

/// Scalars that OpenAPI knows by a name, so that `kubectl explain` and generators of clients show it.
fn named(shape: &Shape, v3: bool) -> Option<(&'static str, Value)> {
    Some(match shape {
        Shape::Quantity if v3 => ("api.resource.Quantity", json!({"oneOf": [{"type": "string"}, {"type": "number"}]})),
        Shape::Quantity => ("api.resource.Quantity", json!({"type": "string"})),
        Shape::IntOrString if v3 => (
            "util.intstr.IntOrString",
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        ),
        Shape::IntOrString => ("util.intstr.IntOrString", json!({"type": "string", "format": "int-or-string"})),
        Shape::Time => ("apis.meta.v1.Time", json!({"type": "string", "format": "date-time"})),
        Shape::MicroTime => ("apis.meta.v1.MicroTime", json!({"type": "string", "format": "date-time"})),
        Shape::RawExtension => ("runtime.RawExtension", json!({"type": "object"})),
        Shape::FieldsV1 => ("apis.meta.v1.FieldsV1", json!({"type": "object"})),
        _ => return None,
    })
}

impl Schemas {
    pub fn new(base: &'static str, v3: bool) -> Schemas {
        Schemas { base, v3, wanted: BTreeSet::new(), kinds: BTreeMap::new(), custom: Map::new() }
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

    /// The schema of a struct, with the kinds it is the type of.
    fn definition(&mut self, ty: &Type, kinds: &[Value]) -> Value {
        let schema = Schema::builtin();
        let mut properties = Map::new();
        let mut required: Vec<&str> = Vec::new();
        if ty.type_meta {
            let text = "The version of the schema of this object; what the server does not know in it is refused.";
            properties.insert("apiVersion".into(), json!({"type": "string", "description": text}));
            properties
                .insert("kind".into(), json!({"type": "string", "description": "What this object is, in CamelCase."}));
        }
        for field in schema.members(ty) {
            properties.insert(field.name.into(), self.property(field));
            if field.required {
                required.push(field.name);
            }
        }
        let mut definition = json!({"type": "object"});
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

    fn property(&mut self, field: &Field) -> Value {
        let mut property = self.shape(&field.shape);
        let mut tags = Map::new();
        if let Shape::List(_) = field.shape {
            match &field.list_type {
                ListType::Atomic => tags.insert("x-kubernetes-list-type".into(), "atomic".into()),
                ListType::Set => tags.insert("x-kubernetes-list-type".into(), "set".into()),
                ListType::Map(keys) => {
                    tags.insert("x-kubernetes-list-map-keys".into(), keys.clone().into());
                    tags.insert("x-kubernetes-list-type".into(), "map".into())
                }
            };
        }
        if field.atomic {
            tags.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        if field.patch.merge || field.patch.retain_keys {
            let strategy = match (field.patch.merge, field.patch.retain_keys) {
                (true, true) => "merge,retainKeys",
                (true, false) => "merge",
                _ => "retainKeys",
            };
            tags.insert("x-kubernetes-patch-strategy".into(), strategy.into());
        }
        if let Some(key) = field.patch.key {
            tags.insert("x-kubernetes-patch-merge-key".into(), key.into());
        }
        let is_reference = property.get("$ref").is_some();
        if is_reference && self.v3 && !tags.is_empty() {
            property = json!({"allOf": [property]});
        }
        if let Some(members) = property.as_object_mut() {
            members.extend(tags);
        }
        property
    }

    fn shape(&mut self, shape: &Shape) -> Value {
        match shape {
            Shape::String => json!({"type": "string"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Double => json!({"type": "number", "format": "double"}),
            Shape::Time
            | Shape::MicroTime
            | Shape::Quantity
            | Shape::IntOrString
            | Shape::RawExtension
            | Shape::FieldsV1 => {
                let Some((name, schema)) = named(shape, self.v3) else { return json!({}) };
                let name = format!("{PACKAGE}.{name}");
                let reference = json!({"$ref": format!("{}{name}", self.base)});
                self.custom.insert(name, schema);
                reference
            }
            Shape::Json | Shape::Any => json!({"x-kubernetes-preserve-unknown-fields": true}),
            // Either of two types: nothing narrower can be said in both versions of OpenAPI.
            Shape::SchemaOrArray(_) | Shape::SchemaOrBool(_) | Shape::SchemaOrStringArray(_) => json!({}),
            Shape::ExtraValue => json!({"type": "array", "items": {"type": "string"}}),
            Shape::Struct(id) => self.reference(*id),
            Shape::List(items) => json!({"type": "array", "items": self.shape(items)}),
            Shape::Map(values) => json!({"type": "object", "additionalProperties": self.shape(values)}),
        }
    }
}
