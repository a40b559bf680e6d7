//! Jobs.

use apimachinery::selector::LabelSelector;
use apimachinery::validation::selector::label_selector;
use apimachinery::validation::{Cursor, names};
use apimachinery::{Map, Value};

use super::job_policy;
use crate::core::pod_spec::{template, warnings};
use registry::edit::{at, copy, default, default_text, each, get, items, number as count, object, remove, text};
use registry::printing::{
    AGE, CONTAINERS, IMAGES, NAME, SELECTOR, column, containers, created, human_duration, name, selector,
};
use registry::strategy::{Context, SelectableField, Strategy, Subresource, Table};

/// Labels that tell a job's pods from all others; the old names stay for those who select by them.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

const MANAGED_BY_BYTES_MAX: usize = 63;
/// Pods at once, and failed indexes, of an indexed job; also the completions above which [`MANY_INDEXES_MAX`] is the limit.
const INDEXED_MAX: i64 = 100_000;
const MANY_INDEXES_MAX: i64 = 10_000;

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    default: defaulted,
    prepare_for_create,
    validate,
    // Labels that only the server gave the pods are the job's too as soon as it is read again.
    canonicalize: labels_of_template,
    warnings: |job, old| {
        let mut warnings = if old.is_none() { warnings::name(job, "Pod names and hostnames") } else { Vec::new() };
        warnings.extend(many_indexes(job, old, "spec"));
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

/// The warning for an indexed job of such a size that its failed indexes may be lost; `path` is that of its spec.
pub fn many_indexes(job: &Value, old: Option<&Value>, path: &str) -> Option<String> {
    let spec = get(job, path)?;
    let many = text(spec, "completionMode") == "Indexed"
        && count(spec, "completions") > INDEXED_MAX
        && count(spec, "parallelism") > MANY_INDEXES_MAX;
    let changed = old.is_none_or(|old| old["spec"] != job["spec"]);
    (many && changed).then(|| {
        format!("{path}: with more than 10^5 completions and a parallelism above 10^4, completedIndexes may not be tracked when many indexes fail")
    })
}

fn defaulted(job: &mut Value) {
    let spec = object(job, "spec");
    let per_index = spec.get("backoffLimitPerIndex").is_some();
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    let policy = if spec.get("podFailurePolicy").is_some() { "Failed" } else { "TerminatingOrFailed" };
    default(spec, "podReplacementPolicy", policy);
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

fn prepare_for_create(job: &mut Value, context: &Context<'_>) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    // Upstream's default makes the job and its pods share one map, so that labels given to the pods now are the job's too.
    let shared = !context.labelled && get(job, "metadata.labels").is_some();
    let (uid, name) = (text(job, "metadata.uid").to_owned(), text(job, "metadata.name").to_owned());
    let spec = object(job, "spec");
    let labels = object(object(object(spec, "template"), "metadata"), "labels");
    for label in NAME_LABELS {
        default(labels, label, name.as_str());
    }
    for label in UID_LABELS {
        default(labels, label, uid.as_str());
    }
    default(object(object(spec, "selector"), "matchLabels"), UID_LABELS[0], uid);
    if shared {
        remove(object(job, "metadata"), "labels");
        labels_of_template(job);
    }
}

fn validate(job: &Cursor<'_>) {
    own_labels(job, true);
    whole_spec(&job.field("spec"));
    pod_hostname(job);
}

/// Checks a job's spec with its selector, which a cron job's template has none of.
fn whole_spec(spec: &Cursor<'_>) {
    self::spec(spec);
    let selector = spec.field("selector");
    if !selector.exists() {
        selector.missing("");
    }
    label_selector(&selector);
    let labels = spec.dig("template.metadata.labels");
    // No selector selects nothing.
    if LabelSelector::from_object(selector.value()).is_ok_and(|s| !s.matches_object(labels.value())) {
        labels.invalid("`selector` does not match template `labels`");
    }
}

/// Pods of an indexed job are called after their index.
fn pod_hostname(job: &Cursor<'_>) {
    let (spec, name) = (job.field("spec"), job.dig("metadata.name"));
    let Some(completions) = spec.field("completions").i64().filter(|n| *n > 0) else { return };
    let last = format!("{}-{}", name.str(), completions - 1);
    if spec.field("completionMode").str() == "Indexed" && !names::dns1123_label(&last).is_empty() {
        name.invalid_value(name.str(), format!("the name of the last pod would be {last}, which is no DNS label"));
    }
}

/// Labels that the server gives must not be given differently by the user. `prefixed` tells whether those with a domain must be there:
/// jobs of old versions have none.
fn own_labels(job: &Cursor<'_>, prefixed: bool) {
    let (spec, labels) = (job.field("spec"), job.dig("spec.template.metadata.labels"));
    let selector = spec.field("selector");
    if spec.field("manualSelector").bool() || !selector.exists() {
        return;
    }
    let (uid, name) = (job.dig("metadata.uid").str(), job.dig("metadata.name").str());
    let mut expected = Map::new();
    for (names, value) in [(UID_LABELS, uid), (NAME_LABELS, name)] {
        for label in names.into_iter().filter(|label| prefixed || !label.contains('/')) {
            let at = Cursor::at(labels.value(), labels.path().key(label), labels.errors());
            if labels.field(label).opt_str().is_none() {
                at.missing(&format!("must be {value:?}"));
            }
            if labels.field(label).str() != value {
                at.invalid(format!("must be {value:?}"));
            }
            expected.insert(label.into(), value.into());
        }
    }
    if LabelSelector::from_object(selector.value()).is_ok_and(|s| !s.matches_object(Some(&Value::Object(expected)))) {
        selector.invalid("must be the one that the server generates, unless `manualSelector` is true");
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
    if field("managedBy").exists() {
        field("managedBy").required_shape(names::domain_prefixed_path).bytes_max(MANAGED_BY_BYTES_MAX);
    }
    if field("maxFailedIndexes").exists() && !field("backoffLimitPerIndex").exists() {
        field("backoffLimitPerIndex").missing("when maxFailedIndexes is specified");
    }
    let mode = field("completionMode");
    mode.one_of(&["Indexed", "NonIndexed"]);
    let indexed = mode.str() == "Indexed";
    if indexed {
        self::indexed(spec);
    }
    for name in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        if (!mode.exists() || mode.str() == "NonIndexed") && field(name).exists() {
            field(name).invalid("requires indexed completion mode");
        }
    }
    job_policy::failure(spec);
    if indexed {
        job_policy::success(spec);
    } else if field("successPolicy").exists() {
        field("successPolicy").invalid("requires indexed completion mode");
    }
    let replaced = field("podReplacementPolicy");
    let replacements: &[&str] =
        if field("podFailurePolicy").exists() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    replaced.one_of(replacements);
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

/// Limits that keep the lists of indexes in the status short.
fn indexed(spec: &Cursor<'_>) {
    let [completions, parallelism, failed] = ["completions", "parallelism", "maxFailedIndexes"].map(|n| spec.field(n));
    if !completions.exists() {
        completions.missing("when completion mode is Indexed");
    }
    let at_most = |c: &Cursor<'_>, max: i64, when: &str| {
        if c.i64().is_some_and(|n| n > max) {
            c.invalid(format!("must be less than or equal to {max}{when}"));
        }
    };
    at_most(&parallelism, INDEXED_MAX, " when completion mode is Indexed");
    if let Some(completions) = completions.i64() {
        at_most(&failed, completions, " (completions)");
    }
    at_most(&failed, INDEXED_MAX, "");
    if completions.i64().is_some_and(|n| n > INDEXED_MAX) && spec.field("backoffLimitPerIndex").exists() {
        if !failed.exists() {
            failed.missing(&format!("must be specified when completions is above {INDEXED_MAX}"));
        }
        let when = format!(" when completions are above {INDEXED_MAX} and used with backoff limit per index");
        at_most(&parallelism, MANY_INDEXES_MAX, &when);
        at_most(&failed, MANY_INDEXES_MAX, &when);
    }
}

fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>) {
    let (spec, old_spec) = (new.field("spec"), old.field("spec"));
    let had = old_spec.dig("template.metadata.labels");
    own_labels(new, had.field(NAME_LABELS[0]).exists() && had.field(UID_LABELS[0]).exists());
    whole_spec(&spec);
    pod_hostname(new);
    let (completions, before) = (spec.field("completions"), old_spec.field("completions"));
    if spec.field("completionMode").str() != "Indexed" {
        completions.immutable(&before);
    } else if completions.exists() && completions.value() != spec.field("parallelism").value() {
        completions.immutable_because(&before, "can only be modified in tandem with spec.parallelism");
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
            (Some(left), None) => drop(remove(left, "nodeAffinity")),
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
