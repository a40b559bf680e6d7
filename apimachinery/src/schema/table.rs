//! Reads the text tables in `types/`.
//!
//! A line in the first column opens a type (`ServicePort`, or `ObjectReference atomic`). An indented line is a member: JSON
//! name (or `inline`), protobuf number (or `-`), Go-like type, then flags: `omitempty`, `required`, `list=atomic|set|map:k1,k2`,
//! `map=atomic`, `patch=merge|replace|retainKeys[,…]`, `key=name`. `TypeMeta` alone says that the type can be sent by itself.

use super::name_table::NameTable;
use super::packages::Package;
use super::{Field, ListType, PatchTag, Schema, Shape, Type, TypeId};
use std::borrow::Cow;
use std::collections::HashMap;

/// A mistake in a table: file, line and what is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{table}.txt line {line}: {what}")]
pub struct TableError {
    pub table: &'static str,
    pub line: usize,
    pub what: String,
}

pub(super) fn parse(packages: &'static [Package]) -> Result<Schema, TableError> {
    let mut ids: HashMap<String, TypeId> = HashMap::new();
    for &(_, short, .., text) in packages {
        for line in text.lines().filter(|l| !l.starts_with(' ')) {
            let name = line.split(' ').next().unwrap_or_default();
            let id = TypeId(ids.len() as u32);
            ids.insert(format!("{short}.{name}"), id);
        }
    }
    let mut schema = Schema { types: Vec::with_capacity(ids.len()), by_name: HashMap::new(), kinds: HashMap::new() };
    for &(package, short, group, version, text) in packages {
        for (n, line) in text.lines().enumerate() {
            let error = |what: String| TableError { table: short, line: n + 1, what };
            let mut words = line.split_ascii_whitespace();
            let Some(first) = words.next() else { continue };
            if !line.starts_with(' ') {
                let id = TypeId(schema.types.len() as u32);
                let name = format!("{package}.{first}");
                schema.by_name.insert(name.clone(), id);
                schema.types.push(Type {
                    id,
                    name,
                    short: first,
                    type_meta: false,
                    atomic: words.next() == Some("atomic"),
                    fields: Vec::new(),
                    members: Vec::new(),
                    names: NameTable::default(),
                    wire: Vec::new(),
                });
                continue;
            }
            let Some(ty) = schema.types.last_mut() else { return Err(error("a member before any type".into())) };
            if first == "TypeMeta" {
                ty.type_meta = true;
                schema.kinds.entry((group, version)).or_default().insert(ty.short, ty.id);
                continue;
            }
            ty.fields.push(member(first, words, short, &ids).map_err(error)?);
        }
    }
    flatten(&mut schema);
    Ok(schema)
}

fn member(
    name: &'static str,
    mut words: std::str::SplitAsciiWhitespace<'static>,
    package: &str,
    ids: &HashMap<String, TypeId>,
) -> Result<Field, String> {
    let number = match words.next() {
        Some("-") => 0,
        Some(n) => n.parse().map_err(|_| format!("{n:?} is no protobuf number"))?,
        None => return Err("a member needs a number and a type".into()),
    };
    let go = words.next().ok_or("a member needs a type")?;
    let (pointer, go) = match go.strip_prefix('*') {
        Some(rest) => (true, rest),
        None => (false, go),
    };
    let inline = name == "inline";
    let mut field = Field {
        name: if inline { "" } else { name },
        number,
        shape: shape(go, package, ids)?,
        pointer,
        omitempty: false,
        required: false,
        inline,
        list_type: ListType::Atomic,
        atomic: false,
        granular: false,
        patch: PatchTag::default(),
    };
    for flag in words {
        match flag.split_once('=').unwrap_or((flag, "")) {
            ("omitempty", _) => field.omitempty = true,
            ("required", _) => field.required = true,
            ("list", "atomic") => field.list_type = ListType::Atomic,
            ("list", "set") => field.list_type = ListType::Set,
            ("list", keys) if keys.starts_with("map:") => {
                field.list_type = ListType::Map(keys[4..].split(',').map(Cow::Borrowed).collect())
            }
            ("map", "atomic") => field.atomic = true,
            ("map", "granular") => field.granular = true,
            ("patch", tags) => {
                field.patch.merge = tags.split(',').any(|t| t == "merge");
                field.patch.retain_keys = tags.split(',').any(|t| t == "retainKeys");
            }
            ("key", key) => field.patch.key = Some(key),
            _ => return Err(format!("unknown flag {flag:?}")),
        }
    }
    Ok(field)
}

fn shape(go: &str, package: &str, ids: &HashMap<String, TypeId>) -> Result<Shape, String> {
    if let Some(items) = go.strip_prefix("[]") {
        return Ok(Shape::List(Box::new(shape(items, package, ids)?)));
    }
    if let Some(values) = go.strip_prefix("map[string]") {
        return Ok(Shape::Map(Box::new(shape(values, package, ids)?)));
    }
    let props = || ids.get("apiextensions.v1.JSONSchemaProps").copied().ok_or("no JSONSchemaProps in the tables");
    Ok(match go {
        "string" => Shape::String,
        "bytes" => Shape::Bytes,
        "bool" => Shape::Bool,
        "int32" => Shape::Int32,
        "int64" => Shape::Int64,
        "float64" => Shape::Double,
        "Time" => Shape::Time,
        "MicroTime" => Shape::MicroTime,
        "Quantity" => Shape::Quantity,
        "IntOrString" => Shape::IntOrString,
        "RawExtension" => Shape::RawExtension,
        "FieldsV1" => Shape::FieldsV1,
        "JSON" => Shape::Json,
        "JSONSchemaPropsOrArray" => Shape::SchemaOrArray(props()?),
        "JSONSchemaPropsOrBool" => Shape::SchemaOrBool(props()?),
        "JSONSchemaPropsOrStringArray" => Shape::SchemaOrStringArray(props()?),
        "ExtraValue" => Shape::ExtraValue,
        "interface" => Shape::Any,
        name => {
            let local = format!("{package}.{name}");
            let id = ids.get(&local).or_else(|| ids.get(name));
            Shape::Struct(*id.ok_or_else(|| format!("no type named {name:?}"))?)
        }
    })
}

/// Fills `members` (inlined structs expanded) and the index by name.
fn flatten(schema: &mut Schema) {
    fn expand(schema: &Schema, id: TypeId, out: &mut Vec<(TypeId, u16)>) {
        for (i, field) in schema.get(id).fields.iter().enumerate() {
            match field.shape {
                Shape::Struct(inner) if field.inline => expand(schema, inner, out),
                _ => out.push((id, i as u16)),
            }
        }
    }
    for i in 0..schema.types.len() {
        let mut members = Vec::new();
        expand(schema, TypeId(i as u32), &mut members);
        let name = |m: &(TypeId, u16)| schema.get(m.0).fields[m.1 as usize].name;
        let names = NameTable::new(members.iter().map(name));
        schema.types[i].members = members;
        schema.types[i].names = names;
        let fields = &schema.types[i].fields;
        let mut wire: Vec<u16> = (0..fields.len() as u16).filter(|&n| fields[n as usize].number > 0).collect();
        wire.sort_by_key(|&n| fields[n as usize].number);
        schema.types[i].wire = wire;
    }
}
