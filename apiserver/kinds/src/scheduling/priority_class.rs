//! PriorityClasses.

use apimachinery::validation::Cursor;

use crate::core::pod_spec::is_system_priority_class;
use registry::edit::{default, object};
use registry::printing::{AGE, NAME, column, created, integer, name, number};
use registry::strategy::{Column, Strategy, Table};

/// Above are the classes of the system.
const USER_VALUE_MAX: i64 = 1_000_000_000;
/// Classes that Kubernetes makes, and their values.
const SYSTEM: [(&str, i64); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

pub const STRATEGY: Strategy = Strategy {
    // It is 1 for ever: upstream counts no changes of these.
    prepare_for_create: |class, _| object(class, "metadata")["generation"] = 1.into(),
    default: |class| default(class, "preemptionPolicy", "PreemptLowerPriority"),
    validate,
    validate_update: |new, old| {
        let value = |c: &Cursor<'_>| c.field("value").i64().unwrap_or_default();
        if value(new) != value(old) {
            new.field("value").forbid("may not be changed in an update.");
        }
        new.field("preemptionPolicy").immutable(&old.field("preemptionPolicy"));
    },
    table: Some(Table {
        columns: &[
            NAME,
            integer("Value", ".value"),
            Column { name: "Global-Default", kind: "boolean", format: "", priority: 0, description: ".globalDefault" },
            AGE,
            column("PreemptionPolicy", ".preemptionPolicy"),
        ],
        cells: |class, now| {
            vec![
                name(class),
                number(class, "value"),
                (class["globalDefault"] == true).into(),
                created(class, now),
                class["preemptionPolicy"].clone(),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn validate(class: &Cursor<'_>) {
    let (name, value) = (class.dig("metadata.name"), class.field("value"));
    if is_system_priority_class(name.str()) {
        if !SYSTEM.contains(&(name.str(), value.i64().unwrap_or_default())) {
            name.forbid("priority class names with 'system-' prefix are reserved for system use only");
        }
    } else if value.i64().is_some_and(|v| v > USER_VALUE_MAX) {
        value.forbid(format!("maximum allowed value of a user defined priority is {USER_VALUE_MAX}"));
    }
    class.field("preemptionPolicy").required_one_of(&["Never", "PreemptLowerPriority"]);
}
