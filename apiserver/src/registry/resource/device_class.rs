//! DeviceClasses.

use apimachinery::validation::Cursor;

use crate::registry::printing::{AGE, NAME, created, name};
use crate::registry::strategy::{Strategy, Table};

const SELECTORS_MAX: usize = 32;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    validate: |class| selectors(&class.dig("spec.selectors")),
    validate_update: |new, _| selectors(&new.dig("spec.selectors")),
    table: Some(Table { columns: &[NAME, AGE], cells: |class, now| vec![name(class), created(class, now)] }),
    ..Strategy::GENERIC
};

/// Checks how devices are chosen.
pub fn selectors(list: &Cursor<'_>) {
    list.items_max(SELECTORS_MAX);
    for selector in list.items() {
        let cel = selector.field("cel");
        if !cel.exists() {
            cel.missing("");
        } else if cel.field("expression").required() {
            cel.field("expression").bytes_max(EXPRESSION_BYTES_MAX);
        }
    }
}
