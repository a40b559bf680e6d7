//! Changing an object: read, change, store if nobody else did meanwhile, else start over.

use super::{Stored, Write, Written, meta_text, metadata};
use crate::api::admission::Charge;
use crate::api::admission::Operation;
use apimachinery::Value;
use apimachinery::validation::{FieldError, Path};
use registry::edit::copy;
use request::status::{Result, Status};
use std::sync::Arc;
use storage::etcd::{self, Outcome};
use storage::object::Object;

/// What a client demands of the object it changes.
#[derive(Clone, Debug, Default)]
pub struct Preconditions {
    pub uid: Option<String>,
    /// A version that the object must still be at.
    pub resource_version: Option<String>,
}

/// Rounds lost to others before we give up with a conflict. Each lost round means that somebody's write succeeded.
const ROUNDS_MAX: usize = 64;

/// A change: given the object as it is, what it shall be. Called again on a fresh object when the first was stale.
pub type Change<'c> = dyn FnMut(&Value) -> Result<Value> + Send + 'c;

/// The object there is, and what etcd knows of it.
struct Current {
    object: Value,
    revision: u64,
    /// Known to be the latest, not just what the cache has.
    fresh: bool,
    /// It is stored in a version that is not stored any more: a write that changes nothing else changes that.
    old_version: bool,
}

/// What a round of an update comes to.
enum Round {
    /// With what quotas were charged for it.
    Store(Value, Vec<Box<dyn Charge>>),
    /// The change removed the last finalizer of an object that was to be deleted.
    Remove(Value),
    Unchanged(Value),
}

impl Write<'_> {
    /// PUT: the whole object as the client wants it.
    pub async fn put(&mut self, mut object: Value, mut warnings: Vec<String>) -> Result<Written> {
        if meta_text(&object, "name").is_empty() {
            return Err(Status::bad_request(format!(
                "the object has no name: metadata.name must be {:?}, as in the URL",
                self.name
            )));
        }
        self.check_identity(&mut object)?;
        let row = self.endpoint.row.clone();
        let version = meta_text(&object, "resourceVersion").to_owned();
        let uid = meta_text(&object, "uid").to_owned();
        let preconditions = Preconditions {
            uid: (!uid.is_empty()).then_some(uid),
            resource_version: (!version.is_empty() && version != "0").then_some(version),
        };
        // Where a PUT may create, a version is only asked for when there is something to overwrite.
        let blind = preconditions.resource_version.is_none() && !row.strategy.unconditional_update;
        if blind && !row.strategy.create_on_update {
            return Err(self.version_missing());
        }
        let replacement = object.clone();
        let mut change = |_: &Value| if blind { Err(self.version_missing()) } else { Ok(replacement.clone()) };
        let result = self.update(&preconditions, &mut warnings, &mut change).await;
        match result {
            Err(status)
                if status.reason == "NotFound" && row.strategy.create_on_update && self.subresource.is_empty() =>
            {
                metadata(&mut object).remove("resourceVersion");
                self.create(object, warnings).await
            }
            Ok(written) => Ok(Written { warnings, ..written }),
            Err(status) => Err(status),
        }
    }

    fn version_missing(&self) -> Status {
        let row = &self.endpoint.row;
        let error = FieldError::invalid(Path::new("metadata.resourceVersion"), 0, "must be specified for an update");
        Status::invalid(&row.kind.group, &row.plural, &self.name, &[error])
    }

    /// Changes the object by `change` and stores it.
    pub async fn update(
        &self,
        preconditions: &Preconditions,
        warnings: &mut Vec<String>,
        change: &mut Change<'_>,
    ) -> Result<Written> {
        let mut current = self.cached_current().await?;
        for _ in 0..ROUNDS_MAX {
            let mut said = Vec::new();
            let round = self.round(&current, preconditions, &mut said, change).await;
            // What went wrong on a stale object may go right on the fresh one, and "nothing changed" is only true of that.
            let round = match round {
                Err(_) | Ok(Round::Unchanged(_)) if !current.fresh => {
                    let object = self.api.fetch(self.endpoint, &self.namespace, &self.name).await?;
                    let stale = object.revision != current.revision;
                    current = self.current(object, true).await?;
                    if stale {
                        continue;
                    }
                    round
                }
                round => round,
            }?;
            warnings.append(&mut said);
            let key = self.etcd_key(&self.name)?;
            let unstored = |object| Ok(Written { object: Stored::Tree(object), created: false, warnings: Vec::new() });
            let there = match round {
                Round::Unchanged(object) => return unstored(object),
                Round::Remove(object) if self.options.dry_run => return unstored(object),
                Round::Store(mut object, _) if self.options.dry_run => {
                    if let Some(allocator) = self.api.allocator(&self.endpoint.row) {
                        allocator.allocate(self.api, &mut object, Some(&current.object), true).await?;
                    }
                    return unstored(object);
                }
                Round::Remove(mut object) => match self.api.etcd.delete_if(&key, current.revision).await? {
                    Outcome::Done(revision) => {
                        metadata(&mut object).insert("resourceVersion".into(), revision.to_string().into());
                        return unstored(object);
                    }
                    Outcome::Lost(there) => there,
                },
                Round::Store(object, charges) => {
                    let result = self.replace(&key, &current, object).await;
                    if !matches!(result, Ok(Ok(_))) {
                        self.give_back(charges).await;
                    }
                    match result? {
                        Ok(object) => return Ok(Written { object, created: false, warnings: Vec::new() }),
                        Err(there) => there,
                    }
                }
            };
            match there {
                None => return Err(Status::not_found(self.about())),
                Some(stored) => {
                    current = self.current(self.stored(&key, &stored)?, true).await?;
                }
            }
        }
        Err(Status::modified(self.about()))
    }

    /// The transaction of an update, with what is set aside for the object around it. The inner error is what somebody who
    /// was faster left there.
    async fn replace(
        &self,
        key: &str,
        current: &Current,
        mut object: Value,
    ) -> Result<std::result::Result<Stored, Option<etcd::Stored>>> {
        let allocator = self.api.allocator(&self.endpoint.row);
        let mut allocated = Vec::new();
        let mut freed = Vec::new();
        if let Some(allocator) = allocator {
            allocated = allocator.allocate(self.api, &mut object, Some(&current.object), false).await?;
            freed = allocator.released(&current.object, Some(&object));
        }
        let lease = self.lease().await?;
        let (bytes, tree) = self.encode(object).await?;
        let write = self.begin(&self.name, &bytes, tree)?;
        let outcome = self.api.etcd.put_if(key, current.revision, bytes, lease).await;
        if !matches!(outcome, Ok(Outcome::Done(_))) {
            self.endpoint.cache()?.own.abandon(&write);
        }
        if let Some(allocator) = allocator {
            let unused = if matches!(outcome, Ok(Outcome::Done(_))) { freed } else { allocated };
            allocator.release(self.api, unused).await;
        }
        match outcome? {
            Outcome::Done(revision) => Ok(Ok(self.written(&write, revision).await?)),
            Outcome::Lost(there) => Ok(Err(there)),
        }
    }

    /// The object as the cache has it, or as etcd has it if the cache does not know it.
    async fn cached_current(&self) -> Result<Current> {
        let (object, fresh) = match self.api.cached(self.endpoint, &self.namespace, &self.name) {
            Ok(object) => (object, false),
            Err(_) => (self.api.fetch(self.endpoint, &self.namespace, &self.name).await?, true),
        };
        self.current(object, fresh).await
    }

    async fn current(&self, stored: Arc<Object>, fresh: bool) -> Result<Current> {
        let revision = stored.revision;
        let storage = &self.endpoint.storage()?.kind.version;
        let old_version = stored.version.as_deref().is_some_and(|version| !version.is_empty() && version != storage);
        Ok(Current { object: self.decode(stored).await?, revision, fresh, old_version })
    }

    /// All stages of a write, up to the transaction.
    async fn round(
        &self,
        current: &Current,
        preconditions: &Preconditions,
        warnings: &mut Vec<String>,
        change: &mut Change<'_>,
    ) -> Result<Round> {
        let row = &self.endpoint.row;
        let strategy = row.strategy;
        let old = &current.object;
        self.check(preconditions, old)?;
        if self.raw {
            let object = self.changed(old, change)?;
            return Ok(if same(&object, old) { Round::Unchanged(object) } else { Round::Store(object, Vec::new()) });
        }
        // Who owns what may have to be seen in versions that only somebody else converts to: then once more, with those.
        let object = loop {
            let tracked = self.tracked(old, change);
            if !self.convert_pending().await? {
                break tracked?;
            }
        };

        let mut object = self.admit(Operation::Update, object, Some(old), warnings).await?;
        match (strategy.subresource(&self.subresource), self.subresource.as_str()) {
            (Some(subresource), _) => (subresource.prepare)(&mut object, old, &self.context()),
            (None, "status") => keep_all_but_status(&mut object, old),
            (None, _) => {
                if row.has_status() {
                    copy(&mut object, old, "status");
                }
                (strategy.prepare_for_update)(&mut object, old, &self.context());
            }
        }
        self.api.gated_fields.drop_disabled(&row.kind.group, &row.plural, &mut object, Some(old));
        self.tidy(&mut object)?;
        let differs = differs_beyond_metadata(&object, old) || self.emptied && strategy.empty_is_not_absent;
        if strategy.generation && self.subresource != "status" && differs {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            metadata(&mut object).insert("generation".into(), generation.into());
        }
        (strategy.canonicalize)(&mut object);
        self.validate_update(&object, old)?;
        warnings.extend((strategy.warnings)(&object, Some(old)));
        let (object, charges) = self.validate_admission(Operation::Update, object, Some(old), warnings).await?;

        let going = !meta_text(&object, "deletionTimestamp").is_empty();
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        if going && !held && grace == 0 && strategy_allows_removal(row) {
            return Ok(Round::Remove(object));
        }
        Ok(if same(&object, old) && !current.old_version {
            Round::Unchanged(old.clone())
        } else {
            Round::Store(object, charges)
        })
    }

    /// The object as the change wants it.
    fn changed(&self, old: &Value, change: &mut Change<'_>) -> Result<Value> {
        let object = change(old)?;
        let version = meta_text(&object, "resourceVersion");
        if !version.is_empty() && version != "0" && version != meta_text(old, "resourceVersion") {
            return Err(Status::modified(self.about()));
        }
        Ok(object)
    }

    /// The same with defaults, and with its managed fields brought up to date.
    fn tracked(&self, old: &Value, change: &mut Change<'_>) -> Result<Value> {
        let row = &self.endpoint.row;
        let mut object = self.changed(old, change)?;
        self.keep_system_metadata(&mut object, old);
        (row.strategy.default)(&mut object);
        row.form.fill_in(&mut object);
        if !self.applies {
            // Who applies owns what stands there, nulls too.
            row.form.drop_nulls(&mut object);
            self.with_manager(|m| m.update(old, &mut object));
        }
        Ok(object)
    }

    fn check(&self, preconditions: &Preconditions, old: &Value) -> Result<()> {
        if let Some(uid) = &preconditions.uid
            && uid != meta_text(old, "uid")
        {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta_text(old, "uid")
            );
            return Err(Status::conflict(self.about(), &why));
        }
        if let Some(version) = &preconditions.resource_version {
            if version.parse::<u64>().is_err() {
                return Err(Status::bad_request(format!(
                    "invalid resourceVersion {version:?}: want the number that was read"
                )));
            }
            if version != meta_text(old, "resourceVersion") {
                return Err(Status::modified(self.about()));
            }
        }
        Ok(())
    }

    /// What a client can't change is taken from the object that is there.
    fn keep_system_metadata(&self, object: &mut Value, old: &Value) {
        let was = &old["metadata"];
        let meta = metadata(object);
        meta.remove("selfLink");
        for name in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
            if meta.get(name).is_none_or(|v| v.is_null() || v == "") && !was[name].is_null() {
                meta.insert(name.into(), was[name].clone());
            }
        }
        match was.get("generation") {
            Some(generation) => meta.insert("generation".into(), generation.clone()),
            None => meta.remove("generation"),
        };
        meta.insert("resourceVersion".into(), was["resourceVersion"].clone());
        meta.insert("name".into(), was["name"].clone());
        if !was["namespace"].is_null() {
            meta.insert("namespace".into(), was["namespace"].clone());
        }
    }
}

/// Namespaces go when their own finalizers are gone, which their subresource `finalize` sees to.
fn strategy_allows_removal(row: &registry::resource::Resource) -> bool {
    !(row.kind.group.is_empty() && row.plural == "namespaces")
}

/// A write of the status changes the status and metadata that writers of a status may set.
fn keep_all_but_status(object: &mut Value, old: &Value) {
    let written = object.take();
    let mut meta = written["metadata"].clone();
    *object = old.clone();
    for name in ["deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences"] {
        match old["metadata"].get(name) {
            Some(value) => meta[name] = value.clone(),
            None => {
                meta.as_object_mut().map(|m| m.remove(name));
            }
        }
    }
    object["metadata"] = meta;
    copy(object, &written, "status");
}

/// Something other than metadata and status differs.
fn differs_beyond_metadata(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a != b };
    let relevant = |k: &str| k != "metadata" && k != "status";
    a.iter().any(|(k, v)| relevant(k) && b.get(k) != Some(v)) || b.keys().any(|k| relevant(k) && !a.contains_key(k))
}

/// Nothing changed that is worth a write: the times in managed fields alone are not.
fn same(a: &Value, b: &Value) -> bool {
    let differs = |key: &str| a[key] != b[key];
    let (Some(x), Some(y)) = (a.as_object(), b.as_object()) else { return a == b };
    if x.len() != y.len() || x.keys().any(|k| k != "metadata" && differs(k)) {
        return false;
    }
    let (Some(m), Some(n)) = (a["metadata"].as_object(), b["metadata"].as_object()) else { return false };
    m.len() == n.len()
        && m.iter().all(|(k, v)| n.get(k) == Some(v) || k == "managedFields" && same_managed_fields(v, &n[k]))
}

fn same_managed_fields(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_array(), b.as_array()) else { return a == b };
    let timeless = |e: &Value| {
        let mut e = e.clone();
        e.as_object_mut().map(|m| m.remove("time"));
        e
    };
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| timeless(x) == timeless(y))
}
