//! StatefulSets.

use apimachinery::Value;
use apimachinery::validation::Cursor;

use super::rollout::{at_most_everything, count_or_percent, counts, is_zero, required_selector};
use crate::registry::core::persistent_volume_claim::spec_defaults;
use crate::registry::core::pod_spec::template;
use crate::registry::edit::{at, copy, default, default_text, each, get, number as count, object, text};
use crate::registry::printing::{AGE, CONTAINERS, IMAGES, NAME, column, containers, created, name};
use crate::registry::strategy::{Strategy, Subresource, Table};

/// Members of the spec that an update may change.
const MUTABLE: [&str; 7] = [
    "minReadySeconds",
    "ordinals",
    "persistentVolumeClaimRetentionPolicy",
    "replicas",
    "revisionHistoryLimit",
    "template",
    "updateStrategy",
];

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    default: defaulted,
    validate,
    validate_update,
    subresources: &[Subresource {
        name: "status",
        prepare: |set, old, _| copy(set, old, "spec"),
        validate: |new, _| {
            let parts = ["readyReplicas", "currentReplicas", "updatedReplicas"];
            let names = [
                "replicas",
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "observedGeneration",
                "collisionCount",
            ];
            counts(&new.field("status"), &names, "replicas", &parts);
        },
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("Ready", "How many pods are ready of how many there should be."),
            AGE,
            CONTAINERS,
            IMAGES,
        ],
        cells: |set, now| {
            let [names, images] = containers(get(set, "spec.template.spec"));
            let ready = format!("{}/{}", count(set, "status.readyReplicas"), count(set, "spec.replicas"));
            vec![name(set), ready.into(), created(set, now), names, images]
        },
    }),
    ..Strategy::GENERIC
};

fn defaulted(set: &mut Value) {
    let spec = object(set, "spec");
    default_text(spec, "podManagementPolicy", "OrderedReady");
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    let strategy = object(spec, "updateStrategy");
    if text(strategy, "type").is_empty() {
        default_text(strategy, "type", "RollingUpdate");
        object(strategy, "rollingUpdate");
    }
    if let Some(rolling) = at(strategy, "rollingUpdate") {
        default(rolling, "partition", 0);
        default(rolling, "maxUnavailable", 1);
    }
    let retention = object(spec, "persistentVolumeClaimRetentionPolicy");
    default_text(retention, "whenDeleted", "Retain");
    default_text(retention, "whenScaled", "Retain");
    each(spec, "volumeClaimTemplates", |claim| {
        default_text(claim, "apiVersion", "v1");
        default_text(claim, "kind", "PersistentVolumeClaim");
        default_text(object(claim, "status"), "phase", "Pending");
        spec_defaults(object(claim, "spec"));
    });
    if let Some(pods) = at(spec, "template") {
        template::default(pods);
    }
}

fn validate(set: &Cursor<'_>) {
    let spec = set.field("spec");
    spec.field("podManagementPolicy").required_one_of(&["OrderedReady", "Parallel"]);
    let strategy = spec.field("updateStrategy");
    match strategy.field("type").str() {
        "" => strategy.missing(""),
        "OnDelete" => {
            if strategy.field("rollingUpdate").exists() {
                strategy.field("rollingUpdate").invalid("only allowed for updateStrategy 'RollingUpdate'");
            }
        }
        "RollingUpdate" => {
            strategy.dig("rollingUpdate.partition").non_negative();
            let unavailable = strategy.dig("rollingUpdate.maxUnavailable");
            count_or_percent(&unavailable);
            if unavailable.exists() && is_zero(&unavailable) {
                unavailable.invalid("cannot be 0");
            }
            at_most_everything(&unavailable);
        }
        _ => strategy.field("type").not_supported(&["OnDelete", "RollingUpdate"]),
    }
    for name in ["whenDeleted", "whenScaled"] {
        spec.field("persistentVolumeClaimRetentionPolicy").field(name).one_of(&["Delete", "Retain"]);
    }
    spec.field("replicas").non_negative();
    spec.field("minReadySeconds").non_negative();
    spec.dig("ordinals.start").non_negative();
    let selector = spec.field("selector");
    required_selector(&selector, "statefulset");
    template::validate_selected(&spec.field("template"), &selector, &["Always"]);
}

fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>) {
    validate(new);
    let (spec, old_spec) = (new.field("spec"), old.field("spec"));
    let (Some(mut left), Some(before)) = (spec.value().cloned(), old_spec.value()) else { return };
    for name in MUTABLE {
        copy(&mut left, before, name);
    }
    if left != *before {
        spec.forbid(format!(
            "updates to statefulset spec for fields other than {} are forbidden",
            MUTABLE.map(|m| format!("'{m}'")).join(", ")
        ));
    }
}
