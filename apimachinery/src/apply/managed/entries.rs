//! One entry of `managedFields`, and the list of them.

use serde_json::{Value, json};

use crate::apply::compare::Comparison;
use crate::apply::managed::Conflict;
use crate::apply::{FieldSet, fieldsv1};
use crate::time;

/// How a manager came by its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

/// What one manager owns. Appliers are told apart by name and subresource, updaters by API version as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
    pub time: Option<String>,
    pub fields: FieldSet,
}

/// An entry that says less than it must.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("managedFields[{index}] can't be read: {problem}")]
pub struct EntryError {
    index: usize,
    problem: String,
}

impl Entry {
    pub fn is_applier(&self, manager: &str, subresource: &str) -> bool {
        self.operation == Operation::Apply && self.manager == manager && self.subresource == subresource
    }

    pub fn is_updater(&self, manager: &str, api_version: &str, subresource: &str) -> bool {
        self.operation == Operation::Update
            && self.manager == manager
            && self.api_version == api_version
            && self.subresource == subresource
    }

    /// The fields owned here that somebody else sets.
    pub(super) fn conflicts(&self, comparison: &Comparison) -> Vec<Conflict> {
        let paths = self.fields.intersection(&comparison.set()).paths();
        let conflict =
            |path: Vec<_>| Conflict { manager: self.to_string(), path: path.iter().map(ToString::to_string).collect() };
        paths.into_iter().map(conflict).collect()
    }

    fn decode(entry: &Value) -> Result<Entry, String> {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let operation = match entry["operation"].as_str() {
            Some("Apply") => Operation::Apply,
            Some("Update") => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".into()),
        };
        if text("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        if text("fieldsType") != "FieldsV1" {
            return Err("fieldsType must be `FieldsV1`".into());
        }
        let fields = match entry.get("fieldsV1").filter(|f| !f.is_null()) {
            Some(fields) => fieldsv1::decode(fields).map_err(|e| e.to_string())?,
            None => FieldSet::new(),
        };
        Ok(Entry {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: entry["time"].as_str().and_then(time::canonical_time),
            fields,
        })
    }

    fn encode(&self) -> Value {
        let mut entry =
            json!({ "manager": self.manager, "operation": self.operation.as_str(), "apiVersion": self.api_version });
        if let Some(time) = &self.time {
            entry["time"] = time.as_str().into();
        }
        entry["fieldsType"] = "FieldsV1".into();
        entry["fieldsV1"] = fieldsv1::encode(&self.fields);
        if !self.subresource.is_empty() {
            entry["subresource"] = self.subresource.as_str().into();
        }
        entry
    }
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// As conflicts name a manager: `"kubectl" using apps/v1`.
impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.api_version),
        }
    }
}

/// Reads `metadata.managedFields`; absent is empty. Entries of the same manager are one.
pub fn decode(managed_fields: Option<&Value>) -> Result<Vec<Entry>, EntryError> {
    let mut entries: Vec<Entry> = Vec::new();
    for (index, entry) in managed_fields.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let entry = Entry::decode(entry).map_err(|problem| EntryError { index, problem })?;
        let same = |e: &Entry| match entry.operation {
            Operation::Apply => e.is_applier(&entry.manager, &entry.subresource),
            Operation::Update => e.is_updater(&entry.manager, &entry.api_version, &entry.subresource),
        };
        match entries.iter().position(same) {
            Some(i) => entries[i] = entry,
            None => entries.push(entry),
        }
    }
    Ok(entries)
}

/// Writes `metadata.managedFields`, sorted as upstream does: appliers first, then by time and name.
pub fn encode(entries: &[Entry]) -> Value {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by(|a, b| {
        let key =
            |e: &&Entry| (e.operation, e.time.clone(), e.manager.clone(), e.api_version.clone(), e.subresource.clone());
        key(a).cmp(&key(b))
    });
    sorted.into_iter().map(Entry::encode).collect()
}
