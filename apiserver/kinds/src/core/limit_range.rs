//! LimitRanges.

use apimachinery::Value;
use apimachinery::quantity::Quantity;
use apimachinery::validation::{Cursor, FieldError, names};

use super::pod_spec::resources::{self, quantity};
use super::resource_quota;
use registry::edit::{at, default, default_text, each, object, text};
use registry::printing::{CREATED_AT, NAME, name};
use registry::strategy::{Strategy, Table};

const BOUNDS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

/// Bounds that only make sense for a part of a pod.
const DEFAULTS: [&str; 2] = ["default", "defaultRequest"];
const KINDS: [&str; 3] = ["Container", "PersistentVolumeClaim", "Pod"];

pub const STRATEGY: Strategy = Strategy {
    create_on_update: true,
    default: |range| {
        if let Some(spec) = at(range, "spec") {
            each(spec, "limits", item_defaults);
        }
    },
    prepare_for_create: |range, _| {
        // The one kind that gets a name if it has none at all.
        if text(range, "metadata.name").is_empty() {
            default_text(object(range, "metadata"), "name", &uuid::Uuid::new_v4().to_string());
        }
    },
    validate,
    validate_update: |new, _| validate(new),
    table: Some(Table {
        columns: &[NAME, CREATED_AT],
        cells: |range, _| vec![name(range), range["metadata"]["creationTimestamp"].clone()],
    }),
    ..Strategy::GENERIC
};

/// Of containers: a maximum is the default limit, a default limit the default request, and so is a minimum.
fn item_defaults(item: &mut Value) {
    if text(item, "type") != "Container" {
        return;
    }
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        let amounts = item.get(from).and_then(Value::as_object).cloned().unwrap_or_default();
        for (resource, amount) in amounts {
            default(object(item, to), &resource, amount);
        }
    }
}

fn validate(range: &Cursor<'_>) {
    let mut kinds = Vec::new();
    for item in range.dig("spec.limits").items() {
        let kind = item.field("type");
        let problems = names::qualified_name(kind.str());
        if problems.is_empty() && !kind.str().contains('/') && !KINDS.contains(&kind.str()) {
            kind.invalid("must be a standard limit type or fully qualified");
        }
        problems.into_iter().for_each(|problem| kind.invalid(problem));
        if kinds.contains(&kind.str()) {
            kind.duplicate();
        }
        kinds.push(kind.str());
        if kind.str() == "Pod" {
            for name in DEFAULTS.into_iter().filter(|n| !item.field(n).is_empty()) {
                item.field(name).forbid("may not be specified when `type` is 'Pod'");
            }
        }
        if kind.str() == "PersistentVolumeClaim"
            && !["min", "max"].iter().any(|b| item.field(b).field("storage").exists())
        {
            item.field("limits")
                .missing("either minimum or maximum storage value is required, but neither was provided");
        }
        amounts(&item);
    }
}

/// The name of a resource that an item may bound.
fn resource_name(at: &Cursor<'_>, kind: &str, resource: &str) {
    if matches!(kind, "Pod" | "Container") {
        return resources::container_name(at, resource);
    }
    resources::name(at, resource);
    if names::qualified_name(resource).is_empty()
        && !resource.contains('/')
        && resource != "storage"
        && !resource_quota::is_standard(resource)
    {
        at.invalid_value(resource, "must be a standard resource type or fully qualified");
    }
}

fn amounts(item: &Cursor<'_>) {
    let kind = item.field("type").str();
    let mut names: Vec<&str> = Vec::new();
    for bound in BOUNDS.into_iter().filter(|bound| kind != "Pod" || !DEFAULTS.contains(bound)) {
        for (resource, amount) in item.field(bound).entries() {
            resource_name(&amount, kind, resource);
            if !names.contains(&resource) {
                names.push(resource);
            }
        }
    }
    for resource in names {
        relations(item, resource);
    }
}

/// How the amounts of one resource relate to each other.
fn relations(item: &Cursor<'_>, resource: &str) {
    let pod = item.field("type").str() == "Pod";
    let get = |bound: &str| quantity(&item.field(bound).field(resource)).filter(|_| !pod || !DEFAULTS.contains(&bound));
    let [max, min, default, request, ratio] = BOUNDS.map(get);
    let wrong = |bound: &str, shown: &Quantity, why: String| {
        item.push(FieldError::invalid(item.field(bound).path().key(resource), shown.to_string(), why));
    };
    // (smaller, larger, where the error is, in words)
    let rules = [
        (&min, &max, "min", "min value", "max value"),
        (&min, &request, "defaultRequest", "min value", "default request value"),
        (&request, &max, "defaultRequest", "default request value", "max value"),
        (&request, &default, "defaultRequest", "default request value", "default limit value"),
        (&min, &default, "default", "min value", "default value"),
        (&default, &max, "default", "default value", "max value"),
    ];
    for (small, large, at, small_name, large_name) in rules {
        if let (Some(small), Some(large)) = (small, large)
            && small > large
        {
            let shown = if at == small_name.split(' ').next().unwrap_or_default() { small } else { large };
            wrong(at, shown, format!("{small_name} {small} is greater than {large_name} {large}"));
        }
    }
    if let Some(ratio) = &ratio {
        if *ratio < Quantity::new(1, ratio.format()) {
            wrong("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (&min, &max)
            && ratio.as_f64() > max.as_f64() / min.as_f64()
        {
            let why = format!("ratio {ratio} is greater than max/min = {}", max.as_f64() / min.as_f64());
            wrong("maxLimitRequestRatio", ratio, why);
        }
    }
    let overcommitted = resources::is_native(resource) && !resource.starts_with("hugepages-");
    if let (Some(default), Some(request), false) = (&default, &request, overcommitted)
        && default != request
    {
        let why = format!("default value {default} must equal to defaultRequest value {request} in {resource}");
        wrong("defaultRequest", request, why);
    }
}
