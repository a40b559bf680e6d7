//! RuntimeClasses.

use apimachinery::validation::{Cursor, names};

use crate::core::pod_spec::{affinity, resources};
use registry::edit::text;
use registry::printing::{AGE, NAME, column, created, name};
use registry::strategy::{Strategy, Table};

pub const STRATEGY: Strategy = Strategy {
    unconditional_update: false,
    validate,
    validate_update: |new, old| {
        validate(new);
        new.field("handler").immutable(&old.field("handler"));
    },
    table: Some(Table {
        columns: &[NAME, column("Handler", ".handler"), AGE],
        cells: |class, now| vec![name(class), text(class, "handler").into(), created(class, now)],
    }),
    ..Strategy::GENERIC
};

fn validate(class: &Cursor<'_>) {
    class.field("handler").shape(names::dns1123_label);
    // Upstream takes the overhead for the limits of a container.
    let overhead = class.field("overhead");
    if overhead.exists() {
        let limits = serde_json::json!({"limits": overhead.field("podFixed").value()});
        resources::requirements(&Cursor::at(Some(&limits), overhead.path(), overhead.errors()), &[]);
    }
    affinity::node_labels(&class.dig("scheduling.nodeSelector"));
    // Upstream names the list twice.
    let tolerations = class.dig("scheduling.tolerations");
    affinity::tolerations(&tolerations.field("tolerations").with_value(tolerations.value()));
    let mut seen = Vec::new();
    for toleration in tolerations.items() {
        let key = ["key", "operator", "value", "effect"].map(|member| toleration.field(member).str());
        if seen.contains(&key) {
            toleration.duplicate();
        }
        seen.push(key);
    }
}
