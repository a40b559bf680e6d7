//! The API as documents tell it: OpenAPI 2 (`definitions`), OpenAPI 3 (`components.schemas`) or a bundle of JSON schemas (`$defs`).

use crate::api::{Api, Field, Kind, NO_STRUCTS, TYPE_META, Type, short_name};
use crate::paths;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Upstream's largest document has 5 MB.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Upstream's folder of documents has 60 files.
const FILES_MAX: usize = 1000;
/// Lists of maps of lists: upstream never goes beyond three.
const DEPTH_MAX: u8 = 16;

/// The packages whose types are members of every group: their kinds are no reason for a group to be there.
const OF_ALL_GROUPS: &str = "meta.v1.";

/// Reads one document, or all `*.json` of a folder as one API.
///
/// # Errors
/// What could not be read, and which file upstream publishes instead.
pub fn read(path: &Path) -> Result<Api> {
    let mut api = Api::default();
    for file in files(path)? {
        let text = read_file(&file)?;
        let document: Value = serde_json::from_str(&text)
            .with_context(|| format!("{} is not JSON: download it again, whole and unpacked", file.display()))?;
        add(&mut api, &document);
    }
    if api.types.is_empty() {
        bail!(
            "{} describes no types: give api/openapi-spec/swagger.json or the folder api/openapi-spec/v3 of a release of upstream, \
             or what a server answers under /openapi/v2",
            path.display()
        );
    }
    Ok(api)
}

/// Reads a file that somebody downloaded, unless it is too large to be what it should be.
pub fn read_file(path: &Path) -> Result<String> {
    let bytes = std::fs::metadata(path).with_context(|| format!("cannot find {}", path.display()))?.len();
    if bytes > FILE_BYTES_MAX {
        bail!("{} has {bytes} bytes; nothing that upstream publishes has more than {FILE_BYTES_MAX}", path.display());
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {} as text", path.display()))
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        let file = entry.with_context(|| format!("cannot list {}", path.display()))?.path();
        if file.extension().is_some_and(|name| name == "json") {
            files.push(file);
        }
    }
    if files.is_empty() || files.len() > FILES_MAX {
        bail!(
            "{} has {} files that end in .json: give the folder api/openapi-spec/v3 of a release of upstream",
            path.display(),
            files.len()
        );
    }
    files.sort();
    Ok(files)
}

/// Adds what one document tells.
pub fn add(api: &mut Api, document: &Value) {
    let places = ["/definitions", "/components/schemas", "/$defs"];
    let schemas = places.iter().filter_map(|place| document.pointer(place)?.as_object()).flatten();
    for (full, schema) in schemas {
        let name = short_name(full);
        if NO_STRUCTS.contains(&name) {
            continue;
        }
        let kinds = kinds(schema);
        let told = add_type(api, schema, !kinds.is_empty());
        api.types.insert(name.to_owned(), told);
        if !name.starts_with(OF_ALL_GROUPS) {
            api.kinds.extend(kinds);
        }
    }
    if let Some(all) = document.get("paths").and_then(Value::as_object) {
        api.tells_watches |= paths::add(&mut api.resources, all);
    }
}

/// The kinds that a schema is the type of.
fn kinds(schema: &Value) -> Vec<Kind> {
    let listed = schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Kind::read).collect()
}

fn add_type(api: &mut Api, schema: &Value, object: bool) -> Type {
    let required: BTreeSet<&str> = strings(schema, "required").collect();
    let atomic = text(schema, "x-kubernetes-map-type") == "atomic";
    let mut ty = Type { object, atomic, reachable: true, ..Type::default() };
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if object && TYPE_META.contains(&&**name) {
            continue;
        }
        let field = field(property, required.contains(&**name));
        api.tells_values |= !field.values.is_empty();
        api.tells_defaults |= property.get("default").is_some();
        ty.fields.insert(name.clone(), field);
    }
    ty
}

fn text<'a>(schema: &'a Value, name: &str) -> &'a str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn strings<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    schema.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn field(property: &Value, required: bool) -> Field {
    let shape = shape(property, DEPTH_MAX);
    let merge = match text(property, "x-kubernetes-list-type") {
        "map" => {
            format!("map by {}", strings(property, "x-kubernetes-list-map-keys").collect::<Vec<_>>().join(","))
        }
        // Bytes are a list in Go, and said to be atomic in places. A scalar is replaced as a whole anyway.
        _ if shape == "bytes" => String::new(),
        // So is a list of which nothing is said.
        "" if shape.starts_with("[]") => "atomic".into(),
        "" => text(property, "x-kubernetes-map-type").into(),
        list => list.into(),
    };
    // `replace` is said in places where it is what happens anyway.
    let strategies = text(property, "x-kubernetes-patch-strategy").split(',').filter(|name| *name != "replace");
    let mut patch = strategies.collect::<Vec<_>>().join(",");
    let key = text(property, "x-kubernetes-patch-merge-key");
    if !key.is_empty() {
        patch = format!("{patch} by {key}");
    }
    let holders = [Some(property), property.get("items"), property.get("additionalProperties")];
    let values = holders.into_iter().flatten().flat_map(|holder| strings(holder, "enum")).map(str::to_owned);
    Field { shape, required, merge, patch, values: values.collect(), default: default(property) }
}

/// The default of a field. OpenAPI 3 also states the zero value of whatever is no pointer in Go, which says nothing.
fn default(property: &Value) -> Option<Value> {
    let value = property.get("default")?;
    let zero = match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    (!zero).then(|| value.clone())
}

fn shape(schema: &Value, depth: u8) -> String {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return short_name(name.rsplit('/').next().unwrap_or(name)).to_owned();
    }
    let nothing = Value::Object(Map::new());
    let inner = |name: &str| match depth {
        0 => "any".to_owned(),
        _ => shape(schema.get(name).unwrap_or(&nothing), depth - 1),
    };
    if let Some([one]) = schema.get("allOf").and_then(Value::as_array).map(Vec::as_slice)
        && depth > 0
    {
        return shape(one, depth - 1);
    }
    // A bundle of schemas says `["string", "null"]` where OpenAPI says `string`.
    let of_bundle = strings(schema, "type").find(|name| *name != "null");
    match (of_bundle.unwrap_or_else(|| text(schema, "type")), text(schema, "format")) {
        ("array", _) => format!("[]{}", inner("items")),
        ("object", _) if schema.get("additionalProperties").is_some_and(Value::is_object) => {
            format!("map[string]{}", inner("additionalProperties"))
        }
        ("string", "byte") => "bytes".into(),
        ("integer" | "number", format) if !format.is_empty() => format.into(),
        ("", _) => "any".into(),
        (name, _) => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(property: Value) -> Field {
        let mut api = Api::default();
        add(&mut api, &json!({"components": {"schemas": {"io.k8s.api.toys.v1.Toy": {"properties": {"a": property}}}}}));
        api.types["toys.v1.Toy"].fields["a"].clone()
    }

    #[test]
    fn shapes_are_read_in_every_dialect() {
        let reference = json!({"$ref": "#/components/schemas/io.k8s.api.toys.v1.Wheel"});
        assert_eq!(fields(reference.clone()).shape, "toys.v1.Wheel");
        assert_eq!(fields(json!({"allOf": [reference], "default": {}})).shape, "toys.v1.Wheel");
        assert_eq!(fields(json!({"type": ["array", "null"], "items": {"type": "string"}})).shape, "[]string");
        assert_eq!(
            fields(json!({"type": "object", "additionalProperties": {"type": "integer", "format": "int32"}})).shape,
            "map[string]int32"
        );
        assert_eq!(fields(json!({})).shape, "any");
    }

    #[test]
    fn zero_values_are_no_defaults() {
        for zero in [json!({}), json!(""), json!(0), json!(false), Value::Null] {
            assert_eq!(fields(json!({"type": "string", "default": zero})).default, None);
        }
        assert_eq!(fields(json!({"type": "string", "default": "TCP"})).default, Some("TCP".into()));
    }

    #[test]
    fn lists_that_say_nothing_are_atomic() {
        assert_eq!(fields(json!({"type": "array", "items": {"type": "string"}})).merge, "atomic");
        let keyed = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]});
        assert_eq!(fields(keyed).merge, "map by name");
    }

    #[test]
    fn what_happens_anyway_is_not_told() {
        let bytes = fields(json!({"type": "string", "format": "byte", "x-kubernetes-list-type": "atomic"}));
        assert_eq!((&*bytes.shape, &*bytes.merge), ("bytes", ""));
        assert_eq!(fields(json!({"type": "string", "x-kubernetes-patch-strategy": "replace"})).patch, "");
    }

    #[test]
    fn what_has_no_types_is_refused_with_what_to_give_instead() {
        let folder = std::env::temp_dir().join(format!("following-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert!(read(&folder).unwrap_err().to_string().contains("api/openapi-spec/v3"));
        let file = folder.join("empty.json");
        std::fs::write(&file, "{}").unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("swagger.json"));
        std::fs::write(&file, "<html>").unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("not JSON"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("cannot find"));
    }
}
