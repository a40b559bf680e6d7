//! LeaseCandidates.

use apimachinery::validation::{Cursor, names};

use registry::edit::text;
use registry::printing::{AGE, NAME, column, created, name};
use registry::strategy::{Strategy, Table};

pub const STRATEGY: Strategy = Strategy {
    create_on_update: true,
    unconditional_update: false,
    validate,
    validate_update: |new, old| {
        validate(new);
        new.dig("spec.leaseName").immutable(&old.dig("spec.leaseName"));
    },
    table: Some(Table {
        columns: &[
            NAME,
            column("LeaseName", ".spec.leaseName"),
            column("BinaryVersion", ".spec.binaryVersion"),
            column("EmulationVersion", ".spec.emulationVersion"),
            AGE,
        ],
        cells: |candidate, now| {
            let spec = |member: &str| text(candidate, &format!("spec.{member}")).into();
            vec![
                name(candidate),
                spec("leaseName"),
                spec("binaryVersion"),
                spec("emulationVersion"),
                created(candidate, now),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn validate(candidate: &Cursor<'_>) {
    let spec = candidate.field("spec");
    spec.field("leaseName").required_shape(names::dns1123_subdomain);
    spec.field("binaryVersion").required();
    spec.field("strategy").required();
}
