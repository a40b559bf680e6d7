//! Workloads: which pods are to be scheduled together. (KEP-4671)

use apimachinery::validation::{Cursor, names};

use registry::printing::{AGE, NAME, created, name};
use registry::strategy::{Strategy, Table};

const GROUPS_MAX: usize = 8;

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    unconditional_update: false,
    validate,
    validate_update: |new, old| {
        validate(new);
        let (spec, was) = (new.field("spec"), old.field("spec"));
        // Who controls may still be told, once.
        if was.field("controllerRef").exists() {
            spec.field("controllerRef").immutable(&was.field("controllerRef"));
        }
        spec.field("podGroups").immutable(&was.field("podGroups"));
    },
    table: Some(Table { columns: &[NAME, AGE], cells: |workload, now| vec![name(workload), created(workload, now)] }),
    ..Strategy::GENERIC
};

fn validate(workload: &Cursor<'_>) {
    let spec = workload.field("spec");
    let controller = spec.field("controllerRef");
    if controller.exists() {
        controller.field("apiGroup").optional_shape(names::dns1123_subdomain);
        controller.field("kind").required_shape(names::path_segment);
        controller.field("name").required_shape(names::path_segment);
    }
    let groups = spec.field("podGroups");
    if groups.required() {
        groups.items_max(GROUPS_MAX);
    }
    groups.unique(|group| group.field("name"));
    for group in groups.items() {
        group.field("name").required_shape(names::dns1123_label);
        let policy = group.field("policy");
        match (policy.field("basic").exists(), policy.field("gang").exists()) {
            (false, false) => policy.invalid("must specify one of: `basic`, `gang`"),
            (true, true) => policy.invalid("must specify exactly one of: `basic`, `gang`"),
            (true, false) => {}
            (false, true) => {
                policy.dig("gang.minCount").at_least(1, "must be greater than or equal to 1");
            }
        }
    }
}
