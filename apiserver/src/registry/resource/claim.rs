//! ResourceClaims and their templates.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};

use super::selector::selectors;
use crate::registry::edit::{copy, default_number, default_text, each, get, items, object, text};
use crate::registry::printing::{AGE, NAME, column, created, name};
use crate::registry::strategy::{Strategy, Subresource, Table};

const REQUESTS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;

pub const CLAIM: Strategy = Strategy {
    return_deleted: true,
    default: |claim| spec_defaults(object(claim, "spec")),
    validate: |claim| spec(&claim.field("spec")),
    validate_update: |new, old| {
        spec(&new.field("spec"));
        new.field("spec").immutable(&old.field("spec"));
    },
    subresources: &[Subresource {
        name: "status",
        prepare: |claim, old, _| copy(claim, old, "spec"),
        validate: |new, _| {
            new.dig("status.reservedFor").items_max(256);
            new.dig("status.reservedFor").unique(|r| r.field("uid"));
        },
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[NAME, column("State", "How the claim stands."), AGE],
        cells: |claim, now| vec![name(claim), state(claim).into(), created(claim, now)],
    }),
    ..Strategy::GENERIC
};

pub const TEMPLATE: Strategy = Strategy {
    return_deleted: true,
    default: |template| spec_defaults(object(object(template, "spec"), "spec")),
    validate: |template| spec(&template.dig("spec.spec")),
    validate_update: |new, old| {
        spec(&new.dig("spec.spec"));
        new.field("spec").immutable(&old.field("spec"));
    },
    table: Some(Table { columns: &[NAME, AGE], cells: |template, now| vec![name(template), created(template, now)] }),
    ..Strategy::GENERIC
};

fn spec_defaults(spec: &mut Value) {
    let Some(devices) = spec.get_mut("devices") else { return };
    each(devices, "requests", |request| {
        each(request, "firstAvailable", request_defaults);
        // Newer versions nest what is exact; older ones hold it in the request itself.
        request_defaults(if request.get("exactly").is_some() { object(request, "exactly") } else { request });
    });
}

fn request_defaults(request: &mut Value) {
    if text(request, "deviceClassName").is_empty() {
        return;
    }
    default_text(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        default_number(request, "count", 1);
    }
    each(request, "tolerations", |toleration| default_text(toleration, "operator", "Equal"));
}

fn spec(spec: &Cursor<'_>) {
    let requests = spec.dig("devices.requests");
    requests.items_max(REQUESTS_MAX);
    let mut seen = Vec::new();
    for request in requests.items() {
        let name = request.field("name");
        if name.shape(names::dns1123_label).exists() {
            if seen.contains(&name.str()) {
                name.duplicate();
            }
            seen.push(name.str());
        }
        let alternatives = request.field("firstAvailable");
        // Newer versions nest what is exact; older ones hold it in the request itself.
        let nested = request.field("exactly");
        let flat = !request.field("deviceClassName").is_empty();
        match (flat || nested.exists(), !alternatives.is_empty()) {
            (true, true) => {
                request.invalid("exactly one of `exactly` or `firstAvailable` is required, but both are set")
            }
            (false, false) => request.missing("exactly one of `exactly` or `firstAvailable` is required"),
            _ => {}
        }
        if flat || nested.exists() {
            exact(if flat { &request } else { &nested });
        }
        alternatives.items_max(ALTERNATIVES_MAX);
        alternatives.unique(|a| a.field("name"));
        for alternative in alternatives.items() {
            alternative.field("name").shape(names::dns1123_label);
            exact(&alternative);
        }
    }
    for list in ["constraints", "config"] {
        for item in spec.field("devices").field(list).items() {
            for request in item.field("requests").items() {
                let base = request.str().split('/').next().unwrap_or_default();
                if !seen.contains(&base) {
                    request.invalid("must be the name of a request in the claim");
                }
            }
        }
    }
}

/// What is asked of one class of devices.
fn exact(request: &Cursor<'_>) {
    request.field("deviceClassName").required_shape(names::dns1123_subdomain);
    selectors(&request.field("selectors"));
    request.field("allocationMode").one_of(&["All", "ExactCount"]);
    match (request.field("allocationMode").str(), request.field("count")) {
        ("ExactCount", count) => drop(count.positive()),
        (_, count) if count.i64().unwrap_or(0) != 0 => {
            count.invalid("must not be specified when allocationMode is not 'ExactCount'");
        }
        _ => {}
    }
}

fn state(claim: &Value) -> String {
    let mut words = Vec::new();
    if claim["metadata"]["deletionTimestamp"].is_string() {
        words.push("deleted");
    }
    if get(claim, "status.allocation").is_some() {
        words.push("allocated");
    }
    if !items(claim, "status.reservedFor").is_empty() {
        words.push("reserved");
    }
    if words.is_empty() { "pending".into() } else { words.join(",") }
}
