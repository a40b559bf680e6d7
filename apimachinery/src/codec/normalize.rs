//! From any tree to the normal form of a type.
//!
//! The normal form is what upstream would print after reading the same text into its Go struct: unknown members are gone (and
//! reported), `null` is absence, `omitempty` members with a zero value are gone, members without `omitempty` are there,
//! quantities and times are canonical. Two objects are equal exactly when their normal forms are.

use crate::quantity::Quantity;
use crate::schema::{Field, Schema, Shape, Type, TypeId};
use crate::time::{canonical_micro_time, canonical_time};
use base64::Engine;
use serde_json::{Map, Value};

/// What was found besides the value: for strict and warning field validation.
#[derive(Debug, Default)]
pub struct Report {
    /// Paths of members that the type does not have; at most [`Report::MAX`] are kept.
    pub unknown: Vec<String>,
    /// Whether a list or a map outside of the metadata was given, but empty: in normal form it is absent.
    pub emptied: bool,
}

impl Report {
    pub const MAX: usize = 100;

    /// Adds the path of a member that the type does not have.
    pub fn note(&mut self, path: String) {
        if self.unknown.len() < Self::MAX {
            self.unknown.push(path);
        }
    }
}

/// A value that cannot be what the type wants. The text follows the shape that Go's decoder made familiar.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum TypeMismatch {
    #[error("json: cannot unmarshal {got} into Go struct field {field} of type {want}")]
    Kind { got: String, field: String, want: String },
    #[error("json: cannot unmarshal {got} into Go value of type {want}")]
    Root { got: String, want: String },
    #[error("illegal base64 data at input byte {at}")]
    Base64 { at: usize },
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Quantity,
    #[error("parsing time {text:?}: want RFC 3339, such as 2006-01-02T15:04:05Z")]
    Time { text: String },
    #[error("exceeded max depth")]
    Depth,
    /// Of an object in a custom resource: the error of its field.
    #[error("{0}")]
    Embedded(String),
}

impl TypeMismatch {
    /// The text of Go's converter of unstructured objects, which strategic merge patches go through instead of the decoder.
    pub fn unstructured(&self) -> String {
        let (TypeMismatch::Kind { got, want, .. } | TypeMismatch::Root { got, want }) = self else {
            return self.to_string();
        };
        let (kind, ty) = match got.split(' ').next().unwrap_or_default() {
            "number" if got.contains(['.', 'e', 'E']) => ("float64", "float64"),
            "number" => ("int64", "int64"),
            "array" => ("slice", "[]interface {}"),
            "object" => ("map", "map[string]interface {}"),
            other => (other, other),
        };
        match want.as_str() {
            "string" | "bool" | "int32" | "int64" | "float64" => format!("cannot convert {ty} to {want}"),
            want if want.starts_with("map[") => format!("cannot restore map from {kind}"),
            want if want.starts_with("[]") => format!("cannot restore slice from {kind}"),
            _ => format!("cannot restore struct from: {kind}"),
        }
    }
}

/// Brings `value` into the normal form of `ty`. On an error the value is left half done and must be thrown away.
pub fn normalize(schema: &Schema, ty: &Type, value: &mut Value, report: &mut Report) -> Result<(), TypeMismatch> {
    let mut walk = Walk { schema, report, depth: 0, owner: "" };
    walk.structure(&Path::Root, ty.id, value)
}

/// The zero value of a shape in normal form (`{}` with its required members for a struct, `null` for lists and maps).
pub fn zero(schema: &Schema, field: &Field) -> Value {
    if field.pointer {
        return Value::Null;
    }
    match &field.shape {
        Shape::String => Value::String(String::new()),
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => Value::Number(0.into()),
        Shape::Quantity => Value::String("0".into()),
        Shape::Struct(id) => zero_struct(schema, *id),
        _ => Value::Null,
    }
}

fn zero_struct(schema: &Schema, id: TypeId) -> Value {
    let mut value = Value::Object(Map::new());
    let mut report = Report::default();
    let mut walk = Walk { schema, report: &mut report, depth: 0, owner: "" };
    let _ = walk.structure(&Path::Root, id, &mut value); // an empty object always fits
    value
}

/// Where a walk is: a list through the stack frames that lead there, so that a path costs nothing until somebody reads it.
#[derive(Clone, Copy)]
enum Path<'p> {
    Root,
    Name(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl Path<'_> {
    fn is_root(&self) -> bool {
        matches!(self, Path::Root)
    }

    /// The member of the object that it leads into.
    fn root(&self) -> &str {
        match self {
            Path::Root => "",
            Path::Name(Path::Root, name) => name,
            Path::Name(parent, _) | Path::Index(parent, _) => parent.root(),
        }
    }

    fn text(&self) -> String {
        match self {
            Path::Root => String::new(),
            Path::Name(Path::Root, name) => (*name).to_owned(),
            Path::Name(parent, name) => format!("{}.{name}", parent.text()),
            Path::Index(parent, i) => format!("{}[{i}]", parent.text()),
        }
    }

    /// As Go's decoder shows it: without the positions in lists.
    fn names(&self) -> String {
        match self {
            Path::Root => String::new(),
            Path::Index(parent, _) => parent.names(),
            Path::Name(parent, name) => {
                let parent = parent.names();
                if parent.is_empty() { (*name).to_owned() } else { format!("{parent}.{name}") }
            }
        }
    }
}

struct Walk<'a> {
    schema: &'a Schema,
    report: &'a mut Report,
    depth: usize,
    /// Short name of the struct whose member is being read.
    owner: &'a str,
}

impl<'a> Walk<'a> {
    fn mismatch(&self, path: &Path<'_>, shape: &Shape, value: &Value) -> TypeMismatch {
        let got = match value {
            Value::Number(n) if n.is_f64() || matches!(shape, Shape::Int32 | Shape::Int64) => format!("number {n}"),
            Value::Number(_) => "number".into(),
            Value::Bool(_) => "bool".into(),
            Value::Array(_) => "array".into(),
            Value::Object(_) => "object".into(),
            Value::String(_) => "string".into(),
            Value::Null => "null".into(),
        };
        let want = shape.go_name(self.schema);
        if path.is_root() {
            return TypeMismatch::Root { got, want };
        }
        TypeMismatch::Kind { got, field: format!("{}.{}", self.owner, path.names()), want }
    }

    /// Members of a struct: known ones read, others reported and dropped, then zero values put in or taken out.
    fn structure(&mut self, path: &Path<'_>, id: TypeId, value: &mut Value) -> Result<(), TypeMismatch> {
        if self.depth > super::MAX_DEPTH {
            return Err(TypeMismatch::Depth);
        }
        let ty = self.schema.get(id);
        let Value::Object(members) = value else { return Err(self.mismatch(path, &Shape::Struct(id), value)) };
        let owner = std::mem::replace(&mut self.owner, ty.short);
        let mut result = Ok(());
        self.depth += 1;
        members.retain(|name, value| {
            if result.is_err() {
                return false;
            }
            let path = &Path::Name(path, name);
            if ty.type_meta && (name == "apiVersion" || name == "kind") {
                return match value {
                    Value::String(s) => !s.is_empty(),
                    Value::Null => false,
                    _ => {
                        result = Err(self.mismatch(path, &Shape::String, value));
                        false
                    }
                };
            }
            match self.schema.member(ty, name) {
                None => {
                    self.report.note(path.text());
                    false
                }
                Some(_) if value.is_null() => false,
                Some(field) => match self.value(path, &field.shape, value) {
                    Ok(()) => {
                        let is_zero = is_zero(&field.shape, value);
                        let is_empty = is_zero && matches!(field.shape, Shape::List(_) | Shape::Map(_));
                        self.report.emptied |= is_empty && path.root() != "metadata";
                        // Protobuf cannot tell an empty list from none, and every object has been through it.
                        if is_empty && !field.omitempty {
                            *value = Value::Null;
                        }
                        !field.omitempty || field.pointer || !is_zero
                    }
                    Err(e) => {
                        result = Err(e);
                        false
                    }
                },
            }
        });
        self.depth -= 1;
        result?;
        self.owner = owner;
        for field in self.schema.members(ty) {
            if is_always_written(field) && !members.contains_key(field.name) {
                members.insert(field.name.to_owned(), zero(self.schema, field));
            }
        }
        Ok(())
    }

    fn value(&mut self, path: &Path<'_>, shape: &'a Shape, value: &mut Value) -> Result<(), TypeMismatch> {
        match (shape, &mut *value) {
            (Shape::String, Value::String(_)) | (Shape::Bool, Value::Bool(_)) => Ok(()),
            (Shape::Int32, Value::Number(n)) => match integer(n) {
                Some(i) if i32::try_from(i).is_ok() => {
                    let _: () = *value = i.into();
                    Ok(())
                }
                _ => Err(self.mismatch(path, shape, value)),
            },
            (Shape::Int64, Value::Number(n)) => match integer(n) {
                Some(i) => {
                    let _: () = *value = i.into();
                    Ok(())
                }
                None => Err(self.mismatch(path, shape, value)),
            },
            (Shape::Double, Value::Number(n)) => {
                // Go writes a whole number without a fraction.
                if n.is_f64()
                    && let Some(i) = integer(n)
                {
                    *value = i.into();
                }
                Ok(())
            }
            (Shape::Bytes, Value::String(text)) => {
                // Go's decoder passes over line breaks.
                if text.contains(['\n', '\r']) {
                    *text = text.replace(['\n', '\r'], "");
                }
                match base64::engine::general_purpose::STANDARD.decode(text.as_bytes()) {
                    Ok(_) => Ok(()),
                    Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
                        Err(TypeMismatch::Base64 { at })
                    }
                    Err(_) => Err(TypeMismatch::Base64 { at: text.len() / 4 * 4 }),
                }
            }
            (Shape::Quantity, Value::String(_) | Value::Number(_)) => {
                let quantity = match &*value {
                    Value::String(text) => Quantity::parse(text),
                    other => Quantity::parse(&other.to_string()),
                };
                *value = Value::String(quantity.map_err(|_| TypeMismatch::Quantity)?.to_string());
                Ok(())
            }
            (Shape::Time, Value::String(text)) => match canonical_time(text) {
                Some(canonical) => {
                    let _: () = *text = canonical;
                    Ok(())
                }
                None => Err(TypeMismatch::Time { text: text.clone() }),
            },
            (Shape::MicroTime, Value::String(text)) => match canonical_micro_time(text) {
                Some(canonical) => {
                    let _: () = *text = canonical;
                    Ok(())
                }
                None => Err(TypeMismatch::Time { text: text.clone() }),
            },
            (Shape::IntOrString, Value::String(_)) => Ok(()),
            (Shape::IntOrString, Value::Number(n)) => match integer(n) {
                Some(i) if i32::try_from(i).is_ok() => {
                    let _: () = *value = i.into();
                    Ok(())
                }
                _ => Err(self.mismatch(path, &Shape::Int32, value)),
            },
            (Shape::RawExtension | Shape::FieldsV1, Value::Object(_)) => Ok(()),
            (Shape::RawExtension | Shape::Json | Shape::Any, _) => Ok(()),
            (Shape::SchemaOrArray(id), Value::Array(items)) => {
                for item in items {
                    self.structure(path, *id, item)?;
                }
                Ok(())
            }
            (Shape::SchemaOrStringArray(_), Value::Array(_)) | (Shape::SchemaOrBool(_), Value::Bool(_)) => Ok(()),
            (Shape::SchemaOrArray(id) | Shape::SchemaOrBool(id) | Shape::SchemaOrStringArray(id), Value::Object(_)) => {
                self.structure(path, *id, value)
            }
            (Shape::ExtraValue, Value::Array(items)) if items.iter().all(Value::is_string) => Ok(()),
            (Shape::Struct(id), _) => self.structure(path, *id, value),
            (Shape::List(shape), Value::Array(items)) => {
                for (i, item) in items.iter_mut().enumerate() {
                    if item.is_null() {
                        *item = zero_item(self.schema, shape);
                        continue;
                    }
                    self.value(&Path::Index(path, i), shape, item)?;
                }
                Ok(())
            }
            (Shape::Map(shape), Value::Object(members)) => {
                for (name, item) in members.iter_mut() {
                    if item.is_null() {
                        *item = zero_item(self.schema, shape);
                        continue;
                    }
                    self.value(&Path::Name(path, name), shape, item)?;
                }
                Ok(())
            }
            _ => Err(self.mismatch(path, shape, value)),
        }
    }
}

fn zero_item(schema: &Schema, shape: &Shape) -> Value {
    match shape {
        Shape::String | Shape::Bytes => Value::String(String::new()),
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => Value::Number(0.into()),
        Shape::Quantity => Value::String("0".into()),
        Shape::Struct(id) => zero_struct(schema, *id),
        _ => Value::Null,
    }
}

/// Upstream writes a struct even when it is empty, and a time as `null`; only `creationTimestamp` leaves its zero out.
fn is_always_written(field: &Field) -> bool {
    if !field.omitempty {
        return true;
    }
    !field.pointer
        && match field.shape {
            Shape::Struct(_) => true,
            Shape::Time | Shape::MicroTime | Shape::Quantity | Shape::IntOrString | Shape::RawExtension => {
                field.name != "creationTimestamp" && !matches!(field.shape, Shape::RawExtension)
            }
            _ => false,
        }
}

fn is_zero(shape: &Shape, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => {
            !matches!(shape, Shape::IntOrString | Shape::Json | Shape::RawExtension) && n.as_f64() == Some(0.0)
        }
        Value::String(s) => s.is_empty() && !matches!(shape, Shape::IntOrString | Shape::Json),
        Value::Array(items) => items.is_empty() && !matches!(shape, Shape::Json | Shape::RawExtension),
        Value::Object(members) => members.is_empty() && matches!(shape, Shape::Map(_)),
    }
}

/// A JSON number as an integer, if it is one (`3` and `3.0`, not `3.5`).
fn integer(n: &serde_json::Number) -> Option<i64> {
    n.as_i64().or_else(|| n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9.0e15).map(|f| f as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn normal(kind: (&str, &str, &str), mut value: Value) -> Result<(Value, Vec<String>), String> {
        let schema = Schema::builtin();
        let ty = schema.kind(kind.0, kind.1, kind.2).unwrap();
        let mut report = Report::default();
        normalize(schema, ty, &mut value, &mut report).map_err(|e| e.to_string())?;
        Ok((value, report.unknown))
    }

    #[test]
    fn zero_values_come_and_go_as_upstream_prints_them() {
        let (value, unknown) = normal(
            ("", "v1", "Pod"),
            json!({"metadata": {"name": "p", "labels": {}, "annotations": null},
                "spec": {"nodeName": "", "bogus": 1, "containers": [{"name": "c", "ports": []}]}}),
        )
        .unwrap();
        assert_eq!(
            value,
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": {}}]}, "status": {}})
        );
        assert_eq!(unknown, ["spec.bogus"]);
    }

    #[test]
    fn whole_floats_are_written_as_go_writes_them() {
        let schema = json!({"openAPIV3Schema": {"maximum": 10.0, "minimum": 0.5}});
        let definition = json!({"spec": {"versions": [{"schema": schema}]}});
        let (value, _) = normal(("apiextensions.k8s.io", "v1", "CustomResourceDefinition"), definition).unwrap();
        let schema = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        assert_eq!(schema.to_string(), r#"{"maximum":10,"minimum":0.5}"#);
    }

    #[test]
    fn required_members_are_there_even_when_empty() {
        let (value, _) = normal(("apps", "v1", "Deployment"), json!({})).unwrap();
        assert_eq!(
            value,
            json!({"metadata": {}, "spec": {"selector": null, "strategy": {},
                "template": {"metadata": {}, "spec": {"containers": null}}}, "status": {}})
        );
        let (value, _) = normal(("discovery.k8s.io", "v1", "EndpointSlice"), json!({"endpoints": []})).unwrap();
        assert_eq!(value["endpoints"], Value::Null);
    }

    #[test]
    fn mistyped_members_name_the_struct_the_path_and_the_type() {
        let e = normal(("", "v1", "Pod"), json!({"spec": {"containers": "nope"}})).unwrap_err();
        assert_eq!(
            e,
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container"
        );
    }

    #[test]
    fn quantities_times_and_bytes_are_checked() {
        let limits = |q: Value| json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": q}}}]}});
        let (value, _) = normal(("", "v1", "Pod"), limits(json!(0.5))).unwrap();
        assert_eq!(value["spec"]["containers"][0]["resources"]["limits"]["cpu"], "500m");
        assert!(normal(("", "v1", "Pod"), limits(json!("x"))).is_err());
        assert!(normal(("", "v1", "Secret"), json!({"data": {"a": "!"}})).unwrap_err().starts_with("illegal base64"));
    }
}
