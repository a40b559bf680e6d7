//! StatefulSets.

use apimachinery::Value;
use apimachinery::validation::{Cursor, Errors, Path, names};
use serde_json::json;

use super::rollout::{at_most_everything, count_or_percent, counts, is_zero, required_selector, selector_is_usable};
use crate::core::persistent_volume_claim;
use crate::core::pod_spec::{template, warnings};
use registry::edit::{at, copy, default, default_text, each, get, items, number as count, object, remove, text};
use registry::printing::{AGE, CONTAINERS, IMAGES, NAME, column, containers, created, name};
use registry::strategy::{NameRule, Strategy, Subresource, Table};

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
    name: NameRule::Label,
    warnings: |set, old| {
        let mut warnings = warnings::template(set, old, "spec.template");
        for (i, claim) in items(set, "spec.volumeClaimTemplates").iter().enumerate() {
            let path = format!("spec.volumeClaimTemplates[{i}]");
            warnings.extend(persistent_volume_claim::spec_warnings(&claim["spec"], &path));
        }
        if count(set, "spec.revisionHistoryLimit") < 0 {
            let why = "a negative value retains all historical revisions; a value >= 0 is recommended";
            warnings.push(format!("spec.revisionHistoryLimit: {why}"));
        }
        warnings
    },
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
        persistent_volume_claim::spec_defaults(object(claim, "spec"));
    });
    if let Some(pods) = at(spec, "template") {
        template::default(pods);
    }
}

fn validate(set: &Cursor<'_>) {
    let spec = set.field("spec");
    for claim in spec.field("volumeClaimTemplates").items() {
        persistent_volume_claim::spec(&claim.field("spec"));
    }
    spec.field("serviceName").optional_shape(names::dns1123_label);
    validate_spec(&spec, true);
}

/// What holds for new sets and for updates. Pods of a template that was broken before an update are not checked again.
fn validate_spec(spec: &Cursor<'_>, check_pods: bool) {
    let management = spec.field("podManagementPolicy");
    if management.required() && !["OrderedReady", "Parallel"].contains(&management.str()) {
        management.invalid("must be 'OrderedReady' or 'Parallel'");
    }
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
        _ => strategy.invalid("must be 'RollingUpdate' or 'OnDelete'"),
    }
    for name in ["whenDeleted", "whenScaled"] {
        spec.field("persistentVolumeClaimRetentionPolicy").field(name).one_of(&["Delete", "Retain"]);
    }
    spec.field("replicas").non_negative();
    spec.field("minReadySeconds").non_negative();
    spec.dig("ordinals.start").non_negative();
    let selector = spec.field("selector");
    required_selector(&selector, "statefulset");
    let template = spec.field("template");
    if selector_is_usable(&selector) {
        template::selected(&template, &selector);
        if check_pods {
            let pods = as_of_a_pod(spec);
            template::validate(&Cursor::at(Some(&pods), template.path(), spec.errors()));
        } else {
            template::validate_metadata(&template);
        }
    }
    template::restarts_always(&template, "StatefulSet");
}

/// The template as the controller completes it for each pod: every claim template is a volume, in place of one of the same name,
/// and hostname and subdomain are the controller's to set.
fn as_of_a_pod(spec: &Cursor<'_>) -> Value {
    let mut template = spec.field("template").value().cloned().unwrap_or_default();
    let claims: Vec<&str> =
        spec.field("volumeClaimTemplates").array().iter().map(|c| text(c, "metadata.name")).collect();
    if let Some(pods) = at(&mut template, "spec") {
        remove(pods, "hostname");
        remove(pods, "subdomain");
        if !claims.is_empty() {
            let own = items(pods, "volumes").iter().filter(|volume| !claims.contains(&text(volume, "name"))).cloned();
            let claimed = claims.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
            pods["volumes"] = claimed.chain(own).collect();
        }
    }
    template
}

fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>) {
    let (spec, old_spec) = (new.field("spec"), old.field("spec"));
    let before = Errors::new();
    validate_spec(&Cursor::at(old_spec.value(), Path::root(), &before), true);
    validate_spec(&spec, before.is_empty());
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
