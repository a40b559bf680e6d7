//! `metadata.managedFields`: who owns what, and what a write does to it.

mod entries;
mod error;

pub use entries::{Entry, Operation, decode, encode};
pub use error::{ApplyError, Conflict};

use serde_json::Value;

use super::compare::{Comparison, compare};
use super::{FieldSet, extract, last_applied, merge};
use crate::schema::Node;

/// Who an object belonged to before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Who the oldest updaters are merged into when there are too many.
const ANCIENT_CHANGES: &str = "ancient-changes";
/// Entries of updaters kept apart.
const UPDATERS_MAX: usize = 10;

/// Identity of an object and what the server keeps for itself: owned by nobody.
const UNOWNED: [&str; 12] = [
    "apiVersion",
    "kind",
    "metadata",
    "metadata.name",
    "metadata.namespace",
    "metadata.creationTimestamp",
    "metadata.selfLink",
    "metadata.uid",
    "metadata.clusterName",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.resourceVersion",
];

/// Gives an object in another API version, with that version's schema; `None` if there is no such version.
pub type Convert<'a> = dyn Fn(&Value, &str) -> Option<(Value, Node<'a>)> + 'a;

/// What a write changed, by API version; that of the request comes first.
struct Comparisons(Vec<(String, Comparison)>);

impl Comparisons {
    fn own(&self) -> &Comparison {
        &self.0[0].1
    }

    fn into_own(mut self) -> Comparison {
        self.0.swap_remove(0).1
    }

    fn of(&self, entry: &Entry) -> &Comparison {
        self.0.iter().find(|(version, _)| *version == entry.api_version).map_or(self.own(), |(_, c)| c)
    }
}

/// One write by one manager.
pub struct FieldManager<'a> {
    /// The kind being written, in the version of the request.
    pub node: Node<'a>,
    /// An object of the kind in which nothing is set, in normal form: what a new object is compared with.
    pub zero: &'a Value,
    pub manager: &'a str,
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// RFC 3339, seconds, UTC.
    pub now: &'a str,
    /// Fields that this endpoint ignores (`status` when the object is written, all else when its status is).
    pub reset: &'a FieldSet,
    pub convert: &'a Convert<'a>,
}

impl FieldManager<'_> {
    /// Tracks a create, an update or a patch: `new`, as it will be stored, gets its `managedFields`. For a create, `live` is the
    /// zero object.
    pub fn update(&self, live: &Value, new: &mut Value) {
        let entries = self.entries_of_update(live, new);
        remove_managed_fields(new);
        let existed = live["metadata"]["uid"].as_str().is_some_and(|uid| !uid.is_empty());
        if entries.is_empty() && existed {
            // Tracking was switched off for this object, or never began: only an apply starts it.
            return;
        }
        let entries = self.track_update(live, new, entries, self.manager);
        // An item of a keyed list without its key can't be owned; upstream then tracks nothing of the object.
        if !entries.iter().any(|entry| entry.fields.has_unkeyed_item()) {
            set_managed_fields(new, &entries);
        }
    }

    /// Applies a configuration: what comes out is not in normal form, and not yet defaulted.
    pub fn apply(&self, live: &Value, config: &Value, force: bool) -> Result<Value, ApplyError> {
        if config["metadata"].get("managedFields").is_some_and(|m| !m.is_null()) {
            return Err(ApplyError::ManagedFieldsGiven);
        }
        if let Some(path) = extract::duplicate(config, self.node) {
            return Err(ApplyError::Duplicate(path));
        }
        let mut entries = decode(live["metadata"].get("managedFields")).unwrap_or_default();
        if entries.is_empty() {
            entries = self.track_update(self.zero, live, entries, BEFORE_FIRST_APPLY);
        }
        let position = entries.iter().position(|e| e.is_applier(self.manager, self.subresource));
        let last = position.map(|i| entries.swap_remove(i));
        let mut fields = extract::fields(config, self.node);
        fields.prune(self.reset);
        let mut own = Entry {
            manager: self.manager.into(),
            operation: Operation::Apply,
            api_version: self.api_version.into(),
            subresource: self.subresource.into(),
            time: None,
            fields,
        };
        let mut merged = merge::merge(live, config, self.node);
        remove_managed_fields(&mut merged);
        if let Some(last) = &last {
            merged = self.prune(merged, last, &own, &entries);
        }

        let comparisons = self.compare(live, &merged, &entries);
        let mut conflicts: Vec<_> = entries.iter().flat_map(|e| e.conflicts(comparisons.of(e))).collect();
        if self.manager == last_applied::MANAGER && !conflicts.is_empty() {
            let own = last_applied::fields(live, self.api_version, self.node);
            conflicts.retain(|conflict| !own.contains(&conflict.path));
        }
        if !force && !conflicts.is_empty() {
            return Err(ApplyError::Conflicts(conflicts));
        }
        take_over(&mut entries, &comparisons);

        UNOWNED.iter().for_each(|path| own.fields.remove_field(path));
        let changed = last.as_ref().is_none_or(|last| last.fields != own.fields) || differs(live, &merged);
        own.time = if changed { Some(self.now.into()) } else { last.and_then(|last| last.time) };
        entries.push(own);
        entries.retain(|e| !e.fields.is_empty());
        set_managed_fields(&mut merged, &entries);
        Ok(merged)
    }

    /// The entries an update starts from: those it brings itself, if it may and they can be read; otherwise those of the live object.
    fn entries_of_update(&self, live: &Value, new: &Value) -> Vec<Entry> {
        let (live, new) = (live["metadata"].get("managedFields"), new["metadata"].get("managedFields"));
        if self.subresource.is_empty() {
            let is_reset = |m: &Value| {
                m.as_array().is_some_and(|m| m.len() == 1 && m[0].as_object().is_some_and(|e| e.is_empty()))
            };
            if new.is_some_and(is_reset) {
                return Vec::new();
            }
            if let Some(entries) = decode(new).ok().filter(|entries| !entries.is_empty()) {
                return entries;
            }
        }
        decode(live).unwrap_or_default()
    }

    /// Whoever owned a field that changed loses it to `manager`; what is gone nobody owns.
    fn track_update(&self, live: &Value, new: &Value, mut entries: Vec<Entry>, manager: &str) -> Vec<Entry> {
        let comparisons = self.compare(live, new, &entries);
        take_over(&mut entries, &comparisons);
        let mut own = comparisons.into_own().into_set();
        for fields in entries.iter_mut().map(|e| &mut e.fields).chain([&mut own]) {
            UNOWNED.iter().for_each(|path| fields.remove_field(path));
        }
        if !own.is_empty() {
            match entries.iter_mut().find(|e| e.is_updater(manager, self.api_version, self.subresource)) {
                Some(entry) => {
                    entry.fields.absorb(own);
                    entry.time = Some(self.now.into());
                }
                None => entries.push(Entry {
                    manager: manager.into(),
                    operation: Operation::Update,
                    api_version: self.api_version.into(),
                    subresource: self.subresource.into(),
                    time: Some(self.now.into()),
                    fields: own,
                }),
            }
        }
        entries.retain(|e| !e.fields.is_empty());
        cap_updaters(&mut entries);
        entries
    }

    /// What changed, in the version of the request and in each that an entry speaks of. A version that is no more changes nothing.
    fn compare(&self, live: &Value, new: &Value, entries: &[Entry]) -> Comparisons {
        let mut all = vec![(self.api_version.to_owned(), compare(live, new, self.node).exclude(self.reset))];
        for entry in entries {
            let version = entry.api_version.as_str();
            if all.iter().all(|(v, _)| v != version) {
                let converted = (self.convert)(live, version).zip((self.convert)(new, version));
                let compared = converted.map(|((live, node), (new, _))| compare(&live, &new, node).exclude(self.reset));
                all.push((version.to_owned(), compared.unwrap_or_default()));
            }
        }
        Comparisons(all)
    }

    /// Takes out of the merged object what the manager applied last time, applies no more, and nobody else owns.
    fn prune(&self, merged: Value, last: &Entry, own: &Entry, others: &[Entry]) -> Value {
        let last_fields = if last.api_version == self.api_version {
            last.fields.clone()
        } else {
            // What the old version called other names can't be told; what both name alike is pruned.
            last.fields.intersection(&extract::fields(&merged, self.node))
        };
        let named = |set: &FieldSet| extract::with_named(set, self.node);
        let (last_fields, merged_fields) = (named(&last_fields), named(&extract::fields(&merged, self.node)));
        if last_fields.is_empty() {
            return merged;
        }
        let without = |set: &FieldSet| {
            extract::without(&merged, set, self.node).unwrap_or_else(|| Value::Object(Default::default()))
        };
        let fields_of = |object: &Value| named(&extract::fields(object, self.node));

        let pruned = without(&last_fields);
        let owned = others
            .iter()
            .filter(|e| e.api_version == self.api_version)
            .fold(own.fields.clone(), |a, e| a.union(&e.fields));
        let pruned = without(&merged_fields.difference(&fields_of(&pruned).union(&named(&owned))));
        // Only what the manager itself had applied may go.
        without(&merged_fields.difference(&fields_of(&pruned)).intersection(&last_fields))
    }
}

/// Whoever owned a field that somebody else set loses it; what is gone nobody owns.
fn take_over(entries: &mut [Entry], comparisons: &Comparisons) {
    for entry in entries {
        let comparison = comparisons.of(entry);
        for lost in [&comparison.added, &comparison.modified, &comparison.removed] {
            entry.fields.subtract(lost);
        }
    }
}

/// Merges the oldest updaters of one API version into one entry until few enough are left.
fn cap_updaters(entries: &mut Vec<Entry>) {
    let mut count = entries.iter().filter(|e| e.operation == Operation::Update).count();
    if count <= UPDATERS_MAX {
        return;
    }
    let (mut updaters, appliers): (Vec<_>, Vec<_>) =
        std::mem::take(entries).into_iter().partition(|e| e.operation == Operation::Update);
    updaters.sort_by(|a, b| (&a.time, &a.manager, &a.api_version).cmp(&(&b.time, &b.manager, &b.api_version)));
    let mut kept: Vec<Entry> = Vec::with_capacity(updaters.len());
    for entry in updaters {
        let bucket = kept.iter_mut().find(|k| k.api_version == entry.api_version);
        match bucket {
            Some(bucket) if count > UPDATERS_MAX => {
                bucket.manager = ANCIENT_CHANGES.into();
                bucket.subresource.clear();
                bucket.fields = bucket.fields.union(&entry.fields);
                bucket.time = entry.time;
                count -= 1;
            }
            _ => kept.push(entry),
        }
    }
    *entries = appliers;
    entries.extend(kept);
}

/// Whether two objects differ in anything but their managed fields.
fn differs(a: &Value, b: &Value) -> bool {
    let plain = |v: &Value| {
        let mut v = v.clone();
        remove_managed_fields(&mut v);
        v
    };
    plain(a) != plain(b)
}

fn remove_managed_fields(object: &mut Value) {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
}

fn set_managed_fields(object: &mut Value, entries: &[Entry]) {
    if !entries.is_empty()
        && let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        meta.insert("managedFields".into(), encode(entries));
    }
}

#[cfg(test)]
mod tests;
