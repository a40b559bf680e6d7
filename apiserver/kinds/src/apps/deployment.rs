//! Deployments.

use apimachinery::Value;
use apimachinery::validation::{Cursor, FieldError};

use super::rollout::{at_most_everything, count_or_percent, counts, is_zero, required_selector, selector_is_usable};
use crate::core::pod_spec::{template, warnings};
use registry::edit::{at, copy, default, default_text, get, number as count, object, text};
use registry::printing::{
    AGE, CONTAINERS, IMAGES, NAME, SELECTOR, column, containers, created, name, number, selector,
};
use registry::strategy::{Strategy, Subresource, Table};

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    default: defaulted,
    prepare_for_update: |deployment, old, _| {
        // Annotations count as well: rollbacks were once asked for with one.
        if deployment["metadata"].get("annotations") != old["metadata"].get("annotations") {
            deployment["metadata"]["generation"] = (count(old, "metadata.generation") + 1).into();
        }
    },
    validate,
    validate_update: |new, old| {
        validate(new);
        new.dig("spec.selector").immutable(&old.dig("spec.selector"));
    },
    warnings: warnings::name_and_template,
    subresources: &[Subresource {
        name: "status",
        prepare: |deployment, old, _| {
            copy(deployment, old, "spec");
            copy(&mut deployment["metadata"], &old["metadata"], "labels");
        },
        validate: |new, _| {
            let names = [
                "observedGeneration",
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
                "collisionCount",
            ];
            counts(
                &new.field("status"),
                &names,
                "replicas",
                &["updatedReplicas", "readyReplicas", "availableReplicas"],
            );
        },
        reset_fields: &["spec", "metadata.labels"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("Ready", "How many pods are ready of how many there should be."),
            column("Up-to-date", ".status.updatedReplicas"),
            column("Available", ".status.availableReplicas"),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells: |deployment, now| {
            let [names, images] = containers(get(deployment, "spec.template.spec"));
            vec![
                name(deployment),
                format!("{}/{}", count(deployment, "status.readyReplicas"), count(deployment, "spec.replicas")).into(),
                number(deployment, "status.updatedReplicas"),
                number(deployment, "status.availableReplicas"),
                created(deployment, now),
                names,
                images,
                selector(get(deployment, "spec.selector")),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn defaulted(deployment: &mut Value) {
    let spec = object(deployment, "spec");
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    let strategy = object(spec, "strategy");
    default_text(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = object(strategy, "rollingUpdate");
        default(rolling, "maxUnavailable", "25%");
        default(rolling, "maxSurge", "25%");
    }
    if let Some(pods) = at(spec, "template") {
        template::default(pods);
    }
}

fn validate(deployment: &Cursor<'_>) {
    let spec = deployment.field("spec");
    spec.field("replicas").non_negative();
    let selector = spec.field("selector");
    required_selector(&selector, "deployment");
    if selector_is_usable(&selector) {
        template::validate_selected(&spec.field("template"), &selector, "ReplicaSet");
    }
    strategy(&spec.field("strategy"));
    let (ready, progress) = (spec.field("minReadySeconds"), spec.field("progressDeadlineSeconds"));
    ready.non_negative();
    spec.field("revisionHistoryLimit").non_negative();
    progress.non_negative();
    if progress.i64().is_some_and(|p| p <= ready.i64().unwrap_or_default()) {
        progress.invalid("must be greater than minReadySeconds");
    }
}

fn strategy(strategy: &Cursor<'_>) {
    let rolling = strategy.field("rollingUpdate");
    match strategy.field("type").str() {
        "Recreate" => {
            rolling.absent("may not be specified when strategy `type` is 'Recreate'");
        }
        "RollingUpdate" if !rolling.exists() => rolling.missing("this should be defaulted and never be nil"),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
            count_or_percent(&unavailable);
            count_or_percent(&surge);
            if is_zero(&unavailable) && is_zero(&surge) {
                unavailable.invalid("may not be 0 when `maxSurge` is 0");
            }
            at_most_everything(&unavailable);
        }
        kind => strategy.push(FieldError::not_supported(strategy.path(), kind, &["Recreate", "RollingUpdate"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::validation::Errors;
    use serde_json::json;

    #[test]
    fn a_rollout_must_be_able_to_move() {
        for (strategy_value, field) in [
            (
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}),
                Some("maxUnavailable"),
            ),
            (
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "101%", "maxSurge": 0}}),
                Some("maxUnavailable"),
            ),
            (
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": "x"}}),
                Some("maxSurge"),
            ),
            (json!({"type": "Recreate", "rollingUpdate": {}}), Some("rollingUpdate")),
            (json!({"type": "Recreate"}), None),
        ] {
            let errors = Errors::new();
            strategy(&Cursor::root(&strategy_value, &errors));
            let found = errors.into_vec();
            assert_eq!(found.first().map(|e| e.field.as_str().rsplit('.').next().unwrap()), field, "{strategy_value}");
        }
    }
}
