//! CSIDrivers.

use apimachinery::Value;
use apimachinery::validation::Cursor;
use serde_json::json;

use crate::registry::core::pod_spec::volume;
use crate::registry::edit::{default, default_text, items, object, text};
use crate::registry::printing::{AGE, NAME, UNSET, column, created, name};
use crate::registry::strategy::{Column, Strategy, Table};

const fn boolean(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "boolean", format: "", priority: 0, description }
}

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    generation: true,
    default: defaulted,
    validate,
    validate_update: |new, old| {
        validate(new);
        for name in ["attachRequired", "volumeLifecycleModes"] {
            new.field("spec").field(name).immutable(&old.field("spec").field(name));
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
    default_text(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if items(spec, "volumeLifecycleModes").is_empty() {
        spec["volumeLifecycleModes"] = json!(["Persistent"]);
    }
}

fn validate(driver: &Cursor<'_>) {
    volume::csi_driver(&driver.dig("metadata.name"));
    let spec = driver.field("spec");
    for name in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
        if !spec.field(name).exists() {
            spec.field(name).missing("");
        }
    }
    spec.field("fsGroupPolicy").one_of(&["File", "None", "ReadWriteOnceWithFSType"]);
    for mode in spec.field("volumeLifecycleModes").items() {
        mode.one_of(&["Ephemeral", "Persistent"]);
    }
    let mut audiences = Vec::new();
    for request in spec.field("tokenRequests").items() {
        let (audience, seconds) = (request.field("audience"), request.field("expirationSeconds"));
        if audiences.contains(&audience.str()) {
            audience.duplicate();
        }
        audiences.push(audience.str());
        seconds.at_least(600, "may not specify a duration less than 10 minutes");
    }
    let in_secrets = spec.field("serviceAccountTokenInSecrets");
    if in_secrets.exists() && audiences.is_empty() {
        in_secrets.invalid("must not be set when tokenRequests is empty");
    }
}
