//! A resource in one version, built-in or custom: all that the generic verbs need to know of it.

use crate::columns::PrinterColumn;
use crate::expressions::Rules;
use crate::strategy::Strategy;
use apimachinery::Value;
use apimachinery::codec::{Report, TypeMismatch, normalize};
use apimachinery::schema::{GroupVersionKind, Node, Schema, Shape, Structural};
use apimachinery::validation::Cursor;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::StatusCode;
use request::status::{Result, Status};
use std::sync::Arc;
use storage::object::{FieldValue, Layout, Object};

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
    pub fn normalize(&self, value: &mut Value, report: &mut Report) -> std::result::Result<(), TypeMismatch> {
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

    /// Checks by the rules that the schema itself states.
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
    /// Fills in what a stored object lacks, in the version it is stored in.
    pub default_stored: fn(&mut Value),
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
    pub rules: Option<Arc<Rules>>,
    /// How objects of a custom resource get from version to version; none if there is one version only.
    pub conversion: Option<Arc<dyn Converter>>,
    /// What every client of it is warned of.
    pub deprecation: Option<String>,
    /// Served without `--runtime-config`.
    pub on: bool,
    /// The feature gate that must be on for it to be served.
    pub gate: Option<&'static str>,
}

/// What brings objects of a custom resource from version to version.
pub trait Converter: Send + Sync {
    /// Whether another server converts, so that it takes time and may fail.
    fn is_webhook(&self) -> bool;

    /// Cached objects in the version of `row`, one of the definition's: those in another version are replaced.
    ///
    /// # Errors
    /// Only where a webhook converts.
    fn read_all<'a>(&'a self, row: &'a Resource, objects: Vec<Arc<Object>>) -> BoxFuture<'a, Result<Vec<Arc<Object>>>>;

    /// Objects, each with the kind it is in, in another version. Neither has `kind` and `apiVersion` in it.
    ///
    /// # Errors
    /// 500 in upstream's words when the webhook fails or changes what it may not.
    fn convert<'a>(
        &'a self,
        to: &'a GroupVersionKind,
        objects: Vec<(GroupVersionKind, Value)>,
    ) -> BoxFuture<'a, Result<Vec<Value>>>;
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

    /// Brings a converted object into this version's normal form: what its schema does not know goes, and what it has defaults for
    /// comes.
    ///
    /// # Errors
    /// 500 when the object does not fit the schema.
    pub fn conform(&self, object: &mut Value) -> Result<()> {
        let fit = self.form.normalize(object, &mut Report::default());
        fit.map_err(|e| {
            let why = format!("{} in version {:?}: {e}", self.kind.kind, self.kind.version);
            Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", why)
        })?;
        self.form.fill_in(object);
        self.form.drop_nulls(object);
        Ok(())
    }
}
