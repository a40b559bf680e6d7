//! POST of a new object.

use super::{Stored, Write, Written, meta_text, metadata};
use crate::api::admission::Operation;
use apimachinery::Value;
use http::StatusCode;
use registry::edit::copy;
use request::status::{Result, Status};
use storage::etcd::Outcome;

/// Letters of generated names: no vowels, so no words; no 0, 1, 3, which look like letters.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
/// A generated name leaves room for what controllers append to it.
const BASE_MAX: usize = 63 - SUFFIX;
/// Names that are tried when a generated one is taken.
const TRIES: usize = 8;

/// `base` with a random suffix, cut so that it fits a label.
pub fn generate_name(base: &str) -> String {
    let end = base.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|end| *end <= BASE_MAX).last().unwrap_or(0);
    let suffix: String = (0..SUFFIX).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect();
    format!("{}{suffix}", &base[..end])
}

impl Write<'_> {
    /// Creates `object`, in normal form of the version of the request.
    pub async fn create(&mut self, mut object: Value, mut warnings: Vec<String>) -> Result<Written> {
        let row = self.endpoint.row.clone();
        let strategy = row.strategy;
        self.check_identity(&mut object)?;
        self.labelled = !object["metadata"]["labels"].as_object().is_none_or(|labels| labels.is_empty());
        let generate = meta_text(&object, "name").is_empty() && !meta_text(&object, "generateName").is_empty();
        if generate {
            let name = generate_name(meta_text(&object, "generateName"));
            metadata(&mut object).insert("name".into(), name.into());
        }
        self.name = meta_text(&object, "name").to_owned();
        let meta = metadata(&mut object);
        for unset in ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
            meta.remove(unset);
        }
        meta.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
        meta.insert("creationTimestamp".into(), self.now.as_str().into());
        (strategy.default)(&mut object);
        row.form.fill_in(&mut object);
        if !self.applies {
            // Who applies owns what stands there, nulls too.
            row.form.drop_nulls(&mut object);
            self.with_manager(|m| m.update(&row.zero, &mut object));
        }

        let mut object = self.admit(Operation::Create, object, None, &mut warnings).await?;
        if row.has_status() && !strategy.status_on_create {
            copy(&mut object, &row.zero, "status");
        }
        if strategy.generation {
            metadata(&mut object).insert("generation".into(), 1.into());
        }
        (strategy.prepare_for_create)(&mut object, &self.context());
        self.name = meta_text(&object, "name").to_owned();
        self.api.gated_fields.drop_disabled(&row.kind.group, &row.plural, &mut object, None);
        self.tidy(&mut object)?;
        self.validate(&object)?;
        warnings.extend((strategy.warnings)(&object, None));
        (strategy.canonicalize)(&mut object);
        let (object, charges) = self.validate_admission(Operation::Create, object, None, &mut warnings).await?;
        let result = self.store_new(object, generate, warnings).await;
        if result.is_err() {
            self.give_back(charges).await;
        }
        result
    }

    /// The transaction, with what is set aside for the object around it.
    async fn store_new(&mut self, mut object: Value, generate: bool, warnings: Vec<String>) -> Result<Written> {
        let allocator = self.api.allocator(&self.endpoint.row);
        let mut allocated = Vec::new();
        if let Some(allocator) = allocator {
            allocated = allocator.allocate(self.api, &mut object, None, self.options.dry_run).await?;
        }
        let result = if self.options.dry_run { self.dry(object).await } else { self.transact(object, generate).await };
        match (result, allocator) {
            (Err(status), Some(allocator)) => {
                allocator.release(self.api, allocated).await;
                Err(status)
            }
            (Err(status), None) => Err(status),
            (Ok(object), _) => Ok(Written { object, created: true, warnings }),
        }
    }

    async fn transact(&mut self, mut object: Value, generate: bool) -> Result<Stored> {
        let version = metadata(&mut object).remove("resourceVersion").unwrap_or_default();
        if version.as_str().and_then(|version| version.parse::<u64>().ok()).is_some_and(|version| version > 0) {
            // Upstream notices it when it stores, and fails without a reason; clients know it by its words.
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", message));
        }
        let lease = self.lease().await?;
        let base = meta_text(&object, "generateName").to_owned();
        // What another try needs; a name that was given gets one only.
        let mut spare = generate.then(|| object.clone());
        let mut next = Some(object);
        for attempt in 1.. {
            let Some(object) = next.take() else { break };
            let key = self.etcd_key(&self.name)?;
            let (bytes, tree) = self.encode(object).await?;
            let write = self.begin(&self.name, &bytes, tree)?;
            match self.api.etcd.create(&key, bytes, lease).await {
                Ok(Outcome::Done(revision)) => return self.written(&write, revision).await,
                lost => {
                    self.endpoint.cache()?.own.abandon(&write);
                    let Outcome::Lost(there) = lost? else { continue };
                    if attempt < TRIES
                        && let Some(spare) = &mut spare
                    {
                        self.name = generate_name(&base);
                        metadata(spare).insert("name".into(), self.name.as_str().into());
                        next = Some(spare.clone());
                        continue;
                    }
                    let there = there.and_then(|s| storage::codec::decode(&key, &s.value).ok()).unwrap_or_default();
                    let mut status = Status::already_exists(self.about());
                    if !meta_text(&there, "deletionTimestamp").is_empty() {
                        status.message = format!("object is being deleted: {}", status.message);
                    }
                    return Err(status);
                }
            }
        }
        Err(Status::already_exists(self.about()))
    }

    /// A dry run finds out what the transaction would.
    async fn dry(&self, object: Value) -> Result<Stored> {
        match self.api.fetch(self.endpoint, &self.namespace, &self.name).await {
            Ok(_) => Err(Status::already_exists(self.about())),
            Err(status) if status.reason == "NotFound" => Ok(Stored::Tree(object)),
            Err(status) => Err(status),
        }
    }

    /// Namespace and name in the body must be those of the path, where both are given.
    pub(super) fn check_identity(&self, object: &mut Value) -> Result<()> {
        let row = &self.endpoint.row;
        let given = meta_text(object, "namespace").to_owned();
        if row.namespaced {
            if given.is_empty() {
                metadata(object).insert("namespace".into(), self.namespace.as_str().into());
            } else if given != self.namespace {
                return Err(Status::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
        } else if !given.is_empty() {
            // Charts give one to everything.
            metadata(object).remove("namespace");
        }
        if !self.name.is_empty() {
            let name = meta_text(object, "name");
            if name.is_empty() {
                metadata(object).insert("name".into(), self.name.as_str().into());
            } else if name != self.name {
                let message =
                    format!("the name of the object ({name}) does not match the name on the URL ({})", self.name);
                return Err(Status::bad_request(message));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_a_label() {
        assert_eq!(generate_name("web-").len(), 9);
        let long = "a".repeat(100);
        assert_eq!(generate_name(&long).len(), 63);
        assert_ne!(generate_name("a"), generate_name("a"));
    }
}
