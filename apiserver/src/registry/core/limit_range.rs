//! LimitRanges.

use apimachinery::Value;
use apimachinery::quantity::Quantity;
use apimachinery::validation::{Cursor, FieldError};

use super::pod_spec::resources::{self, quantity};
use crate::registry::edit::{at, default, each, object, text};
use crate::registry::printing::{CREATED_AT, NAME, name};
use crate::registry::strategy::{Strategy, Table};

const BOUNDS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

pub const STRATEGY: Strategy = Strategy {
    create_on_update: true,
    default: |range| {
        if let Some(spec) = at(range, "spec") {
            each(spec, "limits", item_defaults);
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
        if kind.required() && !kind.str().contains('/') {
            kind.one_of(&["Container", "PersistentVolumeClaim", "Pod"]);
        }
        if kinds.contains(&kind.str()) {
            kind.duplicate();
        }
        kinds.push(kind.str());
        if kind.str() == "Pod" {
            for name in ["default", "defaultRequest"].into_iter().filter(|n| !item.field(n).is_empty()) {
                item.field(name).forbid("may not be specified when `type` is 'Pod'");
            }
        }
        if kind.str() == "PersistentVolumeClaim"
            && item.dig("min.storage").is_empty()
            && item.dig("max.storage").is_empty()
        {
            item.missing("either minimum or maximum storage value is required, but neither was provided");
        }
        amounts(&item);
    }
}

fn amounts(item: &Cursor<'_>) {
    let mut names: Vec<&str> = Vec::new();
    for bound in BOUNDS {
        for (resource, amount) in item.field(bound).entries() {
            match item.field("type").str() {
                "Container" => resources::container_name(&amount, resource),
                _ => resources::name(&amount, resource),
            }
            resources::amount(&amount, resource);
            if !names.contains(&resource) {
                names.push(resource);
            }
        }
    }
    for resource in names {
        let get = |bound: &str| quantity(&item.field(bound).field(resource));
        let [max, min, default, request, ratio] = BOUNDS.map(get);
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
                let path = item.field(at).path().key(resource);
                let shown = if at == small_name.split(' ').next().unwrap_or_default() { small } else { large };
                let why = format!("{small_name} {small} is greater than {large_name} {large}");
                item.push(FieldError::invalid(&path, shown.to_string(), why));
            }
        }
        if let Some(ratio) = ratio
            && ratio < Quantity::new(1, ratio.format())
        {
            let path = item.field("maxLimitRequestRatio").path().key(resource);
            item.push(FieldError::invalid(&path, ratio.to_string(), format!("ratio {ratio} is less than 1")));
        }
    }
}
