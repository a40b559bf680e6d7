//! DELETE of one object and of a collection.
//!
//! A deletion is one of three things: the key is removed; or the object is marked and stays because a finalizer or its grace
//! period holds it; or it was marked before and nothing changes.

use super::{Write, meta_text, metadata};
use crate::api::admission::{Attributes, Operation, RequestOptions};
use apimachinery::Value;
use futures::{StreamExt, stream};
use registry::conversion::convert;
use registry::resource::Resource;
use request::options::{DeleteOptions, ListOptions, Propagation};
use request::status::{Result, Status};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use storage::etcd::Outcome;
use storage::object::Object;

/// How a deletion ended.
#[derive(Debug)]
pub enum Deleted {
    /// The object as it was last.
    Gone(Value),
    /// The object, marked, waiting for finalizers or its grace period.
    Marked(Value),
}

/// What to do with the object at hand.
enum Step {
    Remove(Value),
    Mark(Value),
    AlreadyMarked(Value),
}

const ROUNDS_MAX: usize = 64;

/// Deletions of a collection that are under way at once. A deletion mostly waits for etcd, which writes many to disk together.
/// Upstream's `--delete-collection-workers` is one worker by default, each waiting for its own write.
const DELETIONS_AT_ONCE: usize = 32;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

impl Write<'_> {
    pub async fn delete(&self, options: &DeleteOptions, warnings: &mut Vec<String>) -> Result<Deleted> {
        let current = self.api.fetch(self.endpoint, &self.namespace, &self.name).await?;
        self.delete_from(current, options, warnings).await
    }

    /// Deletes the object, of which `current` is a recent state. If it is not the last one, etcd says so and tells that.
    async fn delete_from(
        &self,
        mut current: Arc<Object>,
        options: &DeleteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Deleted> {
        for _ in 0..ROUNDS_MAX {
            let revision = current.revision;
            let old = self.decode(current).await?;
            self.check_delete(options, &old)?;
            self.admit_delete(options, &old, warnings).await?;
            let key = self.etcd_key(&self.name)?;
            let (result, outcome) = match self.step(&old, options) {
                Step::AlreadyMarked(object) => return Ok(Deleted::Marked(object)),
                Step::Remove(object) if self.options.dry_run => return Ok(Deleted::Gone(object)),
                Step::Mark(object) if self.options.dry_run => return Ok(Deleted::Marked(object)),
                Step::Remove(object) => (Deleted::Gone(object), self.api.etcd.delete_if(&key, revision).await?),
                Step::Mark(object) => {
                    let (bytes, _) = self.encode(object.clone()).await?;
                    (Deleted::Marked(object), self.api.etcd.put_if(&key, revision, bytes, 0).await?)
                }
            };
            match outcome {
                Outcome::Done(revision) => return Ok(self.done(result, &old, revision).await),
                Outcome::Lost(None) => return Err(Status::not_found(self.about())),
                Outcome::Lost(Some(stored)) => {
                    current = self.stored(&key, &stored)?;
                }
            }
        }
        Err(Status::modified(self.about()))
    }

    /// Both stages of admission; a deletion by the server itself, or of what is admitted under another name, passes none.
    async fn admit_delete(&self, options: &DeleteOptions, old: &Value, warnings: &mut Vec<String>) -> Result<()> {
        if self.raw {
            return Ok(());
        }
        let of = (&*self.namespace, &*self.name);
        let mut attributes = Attributes {
            options: RequestOptions::Delete(options),
            old: Some(old),
            dry_run: self.options.dry_run,
            ..Attributes::new(self.endpoint, Operation::Delete, &self.subresource, of, self.user)
        };
        self.api.admission.pass(self.api, &mut attributes).await?;
        warnings.append(&mut attributes.warnings);
        Ok(())
    }

    async fn done(&self, mut result: Deleted, old: &Value, revision: u64) -> Deleted {
        match &mut result {
            Deleted::Gone(object) | Deleted::Marked(object) => {
                metadata(object).insert("resourceVersion".into(), revision.to_string().into());
            }
        }
        if let (Deleted::Gone(_), Some(allocator)) = (&result, self.api.allocator(&self.endpoint.row)) {
            allocator.release(self.api, allocator.released(old, None)).await;
        }
        result
    }

    fn check_delete(&self, options: &DeleteOptions, old: &Value) -> Result<()> {
        let uid = meta_text(old, "uid");
        if let Some(wanted) = options.uid.as_deref().filter(|w| *w != uid) {
            let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}");
            return Err(Status::conflict(self.about(), &why));
        }
        let version = meta_text(old, "resourceVersion");
        if let Some(wanted) = options.resource_version.as_deref().filter(|w| *w != version) {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {version}"
            );
            return Err(Status::conflict(self.about(), &why));
        }
        Ok(())
    }

    fn step(&self, old: &Value, options: &DeleteOptions) -> Step {
        let row = &self.endpoint.row;
        let mut object = old.clone();
        if let Some(hold) = row.strategy.hold
            && meta_text(old, "deletionTimestamp").is_empty()
        {
            hold(&mut object, &self.now);
            return Step::Mark(object);
        }
        let finalizers_changed = self.api.collects_garbage && set_gc_finalizers(&mut object, row, options);
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty())
            || is_held_namespace(row, &object);
        let marked = !meta_text(old, "deletionTimestamp").is_empty();
        let grace = match row.strategy.grace {
            Some(grace) => grace(old, options.grace_period_seconds).max(0),
            None => 0,
        };
        if marked {
            let left = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
            if row.strategy.grace.is_some() && grace < left && (options.grace_period_seconds.is_some() || grace == 0) {
                // The client is in more of a hurry than the one before.
                if grace == 0 && !held {
                    metadata(&mut object).insert("deletionGracePeriodSeconds".into(), 0.into());
                    return Step::Remove(object);
                }
                self.mark(&mut object, grace);
                return Step::Mark(object);
            }
            if finalizers_changed {
                return Step::Mark(object);
            }
            return if held || left > 0 { Step::AlreadyMarked(object) } else { Step::Remove(object) };
        }
        if grace > 0 {
            self.mark(&mut object, grace);
            bump_generation(&mut object);
            return Step::Mark(object);
        }
        if held {
            self.mark(&mut object, 0);
            bump_generation(&mut object);
            if row.plural == "namespaces" && row.kind.group.is_empty() {
                metadata(&mut object).remove("deletionGracePeriodSeconds");
                object["status"]["phase"] = "Terminating".into();
            }
            return Step::Mark(object);
        }
        if row.strategy.grace.is_some() {
            self.mark(&mut object, 0);
            bump_generation(&mut object);
        }
        Step::Remove(object)
    }

    /// Sets when the object will be gone, and how long it has.
    fn mark(&self, object: &mut Value, grace: i64) {
        let now: jiff::Timestamp = self.now.parse().unwrap_or_else(|_| jiff::Timestamp::now());
        let end = jiff::Timestamp::from_second(now.as_second().saturating_add(grace)).unwrap_or(now);
        let meta = metadata(object);
        meta.insert("deletionTimestamp".into(), end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into());
        meta.insert("deletionGracePeriodSeconds".into(), grace.into());
    }

    /// Deletes everything a list would show; the objects as they were last, in the version that [`respond_objects`] takes. What is
    /// gone already does not count.
    ///
    /// An object is a tree only while its own deletion is under way; what waits to be answered is its text.
    ///
    /// [`respond_objects`]: crate::list::respond_objects
    pub async fn delete_collection(
        &self,
        list: &ListOptions,
        options: &DeleteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<(Vec<Arc<Object>>, u64)> {
        let page = self.api.page(self.endpoint, &self.namespace, list).await?;
        let revision = page.revision;
        let keys: Vec<Box<str>> = page.objects.into_iter().map(|object| object.key.clone()).collect();
        // Those under way are finished after an error, not dropped: an address that belongs to one is given back then.
        let failed = AtomicBool::new(false);
        let failed = &failed;
        let mut deletions = stream::iter(keys)
            .map(|key| async move {
                if failed.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let result = self.delete_listed(&key, options).await;
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                result
            })
            .buffered(DELETIONS_AT_ONCE);
        let (mut deleted, mut error) = (Vec::new(), None);
        while let Some(result) = deletions.next().await {
            match result {
                Ok(Some((object, said))) => {
                    deleted.push(object);
                    // Ten thousand objects are warned of once.
                    let new: Vec<_> = said.into_iter().filter(|text| !warnings.contains(text)).collect();
                    warnings.extend(new);
                }
                Ok(None) => {}
                Err(status) => error = error.or(Some(status)),
            }
        }
        error.map_or(Ok((deleted, revision)), Err)
    }

    /// Deletes an object of a collection; none if it is gone already.
    async fn delete_listed(&self, key: &str, options: &DeleteOptions) -> Result<Option<(Arc<Object>, Vec<String>)>> {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let write = Write {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: self.subresource.clone(),
            options: self.options.clone(),
            manager: self.manager.clone(),
            now: self.now.clone(),
            conversions: Default::default(),
            ..*self
        };
        let mut warnings = Vec::new();
        let deletion = async {
            // As the cache has it, which the list has just brought up to date.
            let current = write.api.cached(write.endpoint, namespace, name)?;
            write.delete_from(current, options, &mut warnings).await
        };
        match deletion.await {
            Ok(Deleted::Gone(tree) | Deleted::Marked(tree)) => {
                let object = write.listed(key, tree)?;
                Ok(Some((Arc::new(object), warnings)))
            }
            Err(status) if status.reason == "NotFound" => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// A tree in the version of the request as an object that a list is made of.
    fn listed(&self, key: &str, mut tree: Value) -> Result<Object> {
        let (row, storage) = (&self.endpoint.row, self.endpoint.storage()?);
        if !row.is_custom() {
            convert(&row.kind, &storage.kind, &mut tree);
        }
        let revision = meta_text(&tree, "resourceVersion").parse().unwrap_or_default();
        Ok(Object::new(key, revision, tree, &row.layout()))
    }
}

fn bump_generation(object: &mut Value) {
    if let Some(generation) = object["metadata"]["generation"].as_i64().filter(|g| *g > 0) {
        metadata(object).insert("generation".into(), (generation + 1).into());
    }
}

/// A namespace is also held by the finalizers in its spec.
fn is_held_namespace(row: &Resource, object: &Value) -> bool {
    row.plural == "namespaces"
        && row.kind.group.is_empty()
        && object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty())
}

/// Adds or takes the finalizers by which the garbage collector knows what is to become of dependents.
fn set_gc_finalizers(object: &mut Value, row: &Resource, options: &DeleteOptions) -> bool {
    let current: Vec<String> = object["metadata"]["finalizers"]
        .as_array()
        .map(|f| f.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    let has = |name: &str| current.iter().any(|f| f == name);
    let (orphan, foreground) = match options.propagation_policy {
        Some(Propagation::Orphan) => (true, false),
        Some(Propagation::Foreground) => (false, true),
        Some(Propagation::Background) => (false, false),
        // Not said now: what was said before, else the kind's habit.
        None if has(ORPHAN) => (true, false),
        None if has(FOREGROUND) => (false, true),
        None => (row.strategy.orphan_by_default, false),
    };
    if orphan == has(ORPHAN) && foreground == has(FOREGROUND) {
        return false;
    }
    let mut wanted: Vec<String> = current.iter().filter(|f| *f != ORPHAN && *f != FOREGROUND).cloned().collect();
    if orphan {
        wanted.push(ORPHAN.into());
    }
    if foreground {
        wanted.push(FOREGROUND.into());
    }
    if wanted.is_empty() {
        metadata(object).remove("finalizers");
    } else {
        metadata(object).insert("finalizers".into(), wanted.into());
    }
    true
}

/// What a DELETE answers that returns no object.
pub fn success(write: &Write, object: &Value) -> Value {
    let row = &write.endpoint.row;
    let mut details = json!({"name": write.name, "kind": row.plural, "uid": meta_text(object, "uid")});
    if !row.kind.group.is_empty() {
        details["group"] = row.kind.group.as_str().into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
