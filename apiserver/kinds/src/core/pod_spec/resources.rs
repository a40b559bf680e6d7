//! Requests and limits, and the names and amounts of resources.

use apimachinery::quantity::Quantity;
use apimachinery::validation::{Cursor, FieldError, names};

/// Resources a container may have without a domain in the name.
const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const HUGE_PAGES: &str = "hugepages-";
const MUST_BE_INTEGER: &str = "must be an integer";

/// The amount at a place, if there is one.
pub fn quantity(c: &Cursor<'_>) -> Option<Quantity> {
    Quantity::parse(c.opt_str()?).ok()
}

/// Whether a resource is one of Kubernetes' own.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.split_once('/').is_some_and(|(domain, _)| domain.ends_with("kubernetes.io"))
}

/// Named by a third party: counted in whole numbers, never overcommitted.
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Not less than nothing.
pub fn non_negative(c: &Cursor<'_>) {
    if quantity(c).is_some_and(|q| q.sign() < 0) {
        c.invalid("must be greater than or equal to 0");
    }
}

/// An amount of a resource: not negative, whole where the resource is counted.
pub fn amount(c: &Cursor<'_>, resource: &str) {
    non_negative(c);
    if is_extended(resource) && quantity(c).is_some_and(|q| q.as_i64().is_none()) {
        c.invalid(MUST_BE_INTEGER);
    }
}

/// A resource's name where any will do; `at` is where the error is.
pub fn name(at: &Cursor<'_>, resource: &str) {
    names::qualified_name(resource).into_iter().for_each(|problem| at.invalid_value(resource, problem));
}

/// The name of a resource that containers can have.
pub fn container_name(at: &Cursor<'_>, resource: &str) {
    name(at, resource);
    if !resource.contains('/') && !STANDARD.contains(&resource) && !resource.starts_with(HUGE_PAGES) {
        at.invalid_value(resource, "must be a standard resource for containers");
    }
}

/// Checks `resources` of a container.
pub fn requirements(resources: &Cursor<'_>, claims: &[&str]) {
    let (limits, requests) = (resources.field("limits"), resources.field("requests"));
    let (mut cpu_or_memory, mut huge) = (false, false);
    for (list, at_limits) in [(&limits, true), (&requests, false)] {
        for (resource, value) in list.entries() {
            container_name(&value, resource);
            amount(&value, resource);
            cpu_or_memory |= resource == "cpu" || resource == "memory";
            huge |= resource.starts_with(HUGE_PAGES);
            if resource.starts_with(HUGE_PAGES) && quantity(&value).is_some_and(|q| q.as_i64().is_none()) {
                value.invalid(MUST_BE_INTEGER);
            }
            if !at_limits {
                request_within_limit(&requests, &limits, resource, &value);
            }
        }
    }
    if huge && !cpu_or_memory {
        resources.forbid("HugePages require cpu or memory");
    }
    let mut seen = Vec::new();
    for claim in resources.field("claims").items() {
        let key = (claim.field("name").str(), claim.field("request").str());
        if !claim.field("name").required() {
            continue;
        }
        if seen.contains(&key) {
            claim.duplicate();
        } else if !claims.contains(&key.0) {
            claim.field("name").not_found();
        }
        seen.push(key);
    }
}

fn request_within_limit(requests: &Cursor<'_>, limits: &Cursor<'_>, resource: &str, request: &Cursor<'_>) {
    let limit = limits.field(resource);
    let whole = is_extended(resource) || resource.starts_with(HUGE_PAGES);
    match (quantity(request), quantity(&limit)) {
        (Some(request), Some(limit)) => {
            let shown = request.to_string();
            if whole && request != limit {
                requests.push(FieldError::invalid(
                    requests.path(),
                    shown,
                    format!("must be equal to {resource} limit of {limit}"),
                ));
            } else if !whole && request > limit {
                let why = format!("must be less than or equal to {resource} limit of {limit}");
                requests.push(FieldError::invalid(requests.path(), shown, why));
            }
        }
        (Some(_), None) if whole => limits.missing("Limit must be set for non overcommitable resources"),
        _ => {}
    }
}

/// Checks `resizePolicy` of a container. Upstream reports what is wrong with an item at the list.
pub fn resize_policy(list: &Cursor<'_>, restart_policy: &str) {
    let mut seen = Vec::new();
    for policy in list.items() {
        let resource = list.with_value(policy.field("resourceName").value());
        let restart = list.with_value(policy.field("restartPolicy").value());
        if seen.contains(&resource.str()) {
            policy.push(FieldError::duplicate(policy.path(), resource.str()));
        }
        seen.push(resource.str());
        resource.required_one_of(&["cpu", "memory"]);
        restart.required_one_of(&["NotRequired", "RestartContainer"]);
        if restart_policy == "Never" && restart.str() != "NotRequired" {
            restart.invalid_value(restart.str(), "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}

/// Checks a map of resources and amounts, such as a pod's overhead.
pub fn list(c: &Cursor<'_>) {
    for (resource, value) in c.entries() {
        container_name(&value, resource);
        amount(&value, resource);
    }
}

/// Checks `resources` of a whole pod: only what can be shared between containers (KEP-2837).
pub fn pod_level(resources: &Cursor<'_>) {
    let (limits, requests) = (resources.field("limits"), resources.field("requests"));
    for list in [&limits, &requests] {
        for (resource, value) in list.entries() {
            if resource != "cpu" && resource != "memory" && !resource.starts_with(HUGE_PAGES) {
                value.not_supported(&["cpu", "hugepages-", "memory"]);
            }
            amount(&value, resource);
        }
    }
    for (resource, value) in requests.entries() {
        request_within_limit(&requests, &limits, resource, &value);
    }
    if resources.field("claims").exists() {
        resources.field("claims").forbid("claims may not be set for Resources at pod-level");
    }
}
