//! ReplicaSets.

use apimachinery::Value;
use apimachinery::validation::Cursor;

use super::rollout::{required_selector, selector_is_usable};
use crate::core::pod_spec::{template, warnings};
use crate::core::replication_controller::replicas;
use registry::edit::{at, copy, default, get, object};
use registry::printing::{
    AGE, CONTAINERS, IMAGES, NAME, SELECTOR, containers, created, integer, name, number, selector,
};
use registry::strategy::{Strategy, Subresource, Table};

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    default: defaulted,
    warnings: warnings::name_and_template,
    validate,
    validate_update: |new, old| {
        validate(new);
        new.dig("spec.selector").immutable(&old.dig("spec.selector"));
    },
    subresources: &[Subresource {
        name: "status",
        prepare: |set, old, _| copy(set, old, "spec"),
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
        cells: |set, now| {
            let [names, images] = containers(get(set, "spec.template.spec"));
            vec![
                name(set),
                number(set, "spec.replicas"),
                number(set, "status.replicas"),
                number(set, "status.readyReplicas"),
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
    let spec = object(set, "spec");
    default(spec, "replicas", 1);
    if let Some(pods) = at(spec, "template") {
        template::default(pods);
    }
}

fn validate(set: &Cursor<'_>) {
    let spec = set.field("spec");
    spec.field("replicas").non_negative();
    spec.field("minReadySeconds").non_negative();
    let selector = spec.field("selector");
    required_selector(&selector, "deployment");
    if selector_is_usable(&selector) {
        template::validate_selected(&spec.field("template"), &selector, "ReplicaSet");
    }
}
