//! One version of one object, as the cache keeps it, and the events that lead from one to the next.

use super::{Revision, encodings};
use apimachinery::Value;
use apimachinery::codec::{Ordered, proto};
use apimachinery::schema::{GroupVersionKind, Schema, Shape};
use bytes::Bytes;
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// An object as of one revision. Immutable, shared by the cache, its history and every watcher.
#[derive(Debug)]
pub struct Object {
    /// Below the resource's prefix: `namespace/name` or `name`.
    pub key: Box<str>,
    pub revision: Revision,
    /// The object in its storage version, resourceVersion included, `kind` and `apiVersion` left out: lists want it so, and
    /// they are quickly put in front (see `Resource::prefix`).
    pub json: Bytes,
    /// The version it is in, where versions of stored objects differ: custom resources. Empty: the version that is stored now, with
    /// members that only another version knows.
    pub version: Option<Arc<str>>,
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Values of the resource's selectable fields, in the order of its strategy.
    pub fields: Box<[Box<str>]>,
    /// The protobuf form, while it is kept after somebody asked for it.
    proto: RwLock<Option<Arc<encodings::Form>>>,
}

/// How to read one of a resource's selectable fields.
#[derive(Clone, Debug)]
pub enum FieldValue {
    Of(fn(&Value) -> String),
    /// What lies at a path: a text, a number or a boolean.
    At(Vec<String>),
}

impl FieldValue {
    pub fn read(&self, tree: &Value) -> String {
        match self {
            FieldValue::Of(value) => value(tree),
            FieldValue::At(path) => match path.iter().try_fold(tree, |value, name| value.get(name)) {
                Some(Value::String(text)) => text.clone(),
                Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
                _ => String::new(),
            },
        }
    }
}

/// What a resource says of the objects that are stored of it.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// The type of the storage version, whose order members are written in. None of custom resources: theirs are sorted by name.
    pub shape: Option<Shape>,
    /// How each selectable field is read.
    pub fields: Vec<FieldValue>,
}

impl Layout {
    fn json(&self, tree: &Value) -> Vec<u8> {
        let written = match &self.shape {
            Some(shape) => serde_json::to_vec(&Ordered::new(Schema::builtin(), shape, tree)),
            None => serde_json::to_vec(tree),
        };
        written.unwrap_or_default()
    }
}

impl Object {
    /// Takes the tree as decoded from storage (normal form of the storage version) and sets its resourceVersion.
    pub fn new(key: &str, revision: Revision, mut tree: Value, layout: &Layout) -> Object {
        if let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".into(), revision.to_string().into());
        }
        if let Some(members) = tree.as_object_mut() {
            members.remove("kind");
            members.remove("apiVersion");
        }
        let labels = tree["metadata"]["labels"].as_object().map(|labels| {
            labels.iter().map(|(k, v)| (k.as_str().into(), v.as_str().unwrap_or_default().into())).collect()
        });
        Object {
            key: key.into(),
            revision,
            version: None,
            labels: labels.unwrap_or_default(),
            fields: layout.fields.iter().map(|field| field.read(&tree).into()).collect(),
            proto: RwLock::default(),
            json: exact(layout.json(&tree)),
        }
    }

    /// The same object with other content, in another version. `layout` is that of its resource.
    pub fn with_tree(&self, tree: Value, version: Option<Arc<str>>, layout: &Layout) -> Object {
        Object { version, ..Object::new(&self.key, self.revision, tree, layout) }
    }

    /// The same content as of a later revision.
    pub fn at_revision(&self, revision: Revision) -> Object {
        Object {
            key: self.key.clone(),
            revision,
            json: with_revision(&self.json, self.revision, revision),
            version: self.version.clone(),
            labels: self.labels.clone(),
            fields: self.fields.clone(),
            proto: RwLock::default(),
        }
    }

    /// The same, stored in a version that its resource does not imply.
    pub fn in_version(self, version: Option<Arc<str>>) -> Object {
        Object { version, ..self }
    }

    pub fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.key.split_once('/').map_or(&self.key, |(_, name)| name)
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        // Sorted by key, as the tree was.
        let at = self.labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }

    /// The object as a tree without `kind` and `apiVersion`, for those who change it or print it otherwise.
    pub fn tree(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }

    /// The object's protobuf message, without an envelope. Made once and kept for a while. `kind` is that of the
    /// storage version, of a built-in type.
    pub fn proto(&self, kind: &GroupVersionKind) -> Bytes {
        if let Some(made) = self.proto.read().as_ref().and_then(|form| form.get()) {
            return made;
        }
        let schema = Schema::builtin();
        let mut out = Vec::new();
        if let Some(ty) = schema.kind(&kind.group, &kind.version, &kind.kind) {
            proto::encode(schema, ty.id, &self.tree(), &mut out);
        }
        let made = exact(out);
        *self.proto.write() = Some(encodings::keep(made.clone()));
        made
    }

    /// Gives up the protobuf message; who still asks for it makes it anew.
    pub fn forget_proto(&self) {
        *self.proto.write() = None;
    }
}

/// The bytes in a buffer of their own length. One that grew while it was written is up to twice as long, which would be half of what the
/// cache holds.
fn exact(bytes: Vec<u8>) -> Bytes {
    bytes.into_boxed_slice().into()
}

/// The text of an object with another resourceVersion.
fn with_revision(json: &Bytes, old: Revision, new: Revision) -> Bytes {
    let Some(at) = own_revision(json, old) else { return json.clone() };
    [&json[..at.start], new.to_string().as_bytes(), &json[at.end..]].concat().into()
}

/// Where the number of an object's own resourceVersion stands in its text.
fn own_revision(json: &Bytes, revision: Revision) -> Option<Range<usize>> {
    // Nearly always there is one place that looks like it. (Inside a string quotes are escaped, so no string does.)
    let pattern = format!("\"resourceVersion\":\"{revision}\"");
    let mut places = json.windows(pattern.len()).enumerate().filter(|(_, part)| *part == pattern.as_bytes());
    let (at, _) = places.next()?;
    if places.next().is_none() {
        let end = at + pattern.len() - 1;
        return Some(end - revision.to_string().len()..end);
    }
    #[derive(Deserialize)]
    struct Metadata<'a> {
        #[serde(borrow, rename = "resourceVersion")]
        resource_version: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Whole<'a> {
        #[serde(borrow)]
        metadata: Metadata<'a>,
    }
    let whole: Whole = serde_json::from_slice(json).ok()?;
    let number = whole.metadata.resource_version.get().trim_matches('"');
    let start = number.as_ptr() as usize - json.as_ptr() as usize; // borrowed from it
    Some(start..start + number.len())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
        }
    }
}

/// A change of one object.
#[derive(Debug)]
pub struct Event {
    pub kind: EventType,
    pub revision: Revision,
    /// The object after the change; for a deletion the last state, with the revision of the deletion.
    pub object: Arc<Object>,
    /// The object before the change; none for an addition.
    pub previous: Option<Arc<Object>>,
    /// The line `{"type":…,"object":…}` of each [`EventType`] this can be to a selective watcher, made once for all.
    lines: [OnceLock<Bytes>; 3],
}

impl Event {
    pub fn new(kind: EventType, revision: Revision, object: Arc<Object>, previous: Option<Arc<Object>>) -> Event {
        Event { kind, revision, object, previous, lines: Default::default() }
    }

    /// The event that a change is, by what is there after it and was before; none if there was nothing and is nothing.
    pub fn of_change(revision: Revision, object: Option<Arc<Object>>, previous: Option<Arc<Object>>) -> Option<Event> {
        let (kind, object) = match (object, &previous) {
            (Some(object), Some(_)) => (EventType::Modified, object),
            (Some(object), None) => (EventType::Added, object),
            (None, Some(gone)) => (EventType::Deleted, Arc::new(gone.at_revision(revision))),
            (None, None) => return None,
        };
        Some(Event::new(kind, revision, object, previous))
    }

    /// The same change, with none of the forms that were made of it.
    pub fn bare(&self) -> Event {
        Event::new(self.kind, self.revision, self.object.clone(), self.previous.clone())
    }

    /// The event as a line of a JSON watch, as `kind`; `prefix` is `Resource::prefix` of the storage version.
    pub fn line(&self, kind: EventType, prefix: &[u8]) -> Bytes {
        self.lines[kind as usize].get_or_init(|| watch_line(kind, prefix, &self.object.json)).clone()
    }
}

/// `{"type":"ADDED","object":…}` and a line break.
pub fn watch_line(kind: EventType, prefix: &[u8], json: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(prefix.len() + json.len() + 40);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_str().as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(prefix);
    line.extend_from_slice(json.get(1..).unwrap_or_default());
    line.extend_from_slice(b"}\n");
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_of_a_later_revision_is_the_same_but_for_its_version() {
        let layout = Layout { shape: None, fields: vec![FieldValue::At(vec!["a".into()])] };
        // The second one has the same text elsewhere, the third has it quoted in a string.
        for tree in [
            json!({"metadata": {"name": "x", "labels": {"a": "b"}}, "a": "1"}),
            json!({"metadata": {"name": "x"}, "a": "1", "z": {"resourceVersion": "7"}}),
            json!({"metadata": {"name": "x"}, "a": "\"resourceVersion\":\"7\""}),
        ] {
            let (old, new) = (Object::new("x", 7, tree.clone(), &layout), Object::new("x", 12, tree, &layout));
            let moved = old.at_revision(12);
            assert_eq!((&moved.json, &moved.labels, &moved.fields), (&new.json, &new.labels, &new.fields));
            assert_eq!(moved.revision, 12);
        }
    }

    #[test]
    fn a_protobuf_form_that_was_given_up_is_made_again() {
        let object = Object::new("a/x", 7, json!({"metadata": {"name": "x"}, "data": {"k": "v"}}), &Layout::default());
        let kind = GroupVersionKind::new("", "v1", "ConfigMap");
        let first = object.proto(&kind);
        object.forget_proto();
        assert_eq!(object.proto(&kind), first);
    }
}
