//! Leases.

use apimachinery::validation::{Cursor, names};

use registry::edit::text;
use registry::printing::{AGE, NAME, column, created, name};
use registry::strategy::{Strategy, Table};

pub const STRATEGY: Strategy = Strategy {
    create_on_update: true,
    unconditional_update: false,
    validate,
    validate_update: |new, _| validate(new),
    table: Some(Table {
        columns: &[NAME, column("Holder", ".spec.holderIdentity"), AGE],
        cells: |lease, now| vec![name(lease), text(lease, "spec.holderIdentity").into(), created(lease, now)],
    }),
    ..Strategy::GENERIC
};

fn validate(lease: &Cursor<'_>) {
    let spec = lease.field("spec");
    spec.field("leaseDurationSeconds").positive();
    spec.field("leaseTransitions").non_negative();
    let strategy = spec.field("strategy");
    if strategy.exists() {
        // Upstream names the field twice.
        let at = strategy.field("strategy").with_value(strategy.value());
        if strategy.str().contains('/') {
            at.shape(names::qualified_name);
        } else {
            at.one_of(&["OldestEmulationVersion"]);
        }
    }
    if !spec.field("preferredHolder").is_empty() && spec.field("strategy").is_empty() {
        spec.field("preferredHolder").forbid("may only be specified if `strategy` is defined");
    }
}
