//! Types of objects, out of the structural schemas of CustomResourceDefinitions.

use crate::parse::RESERVED;
use crate::types::{Field, ListKind, ListType, ObjectType, Size, Type};
use apimachinery::schema::ListType as SchemaListType;
use apimachinery::schema::structural::{Additional, Kind, Structural};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes that a request can bring: what an object can hold at most where its schema sets no limit.
const REQUEST_BYTES_MAX: u64 = 3 << 20;

/// Texts that no schema describes: keys of maps, names of objects. Upstream's estimate counts them as if they were empty.
const UNCOUNTED: Type = Type::String(Size(0));

/// The type of the objects that a schema describes; none for what expressions can't reach. `root`: a whole object, which has
/// a kind and a name.
pub fn declare(schema: &Structural, root: bool) -> Option<Type> {
    named(schema, root || schema.embedded, "object")
}

fn named(schema: &Structural, resource: bool, name: &str) -> Option<Type> {
    if schema.int_or_string {
        return Some(Type::Dyn);
    }
    match schema.kind {
        Kind::Object => Some(match &schema.additional {
            Additional::Values(values) => {
                let value = named(values, values.embedded, &format!("{name}.@values"))?;
                let entries = schema.limits().properties.unwrap_or_else(|| fitting(bytes_min(values) + 6));
                Type::Map(Arc::new((UNCOUNTED, value)), Size(entries))
            }
            _ => Type::Object(Arc::new(object(schema, resource, name))),
        }),
        Kind::Array => {
            let items = schema.items.as_ref()?;
            let item = named(items, items.embedded, &format!("{name}.@items"))?;
            let size = schema.limits().items.unwrap_or_else(|| fitting(bytes_min(items) + 1));
            let kind = match &schema.list_type {
                SchemaListType::Atomic => ListKind::Atomic,
                SchemaListType::Set => ListKind::Set,
                SchemaListType::Map(keys) => ListKind::Map(keys.iter().map(|key| escape(key)).collect()),
            };
            Some(Type::List(Arc::new(ListType { item, kind }), Size(size)))
        }
        Kind::String => Some(string(schema)),
        Kind::Integer => Some(Type::Int),
        Kind::Number => Some(Type::Double),
        Kind::Boolean => Some(Type::Bool),
        Kind::Any | Kind::Unknown => None,
    }
}

fn string(schema: &Structural) -> Type {
    let limits = schema.limits();
    // A limit counts characters, a size bytes.
    let of_limit = limits.length.map(|length| length.saturating_mul(4));
    match limits.format {
        "byte" => Type::Bytes(Size(of_limit.unwrap_or(REQUEST_BYTES_MAX))),
        "duration" => Type::Duration,
        "date" | "date-time" => Type::Timestamp,
        _ => Type::String(Size(limits.one_of_bytes.or(of_limit).unwrap_or(REQUEST_BYTES_MAX))),
    }
}

fn object(schema: &Structural, resource: bool, name: &str) -> ObjectType {
    let mut fields = BTreeMap::new();
    for (member, schema) in &schema.properties {
        if let Some(ty) = named(schema, schema.embedded, &format!("{name}.{member}")) {
            fields.insert(escape(member), Field { member: member.clone(), ty });
        }
    }
    if resource {
        let plain = |member: &str| Field { member: member.into(), ty: UNCOUNTED };
        for member in ["kind", "apiVersion"] {
            fields.insert(member.into(), plain(member));
        }
        // Of its metadata an object may be asked its names only.
        let metadata = ObjectType {
            name: format!("{name}.metadata"),
            fields: ["name", "generateName"].map(|member| (member.to_owned(), plain(member))).into(),
            open: false,
        };
        let ty = Type::Object(Arc::new(metadata));
        fields.insert("metadata".into(), Field { member: "metadata".into(), ty });
    }
    ObjectType { name: name.into(), fields, open: false }
}

/// How many things of at least so many bytes fit into a request.
fn fitting(bytes: u64) -> u64 {
    (REQUEST_BYTES_MAX - 2) / bytes.max(1)
}

/// The fewest bytes of JSON that a value takes.
pub fn bytes_min(schema: &Structural) -> u64 {
    match schema.kind {
        _ if schema.int_or_string => 1,
        Kind::Object => match schema.additional {
            Additional::Values(_) => 2,
            _ => {
                let required = schema.limits().required;
                let member = |name: &String| {
                    let of = schema.properties.get(name)?;
                    of.default.is_none().then(|| name.len() as u64 + 4 + bytes_min(of))
                };
                2 + required.iter().filter_map(member).sum::<u64>()
            }
        },
        Kind::Array | Kind::String => 2,
        Kind::Boolean => 4,
        Kind::Integer | Kind::Number | Kind::Any | Kind::Unknown => 1,
    }
}

/// How many values of a place fit into one object, where nothing says.
pub fn places(schema: &Structural) -> u64 {
    fitting(bytes_min(schema) + 1)
}

/// Words that mean something in the language.
const WORDS: [&str; 4] = ["true", "false", "null", "in"];

/// The name by which expressions reach a member: `__word__`, if it is a word that the language has or keeps.
pub fn escape(member: &str) -> String {
    if WORDS.contains(&member) || RESERVED.contains(&member) {
        return format!("__{member}__");
    }
    let mut escaped = member.replace("__", "__underscores__");
    for (character, word) in [(".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")] {
        escaped = escaped.replace(character, word);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Env, Program};
    use serde_json::json;

    #[test]
    fn names_are_escaped() {
        for (member, escaped) in [
            ("a", "a"),
            ("a-b", "a__dash__b"),
            ("a.b/c", "a__dot__b__slash__c"),
            ("namespace", "__namespace__"),
            ("a__b", "a__underscores__b"),
            ("int", "int"),
        ] {
            assert_eq!(escape(member), escaped);
        }
    }

    #[test]
    fn schemas_say_what_expressions_may_name() {
        let schema = Structural::read(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "a-b": {"type": "integer"}, "when": {"type": "string", "format": "date-time"}, "for": {"type": "string", "format": "duration"},
            "port": {"x-kubernetes-int-or-string": true}, "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "ratio": {"type": "number"}, "any": {"x-kubernetes-preserve-unknown-fields": true},
        }}}}));
        let env = Env::new(&[("self", declare(&schema, true).unwrap())]);
        let object = json!({"metadata": {"name": "x", "labels": {}}, "spec": {"a-b": 1, "when": "2024-01-01T00:00:00Z", "for": "90s",
            "port": "http", "labels": {"k": "v"}, "set": ["b", "a"], "ratio": 2, "any": {"x": 1}}});
        for (source, want) in [
            ("self.spec.a__dash__b == 1 && has(self.spec.a__dash__b)", Ok(())),
            ("self.spec.when > timestamp('2023-01-01T00:00:00Z') && self.spec.__for__ == duration('1m30s')", Ok(())),
            (
                "self.spec.port == 'http' && self.spec.port != 1 && self.spec.labels['k'] == 'v' && self.spec.labels.k == 'v'",
                Ok(()),
            ),
            ("self.spec.set == ['a', 'b'] && (self.spec.set + ['a']).size() == 2 && self.spec.ratio == 2.0", Ok(())),
            ("self.metadata.name == 'x'", Ok(())),
            ("self.metadata.labels.size() == 0", Err("undefined field 'labels'")),
            ("self.spec.any.x == 1", Err("undefined field 'any'")),
            ("self.spec.a == 1", Err("undefined field 'a'")),
            (
                "self.spec.when == 'x'",
                Err("found no matching overload for '_==_' applied to '(google.protobuf.Timestamp, string)'"),
            ),
        ] {
            let result = match Program::compile(source, &env) {
                Ok(program) => {
                    let ty = declare(&schema, true).unwrap();
                    let values = [crate::Value::of(&object, &ty)];
                    let result = program.run(values.as_slice(), 1000).result;
                    assert!(matches!(result, Ok(crate::Value::Bool(true))), "{source}: {result:?}");
                    Ok(())
                }
                Err(issues) => Err(issues.list[0].message.clone()),
            };
            assert_eq!(result.as_ref().map(|_| ()).map_err(String::as_str), want, "{source}");
        }
    }
}
