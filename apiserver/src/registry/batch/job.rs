//! Jobs.

use apimachinery::Value;
use apimachinery::selector::LabelSelector;
use apimachinery::validation::selector::label_selector;
use apimachinery::validation::{Cursor, names};
use serde_json::json;

use crate::registry::core::pod_spec::{template, warnings};
use crate::registry::edit::{at, copy, default, default_text, each, get, items, number as count, object, text};
use crate::registry::printing::{
    AGE, CONTAINERS, IMAGES, NAME, SELECTOR, column, containers, created, human_duration, name, selector,
};
use crate::registry::strategy::{Context, SelectableField, Strategy, Subresource, Table};

/// Labels that tell a job's pods from all others; the old names stay for those who select by them.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    default: defaulted,
    prepare_for_create,
    validate,
    warnings: |job, old| {
        let mut warnings = if old.is_none() { warnings::name(job, "Pod names and hostnames") } else { Vec::new() };
        warnings.extend(warnings::template(job, old, "spec.template"));
        warnings
    },
    validate_update,
    orphan_by_default: true,
    fields: &[SelectableField { name: "status.successful", value: |job| count(job, "status.succeeded").to_string() }],
    subresources: &[Subresource {
        name: "status",
        prepare: |job, old, _| copy(job, old, "spec"),
        validate: |new, _| {
            for name in ["active", "succeeded", "failed", "ready", "terminating"] {
                new.field("status").field(name).non_negative();
            }
        },
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("Status", "How the job stands."),
            column("Completions", ".status.succeeded"),
            column("Duration", "How long it ran or has been running."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cells,
    }),
    ..Strategy::GENERIC
};

fn defaulted(job: &mut Value) {
    let spec = object(job, "spec");
    let per_index = spec.get("backoffLimitPerIndex").is_some();
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    default_text(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    let policy = if spec.get("podFailurePolicy").is_some() { "Failed" } else { "TerminatingOrFailed" };
    default_text(spec, "podReplacementPolicy", policy);
    if let Some(policy) = at(spec, "podFailurePolicy") {
        each(policy, "rules", |rule| each(rule, "onPodConditions", |c| default_text(c, "status", "True")));
    }
    if let Some(pods) = at(spec, "template") {
        template::default(pods);
    }
    labels_of_template(job);
}

/// A job without labels has those of its pods.
fn labels_of_template(job: &mut Value) {
    let labels =
        get(job, "spec.template.metadata.labels").filter(|l| l.as_object().is_some_and(|l| !l.is_empty())).cloned();
    if let Some(labels) = labels {
        default(object(job, "metadata"), "labels", labels);
    }
}

fn prepare_for_create(job: &mut Value, _: &Context<'_>) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (text(job, "metadata.uid").to_owned(), text(job, "metadata.name").to_owned());
    let spec = object(job, "spec");
    let labels = object(object(object(spec, "template"), "metadata"), "labels");
    for label in NAME_LABELS {
        default(labels, label, name.as_str());
    }
    for label in UID_LABELS {
        default(labels, label, uid.as_str());
    }
    default(spec, "selector", json!({"matchLabels": {UID_LABELS[0]: uid}}));
    labels_of_template(job);
}

fn validate(job: &Cursor<'_>) {
    let spec = job.field("spec");
    self::spec(&spec);
    let selector = spec.field("selector");
    if !selector.exists() {
        selector.missing("");
        return;
    }
    label_selector(&selector);
    let labels = spec.dig("template.metadata.labels");
    if LabelSelector::from_object(selector.value()).is_ok_and(|s| !s.matches_object(labels.value())) {
        labels.invalid("`selector` does not match template `labels`");
    }
    if !spec.field("manualSelector").bool() {
        own_labels(job, &labels);
    }
}

/// Labels that the server gives must not be given differently by the user.
fn own_labels(job: &Cursor<'_>, labels: &Cursor<'_>) {
    let (uid, name) = (job.dig("metadata.uid").str(), job.dig("metadata.name").str());
    for (names, expected) in [(UID_LABELS, uid), (NAME_LABELS, name)] {
        for label in names {
            let value = labels.field(label);
            if value.exists() && value.str() != expected {
                labels.invalid(format!("must have {label} set to {expected:?}, or leave it out"));
            }
        }
    }
}

/// Checks a job's spec, also that of a cron job's template.
pub fn spec(spec: &Cursor<'_>) {
    let field = |name| spec.field(name);
    for name in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        field(name).non_negative();
    }
    field("managedBy").optional_shape(names::domain_prefixed_path);
    let mode = field("completionMode");
    mode.one_of(&["Indexed", "NonIndexed"]);
    let indexed = mode.str() == "Indexed";
    if indexed && !field("completions").exists() {
        field("completions").missing("when completion mode is Indexed");
    }
    if indexed && field("parallelism").i64().unwrap_or_default() > 100_000 {
        field("parallelism").invalid("must be less than or equal to 100000 when completion mode is Indexed");
    }
    for name in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        if mode.str() == "NonIndexed" && field(name).exists() {
            field(name).invalid("requires indexed completion mode");
        }
    }
    if field("maxFailedIndexes").exists() && !field("backoffLimitPerIndex").exists() {
        field("backoffLimitPerIndex").missing("when maxFailedIndexes is specified");
    }
    failure_policy(spec);
    success_policy(&field("successPolicy"), indexed);
    field("podReplacementPolicy").one_of(&["Failed", "TerminatingOrFailed"]);
    template::validate(&field("template"));
    let restart = spec.dig("template.spec.restartPolicy");
    match restart.str() {
        // What users mostly forget, and templates default to.
        "" | "Always" => restart.missing("valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" if spec.field("podFailurePolicy").exists() => {
            restart.invalid("only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" => {}
        _ => restart.not_supported(&["OnFailure", "Never"]),
    }
}

fn failure_policy(spec: &Cursor<'_>) {
    let policy = spec.field("podFailurePolicy");
    if !policy.exists() {
        return;
    }
    policy.field("rules").items_max(20);
    for rule in policy.field("rules").items() {
        let action = rule.field("action");
        action.required_one_of(&["Count", "FailIndex", "FailJob", "Ignore"]);
        let (codes, conditions) = (rule.field("onExitCodes"), rule.field("onPodConditions"));
        match (codes.exists(), !conditions.is_empty()) {
            (true, true) => rule.invalid("specifying both OnExitCodes and OnPodConditions is not supported"),
            (false, false) => rule.invalid("specifying one of OnExitCodes and OnPodConditions is required"),
            _ => {}
        }
        if codes.exists() {
            codes.field("operator").required_one_of(&["In", "NotIn"]);
            let (name, pods) = (codes.field("containerName"), spec.dig("template.spec"));
            let named = |list| pods.field(list).array().iter().any(|container| container["name"] == name.str());
            if name.exists() && !named("containers") && !named("initContainers") {
                name.invalid("must be one of the container or initContainer names in the pod template");
            }
            let values = codes.field("values");
            if values.is_empty() {
                values.invalid("at least one value is required");
            }
            values.items_max(255);
            values.unique(Cursor::clone);
        }
        for condition in conditions.items() {
            condition.field("type").required_shape(names::qualified_name);
            condition.field("status").required_one_of(&["False", "True", "Unknown"]);
        }
    }
}

fn success_policy(policy: &Cursor<'_>, indexed: bool) {
    if !policy.exists() {
        return;
    }
    if !indexed {
        policy.invalid("requires indexed completion mode");
    }
    policy.field("rules").required();
    for rule in policy.field("rules").items() {
        if !rule.field("succeededIndexes").exists() && !rule.field("succeededCount").exists() {
            rule.missing("at least one of succeededCount or succeededIndexes must be specified");
        }
        rule.field("succeededCount").non_negative();
    }
}

fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>) {
    let (spec, old_spec) = (new.field("spec"), old.field("spec"));
    self::spec(&spec);
    let elastic = spec.field("completionMode").str() == "Indexed"
        && spec.field("completions").value() == spec.field("parallelism").value();
    if !elastic {
        spec.field("completions").immutable(&old_spec.field("completions"));
    }
    spec.field("selector").immutable(&old_spec.field("selector"));
    template_update(&spec.field("template"), &old_spec.field("template"), &old_spec, old);
    for name in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        spec.field(name).immutable(&old_spec.field(name));
    }
}

/// While a job has not started, where its pods go may still be changed (KEP-2926).
fn template_update(template: &Cursor<'_>, old: &Cursor<'_>, old_spec: &Cursor<'_>, old_job: &Cursor<'_>) {
    let (Some(mut left), Some(before)) = (template.value().cloned(), old.value()) else { return };
    // KEP-5440 lets a job that is suspended again be changed as one that has never run.
    let suspended = old_spec.field("suspend").bool();
    let idle = suspended && !old_job.dig("status.startTime").exists();
    let paused = suspended && is_suspended(old_job);
    if template.gate("MutablePodResourcesForSuspendedJobs") && (idle || paused) {
        for name in ["containers", "initContainers"] {
            let had = before["spec"][name].as_array().map(Vec::as_slice).unwrap_or_default();
            let lists = left["spec"].get_mut(name).and_then(Value::as_array_mut);
            for (container, had) in lists.into_iter().flatten().zip(had) {
                copy(container, had, "resources");
            }
        }
        copy(&mut left["spec"], &before["spec"], "resources");
    }
    if idle || paused && template.gate("MutableSchedulingDirectivesForSuspendedJobs") {
        for name in ["nodeSelector", "tolerations", "schedulingGates"] {
            copy(&mut left["spec"], &before["spec"], name);
        }
        let affinity = get(before, "spec.affinity.nodeAffinity").cloned();
        match (at(&mut left, "spec.affinity"), affinity) {
            (Some(left), Some(affinity)) => left["nodeAffinity"] = affinity,
            (Some(left), None) => drop(crate::registry::edit::remove(left, "nodeAffinity")),
            _ => {}
        }
        for name in ["labels", "annotations"] {
            copy(&mut left["metadata"], &before["metadata"], name);
        }
    }
    if left != *before {
        template.invalid("field is immutable");
    }
}

/// The controller has ended all its pods.
fn is_suspended(job: &Cursor<'_>) -> bool {
    job.dig("status.conditions").array().iter().any(|c| c["type"] == "Suspended" && c["status"] == "True")
}

fn cells(job: &Value, now: i64) -> Vec<Value> {
    let [names, images] = containers(get(job, "spec.template.spec"));
    let succeeded = count(job, "status.succeeded");
    let completions = match (get(job, "spec.completions").and_then(Value::as_i64), count(job, "spec.parallelism")) {
        (Some(all), _) => format!("{succeeded}/{all}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        _ => format!("{succeeded}/1"),
    };
    let seconds = |path: &str| {
        let (seconds, _) = apimachinery::codec::timestamp::to_unix(text(job, path))?;
        Some(seconds)
    };
    let duration = seconds("status.startTime")
        .map(|start| human_duration(seconds("status.completionTime").unwrap_or(now) - start));
    vec![
        name(job),
        status(job).into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        created(job, now),
        names,
        images,
        selector(get(job, "spec.selector")),
    ]
}

fn status(job: &Value) -> &'static str {
    let has = |kind: &str| items(job, "status.conditions").iter().any(|c| c["type"] == kind && c["status"] == "True");
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if job["metadata"]["deletionTimestamp"].is_string() {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}
