//! CSIStorageCapacities.

use apimachinery::validation::selector::label_selector;
use apimachinery::validation::{Cursor, names};

use crate::core::pod_spec::resources::non_negative;
use registry::printing::{CREATED_AT, NAME, name};
use registry::strategy::{Strategy, Table};

pub const STRATEGY: Strategy = Strategy {
    validate,
    validate_update: |new, old| {
        validate(new);
        for name in ["nodeTopology", "storageClassName"] {
            new.field(name).immutable(&old.field(name));
        }
    },
    table: Some(Table {
        columns: &[NAME, CREATED_AT],
        cells: |capacity, _| vec![name(capacity), capacity["metadata"]["creationTimestamp"].clone()],
    }),
    ..Strategy::GENERIC
};

fn validate(capacity: &Cursor<'_>) {
    capacity.field("storageClassName").shape(names::dns1123_subdomain);
    label_selector(&capacity.field("nodeTopology"));
    non_negative(&capacity.field("capacity"));
}
