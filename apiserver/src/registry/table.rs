//! The rows: `resources.txt` read into [`Resource`]s, and where each is kept in etcd.

use super::kinds;
use super::strategy::Strategy;
use crate::custom::columns::PrinterColumn;
use crate::custom::conversion::Converter;
use crate::storage::object::{FieldValue, Layout};
use apimachinery::Value;
use apimachinery::codec::{Report, TypeMismatch, normalize};
use apimachinery::schema::{GroupVersionKind, Node, Schema, Shape, Structural};
use apimachinery::validation::Cursor;
use bytes::Bytes;
use component_base::feature_gates::FeatureGates;
use std::sync::Arc;

/// What a client may do with a resource, in the order that discovery lists it.
pub const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// A subresource: `/status`, `/scale`, `/exec`.
#[derive(Clone, Debug)]
pub struct SubresourceRow {
    pub name: String,
    pub kind: GroupVersionKind,
    pub verbs: Vec<String>,
    /// The feature gate that must be on for it to be served.
    pub gate: Option<&'static str>,
}

/// Where the objects of a resource are kept, whatever version they are read in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StorageRow {
    /// Under `--etcd-prefix`, without slashes at the ends: `pods`, `services/specs`.
    pub prefix: String,
    /// The version they are written in.
    pub kind: GroupVersionKind,
}

/// What the objects of a resource look like.
#[derive(Clone, Debug)]
pub enum Form {
    /// A struct of the type table.
    Builtin(Shape),
    /// What a CustomResourceDefinition says.
    Custom(Arc<Structural>),
}

impl Form {
    /// Brings a decoded tree into normal form; what the type does not know is dropped and reported.
    pub fn normalize(&self, value: &mut Value, report: &mut Report) -> Result<(), TypeMismatch> {
        match self {
            Form::Builtin(Shape::Struct(id)) => {
                let schema = Schema::builtin();
                normalize(schema, schema.get(*id), value, report)
            }
            Form::Builtin(_) => Ok(()),
            Form::Custom(schema) => schema.normalize(value, report),
        }
    }

    /// Where a walk over an object starts.
    pub fn node(&self) -> Node<'_> {
        match self {
            Form::Builtin(shape) => Node::root(Schema::builtin(), shape),
            Form::Custom(schema) => Node::custom(schema),
        }
    }

    /// Fills in the defaults that the schema itself states.
    pub fn fill_in(&self, object: &mut Value) {
        if let Form::Custom(schema) = self {
            schema.fill_in(object);
        }
    }

    /// Takes out nulls that the schema does not allow.
    pub fn drop_nulls(&self, object: &mut Value) {
        if let Form::Custom(schema) = self {
            schema.drop_nulls(object);
        }
    }

    /// Judges by the rules that the schema itself states.
    pub fn validate(&self, object: &Cursor<'_>) {
        if let Form::Custom(schema) = self {
            schema.validate(object);
        }
    }

    /// The object in which nothing is set.
    pub fn zero(&self) -> Value {
        let mut zero = Value::Object(Default::default());
        let _ = self.normalize(&mut zero, &mut Report::default()); // an empty object fits every type
        zero
    }
}

/// One resource in one version.
pub struct Resource {
    pub kind: GroupVersionKind,
    pub plural: String,
    pub singular: String,
    pub list_kind: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub subresources: Vec<SubresourceRow>,
    /// None for resources that are only answered, never kept (reviews).
    pub storage: Option<StorageRow>,
    pub form: Form,
    /// An object in which nothing is set, in normal form.
    pub zero: Value,
    pub strategy: &'static Strategy,
    /// Selectable fields of a custom resource.
    pub selectable: Vec<Selectable>,
    /// Where a custom resource keeps its replicas.
    pub scale: Option<ScalePaths>,
    /// The schema that a custom resource is stored by.
    pub stored_schema: Option<Arc<Structural>>,
    /// What decides how stored objects are read: another text, another reading.
    pub stored_as: String,
    /// A definition that is going takes no new objects.
    pub terminating: bool,
    /// Columns that a definition gives its objects, besides the name; none for built-in kinds.
    pub columns: Option<Vec<PrinterColumn>>,
    /// The rules that a definition states in expressions; none for built-in kinds and where it states none.
    pub rules: Option<Arc<crate::custom::rules::Rules>>,
    /// How objects of a custom resource get from version to version; none if there is one version only.
    pub conversion: Option<Arc<Converter>>,
    /// What every client of it is warned of.
    pub deprecation: Option<String>,
    /// Served without `--runtime-config`.
    pub on: bool,
    /// The feature gate that must be on for it to be served.
    pub gate: Option<&'static str>,
}

/// A field that selectors of a custom resource may name. All versions keep the same list, so that they share a cache.
#[derive(Clone, Debug, PartialEq)]
pub struct Selectable {
    /// As it stands in a selector: `spec.color`.
    pub name: String,
    /// This version allows it.
    pub here: bool,
}

/// Paths of a custom resource's replicas, as members to go down.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalePaths {
    pub spec: Vec<String>,
    pub status: Vec<String>,
    /// The selector as a text, if there is one.
    pub selector: Option<Vec<String>>,
}

impl Resource {
    /// How stored objects are written as text, and how the fields that selectors may name are read, in the order of
    /// [`Resource::field`].
    pub fn layout(&self) -> Layout {
        let custom = self.selectable.iter().map(|s| FieldValue::At(s.name.split('.').map(str::to_owned).collect()));
        let fields = self.strategy.fields.iter().map(|f| FieldValue::Of(f.value)).chain(custom).collect();
        let kind = self.storage.as_ref().map(|storage| &storage.kind).filter(|_| !self.is_custom());
        let ty = kind.and_then(|kind| Schema::builtin().kind(&kind.group, &kind.version, &kind.kind));
        Layout { shape: ty.map(|ty| Shape::Struct(ty.id)), fields }
    }

    /// What stands before an object's other members when it is sent by itself: `{"kind":"Pod","apiVersion":"v1",`. Members of
    /// custom resources are sorted by name.
    pub fn prefix(&self) -> Bytes {
        let (kind, version) = (&self.kind.kind, self.kind.api_version());
        match self.is_custom() {
            false => format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",").into(),
            true => format!("{{\"apiVersion\":\"{version}\",\"kind\":\"{kind}\",").into(),
        }
    }

    /// The position of a field that selectors may name.
    pub fn field(&self, name: &str) -> Option<usize> {
        let builtin = self.strategy.fields.iter().position(|f| f.name == name);
        builtin.or_else(|| {
            let at = self.selectable.iter().position(|s| s.here && s.name == name)?;
            Some(self.strategy.fields.len() + at)
        })
    }

    pub fn subresource(&self, name: &str) -> Option<&SubresourceRow> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// The kind of the objects that requests to a subresource are about (the resource's own where it has none of its own).
    pub fn kind_of(&self, subresource: &str) -> &GroupVersionKind {
        self.subresource(subresource).map_or(&self.kind, |s| &s.kind)
    }

    /// What those objects look like; none if nobody knows.
    pub fn form_of(&self, subresource: &str) -> Option<Form> {
        let kind = self.kind_of(subresource);
        if *kind == self.kind {
            return Some(self.form.clone());
        }
        let ty = Schema::builtin().kind(&kind.group, &kind.version, &kind.kind)?;
        Some(Form::Builtin(Shape::Struct(ty.id)))
    }

    pub fn is_custom(&self) -> bool {
        matches!(self.form, Form::Custom(_))
    }

    /// Finalizers without a domain must be among those that Kubernetes knows. Kinds of the servers beside the core (extensions,
    /// aggregation) take any qualified name, as custom resources do.
    pub fn restricts_finalizers(&self) -> bool {
        !self.is_custom() && !matches!(&*self.kind.group, "apiextensions.k8s.io" | "apiregistration.k8s.io")
    }

    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// The key of an object below the storage prefix: `namespace/name` or `name`.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced { format!("{namespace}/{name}") } else { name.to_owned() }
    }
}

/// Prefixes that are not the resource's plural: names from Kubernetes' first days, and two servers that put their group first.
const PREFIXES: &[(&str, &str, &str)] = &[
    ("", "nodes", "minions"),
    ("", "services", "services/specs"),
    ("", "endpoints", "services/endpoints"),
    ("", "replicationcontrollers", "controllers"),
    ("events.k8s.io", "events", "events"),
    ("networking.k8s.io", "ingresses", "ingress"),
    ("apiextensions.k8s.io", "customresourcedefinitions", "apiextensions.k8s.io/customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices", "apiregistration.k8s.io/apiservices"),
];

/// Resources of several versions or groups that are written in one: (group, plural, group and version written).
const STORED_AS: &[(&str, &str, &str, &str)] = &[
    ("events.k8s.io", "events", "", "v1"),
    ("autoscaling", "horizontalpodautoscalers", "autoscaling", "v2"),
    ("networking.k8s.io", "ipaddresses", "networking.k8s.io", "v1"),
    ("networking.k8s.io", "servicecidrs", "networking.k8s.io", "v1"),
    ("storage.k8s.io", "volumeattributesclasses", "storage.k8s.io", "v1"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies", "admissionregistration.k8s.io", "v1beta1"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings", "admissionregistration.k8s.io", "v1beta1"),
    ("certificates.k8s.io", "clustertrustbundles", "certificates.k8s.io", "v1beta1"),
    ("coordination.k8s.io", "leasecandidates", "coordination.k8s.io", "v1beta1"),
    ("resource.k8s.io", "deviceclasses", "resource.k8s.io", "v1"),
    ("resource.k8s.io", "resourceclaims", "resource.k8s.io", "v1"),
    ("resource.k8s.io", "resourceclaimtemplates", "resource.k8s.io", "v1"),
    ("resource.k8s.io", "resourceslices", "resource.k8s.io", "v1"),
];

/// The rows of all built-in resources, those that are off by default too.
///
/// # Panics
/// When `resources.txt` is wrong; a unit test reads it.
#[cfg(test)]
pub fn builtin() -> Vec<Arc<Resource>> {
    read().into_iter().map(Arc::new).collect()
}

/// The built-in resources and subresources whose gates are on, of those that `is_on`.
///
/// # Panics
/// When `resources.txt` is wrong; a unit test reads it.
pub fn served(is_on: impl Fn(&Resource) -> bool, gates: &FeatureGates) -> Vec<Arc<Resource>> {
    let open = |gate: Option<&'static str>| gate.is_none_or(|gate| gates.enabled(gate));
    let mut rows = read();
    rows.retain(|row| is_on(row) && open(row.gate));
    for row in &mut rows {
        row.subresources.retain(|subresource| open(subresource.gate));
    }
    rows.into_iter().map(Arc::new).collect()
}

fn read() -> Vec<Resource> {
    let schema = Schema::builtin();
    let mut rows: Vec<Resource> = Vec::new();
    let (mut group, mut version) = ("", "");
    for line in include_str!("resources.txt").lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match (line.len() - line.trim_start().len(), words.as_slice()) {
            (_, []) | (_, ["#", ..]) => {}
            (0, [gv]) => {
                (group, version) = gv.split_once('/').unwrap_or(("", gv));
                if group == "core" {
                    group = "";
                }
            }
            (2, [plural, kind, singular, scope, verbs, flags @ ..]) => {
                let flag = |name: &str| flags.iter().find_map(|f| f.strip_prefix(name)).map(list).unwrap_or_default();
                let ty = schema
                    .kind(group, version, kind)
                    .unwrap_or_else(|| panic!("resources.txt: no type for {group}/{version} {kind}"));
                let verbs = if *verbs == "*" { ALL_VERBS.iter().map(|v| v.to_string()).collect() } else { list(verbs) };
                let gvk = GroupVersionKind::new(group, version, kind);
                let kept = verbs.iter().any(|v: &String| v == "watch");
                rows.push(Resource {
                    plural: plural.to_string(),
                    singular: singular.to_string(),
                    list_kind: format!("{kind}List"),
                    namespaced: *scope == "namespaced",
                    short_names: flag("short="),
                    categories: flag("categories="),
                    subresources: Vec::new(),
                    storage: kept.then(|| storage(&gvk, plural)),
                    zero: Form::Builtin(Shape::Struct(ty.id)).zero(),
                    form: Form::Builtin(Shape::Struct(ty.id)),
                    strategy: kinds::strategy(group, version, plural),
                    columns: None,
                    conversion: None,
                    rules: None,
                    selectable: Vec::new(),
                    scale: None,
                    stored_schema: None,
                    stored_as: String::new(),
                    terminating: false,
                    deprecation: deprecation(group, version, kind, flags),
                    on: !flags.contains(&"off"),
                    gate: flags.iter().find_map(|f| f.strip_prefix("gate=")),
                    verbs,
                    kind: gvk,
                });
            }
            (4, [name, kind, verbs, flags @ ..]) => {
                let row = rows.last_mut().unwrap_or_else(|| panic!("resources.txt: a subresource before any resource"));
                let kind = match kind.split('/').collect::<Vec<_>>()[..] {
                    [g, v, k] => GroupVersionKind::new(g, v, k),
                    _ => GroupVersionKind::new(&row.kind.group, &row.kind.version, kind),
                };
                let gate = flags.iter().find_map(|f| f.strip_prefix("gate="));
                row.subresources.push(SubresourceRow { name: name[1..].to_string(), kind, verbs: list(verbs), gate });
            }
            _ => panic!("resources.txt: cannot read {line:?}"),
        }
    }
    rows
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

/// The warning of a row marked `deprecated=since[,gone]`, and `use=version` where another version of the group takes over, `use=group/version/Kind` where another
/// kind does.
fn deprecation(group: &str, version: &str, kind: &str, flags: &[&str]) -> Option<String> {
    let flag = |name: &str| flags.iter().find_map(|f| f.strip_prefix(name));
    let (since, gone) = flag("deprecated=").map(|v| v.split_once(',').unwrap_or((v, "")))?;
    let name = |version: &str| GroupVersionKind::new(group, version, kind).api_version();
    let mut text = format!("{} {kind} is deprecated in v{since}+", name(version));
    if !gone.is_empty() {
        text += &format!(", unavailable in v{gone}+");
    }
    match flag("use=").map(|other| (other, other.rsplit_once('/'))) {
        Some((_, Some((version, kind)))) => text += &format!("; use {version} {kind}"),
        Some((version, None)) => text += &format!("; use {} {kind}", name(version)),
        None => {}
    }
    Some(text)
}

fn storage(gvk: &GroupVersionKind, plural: &str) -> StorageRow {
    let prefix =
        PREFIXES.iter().find(|(g, p, _)| *g == gvk.group && *p == plural).map_or(plural, |(_, _, prefix)| prefix);
    let stored = STORED_AS.iter().find(|(g, p, ..)| *g == gvk.group && *p == plural);
    let (group, version) = stored.map_or((gvk.group.as_str(), gvk.version.as_str()), |(_, _, g, v)| (g, v));
    StorageRow { prefix: prefix.to_owned(), kind: GroupVersionKind::new(group, version, &gvk.kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_read_and_keys_lie_where_upstream_puts_them() {
        let rows = builtin();
        let prefix = |group: &str, version: &str, plural: &str| {
            let row =
                rows.iter().find(|r| r.kind.group == group && r.kind.version == version && r.plural == plural).unwrap();
            row.storage.as_ref().map(|s| s.prefix.clone())
        };
        assert_eq!(prefix("", "v1", "nodes").as_deref(), Some("minions"));
        assert_eq!(prefix("apps", "v1", "deployments").as_deref(), Some("deployments"));
        assert_eq!(prefix("events.k8s.io", "v1", "events").as_deref(), Some("events"));
        assert_eq!(prefix("authorization.k8s.io", "v1", "subjectaccessreviews"), None);
        let hpa = rows.iter().find(|r| r.plural == "horizontalpodautoscalers" && r.kind.version == "v1").unwrap();
        assert_eq!(hpa.storage.as_ref().unwrap().kind.version, "v2");
    }
}
