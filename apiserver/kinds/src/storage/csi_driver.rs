//! CSIDrivers.

use apimachinery::Value;
use apimachinery::validation::Cursor;
use serde_json::json;

use registry::edit::{default, items, object, remove, text};
use registry::printing::{AGE, NAME, UNSET, column, created, name};
use registry::strategy::{Column, Strategy, Table};

/// What upstream's errors call `attachRequired`.
const ATTACH: &str = "attachedRequired";

const fn boolean(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "boolean", format: "", priority: 0, description }
}

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    generation: true,
    // Only changes are counted: a new driver has no generation.
    prepare_for_create: |driver, _| drop(remove(object(driver, "metadata"), "generation")),
    default: defaulted,
    validate,
    validate_update: |new, old| {
        validate(new);
        for (name, told) in [("attachRequired", ATTACH), ("volumeLifecycleModes", "volumeLifecycleModes")] {
            let (spec, before) = (new.field("spec"), old.field("spec").field(name));
            spec.field(told).with_value(spec.field(name).value()).immutable(&before);
        }
    },
    table: Some(Table {
        columns: &[
            NAME,
            boolean("AttachRequired", ".spec.attachRequired"),
            boolean("PodInfoOnMount", ".spec.podInfoOnMount"),
            boolean("StorageCapacity", ".spec.storageCapacity"),
            column("TokenRequests", ".spec.tokenRequests"),
            boolean("RequiresRepublish", ".spec.requiresRepublish"),
            column("Modes", ".spec.volumeLifecycleModes"),
            AGE,
        ],
        cells: |driver, now| {
            let join = |list: Vec<&str>| if list.is_empty() { UNSET.to_owned() } else { list.join(",") };
            let audiences = items(driver, "spec.tokenRequests").iter().map(|t| text(t, "audience")).collect();
            let modes = items(driver, "spec.volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
            let is = |name: &str| Value::from(driver["spec"][name] == true);
            vec![
                name(driver),
                is("attachRequired"),
                is("podInfoOnMount"),
                is("storageCapacity"),
                join(audiences).into(),
                is("requiresRepublish"),
                join(modes).into(),
                created(driver, now),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn defaulted(driver: &mut Value) {
    let spec = object(driver, "spec");
    default(spec, "attachRequired", true);
    for name in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        default(spec, name, false);
    }
    default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if items(spec, "volumeLifecycleModes").is_empty() {
        spec["volumeLifecycleModes"] = json!(["Persistent"]);
    }
}

fn validate(driver: &Cursor<'_>) {
    let spec = driver.field("spec");
    for (name, told) in [
        ("attachRequired", ATTACH),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
        ("seLinuxMount", "seLinuxMount"),
    ] {
        if !spec.field(name).exists() {
            spec.field(told).missing("");
        }
    }
    spec.field("nodeAllocatableUpdatePeriodSeconds").at_least(10, "must be greater than or equal to 10 seconds");
    spec.field("fsGroupPolicy").one_of(&["File", "None", "ReadWriteOnceWithFSType"]);
    // Upstream names the list, not the place in it.
    let modes = spec.field("volumeLifecycleModes");
    for mode in modes.items() {
        modes.with_value(mode.value()).one_of(&["Ephemeral", "Persistent"]);
    }
    let mut audiences = Vec::new();
    for request in spec.field("tokenRequests").items() {
        let (audience, seconds) = (request.field("audience"), request.field("expirationSeconds"));
        if audiences.contains(&audience.str()) {
            audience.duplicate();
            continue;
        }
        audiences.push(audience.str());
        seconds.at_least(600, "may not specify a duration less than 10 minutes");
        if seconds.i64().is_some_and(|s| s > 1 << 32) {
            seconds.invalid("may not specify a duration larger than 2^32 seconds");
        }
    }
    let in_secrets = spec.field("serviceAccountTokenInSecrets");
    if in_secrets.exists() && audiences.is_empty() {
        in_secrets.invalid("must not be set when tokenRequests is empty");
    }
}
