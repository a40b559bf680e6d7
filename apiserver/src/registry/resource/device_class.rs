//! DeviceClasses.

use super::selector::selectors;
use crate::registry::printing::{AGE, NAME, created, name};
use crate::registry::strategy::{Strategy, Table};

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    generation: true,
    validate: |class| selectors(&class.dig("spec.selectors")),
    validate_update: |new, _| selectors(&new.dig("spec.selectors")),
    table: Some(Table { columns: &[NAME, AGE], cells: |class, now| vec![name(class), created(class, now)] }),
    ..Strategy::GENERIC
};
