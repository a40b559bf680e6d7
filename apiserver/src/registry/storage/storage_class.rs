//! StorageClasses.

use apimachinery::validation::{Cursor, names};

use crate::registry::edit::{default, text};
use crate::registry::printing::{AGE, NAME, column, created};
use crate::registry::strategy::{Strategy, Table};

const DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    default: |class| {
        default(class, "reclaimPolicy", "Delete");
        default(class, "volumeBindingMode", "Immediate");
    },
    validate,
    validate_update: |new, old| {
        validate(new);
        for (name, why) in [
            ("parameters", "updates to parameters are forbidden."),
            ("provisioner", "updates to provisioner are forbidden."),
            ("reclaimPolicy", "updates to reclaimPolicy are forbidden."),
        ] {
            if new.field(name).value() != old.field(name).value() {
                new.field(name).forbid(why);
            }
        }
        new.field("volumeBindingMode").immutable(&old.field("volumeBindingMode"));
    },
    table: Some(Table {
        columns: &[
            NAME,
            column("Provisioner", ".provisioner"),
            column("ReclaimPolicy", ".reclaimPolicy"),
            column("VolumeBindingMode", ".volumeBindingMode"),
            column("AllowVolumeExpansion", ".allowVolumeExpansion"),
            AGE,
        ],
        cells: |class, now| {
            let mut shown = text(class, "metadata.name").to_owned();
            if DEFAULT.iter().any(|a| class["metadata"]["annotations"][a] == "true") {
                shown += " (default)";
            }
            vec![
                shown.into(),
                class["provisioner"].clone(),
                text(class, "reclaimPolicy").into(),
                text(class, "volumeBindingMode").into(),
                (class["allowVolumeExpansion"] == true).into(),
                created(class, now),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn validate(class: &Cursor<'_>) {
    let provisioner = class.field("provisioner");
    if provisioner.required() {
        names::qualified_name(&provisioner.str().to_lowercase())
            .into_iter()
            .for_each(|problem| provisioner.invalid(problem));
    }
    parameters(&class.field("parameters"));
    class.field("reclaimPolicy").one_of(&["Delete", "Retain"]);
    class.field("volumeBindingMode").required_one_of(&["Immediate", "WaitForFirstConsumer"]);
    for term in class.field("allowedTopologies").items() {
        for expression in term.field("matchLabelExpressions").items() {
            expression.field("key").shape(names::qualified_name);
            expression.field("values").required();
            expression.field("values").unique(Cursor::clone);
        }
    }
}

/// Checks what a provisioner is told: short enough, and no name empty.
pub fn parameters(map: &Cursor<'_>) {
    if map.len() > 512 {
        map.too_long(512);
        return;
    }
    let mut bytes = 0;
    for (key, value) in map.entries() {
        if key.is_empty() {
            map.invalid_value(key, "field can not be empty.");
        }
        bytes += key.len() + value.len();
    }
    if bytes > PARAMETERS_BYTES_MAX {
        map.too_long(PARAMETERS_BYTES_MAX);
    }
}
