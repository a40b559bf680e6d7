//! ReplicationControllers, the elder of ReplicaSets.

use apimachinery::Value;
use apimachinery::selector::LabelSelector;
use apimachinery::validation::{Cursor, object_meta};

use super::pod_spec::{template, warnings};
use registry::edit::{at, copy, default, get, object};
use registry::printing::{AGE, CONTAINERS, IMAGES, NAME, SELECTOR, containers, created, integer, labels, name, number};
use registry::strategy::{Strategy, Subresource, Table};

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    default: defaulted,
    warnings: warnings::name_and_template,
    validate,
    validate_update: |new, _| validate(new),
    orphan_by_default: true,
    subresources: &[Subresource {
        name: "status",
        prepare: |rc, old, _| copy(rc, old, "spec"),
        validate: |new, _| replicas(&new.field("status")),
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            integer("Desired", ".spec.replicas"),
            integer("Current", ".status.replicas"),
            integer("Ready", ".status.readyReplicas"),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells: |rc, now| {
            let [names, images] = containers(get(rc, "spec.template.spec"));
            vec![
                name(rc),
                number(rc, "spec.replicas"),
                number(rc, "status.replicas"),
                number(rc, "status.readyReplicas"),
                created(rc, now),
                names,
                images,
                labels(get(rc, "spec.selector")),
            ]
        },
    }),
    ..Strategy::GENERIC
};

/// Selector and labels are those of the template, unless said.
fn defaulted(rc: &mut Value) {
    let labels =
        get(rc, "spec.template.metadata.labels").filter(|l| l.as_object().is_some_and(|l| !l.is_empty())).cloned();
    if let Some(labels) = labels {
        if get(rc, "metadata.labels").is_none() {
            object(rc, "metadata")["labels"] = labels.clone();
        }
        default(object(rc, "spec"), "selector", labels);
    }
    let spec = object(rc, "spec");
    default(spec, "replicas", 1);
    if let Some(pod_template) = at(spec, "template") {
        template::default(pod_template);
    }
}

fn validate(rc: &Cursor<'_>) {
    let spec = rc.field("spec");
    let selector = spec.field("selector");
    spec.field("minReadySeconds").non_negative();
    if selector.required() {
        object_meta::labels(&selector);
    }
    spec.field("replicas").non_negative();
    let pods = spec.field("template");
    if !pods.exists() {
        pods.missing("");
        return;
    }
    let pod_labels = pods.dig("metadata.labels");
    let parsed = LabelSelector::from_map(selector.value());
    if !parsed.is_everything() && !parsed.matches_object(pod_labels.value()) {
        pod_labels.invalid("`selector` does not match template `labels`");
    }
    template::validate(&pods);
    template::restarts_always(&pods, "ReplicationController");
}

/// Counts in a status: none negative, none above `replicas`.
pub fn replicas(status: &Cursor<'_>) {
    let all = status.field("replicas").i64().unwrap_or_default();
    for name in ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"] {
        let count = status.field(name);
        count.non_negative();
        if name != "observedGeneration" && count.i64().unwrap_or_default() > all {
            count.invalid("cannot be greater than status.replicas");
        }
    }
    let (ready, available) = (status.field("readyReplicas"), status.field("availableReplicas"));
    if available.i64().unwrap_or_default() > ready.i64().unwrap_or_default() {
        available.invalid("cannot be greater than readyReplicas");
    }
}
