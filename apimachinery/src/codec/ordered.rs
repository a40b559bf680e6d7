//! JSON with its members in upstream's order.
//!
//! Trees keep members by name, Go writes a struct's as its type declares them: `kind` before `apiVersion`, `name` before
//! `namespace`. People read that order and scripts compare texts, so everything of a built-in type is written through
//! [`Ordered`]. What has no type (custom resources, free JSON) Go keeps in maps, and those it writes sorted by name, as trees
//! do by themselves.

use crate::schema::{GroupVersionKind, Schema, Shape, TypeId};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

/// A value that is written with its members in the order of its type. One pass, and one small allocation a struct.
#[derive(Clone, Copy)]
pub struct Ordered<'a> {
    schema: &'a Schema,
    shape: &'a Shape,
    value: &'a Value,
}

impl<'a> Ordered<'a> {
    pub fn new(schema: &'a Schema, shape: &'a Shape, value: &'a Value) -> Ordered<'a> {
        Ordered { schema, shape, value }
    }

    /// An object whose type its own `apiVersion` and `kind` tell; one of no built-in kind is written as it lies.
    pub fn by_kind(value: &'a Value) -> Ordered<'a> {
        Ordered { schema: Schema::builtin(), shape: &Shape::RawExtension, value }
    }

    fn part(&self, shape: &'a Shape, value: &'a Value) -> Ordered<'a> {
        Ordered { shape, value, ..*self }
    }

    /// The members of a struct of type `id`, sorted by their position in it. Members that it does not have come last.
    fn structure(&self, id: TypeId, members: &'a Map<String, Value>) -> Vec<(usize, &'a str, Ordered<'a>)> {
        let ty = self.schema.get(id);
        let mut sorted: Vec<_> = members
            .iter()
            .map(|(name, value)| {
                let (position, shape) = match (ty.type_meta, &**name) {
                    (true, "kind") => (0, &Shape::String),
                    (true, "apiVersion") => (1, &Shape::String),
                    _ => match self.schema.position(ty, name) {
                        Some(at) => (2 + at, &self.schema.member_at(ty, at).shape),
                        None => (usize::MAX, &Shape::Any),
                    },
                };
                (position, &**name, self.part(shape, value))
            })
            .collect();
        sorted.sort_by_key(|(position, ..)| *position);
        sorted
    }

    fn serialize_struct<S: Serializer>(
        &self,
        id: TypeId,
        members: &Map<String, Value>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(members.len()))?;
        for (_, name, part) in self.structure(id, members) {
            map.serialize_entry(name, &part)?;
        }
        map.end()
    }

    /// The type that an embedded object says it is of.
    fn embedded(&self) -> Option<TypeId> {
        let text = |name: &str| self.value.get(name).and_then(Value::as_str);
        let (group, version) = GroupVersionKind::split_api_version(text("apiVersion")?);
        self.schema.kind(group, version, text("kind")?).map(|ty| ty.id)
    }
}

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match (self.shape, self.value) {
            (
                Shape::Struct(id) | Shape::SchemaOrArray(id) | Shape::SchemaOrBool(id) | Shape::SchemaOrStringArray(id),
                Value::Object(members),
            ) => self.serialize_struct(*id, members, s),
            (Shape::SchemaOrArray(id), Value::Array(items)) => {
                let shape = Shape::Struct(*id);
                s.collect_seq(items.iter().map(|item| Ordered::new(self.schema, &shape, item)))
            }
            (Shape::List(shape), Value::Array(items)) => s.collect_seq(items.iter().map(|item| self.part(shape, item))),
            (Shape::Map(shape), Value::Object(members)) => {
                s.collect_map(members.iter().map(|(name, value)| (name, self.part(shape, value))))
            }
            (Shape::RawExtension, Value::Object(members)) => match self.embedded() {
                Some(id) => self.serialize_struct(id, members, s),
                None => self.value.serialize(s),
            },
            _ => self.value.serialize(s),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_are_written_as_their_type_declares_them() {
        let cases = [
            (
                json!({"apiVersion": "v1", "kind": "Pod", "status": {}, "metadata": {"labels": {"b": "", "a": ""}, "namespace": "n", "name": "p"},
                    "spec": {"nodeName": "x", "containers": [{"image": "i", "env": [{"value": "v", "name": "e"}], "name": "c"}]}}),
                r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","namespace":"n","labels":{"a":"","b":""}},"spec":{"containers":[{"name":"c","image":"i","env":[{"name":"e","value":"v"}]}],"nodeName":"x"},"status":{}}"#,
            ),
            (
                json!({"apiVersion": "v1", "kind": "Status", "code": 404, "status": "Failure", "reason": "NotFound", "message": "m", "metadata": {}}),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"m","reason":"NotFound","code":404}"#,
            ),
            // An object inside another is of the type that it says.
            (
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "Table", "rows": [{"object": {"apiVersion": "meta.k8s.io/v1",
                    "kind": "PartialObjectMetadata", "metadata": {"uid": "u", "name": "x"}}, "cells": [{"b": 1, "a": 2}]}]}),
                r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[{"cells":[{"a":2,"b":1}],"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"x","uid":"u"}}}]}"#,
            ),
            // Of no built-in type: sorted by name, as Go writes maps.
            (
                json!({"kind": "Backup", "apiVersion": "example.com/v1", "metadata": {"name": "x", "namespace": "n", "labels": {}}}),
                r#"{"apiVersion":"example.com/v1","kind":"Backup","metadata":{"labels":{},"name":"x","namespace":"n"}}"#,
            ),
            // Members of inlined structs stand where they are declared; JSON schemas nest in each other.
            (
                json!({"apiVersion": "v1", "kind": "PersistentVolume", "spec": {"claimRef": {"name": "c"}, "hostPath": {"path": "/"}, "capacity": {"storage": "1"}}}),
                r#"{"kind":"PersistentVolume","apiVersion":"v1","spec":{"capacity":{"storage":"1"},"hostPath":{"path":"/"},"claimRef":{"name":"c"}}}"#,
            ),
            (
                json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": {"versions": [{"name": "v1",
                    "schema": {"openAPIV3Schema": {"type": "object", "description": "d", "items": {"type": "x", "description": "y"}}}}]}}),
                r#"{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1","spec":{"versions":[{"name":"v1","schema":{"openAPIV3Schema":{"description":"d","type":"object","items":{"description":"y","type":"x"}}}}]}}"#,
            ),
        ];
        for (value, text) in cases {
            assert_eq!(serde_json::to_string(&Ordered::by_kind(&value)).unwrap(), text);
        }
    }

    #[test]
    fn what_does_not_fit_the_type_is_still_written_whole() {
        let value = json!({"apiVersion": "v1", "kind": "Pod", "a": 1, "spec": [1], "metadata": {"name": 7, "odd": {}}});
        let text = serde_json::to_string(&Ordered::by_kind(&value)).unwrap();
        assert_eq!(text, r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":7,"odd":{}},"spec":[1],"a":1}"#);
    }
}
