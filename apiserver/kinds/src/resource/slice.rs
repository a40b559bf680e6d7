//! ResourceSlices.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};

use super::common::{driver, pool};
use super::device;
use crate::core::pod_spec::affinity;
use registry::edit::{at, default, each, object, text};
use registry::printing::{AGE, NAME, column, created, name};
use registry::strategy::{SelectableField, Strategy, Table};

const DEVICES_MAX: usize = 128;
const SHARED_COUNTERS_MAX: usize = 32;
const DEVICE_COUNTERS_MAX: usize = 1024;

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    generation: true,
    prepare_for_create: |slice, context| date_taints(slice, context.now),
    prepare_for_update: |slice, _, context| date_taints(slice, context.now),
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

/// A taint counts from when it was set.
fn date_taints(slice: &mut Value, now: &str) {
    let Some(spec) = at(slice, "spec") else { return };
    each(spec, "devices", |device| {
        let device = if device.get("basic").is_some() { object(device, "basic") } else { device };
        each(device, "taints", |taint| default(taint, "timeAdded", now));
    });
}

fn validate(slice: &Cursor<'_>) {
    let spec = slice.field("spec");
    driver(&spec.field("driver"));
    let pool = spec.field("pool");
    self::pool(&pool.field("name"));
    pool.field("generation").non_negative();
    pool.field("resourceSliceCount").positive();
    nodes(&spec);
    let (devices, shared) = (spec.field("devices"), spec.field("sharedCounters"));
    for device in devices.items() {
        device::validate(&device, &spec);
    }
    devices.items_max(DEVICES_MAX);
    unique_names(&devices);
    let consumed = |device: Cursor<'_>| {
        let device = if device.field("basic").exists() { device.field("basic") } else { device };
        device.field("consumesCounters").items().map(|set| set.field("counters").len()).sum::<usize>()
    };
    if devices.items().map(consumed).sum::<usize>() > DEVICE_COUNTERS_MAX {
        devices.invalid(format!("the total number of counters in devices must not exceed {DEVICE_COUNTERS_MAX}"));
    }
    if shared.items().map(|set| set.field("counters").len()).sum::<usize>() > SHARED_COUNTERS_MAX {
        shared.invalid(format!("the total number of shared counters must not exceed {SHARED_COUNTERS_MAX}"));
    }
    for set in shared.items() {
        set.field("name").required_shape(names::dns1123_label);
        device::counters(&set.field("counters"));
    }
    unique_names(&shared);
}

/// Names are told apart, also those that are left out.
fn unique_names(list: &Cursor<'_>) {
    let mut seen = Vec::new();
    for name in list.items().map(|item| item.field("name")) {
        if seen.contains(&name.str()) {
            name.duplicate();
        }
        seen.push(name.str());
    }
}

/// Which nodes reach the devices: said in one way of four.
fn nodes(spec: &Cursor<'_>) {
    let [name, selector, all, by_device] =
        ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"].map(|member| spec.field(member));
    name.optional_shape(names::dns1123_subdomain);
    if name.exists() && name.is_empty() {
        name.invalid("must be either unset or set to a non-empty string");
    }
    if selector.exists() {
        affinity::node_selector(&selector);
        if selector.field("nodeSelectorTerms").len() != 1 {
            selector.field("nodeSelectorTerms").invalid("must have exactly one node selector term");
        }
    }
    for flag in [&all, &by_device].into_iter().filter(|flag| flag.exists() && !flag.bool()) {
        flag.invalid("must be either unset or set to true");
    }
    let why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match [!name.is_empty(), selector.exists(), all.bool(), by_device.bool()].into_iter().filter(|set| *set).count() {
        0 => spec.missing(why),
        1 => {}
        _ => spec.invalid(why),
    }
}
