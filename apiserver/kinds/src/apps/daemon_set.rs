//! DaemonSets.

use apimachinery::Value;
use apimachinery::validation::{Cursor, FieldError};

use super::rollout::{at_most_everything, count_or_percent, counts, is_zero, required_selector};
use crate::core::pod_spec::{template, warnings};
use registry::edit::{at, copy, default, default_text, get, object, text};
use registry::printing::{
    AGE, CONTAINERS, IMAGES, NAME, SELECTOR, column, containers, created, integer, labels, name, number, selector,
};
use registry::strategy::{Context, Strategy, Subresource, Table};

/// Counts changes of the template, from the days before `apps/v1`: clients still read it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    default: defaulted,
    warnings: |set, old| warnings::template(set, old, "spec.template"),
    prepare_for_create: |set, _| set_template_generation(set, 1),
    prepare_for_update,
    validate,
    validate_update: |new, old| {
        validate(new);
        new.dig("spec.selector").immutable(&old.dig("spec.selector"));
    },
    subresources: &[Subresource {
        name: "status",
        prepare: |set, old, _| copy(set, old, "spec"),
        validate: |new, _| {
            let names = [
                "currentNumberScheduled",
                "numberMisscheduled",
                "desiredNumberScheduled",
                "numberReady",
                "observedGeneration",
                "updatedNumberScheduled",
                "numberAvailable",
                "numberUnavailable",
                "collisionCount",
            ];
            counts(&new.field("status"), &names, "desiredNumberScheduled", &[]);
        },
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            integer("Desired", ".status.desiredNumberScheduled"),
            integer("Current", ".status.currentNumberScheduled"),
            integer("Ready", ".status.numberReady"),
            integer("Up-to-date", ".status.updatedNumberScheduled"),
            integer("Available", ".status.numberAvailable"),
            column("Node Selector", ".spec.template.spec.nodeSelector"),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells: |set, now| {
            let [names, images] = containers(get(set, "spec.template.spec"));
            vec![
                name(set),
                number(set, "status.desiredNumberScheduled"),
                number(set, "status.currentNumberScheduled"),
                number(set, "status.numberReady"),
                number(set, "status.updatedNumberScheduled"),
                number(set, "status.numberAvailable"),
                labels(get(set, "spec.template.spec.nodeSelector")),
                created(set, now),
                names,
                images,
                selector(get(set, "spec.selector")),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn defaulted(set: &mut Value) {
    // As upstream, where the count is there before anything is counted.
    default(object(object(set, "metadata"), "annotations"), TEMPLATE_GENERATION, "0");
    let spec = object(set, "spec");
    default(spec, "revisionHistoryLimit", 10);
    let strategy = object(spec, "updateStrategy");
    default_text(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = object(strategy, "rollingUpdate");
        default(rolling, "maxUnavailable", 1);
        default(rolling, "maxSurge", 0);
    }
    if let Some(pods) = at(spec, "template") {
        template::default(pods);
    }
}

fn template_generation(set: &Value) -> i64 {
    set["metadata"]["annotations"][TEMPLATE_GENERATION].as_str().and_then(|n| n.parse().ok()).unwrap_or_default()
}

fn set_template_generation(set: &mut Value, least: i64) {
    let count = template_generation(set).max(least);
    object(object(set, "metadata"), "annotations")[TEMPLATE_GENERATION] = count.to_string().into();
}

fn prepare_for_update(set: &mut Value, old: &Value, _: &Context<'_>) {
    let changed = get(set, "spec.template") != get(old, "spec.template");
    let count = template_generation(old) + i64::from(changed);
    object(object(set, "metadata"), "annotations")[TEMPLATE_GENERATION] = count.to_string().into();
}

fn validate(set: &Cursor<'_>) {
    let spec = set.field("spec");
    let selector = spec.field("selector");
    if selector.exists() {
        required_selector(&selector, "daemonset");
    }
    template::validate_selected(&spec.field("template"), &selector, "DaemonSet");
    spec.field("minReadySeconds").non_negative();
    strategy(&spec.field("updateStrategy"));
    spec.field("revisionHistoryLimit").non_negative();
}

fn strategy(strategy: &Cursor<'_>) {
    let rolling = strategy.field("rollingUpdate");
    match strategy.field("type").str() {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.exists() => rolling.missing(""),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
            for c in [&unavailable, &surge] {
                count_or_percent(c);
                at_most_everything(c);
            }
            match (is_zero(&unavailable), is_zero(&surge)) {
                (true, true) => unavailable.missing("cannot be 0 when maxSurge is 0"),
                (false, false) => surge.invalid("may not be set when maxUnavailable is non-zero"),
                _ => {}
            }
        }
        kind => strategy.push(FieldError::not_supported(strategy.path(), kind, &["RollingUpdate", "OnDelete"])),
    }
}
