//! Writes: create, update, patch, apply, delete. All of them end in one etcd transaction on one key.
//!
//! The stages of a write, in upstream's order: decode → defaults → managed fields → mutating admission → the kind's own
//! preparation → validation → validating admission → transaction. An update runs them again on a fresh object when somebody
//! else was faster.

pub mod allocator;
pub mod create;
pub mod delete;
pub mod patch;
pub mod update;

use crate::admission::{Attributes, Operation};
use crate::api::{Api, Endpoint};
use crate::authn::User;
use crate::registry::conversion::convert;
use crate::registry::strategy::{Context, NameRule};
use crate::request::options::WriteOptions;
use crate::status::{About, Result, Status};
use apimachinery::apply::{FieldManager, FieldSet};
use apimachinery::validation::{Cursor, Errors, names, object_meta};
use apimachinery::{Map, Value};
use http::HeaderMap;
use serde_json::json;
use std::sync::Arc;

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
}

/// A written object: in the version of the request, with its resourceVersion, without `kind` and `apiVersion`.
#[derive(Debug)]
pub struct Written {
    pub object: Value,
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
        }
    }

    pub fn about(&self) -> About<'_> {
        About { group: &self.endpoint.row.kind.group, resource: &self.endpoint.row.plural, name: &self.name }
    }

    fn context(&self) -> Context<'_> {
        Context { user: self.user, now: &self.now }
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
        act(FieldManager {
            node: row.form.node(),
            zero: &row.zero,
            manager: &self.manager,
            api_version: &row.kind.api_version(),
            subresource: &self.subresource,
            now: &self.now,
            reset: &self.reset_fields(),
            convert: &|_, _| None,
        })
    }

    /// Runs mutating admission on `object` and puts what comes out into normal form again.
    async fn admit(
        &self,
        operation: Operation,
        object: Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<Value> {
        let mut attributes = self.attributes(operation, Some(object), old);
        self.api.admission.admit(self.api, &mut attributes).await?;
        warnings.append(&mut attributes.warnings);
        Ok(attributes.object.unwrap_or_default())
    }

    async fn validate_admission(
        &self,
        operation: Operation,
        object: Option<Value>,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Value>> {
        let mut attributes = self.attributes(operation, object, old);
        self.api.admission.validate(self.api, &mut attributes).await?;
        warnings.append(&mut attributes.warnings);
        Ok(attributes.object)
    }

    fn attributes<'b>(&'b self, operation: Operation, object: Option<Value>, old: Option<&'b Value>) -> Attributes<'b> {
        Attributes {
            endpoint: self.endpoint,
            operation,
            subresource: &self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            user: self.user,
            object,
            old,
            dry_run: self.options.dry_run,
            warnings: Vec::new(),
        }
    }

    /// Puts a changed object into normal form again.
    fn tidy(&self, object: &mut Value) -> Result<()> {
        let mut report = apimachinery::codec::Report::default();
        self.endpoint.row.form.normalize(object, &mut report).map_err(|e| Status::bad_request(e.to_string()))
    }

    /// The metadata rules of all kinds and the kind's own, for a new object.
    fn validate(&self, object: &Value) -> Result<()> {
        let errors = Errors::new();
        let row = &self.endpoint.row;
        let root = Cursor::root(object, &errors);
        object_meta::object_meta(&root.field("metadata"), row.namespaced, name_rule(row.strategy.name));
        if !row.is_custom() {
            object_meta::builtin_finalizers(&root.field("metadata"));
        }
        (row.strategy.validate)(&root);
        row.form.validate(&root);
        if let Some(rules) = &row.rules {
            rules.judge(&root, None);
        }
        self.judge(object, errors)
    }

    /// The same for a change.
    fn validate_update(&self, object: &Value, old: &Value) -> Result<()> {
        let errors = Errors::new();
        let row = &self.endpoint.row;
        let (root, was) = (Cursor::root(object, &errors), Cursor::root(old, &errors));
        object_meta::object_meta(&root.field("metadata"), row.namespaced, name_rule(row.strategy.name));
        if !row.is_custom() {
            object_meta::builtin_finalizers(&root.field("metadata"));
        }
        object_meta::object_meta_update(&root.field("metadata"), &was.field("metadata"));
        row.form.validate(&root);
        if let Some(rules) = &row.rules {
            rules.judge(&root, Some(old));
        }
        match (row.strategy.subresource(&self.subresource), self.subresource.as_str()) {
            (Some(subresource), _) => (subresource.validate)(&root, &was),
            (None, "" | "scale") => (row.strategy.validate_update)(&root, &was),
            (None, _) => {}
        }
        self.judge(object, errors)
    }

    fn judge(&self, object: &Value, errors: Errors) -> Result<()> {
        if errors.is_empty() {
            return Ok(());
        }
        let kind = &self.endpoint.row.kind;
        let name = object["metadata"]["name"].as_str().unwrap_or("");
        Err(Status::invalid(&kind.group, &kind.kind, name, &errors.into_vec()))
    }

    /// The bytes to store of an object in the version of the request.
    fn encode(&self, object: &Value) -> Result<Vec<u8>> {
        let storage = self.endpoint.storage()?;
        let mut stored = object.clone();
        convert(&self.endpoint.row.kind, &storage.kind, &mut stored);
        Ok(crate::storage::codec::encode(self.api.media, &storage.kind, &mut stored))
    }

    /// An object read from storage, in the version of the request, defaults filled in as they are today.
    fn decode(&self, mut stored: Value) -> Result<Value> {
        let storage = self.endpoint.storage()?;
        convert(&storage.kind, &self.endpoint.row.kind, &mut stored);
        if let Some(members) = stored.as_object_mut() {
            members.remove("kind");
            members.remove("apiVersion");
        }
        Ok(stored)
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
