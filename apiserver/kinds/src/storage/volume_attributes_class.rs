//! VolumeAttributesClasses.

use apimachinery::validation::Cursor;

use super::storage_class::{parameters, provisioner};
use registry::edit::text;
use registry::printing::{AGE, NAME, column, created, name};
use registry::strategy::{Strategy, Table};

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    validate,
    validate_update: |new, old| {
        validate(new);
        for name in ["driverName", "parameters"] {
            if new.field(name).value() != old.field(name).value() {
                new.field(name).forbid(format!("updates to {name} are forbidden."));
            }
        }
    },
    table: Some(Table {
        columns: &[NAME, column("DriverName", ".driverName"), AGE],
        cells: |class, now| vec![name(class), text(class, "driverName").into(), created(class, now)],
    }),
    ..Strategy::GENERIC
};

fn validate(class: &Cursor<'_>) {
    provisioner(&class.field("driverName"));
    if class.field("parameters").required_because("must contain at least one key/value pair") {
        parameters(&class.field("parameters"));
    }
}
