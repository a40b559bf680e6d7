//! CSINodes.

use apimachinery::validation::{Cursor, FieldError, names};

use crate::core::pod_spec::volume;
use registry::printing::{AGE, NAME, count, created, integer, name};
use registry::strategy::{Strategy, Table};

const NODE_ID_BYTES_MAX: usize = 256;

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    unconditional_update: false,
    validate,
    validate_update: |new, old| {
        validate(new);
        // A driver's entry changes only by leaving and coming back, apart from the number of volumes (KEP-4876). Upstream compares
        // whole entries and names the list.
        for driver in new.dig("spec.drivers").items() {
            let name = driver.field("name").str();
            let before = old.dig("spec.drivers").items().find(|d| d.field("name").str() == name);
            let counts = new.gate("MutableCSINodeAllocatableCount");
            let fixed =
                ["nodeID", "topologyKeys", "allocatable"].into_iter().filter(|m| !counts || *m != "allocatable");
            let changed = |before: &Cursor<'_>| {
                fixed.clone().any(|member| driver.field(member).value() != before.field(member).value())
            };
            if before.is_some_and(|before| changed(&before)) {
                new.dig("spec.drivers").with_value(driver.value()).invalid("field is immutable");
            }
        }
    },
    table: Some(Table {
        columns: &[NAME, integer("Drivers", "How many drivers the node has."), AGE],
        cells: |node, now| vec![name(node), count(node, "spec.drivers"), created(node, now)],
    }),
    ..Strategy::GENERIC
};

fn validate(node: &Cursor<'_>) {
    let drivers = node.dig("spec.drivers");
    drivers.unique(|d| d.field("name"));
    for driver in drivers.items() {
        if driver.field("name").required() {
            volume::csi_driver(&driver.field("name"));
        }
        let id = driver.field("nodeID");
        if id.required() && id.len() > NODE_ID_BYTES_MAX {
            id.invalid(format!("must be {NODE_ID_BYTES_MAX} characters or less"));
        }
        driver.dig("allocatable.count").non_negative();
        // Upstream names the driver, not the key.
        let mut seen = Vec::new();
        for key in driver.field("topologyKeys").items().map(|key| key.str()) {
            let at = driver.with_value(None);
            if key.is_empty() {
                at.missing("");
            }
            if seen.contains(&key) {
                at.push(FieldError::duplicate(at.path(), key));
            }
            seen.push(key);
            names::qualified_name(key).into_iter().for_each(|problem| at.invalid_value(key, problem));
        }
    }
}
