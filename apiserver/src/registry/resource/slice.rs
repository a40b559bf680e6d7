//! ResourceSlices.

use apimachinery::validation::{Cursor, names};

use crate::registry::edit::text;
use crate::registry::printing::{AGE, NAME, column, created, name};
use crate::registry::strategy::{SelectableField, Strategy, Table};

const DEVICES_MAX: usize = 128;

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    generation: true,
    validate,
    validate_update: |new, old| {
        validate(new);
        for path in ["spec.driver", "spec.pool.name", "spec.nodeName"] {
            new.dig(path).immutable(&old.dig(path));
        }
    },
    fields: &[
        SelectableField { name: "spec.nodeName", value: |slice| text(slice, "spec.nodeName").into() },
        SelectableField { name: "spec.driver", value: |slice| text(slice, "spec.driver").into() },
    ],
    table: Some(Table {
        columns: &[
            NAME,
            column("Node", ".spec.nodeName"),
            column("Driver", ".spec.driver"),
            column("Pool", ".spec.pool.name"),
            AGE,
        ],
        cells: |slice, now| {
            let spec = |path: &str| text(slice, &format!("spec.{path}")).into();
            vec![name(slice), spec("nodeName"), spec("driver"), spec("pool.name"), created(slice, now)]
        },
    }),
    ..Strategy::GENERIC
};

fn validate(slice: &Cursor<'_>) {
    let spec = slice.field("spec");
    spec.field("nodeName").optional_shape(names::dns1123_subdomain);
    spec.field("driver").required_shape(names::dns1123_subdomain);
    let pool = spec.field("pool");
    pool.field("name").required();
    pool.field("generation").non_negative();
    pool.field("resourceSliceCount").positive();
    let chosen = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"].map(|n| spec.field(n));
    match chosen.iter().filter(|c| c.bool() || !c.is_empty() && c.value().is_none_or(|v| !v.is_boolean())).count() {
        0 => {
            spec.missing("exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required")
        }
        1 => {}
        _ => {
            spec.invalid("exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required")
        }
    }
    let devices = spec.field("devices");
    devices.items_max(DEVICES_MAX);
    devices.unique(|d| d.field("name"));
    for device in devices.items() {
        device.field("name").required_shape(names::dns1123_label);
    }
}
