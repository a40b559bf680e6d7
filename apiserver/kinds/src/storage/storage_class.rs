//! StorageClasses.

use apimachinery::validation::{Cursor, FieldError, names};
use std::collections::{BTreeMap, BTreeSet};

use registry::edit::{default, text};
use registry::printing::{AGE, NAME, column, created};
use registry::strategy::{Strategy, Table};

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
    provisioner(&class.field("provisioner"));
    parameters(&class.field("parameters"));
    if !class.field("reclaimPolicy").is_empty() {
        class.field("reclaimPolicy").one_of(&["Delete", "Retain"]);
    }
    class.field("volumeBindingMode").one_of(&["Immediate", "WaitForFirstConsumer"]);
    let mut seen = Vec::new();
    for term in class.field("allowedTopologies").items() {
        let expressions = term.field("matchLabelExpressions");
        expressions.unique(|e| e.field("key"));
        let domains = domains(&expressions);
        // Upstream starts with as many empty terms as there are terms.
        if domains.is_empty() || seen.contains(&domains) {
            expressions.push(FieldError::duplicate(expressions.path(), ""));
        }
        seen.push(domains);
        for expression in expressions.items() {
            expression.field("key").shape(names::qualified_name);
            expression.field("values").required();
            expression.field("values").unique(Cursor::clone);
        }
    }
}

/// The values that a term allows, by key, without order.
fn domains<'a>(expressions: &Cursor<'a>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let values = |e: &Cursor<'a>| e.field("values").items().map(|value| value.str()).collect();
    expressions.items().map(|e| (e.field("key").str(), values(&e))).collect()
}

/// Checks the name of what makes or changes volumes.
pub fn provisioner(name: &Cursor<'_>) {
    if name.required() {
        names::qualified_name(&name.str().to_lowercase()).into_iter().for_each(|problem| name.invalid(problem));
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
