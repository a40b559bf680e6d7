//! ResourceClaims and their templates.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};

use super::common::{configuration, fully_qualified_name, tolerations};
use super::selector::selectors;
use registry::edit::{copy, default_number, default_text, each, get, items, object, text};
use registry::printing::{AGE, NAME, column, created, name};
use registry::strategy::{Strategy, Subresource, Table};

const REQUESTS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const CONSTRAINTS_MAX: usize = 32;
const CONFIG_MAX: usize = 32;

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
        if request.get("exactly").is_some() {
            request_defaults(object(request, "exactly"));
        } else if !text(request, "deviceClassName").is_empty() {
            request_defaults(request);
        }
    });
}

fn request_defaults(request: &mut Value) {
    default_text(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        default_number(request, "count", 1);
    }
    each(request, "tolerations", |toleration| default_text(toleration, "operator", "Equal"));
}

fn spec(spec: &Cursor<'_>) {
    let devices = spec.field("devices");
    let requests = devices.field("requests");
    for request in requests.items() {
        self::request(&request);
    }
    requests.items_max(REQUESTS_MAX);
    unique(&requests, |request| request.field("name"));
    let constraints = devices.field("constraints");
    for constraint in constraints.items() {
        references(&constraint.field("requests"), &requests);
        self::constraint(&constraint);
    }
    constraints.items_max(CONSTRAINTS_MAX);
    let config = devices.field("config");
    for item in config.items() {
        references(&item.field("requests"), &requests);
        configuration(&item, false);
    }
    config.items_max(CONFIG_MAX);
}

fn request(request: &Cursor<'_>) {
    request.field("name").shape(names::dns1123_label);
    let alternatives = request.field("firstAvailable");
    for alternative in alternatives.items() {
        alternative.field("name").shape(names::dns1123_label);
        exact(&alternative);
    }
    alternatives.items_max(ALTERNATIVES_MAX);
    unique(&alternatives, |alternative| alternative.field("name"));
    // Newer versions nest what is exact; older ones hold it in the request itself.
    let nested = request.field("exactly");
    let flat = !request.field("deviceClassName").is_empty();
    if flat || nested.exists() {
        exact(if flat { request } else { &nested });
    }
    match (flat || nested.exists(), !alternatives.is_empty()) {
        (true, true) => request.invalid("exactly one of `exactly` or `firstAvailable` is required, but both are set"),
        (false, false) => request.missing("exactly one of `exactly` or `firstAvailable` is required"),
        _ => {}
    }
}

/// Items are told apart by a key, also by one that is left out.
fn unique<'a>(list: &Cursor<'a>, key: impl Fn(&Cursor<'a>) -> Cursor<'a>) {
    let mut seen = Vec::new();
    for at in list.items().map(|item| key(&item)) {
        if seen.contains(&at.str()) {
            at.duplicate();
        }
        seen.push(at.str());
    }
}

/// Names of requests, each alone or with one of its alternatives after a slash.
fn references(list: &Cursor<'_>, requests: &Cursor<'_>) {
    const WHY: &str = "must be the name of a request in the claim, or of a request and a subrequest separated by '/'";
    for reference in list.items() {
        let (name, alternative) = match reference.str().split_once('/') {
            Some((_, rest)) if rest.contains('/') => {
                reference.invalid(WHY);
                continue;
            }
            Some((name, alternative)) => (name, Some(alternative)),
            None => (reference.str(), None),
        };
        for part in [Some(name), alternative].into_iter().flatten() {
            names::dns1123_label(part).into_iter().for_each(|problem| reference.invalid_value(part, problem));
        }
        let named = |item: &Cursor<'_>, name: &str| item.field("name").str() == name;
        let known = requests.items().any(|request| {
            named(&request, name)
                && alternative.is_none_or(|a| request.field("firstAvailable").items().any(|item| named(&item, a)))
        });
        if !known {
            reference.invalid(WHY);
        }
    }
    list.items_max(REQUESTS_MAX);
    unique(list, Cursor::clone);
}

/// Devices that are alike, or all different, in an attribute.
fn constraint(constraint: &Cursor<'_>) {
    let (alike, distinct) = (constraint.field("matchAttribute"), constraint.field("distinctAttribute"));
    match (alike.exists(), distinct.exists()) {
        (true, _) => fully_qualified_name(&alike),
        (false, true) => fully_qualified_name(&distinct),
        (false, false) if constraint.gate("DRAConsumableCapacity") => {
            constraint.missing("exactly one of \"matchAttribute\" or \"distinctAttribute\" is required");
        }
        (false, false) => alike.missing(""),
    }
}

/// What is asked of one class of devices.
fn exact(request: &Cursor<'_>) {
    request.field("deviceClassName").required_shape(names::dns1123_subdomain);
    selectors(&request.field("selectors"));
    let (mode, count) = (request.field("allocationMode"), request.field("count"));
    let number = count.i64().unwrap_or_default();
    match mode.str() {
        "All" if number != 0 => count.invalid("must not be specified when allocationMode is 'All'"),
        "All" => {}
        "ExactCount" if number <= 0 => count.invalid_value(number, "must be greater than zero"),
        "ExactCount" => {}
        _ => mode.not_supported(&["All", "ExactCount"]),
    }
    tolerations(&request.field("tolerations"));
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
