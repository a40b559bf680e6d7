//! Why an apply is refused.

use std::collections::BTreeMap;

/// A field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The owner as messages name it: `"kubectl" using v1`.
    pub manager: String,
    /// `.spec.containers[name="c"].image`
    pub path: String,
}

impl Conflict {
    /// The `message` of the cause; its reason is `FieldManagerConflict`, its field the path.
    pub fn message(&self) -> String {
        format!("conflict with {}", self.manager)
    }
}

/// Why an apply is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Answered with 409; `force` overrides it.
    #[error("{}", summary(.0))]
    Conflicts(Vec<Conflict>),
    /// Answered with 400.
    #[error("metadata.managedFields must be nil")]
    ManagedFieldsGiven,
    /// The configuration names an item of a list twice.
    #[error("failed to create typed patch object: {0}: duplicate entries for key")]
    Duplicate(String),
}

/// One conflict in one line, several grouped by manager: kubectl shows this text as it is.
fn summary(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: {}: {}", one.message(), one.path);
    }
    let mut by_manager: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for conflict in conflicts {
        by_manager.entry(&conflict.manager).or_default().push(&conflict.path);
    }
    let groups = by_manager.iter().map(|(manager, paths)| {
        let paths: Vec<_> = paths.iter().map(|p| format!("- {p}")).collect();
        format!("conflicts with {manager}:\n{}", paths.join("\n"))
    });
    format!("Apply failed with {} conflicts: {}", conflicts.len(), groups.collect::<Vec<_>>().join("\n"))
}
