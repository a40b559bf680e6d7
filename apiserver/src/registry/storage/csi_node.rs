//! CSINodes.

use apimachinery::validation::Cursor;

use crate::registry::core::pod_spec::volume;
use crate::registry::printing::{AGE, NAME, count, created, integer, name};
use crate::registry::strategy::{Strategy, Table};

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    unconditional_update: false,
    validate,
    validate_update: |new, old| {
        validate(new);
        // A driver's entry changes only by leaving and coming back.
        for driver in new.dig("spec.drivers").items() {
            let name = driver.field("name").str();
            let before = old.dig("spec.drivers").items().find(|d| d.field("name").str() == name);
            if let Some(before) = before {
                for member in ["nodeID", "topologyKeys"] {
                    driver.field(member).immutable(&before.field(member));
                }
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
        driver.field("nodeID").required();
        driver.field("nodeID").bytes_max(256);
        driver.dig("allocatable.count").non_negative();
        driver.field("topologyKeys").unique(Cursor::clone);
    }
}
