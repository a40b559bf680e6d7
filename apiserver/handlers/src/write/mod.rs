//! Writes: create, update, patch, apply, delete. All of them end in one etcd transaction on one key.
//!
//! The stages of a write, in upstream's order: decode → defaults → managed fields → mutating admission → the kind's own
//! preparation → validation → validating admission → transaction. An update runs them again on a fresh object when somebody
//! else was faster.

pub mod create;
pub mod delete;
pub mod patch;
mod pending_conversions;
pub mod update;

use crate::api::admission::Charge;
use crate::api::admission::{Attributes, Operation, RequestOptions};
use crate::api::{Api, Endpoint};
use apimachinery::apply::{FieldManager, FieldSet};
use apimachinery::codec::Report;
use apimachinery::schema::{GroupVersionKind, Node, Schema};
use apimachinery::validation::{Cursor, Errors, names, object_meta};
use apimachinery::{Map, Value};
use http::HeaderMap;
use pending_conversions::PendingConversions;
use registry::conversion::convert;
use registry::metrics::evaluating;
use registry::strategy::{Context, NameRule};
use request::options::WriteOptions;
use request::status::{About, Result, Status};
use request::{RequestInfo, User};
use serde_json::json;
use std::sync::Arc;
use storage::etcd;
use storage::object::Object;
use storage::own::OwnWrite;

/// One write by one user.
pub struct Write<'a> {
    pub api: &'a Api,
    pub endpoint: &'a Arc<Endpoint>,
    pub user: &'a User,
    pub namespace: String,
    /// Empty for a create.
    pub name: String,
    pub subresource: String,
    pub options: WriteOptions,
    /// Who owns the fields written.
    pub manager: String,
    /// RFC 3339, seconds, UTC.
    pub now: String,
    /// An apply tracks its fields itself, while it merges.
    pub applies: bool,
    /// A change by the server that no client could make: stored as it is, without tracking, preparation and validation.
    pub raw: bool,
    /// By the server itself, of trees that it made.
    pub internal: bool,
    /// The object came with lists or maps that are empty.
    pub emptied: bool,
    /// A new object came with labels.
    pub labelled: bool,
    /// What admission sees of the object, if not all.
    pub view: Option<&'a dyn View>,
    /// What the field manager must see in other versions.
    pub conversions: PendingConversions,
}

/// What of an object a request to a subresource of another kind is about, `scale` for one: admission sees and changes that.
pub trait View: Sync {
    fn of(&self, object: &Value) -> Result<Value>;
    /// Puts a changed view back.
    fn put(&self, object: &mut Value, view: &Value);
}

/// What a write came to.
#[derive(Clone, Debug)]
pub enum Stored {
    /// As the cache will have it.
    Object(Arc<Object>),
    /// Not stored: a dry run, a change that changed nothing, the last state of what is gone. In the version of the request, with
    /// its resourceVersion, without `kind` and `apiVersion`.
    Tree(Value),
}

/// A written object.
#[derive(Debug)]
pub struct Written {
    pub object: Stored,
    pub created: bool,
    pub warnings: Vec<String>,
}

/// Now, as objects carry it.
pub fn now_text() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The manager that a client without `fieldManager` is: its user agent up to the version.
pub fn default_manager(headers: &HeaderMap) -> String {
    let agent = headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let name: String = agent.split('/').next().unwrap_or("").chars().filter(|c| !c.is_control()).take(128).collect();
    if name.is_empty() { "unknown".into() } else { name }
}

impl<'a> Write<'a> {
    /// The write that a request asks for. A name counts where it stands in the path, not in a field selector.
    pub fn requested(
        api: &'a Api,
        endpoint: &'a Arc<Endpoint>,
        info: &RequestInfo,
        user: &'a User,
        options: WriteOptions,
        headers: &HeaderMap,
    ) -> Write<'a> {
        let namespace = if endpoint.row.namespaced { &*info.namespace } else { "" };
        let name = if info.is_by_path() { &*info.name } else { "" };
        let manager =
            if options.field_manager.is_empty() { default_manager(headers) } else { options.field_manager.clone() };
        let write = Write::internal(api, endpoint, user, namespace, name);
        Write { subresource: info.subresource.clone(), options, manager, internal: false, ..write }
    }

    /// A write by the server itself.
    pub fn internal(
        api: &'a Api,
        endpoint: &'a Arc<Endpoint>,
        user: &'a User,
        namespace: &str,
        name: &str,
    ) -> Write<'a> {
        Write {
            api,
            endpoint,
            user,
            namespace: namespace.into(),
            name: name.into(),
            subresource: String::new(),
            options: WriteOptions::default(),
            manager: "kube-apiserver".into(),
            now: now_text(),
            applies: false,
            raw: false,
            internal: true,
            emptied: false,
            labelled: false,
            view: None,
            conversions: PendingConversions::default(),
        }
    }

    pub fn about(&self) -> About<'_> {
        About { group: &self.endpoint.row.kind.group, resource: &self.endpoint.row.plural, name: &self.name }
    }

    fn context(&self) -> Context<'_> {
        Context { user: self.user, now: &self.now, labelled: self.labelled }
    }

    /// Fields that a writer of this endpoint never owns: the status for the object, all but the status for its status.
    fn reset_fields(&self) -> FieldSet {
        let row = &self.endpoint.row;
        if let Some(subresource) = row.strategy.subresource(&self.subresource) {
            return FieldSet::of_fields(subresource.reset_fields);
        }
        match self.subresource.as_str() {
            "" if row.has_status() => FieldSet::of_fields(&["status"]),
            "status" => FieldSet::of_fields(&["spec"]),
            _ => FieldSet::new(),
        }
    }

    fn with_manager<T>(&self, act: impl FnOnce(FieldManager) -> T) -> T {
        let row = &self.endpoint.row;
        // Looked up only for objects that somebody wrote in another version.
        let others = std::cell::OnceCell::new();
        let converted = |object: &Value, version: &str| {
            let Some(converter) = &row.conversion else { return in_version(&row.kind, object, version) };
            let others = others.get_or_init(|| self.api.equivalents(self.endpoint));
            let other = &others.iter().find(|e| e.row.kind.api_version() == version)?.row;
            if converter.is_webhook() {
                return Some((self.conversions.get(version, object)?, other.form.node()));
            }
            let mut object = object.clone();
            other.conform(&mut object).ok()?;
            Some((object, other.form.node()))
        };
        act(FieldManager {
            node: row.form.node(),
            zero: &row.zero,
            manager: &self.manager,
            api_version: &row.kind.api_version(),
            subresource: &self.subresource,
            now: &self.now,
            reset: &self.reset_fields(),
            convert: &converted,
        })
    }

    /// Says in what is only answered who sent it, as for what is stored.
    pub fn track_review(&self, review: &mut Value) {
        self.with_manager(|manager| manager.update(&self.endpoint.row.zero, review));
    }

    /// Runs mutating admission on `object` and puts what comes out into normal form again.
    async fn admit(
        &self,
        operation: Operation,
        object: Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<Value> {
        if let Some(view) = self.view {
            let (mut object, old) = (object, old.map(|old| view.of(old)).transpose()?);
            let mut attributes = self.attributes(operation, Some(view.of(&object)?), old.as_ref());
            self.api.admission.admit(self.api, &mut attributes).await?;
            warnings.append(&mut attributes.warnings);
            view.put(&mut object, &attributes.object.unwrap_or_default());
            return Ok(object);
        }
        let mut attributes = self.attributes(operation, Some(object), old);
        self.api.admission.admit(self.api, &mut attributes).await?;
        warnings.append(&mut attributes.warnings);
        Ok(attributes.object.unwrap_or_default())
    }

    /// Gives back what plugins have set aside for a write that failed. Boxed, for what they do is a write itself.
    async fn give_back(&self, charges: Vec<Box<dyn Charge>>) {
        for charge in charges {
            charge.give_back(self.api, &self.namespace).await;
        }
    }

    /// The second stage of admission: what of the object is left, and what quotas were charged for it.
    async fn validate_admission(
        &self,
        operation: Operation,
        object: Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(Value, Vec<Box<dyn Charge>>)> {
        if let Some(view) = self.view {
            let old = old.map(|old| view.of(old)).transpose()?;
            let mut attributes = self.attributes(operation, Some(view.of(&object)?), old.as_ref());
            self.api.admission.validate(self.api, &mut attributes).await?;
            warnings.append(&mut attributes.warnings);
            return Ok((object, attributes.charges));
        }
        let mut attributes = self.attributes(operation, Some(object), old);
        self.api.admission.validate(self.api, &mut attributes).await?;
        warnings.append(&mut attributes.warnings);
        Ok((attributes.object.unwrap_or_default(), attributes.charges))
    }

    fn attributes<'b>(&'b self, operation: Operation, object: Option<Value>, old: Option<&'b Value>) -> Attributes<'b> {
        let of = (&*self.namespace, &*self.name);
        Attributes {
            options: RequestOptions::Write(&self.options),
            object,
            old,
            dry_run: self.options.dry_run,
            ..Attributes::new(self.endpoint, operation, &self.subresource, of, self.user)
        }
    }

    /// Puts what the server wants written into normal form. A client's object is in it since it was decoded: webhooks' and policies'
    /// objects are put into it as they come, and the plugins and preparations of the server itself keep it, which is checked only
    /// where it costs nobody.
    fn tidy(&self, object: &mut Value) -> Result<()> {
        let normalize = |object: &mut Value| {
            let result = self.endpoint.row.form.normalize(object, &mut Report::default());
            result.map_err(|e| Status::bad_request(e.to_string()))
        };
        if self.internal {
            return normalize(object);
        }
        if cfg!(debug_assertions) {
            let mut normal = object.clone();
            normalize(&mut normal)?;
            assert_eq!(normal, *object, "not in normal form");
        }
        Ok(())
    }

    /// The metadata rules of all kinds and the kind's own, for a new object.
    fn validate(&self, object: &Value) -> Result<()> {
        let errors = Errors::with_gates(self.api.rules_gates.clone());
        let row = &self.endpoint.row;
        let root = Cursor::root(object, &errors);
        object_meta::object_meta(&root.field("metadata"), row.namespaced, name_rule(row.strategy.name));
        if row.restricts_finalizers() {
            object_meta::builtin_finalizers(&root.field("metadata"));
        }
        (row.strategy.validate)(&root);
        row.form.validate(&root);
        if let Some(rules) = &row.rules {
            evaluating(|| rules.validate(&root, None));
        }
        self.refuse_if_any(object, errors)
    }

    /// The same for a change.
    fn validate_update(&self, object: &Value, old: &Value) -> Result<()> {
        let errors = Errors::with_gates(self.api.rules_gates.clone());
        let row = &self.endpoint.row;
        let (root, was) = (Cursor::root(object, &errors), Cursor::root(old, &errors));
        object_meta::object_meta(&root.field("metadata"), row.namespaced, name_rule(row.strategy.name));
        if row.restricts_finalizers() {
            object_meta::builtin_finalizers(&root.field("metadata"));
        }
        object_meta::object_meta_update(&root.field("metadata"), &was.field("metadata"));
        row.form.validate(&root);
        if let Some(rules) = &row.rules {
            evaluating(|| rules.validate(&root, Some(old)));
        }
        match (row.strategy.subresource(&self.subresource), self.subresource.as_str()) {
            (Some(subresource), _) => (subresource.validate)(&root, &was),
            (None, "" | "scale") => (row.strategy.validate_update)(&root, &was),
            (None, _) => {}
        }
        self.refuse_if_any(object, errors)
    }

    fn refuse_if_any(&self, object: &Value, errors: Errors) -> Result<()> {
        if errors.is_empty() {
            return Ok(());
        }
        let kind = &self.endpoint.row.kind;
        let name = object["metadata"]["name"].as_str().unwrap_or("");
        Err(Status::invalid(&kind.group, &kind.kind, name, &errors.into_vec()))
    }

    /// The bytes to store of an object in the version of the request, and the tree they stand for.
    async fn encode(&self, object: Value) -> Result<(Vec<u8>, Value)> {
        let (row, storage) = (&self.endpoint.row, self.endpoint.storage()?);
        let stored = self.api.convert(row, &row.kind, &storage.kind, vec![object]).await?.pop();
        let mut stored = stored.unwrap_or_default();
        let bytes = storage::codec::encode(self.api.media, &storage.kind, &mut stored);
        Ok((bytes, stored))
    }

    /// Tells the cache what is about to be written under `key`, the object's below the resource's prefix.
    fn begin(&self, name: &str, bytes: &[u8], tree: Value) -> Result<Arc<OwnWrite>> {
        Ok(self.endpoint.cache()?.own.begin(&self.endpoint.row.key(&self.namespace, name), bytes, tree))
    }

    /// What was written, as a tree in the version of the request.
    pub fn tree(&self, stored: Stored) -> Result<Value> {
        match stored {
            Stored::Object(object) => self.own_version(object.tree()),
            Stored::Tree(tree) => Ok(tree),
        }
    }

    /// The object of a write that etcd has taken, as of its revision.
    async fn written(&self, write: &OwnWrite, revision: u64) -> Result<Stored> {
        let cache = self.endpoint.cache()?;
        let object = write.object(revision, |key, tree| cache.made(key, revision, tree));
        let object = object.ok_or_else(|| Status::internal("a write has two revisions"))?;
        Ok(Stored::Object(self.api.readable_one(self.endpoint, object).await?))
    }

    /// An object as it is stored, in the version of the request.
    async fn decode(&self, stored: Arc<Object>) -> Result<Value> {
        self.own_version(self.api.readable_one(self.endpoint, stored).await?.tree())
    }

    /// A readable tree in the version of the request: of custom resources it is in that already.
    fn own_version(&self, mut tree: Value) -> Result<Value> {
        let (row, storage) = (&self.endpoint.row, self.endpoint.storage()?);
        if !row.is_custom() {
            convert(&storage.kind, &row.kind, &mut tree);
        }
        Ok(tree)
    }

    /// What etcd holds under a key, as the cache would hold it.
    fn stored(&self, key: &str, stored: &etcd::Stored) -> Result<Arc<Object>> {
        let tree = storage::codec::decode(key, &stored.value)?;
        let cache = self.endpoint.cache()?;
        Ok(cache.object(&self.endpoint.row.key(&self.namespace, &self.name), stored.revision, tree))
    }

    /// Makes the conversions that the field manager found missing. True if there were any: then it must look again.
    async fn convert_pending(&self) -> Result<bool> {
        let pending = self.conversions.take();
        let again = !pending.is_empty();
        for (version, object) in pending {
            let others = self.api.equivalents(self.endpoint);
            let Some(other) = others.iter().find(|e| e.row.kind.api_version() == version) else { continue };
            let (own, row) = (&self.endpoint.row.kind, &other.row);
            let made = self.api.convert(row, own, &row.kind, vec![object.clone()]).await?.pop();
            self.conversions.put(version, object, made.unwrap_or_default());
        }
        Ok(again)
    }

    /// The etcd key of the object.
    fn etcd_key(&self, name: &str) -> Result<String> {
        let row = &self.endpoint.row;
        let storage = self.endpoint.storage()?;
        Ok(format!("{}/{}/{}", self.api.etcd.prefix, storage.prefix, row.key(&self.namespace, name)))
    }

    async fn lease(&self) -> Result<i64> {
        let is_event = self.endpoint.storage()?.prefix == "events";
        Ok(if is_event { self.api.event_leases.lease().await? } else { 0 })
    }
}

/// An object of a built-in kind in another of its versions, for the managed fields of those who wrote it in that.
fn in_version(kind: &GroupVersionKind, object: &Value, version: &str) -> Option<(Value, Node<'static>)> {
    let (group, version) = GroupVersionKind::split_api_version(version);
    let ty = Schema::builtin().kind(group, version, &kind.kind)?;
    let mut object = object.clone();
    convert(kind, &GroupVersionKind::new(group, version, &kind.kind), &mut object);
    Some((object, Node::of_type(ty.id)))
}

pub fn name_rule(rule: NameRule) -> fn(&str) -> names::Problems {
    match rule {
        NameRule::Subdomain => names::dns1123_subdomain,
        NameRule::Label => names::dns1123_label,
        NameRule::Label1035 => names::dns1035_label,
        NameRule::PathSegment => names::path_segment,
    }
}

/// `metadata` of an object, made if absent.
pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata.as_object_mut().unwrap_or_else(|| unreachable!("made above"))
}

/// A member of metadata as text; empty if absent.
pub fn meta_text<'v>(object: &'v Value, name: &str) -> &'v str {
    object["metadata"][name].as_str().unwrap_or("")
}
