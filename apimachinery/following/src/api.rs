//! What an API consists of, told the same way whoever tells it: our tables ([`crate::ours`]) or a document ([`crate::document`]).

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Types, kinds and resources of one minor.
#[derive(Clone, Debug, Default)]
pub struct Api {
    /// Types by their [`short_name`].
    pub types: BTreeMap<String, Type>,
    /// Kinds that objects can be of.
    pub kinds: BTreeSet<Kind>,
    /// What is served under each group and version: by `pods` or `pods/status`. Empty where the source tells of types only.
    pub resources: BTreeMap<GroupVersion, BTreeMap<String, Resource>>,
    /// Whether the source tells what can be watched: watching has paths of its own, which some documents leave out.
    pub tells_watches: bool,
    /// Whether the source tells the values of enumerations.
    pub tells_values: bool,
    /// Whether the source tells the defaults of fields.
    pub tells_defaults: bool,
}

impl Api {
    /// The groups and versions of resources, or of kinds where no resources are told.
    pub fn versions(&self) -> BTreeSet<GroupVersion> {
        match self.resources.is_empty() {
            true => self.kinds.iter().map(|kind| kind.version.clone()).collect(),
            false => self.resources.keys().cloned().collect(),
        }
    }
}

/// A group and a version; the core group's name is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupVersion {
    pub group: String,
    pub version: String,
}

impl GroupVersion {
    pub fn new(group: &str, version: &str) -> GroupVersion {
        GroupVersion { group: if group == "core" { String::new() } else { group.into() }, version: version.into() }
    }

    /// The group as people name it: `core` has no name on the wire.
    pub fn group_name(&self) -> &str {
        if self.group.is_empty() { "core" } else { &self.group }
    }
}

impl std::fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}/{}", self.group_name(), self.version)
    }
}

/// A kind of objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub version: GroupVersion,
    pub name: String,
}

impl Kind {
    /// Reads a group, version and kind as extensions of OpenAPI tell it; none if one of the three is missing.
    pub fn read(value: &Value) -> Option<Kind> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        Some(Kind { version: GroupVersion::new(text("group")?, text("version")?), name: text("kind")?.into() })
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}/{}", self.version, self.name)
    }
}

/// A resource or subresource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// The kind of its objects; none where the document does not tell.
    pub kind: Option<Kind>,
    pub namespaced: bool,
    pub verbs: BTreeSet<String>,
}

/// What every object has. Tables do not count these as fields, and documents tell of them unevenly.
pub const TYPE_META: [&str; 2] = ["apiVersion", "kind"];

/// A struct.
#[derive(Clone, Debug, Default)]
pub struct Type {
    pub fields: BTreeMap<String, Field>,
    /// It carries [`TYPE_META`] and can be sent by itself.
    pub object: bool,
    /// Server-side apply replaces it as a whole.
    pub atomic: bool,
    /// A resource leads to it. Our tables also hold types that no document of the API has, such as those of webhooks' calls: that such
    /// a type is missing from a document means nothing.
    pub reachable: bool,
}

/// A member of a struct.
#[derive(Clone, Debug, Default)]
pub struct Field {
    /// `string`, `[]core.v1.Container`, `map[string]string`.
    pub shape: String,
    pub required: bool,
    /// How server-side apply merges it: `atomic`, `set`, `map by name`, `granular`; empty where there is nothing to say.
    pub merge: String,
    /// How a strategic merge patch merges it: strategy and key; empty for replacement.
    pub patch: String,
    /// The values that it may have; empty where it may have any.
    pub values: BTreeSet<String>,
    /// What it is when it is left out, if that is more than the zero value.
    pub default: Option<Value>,
}

/// The package's last name, the version and the type of a full name: `core.v1.Pod` of `io.k8s.api.core.v1.Pod`.
pub fn short_name(full: &str) -> &str {
    full.rmatch_indices('.').nth(2).map_or(full, |(at, _)| &full[at + 1..])
}

/// Names that stand for a coded value and not for a struct with members, and what every server answers whatever its API is.
pub const NO_STRUCTS: [&str; 12] = [
    "api.resource.Quantity",
    "apiextensions.v1.JSON",
    "apiextensions.v1.JSONSchemaPropsOrArray",
    "apiextensions.v1.JSONSchemaPropsOrBool",
    "apiextensions.v1.JSONSchemaPropsOrStringArray",
    "meta.v1.FieldsV1",
    "meta.v1.MicroTime",
    "meta.v1.Patch",
    "meta.v1.Time",
    "pkg.runtime.RawExtension",
    "pkg.version.Info",
    "util.intstr.IntOrString",
];
