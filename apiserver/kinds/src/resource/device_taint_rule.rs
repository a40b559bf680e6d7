//! DeviceTaintRules: taints that an administrator gives to devices, whoever publishes them.

use apimachinery::validation::conditions::conditions;
use apimachinery::validation::{Cursor, names};

use super::common;
use registry::edit::{at, copy, default, remove, text};
use registry::printing::{AGE, NAME, age, column, created, name};
use registry::strategy::{Strategy, Subresource, Table};

const CONDITIONS_MAX: usize = 8;

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    generation: true,
    prepare_for_create: |rule, context| {
        if let Some(taint) = at(rule, "spec.taint") {
            default(taint, "timeAdded", context.now);
        }
    },
    prepare_for_update: |rule, old, context| {
        // What has been added at a time is a taint with its effect: another effect begins anew.
        let (was, had) = (text(old, "spec.taint.effect").to_owned(), text(old, "spec.taint.timeAdded").to_owned());
        if let Some(taint) = at(rule, "spec.taint") {
            if text(taint, "effect") != was && text(taint, "timeAdded") == had {
                remove(taint, "timeAdded");
            }
            default(taint, "timeAdded", context.now);
        }
    },
    validate,
    validate_update: |new, old| {
        validate(new);
        // A rule stands for a point in time: who is selected does not change under the pods.
        new.dig("spec.deviceSelector").immutable(&old.dig("spec.deviceSelector"));
    },
    subresources: &[Subresource {
        name: "status",
        prepare: |rule, old, _| copy(rule, old, "spec"),
        validate: |new, _| {
            let list = new.dig("status.conditions");
            list.items_max(CONDITIONS_MAX);
            conditions(&list);
        },
        reset_fields: &["metadata", "spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("Key", ".spec.taint.key"),
            column("Value", ".spec.taint.value"),
            column("Effect", ".spec.taint.effect"),
            column("TimeAdded", ".spec.taint.timeAdded"),
            AGE,
        ],
        cells: |rule, now| {
            let taint = |member: &str| text(rule, &format!("spec.taint.{member}")).into();
            vec![
                name(rule),
                taint("key"),
                taint("value"),
                taint("effect"),
                age(&rule["spec"]["taint"]["timeAdded"], now).into(),
                created(rule, now),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn validate(rule: &Cursor<'_>) {
    let spec = rule.field("spec");
    let selector = spec.field("deviceSelector");
    selector.field("deviceClassName").optional_shape(names::dns1123_subdomain);
    if selector.field("driver").exists() {
        common::driver(&selector.field("driver"));
    }
    if selector.field("pool").exists() {
        common::pool(&selector.field("pool"));
    }
    selector.field("device").optional_shape(names::dns1123_label);
    super::selector::selectors(&selector.field("selectors"));
    taint(&spec.field("taint"));
}

/// Checks one taint of a device.
pub fn taint(taint: &Cursor<'_>) {
    taint.field("key").shape(names::qualified_name);
    taint.field("value").optional_shape(names::label_value);
    taint.field("effect").required_one_of(&["NoExecute", "NoSchedule", "None"]);
}
