//! OpenAPI of other servers: version 3 is read from them when it is asked for, and only listed here; version 2 is one document,
//! so theirs is laid into ours.

use super::Aggregator;
use super::get::get;
use super::table::Remote;
use apimachinery::Value;
use serde_json::{Map, json};
use sha2::Digest;
use std::sync::Arc;

const BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a server says in OpenAPI of one group and version.
#[derive(Default)]
pub struct Documents {
    /// Where its document of version 3 is: the URL with a hash; empty if it has none.
    v3: String,
    /// `paths` and `definitions` of version 2.
    v2: Option<Value>,
    /// Changes with `v2`: the server's entity tag, or a hash where it has none.
    tag: String,
}

impl Documents {
    /// Asks again what may have changed. A server that has no OpenAPI is no worse for it.
    pub async fn fetch(aggregator: &Aggregator, remote: &Remote, before: &Arc<Documents>) -> Arc<Documents> {
        let path = format!("apis/{}/{}", remote.group, remote.version);
        let v3 = match get(aggregator, remote, "/openapi/v3", "application/json", BYTES_MAX).await {
            Ok((code, bytes, _)) if code.is_success() => {
                let index: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                index["paths"][&path]["serverRelativeURL"].as_str().unwrap_or("").to_owned()
            }
            _ => String::new(),
        };
        let unchanged = |tag: &str| !tag.is_empty() && tag == before.tag;
        match get(aggregator, remote, "/openapi/v2", "application/json", BYTES_MAX).await {
            Ok((code, _, tag)) if code.is_success() && unchanged(&tag) && v3 == before.v3 => before.clone(),
            Ok((code, bytes, tag)) if code.is_success() => {
                let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                let tag = if tag.is_empty() { format!("{:X}", sha2::Sha256::digest(&bytes)) } else { tag };
                Arc::new(Documents { v3, v2: Some(part(&document, &path)), tag })
            }
            _ => Arc::new(Documents { v3, ..Documents::default() }),
        }
    }
}

/// The part of a document of version 2 that is about one group and version, with all definitions that it needs.
fn part(document: &Value, path: &str) -> Value {
    let root = format!("/{path}");
    let below = format!("/{path}/");
    let paths: Map<String, Value> = members(&document["paths"])
        .filter(|(name, _)| **name == root || name.starts_with(&below))
        .map(|(name, item)| (name.clone(), item.clone()))
        .collect();
    let mut wanted = Vec::new();
    paths.values().for_each(|item| references(item, &mut wanted));
    let mut definitions = Map::new();
    while let Some(name) = wanted.pop() {
        if let Some(definition) = document["definitions"].get(&name)
            && !definitions.contains_key(&name)
        {
            references(definition, &mut wanted);
            definitions.insert(name, definition.clone());
        }
    }
    json!({"paths": paths, "definitions": definitions})
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

const DEFINITIONS: &str = "#/definitions/";

/// The names of the definitions that a value refers to.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            if let Some(name) = object.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(DEFINITIONS)) {
                found.push(name.to_owned());
            }
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// Lists the documents of version 3 of other servers among ours.
pub fn add_v3(aggregator: &Aggregator, paths: &mut Map<String, Value>) {
    for remote in &aggregator.table().remotes {
        let said = aggregator.said(&remote.name);
        if !said.documents.v3.is_empty() {
            let path = format!("apis/{}/{}", remote.group, remote.version);
            paths.insert(path, json!({"serverRelativeURL": said.documents.v3}));
        }
    }
}

/// What other servers say in version 2, if they say anything, and a text that changes with it.
pub fn v2_parts(aggregator: &Aggregator) -> (Vec<Arc<Documents>>, String) {
    let table = aggregator.table();
    let said = table.remotes.iter().map(|r| aggregator.said(&r.name).documents);
    let parts: Vec<Arc<Documents>> = said.filter(|d| d.v2.is_some()).collect();
    let tags: Vec<&str> = parts.iter().map(|d| d.tag.as_str()).collect();
    let text = tags.join(" ");
    (parts, text)
}

/// Lays parts into a document of version 2. A definition of another's that has a name of ours but says something else gets a
/// name of its own.
pub fn merge_v2(mut whole: Value, parts: &[Arc<Documents>]) -> Value {
    for part in parts.iter().filter_map(|d| d.v2.as_ref()) {
        let mut part = part.clone();
        let clashes: Vec<String> = members(&part["definitions"])
            .filter(|(name, definition)| {
                whole["definitions"].get(name.as_str()).is_some_and(|ours| ours != *definition)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in clashes {
            let free = (2..).map(|n| format!("{name}_v{n}")).find(|new| whole["definitions"].get(new).is_none());
            rename(&mut part, &name, &free.unwrap_or_default());
        }
        for kind in ["paths", "definitions"] {
            if let (Some(ours), Value::Object(theirs)) = (whole[kind].as_object_mut(), part[kind].take()) {
                for (name, value) in theirs {
                    ours.entry(name).or_insert(value);
                }
            }
        }
    }
    whole
}

fn rename(part: &mut Value, old: &str, new: &str) {
    if let Some(definitions) = part["definitions"].as_object_mut()
        && let Some(definition) = definitions.remove(old)
    {
        definitions.insert(new.to_owned(), definition);
    }
    redirect(part, &format!("{DEFINITIONS}{old}"), &format!("{DEFINITIONS}{new}"));
}

fn redirect(value: &mut Value, old: &str, new: &str) {
    match value {
        Value::Object(object) => {
            for (name, value) in object.iter_mut() {
                match name.as_str() {
                    "$ref" if *value == old => *value = new.into(),
                    _ => redirect(value, old, new),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redirect(item, old, new)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_take_what_they_need_and_get_names_of_their_own() {
        let reference = |name: &str| json!({"$ref": format!("{DEFINITIONS}{name}")});
        let theirs = json!({
            "paths": {"/apis/g/v1/x": {"get": reference("X")}, "/apis/other/v1/y": {"get": reference("Y")}},
            "definitions": {"X": {"properties": {"m": reference("Meta")}}, "Meta": {"type": "theirs"}, "Y": {}},
        });
        let v2 = part(&theirs, "apis/g/v1");
        assert_eq!(members(&v2["definitions"]).map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["Meta", "X"]);
        let ours = json!({"paths": {"/a": {}}, "definitions": {"Meta": {"type": "ours"}}});
        let parts = [Arc::new(Documents { v2: Some(v2), ..Documents::default() })];
        let merged = merge_v2(ours, &parts);
        assert_eq!(merged["definitions"]["Meta"], json!({"type": "ours"}));
        assert_eq!(merged["definitions"]["X"]["properties"]["m"], reference("Meta_v2"));
        assert_eq!(merged["definitions"]["Meta_v2"], json!({"type": "theirs"}));
        assert_eq!(merged["paths"].as_object().unwrap().len(), 2);
    }
}
