//! DeviceClasses.

use apimachinery::validation::Cursor;

use super::common::configuration;
use super::selector::selectors;
use crate::core::pod_spec::resources::is_extended;
use registry::printing::{AGE, NAME, created, name};
use registry::strategy::{Strategy, Table};

const CONFIG_MAX: usize = 32;

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    generation: true,
    validate: |class| validate(class, None),
    validate_update: |new, old| validate(new, Some(old)),
    table: Some(Table { columns: &[NAME, AGE], cells: |class, now| vec![name(class), created(class, now)] }),
    ..Strategy::GENERIC
};

fn validate(class: &Cursor<'_>, old: Option<&Cursor<'_>>) {
    let spec = class.field("spec");
    selectors(&spec.field("selectors"));
    let config = spec.field("config");
    let stored = old.is_some_and(|old| old.dig("spec.config").value() == config.value());
    config.items().for_each(|item| configuration(&item, stored));
    config.items_max(CONFIG_MAX);
    let extended = spec.field("extendedResourceName");
    if extended.exists() && !is_extended(extended.str()) {
        extended.invalid("must be a valid extended resource name");
    }
}
