//! PodDisruptionBudgets.

use apimachinery::validation::Cursor;
use apimachinery::validation::selector::label_selector;

use crate::apps::rollout::{at_most_everything, count_or_percent, counts};
use registry::edit::copy;
use registry::printing::{AGE, NAME, column, created, integer, name, number, scalar_or};
use registry::strategy::{NameRule, Strategy, Subresource, Table};

pub const STRATEGY: Strategy = Strategy {
    // Upstream checks no more of a name than that it can stand in a path.
    name: NameRule::PathSegment,
    generation: true,
    unconditional_update: false,
    validate,
    validate_update: |new, _| validate(new),
    subresources: &[Subresource {
        name: "status",
        prepare: |budget, old, _| copy(budget, old, "spec"),
        validate: |new, _| {
            let names =
                ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods", "observedGeneration"];
            counts(&new.field("status"), &names, "expectedPods", &[]);
        },
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("Min Available", ".spec.minAvailable"),
            column("Max Unavailable", ".spec.maxUnavailable"),
            integer("Allowed Disruptions", ".status.disruptionsAllowed"),
            AGE,
        ],
        cells: |budget, now| {
            vec![
                name(budget),
                scalar_or(budget, "spec.minAvailable", "N/A"),
                scalar_or(budget, "spec.maxUnavailable", "N/A"),
                number(budget, "status.disruptionsAllowed"),
                created(budget, now),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn validate(budget: &Cursor<'_>) {
    let spec = budget.field("spec");
    let limits = [spec.field("minAvailable"), spec.field("maxUnavailable")];
    if limits.iter().all(Cursor::exists) {
        spec.invalid("minAvailable and maxUnavailable cannot be both set");
    }
    for limit in limits.iter().filter(|l| l.exists()) {
        count_or_percent(limit);
        at_most_everything(limit);
    }
    label_selector(&spec.field("selector"));
    spec.field("unhealthyPodEvictionPolicy").one_of(&["AlwaysAllow", "IfHealthyBudget"]);
}
