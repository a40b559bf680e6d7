//! StorageVersionMigrations: all objects of a resource are to be written again, in the version they are stored in today. (KEP-4192)

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};

use apimachinery::validation::conditions::conditions;
use registry::edit::{copy, text};
use registry::printing::{column, name};
use registry::strategy::{Strategy, Subresource, Table};

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    unconditional_update: false,
    validate,
    validate_update: |new, old| {
        validate(new);
        new.field("spec").immutable(&old.field("spec"));
    },
    subresources: &[Subresource {
        name: "status",
        prepare: |migration, old, _| copy(migration, old, "spec"),
        validate: status,
        reset_fields: &["metadata", "spec"],
    }],
    table: Some(Table {
        columns: &[column("Name", ".metadata.name"), column("Resource", ".spec.resource")],
        cells: |migration, _| {
            let resource = match (text(migration, "spec.resource.resource"), text(migration, "spec.resource.group")) {
                (resource, "") => resource.to_owned(),
                (resource, group) => format!("{resource}.{group}"),
            };
            vec![name(migration), resource.into()]
        },
    }),
    ..Strategy::GENERIC
};

fn validate(migration: &Cursor<'_>) {
    let resource = migration.dig("spec.resource");
    resource.field("group").optional_shape(names::dns1123_subdomain);
    let plural = resource.field("resource");
    if plural.required_because("resource is required") {
        plural.shape(names::dns1035_label);
    }
}

/// The version at which a migration began stays, and it ends one way.
fn status(new: &Cursor<'_>, old: &Cursor<'_>) {
    let (status, was) = (new.field("status"), old.field("status"));
    conditions(&status.field("conditions"));
    let is = |status: &Cursor<'_>, kind: &str| {
        let on = |c: &&Value| c["type"] == kind && c["status"] == "True";
        status.field("conditions").array().iter().find(on).is_some()
    };
    let list = status.field("conditions");
    if is(&status, "Succeeded") && is(&status, "Failed") {
        list.invalid("Both success and failed conditions cannot be true at the same time");
    }
    if is(&status, "Running") && (is(&status, "Succeeded") || is(&status, "Failed")) {
        list.invalid("Running condition cannot be true when success or failed conditions are true");
    }
    for kind in ["Succeeded", "Failed"] {
        if is(&was, kind) && !is(&status, kind) {
            list.invalid(format!("{kind} condition cannot be set to false once it is true"));
        }
    }
    let (version, before) = (status.field("resourceVersion"), was.field("resourceVersion"));
    if !version.is_empty() && version.str().parse::<i64>().is_err() {
        version.invalid("resource version must be a number");
    }
    if !before.is_empty() && version.str() != before.str() {
        version.invalid("resource version should not be updated");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::validation::Errors;
    use serde_json::json;

    fn condition(kind: &str, status: &str) -> Value {
        json!({"type": kind, "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn migrations_name_a_resource_and_end_once() {
        for (resource, want) in [
            (json!({"group": "apps", "resource": "deployments"}), vec![]),
            (json!({"resource": "pods"}), vec![]),
            (json!({"group": "apps"}), vec!["spec.resource.resource"]),
            (json!({"group": "A_", "resource": "x"}), vec!["spec.resource.group"]),
        ] {
            let object = json!({"spec": {"resource": resource}});
            let errors = Errors::new();
            validate(&Cursor::root(&object, &errors));
            let got: Vec<String> = errors.into_vec().iter().map(|e| e.field.to_string()).collect();
            assert_eq!(got, want, "{object}");
        }
        let (running, done, failed) =
            (condition("Running", "True"), condition("Succeeded", "True"), condition("Failed", "True"));
        for (old, new, want) in [
            (json!({}), json!({"conditions": [running], "resourceVersion": "7"}), vec![]),
            (json!({"resourceVersion": "7"}), json!({"conditions": [done], "resourceVersion": "7"}), vec![]),
            (json!({"resourceVersion": "7"}), json!({"resourceVersion": "8"}), vec!["status.resourceVersion"]),
            (json!({}), json!({"conditions": [running, done]}), vec!["status.conditions"]),
            (json!({}), json!({"conditions": [failed, done]}), vec!["status.conditions"]),
            (json!({"conditions": [done]}), json!({"conditions": []}), vec!["status.conditions"]),
        ] {
            let (new, old) = (json!({"status": new}), json!({"status": old}));
            let errors = Errors::new();
            status(&Cursor::root(&new, &errors), &Cursor::root(&old, &errors));
            let got: Vec<String> = errors.into_vec().iter().map(|e| e.field.to_string()).collect();
            assert_eq!(got, want, "{new}");
        }
    }
}
