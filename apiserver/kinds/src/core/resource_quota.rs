//! ResourceQuotas.

use apimachinery::Value;
use apimachinery::validation::{Cursor, FieldError};

use super::pod_spec::resources;
use registry::edit::{copy, get};
use registry::printing::{AGE, NAME, column, created, name};
use registry::strategy::{Strategy, Subresource, Table};

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// Resources of Kubernetes' own that are counted in objects.
const COUNTED: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
/// Resources of Kubernetes' own that are amounts.
const MEASURED: [&str; 10] = [
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
];

/// Whether a resource is one of Kubernetes' own that quotas know.
pub fn is_standard(resource: &str) -> bool {
    let huge_pages = ["hugepages-", "requests.hugepages-"].iter().any(|prefix| resource.starts_with(prefix));
    COUNTED.contains(&resource) || MEASURED.contains(&resource) || huge_pages
}

/// Scopes of which no pod is in both.
const OPPOSITES: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

/// Whether a scope makes sense for a resource of Kubernetes' own.
fn applies(scope: &str, resource: &str) -> bool {
    if !is_standard(resource) {
        return true;
    }
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => ["persistentvolumeclaims", "requests.storage"].contains(&resource),
        _ => {
            resource == "pods"
                || ["", "requests.", "limits."]
                    .iter()
                    .any(|side| resource.strip_prefix(side).is_some_and(|rest| rest == "cpu" || rest == "memory"))
        }
    }
}

/// Scopes that a pod is in or not: there are no values to choose.
const WITHOUT_VALUES: [&str; 5] =
    ["BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "Terminating"];

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    validate,
    validate_update,
    subresources: &[Subresource {
        name: "status",
        prepare: |quota, old, _| copy(quota, old, "spec"),
        validate: |new, _| {
            for list in ["hard", "used"] {
                amounts(&new.field("status").field(list));
            }
        },
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("Request", "Used and allowed requests and objects."),
            column("Limit", "Used and allowed limits."),
            AGE,
        ],
        cells: |quota, now| {
            let [requests, limits] = usage(quota);
            vec![name(quota), requests.into(), limits.into(), created(quota, now)]
        },
    }),
    ..Strategy::GENERIC
};

fn amounts(list: &Cursor<'_>) {
    for (resource, amount) in list.entries() {
        resources::name(&amount, resource);
        if !resource.contains('/') && !is_standard(resource) {
            amount.invalid_value(resource, "must be a standard resource for quota");
        }
        resources::amount(&amount, resource);
        if COUNTED.contains(&resource) && resources::quantity(&amount).is_some_and(|q| q.as_i64().is_none()) {
            amount.invalid("must be an integer");
        }
    }
}

fn whole(at: &Cursor<'_>) -> Value {
    at.value().cloned().unwrap_or_default()
}

fn validate(quota: &Cursor<'_>) {
    let spec = quota.field("spec");
    amounts(&spec.field("hard"));
    let hard = spec.field("hard");
    let misapplied = |scope: &str| hard.entries().any(|(resource, _)| !applies(scope, resource));
    let scopes = spec.field("scopes");
    for scope in scopes.items() {
        if !SCOPES.contains(&scope.str()) {
            scopes.invalid("unsupported scope");
            return;
        }
        if misapplied(scope.str()) {
            scopes.invalid("unsupported scope applied to resource");
            return;
        }
    }
    if OPPOSITES.iter().any(|pair| pair.iter().all(|scope| scopes.array().iter().any(|s| s == scope))) {
        scopes.invalid("conflicting scopes");
    }
    let expressions = spec.dig("scopeSelector.matchExpressions");
    // Upstream names the list, not the place in it.
    let wrong = |member: &str, value: Value, why: &str| {
        let at = if member.is_empty() { expressions.path().clone() } else { expressions.path().child(member) };
        expressions.push(FieldError::invalid(&at, value, why));
    };
    for expression in expressions.items() {
        let (name, operator, values) =
            (expression.field("scopeName"), expression.field("operator"), expression.field("values"));
        if !SCOPES.contains(&name.str()) {
            wrong("scopeName", name.str().into(), "unsupported scope");
        }
        for _ in hard.entries().filter(|(resource, _)| !applies(name.str(), resource)) {
            wrong("", whole(&spec.field("scopeSelector")), "unsupported scope applied to resource");
        }
        if WITHOUT_VALUES.contains(&name.str()) && operator.str() != "Exists" {
            let why = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, \
                       ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                       ResourceQuotaScopeCrossNamespacePodAffinity";
            wrong("operator", operator.str().into(), why);
        }
        match operator.str() {
            "In" | "NotIn" if values.is_empty() => expressions.push(FieldError::required(
                expressions.path().child("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => wrong(
                "values",
                whole(&values),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => wrong("operator", other.into(), "not a valid selector operator"),
        }
    }
    let names: Vec<Value> = expressions.items().map(|e| whole(&e.field("scopeName"))).collect();
    if OPPOSITES.iter().any(|pair| pair.iter().all(|scope| names.iter().any(|name| name == scope))) {
        wrong("", whole(&scopes), "conflicting scopes");
    }
}

fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>) {
    validate(new);
    let sorted = |c: &Cursor<'_>| {
        let mut scopes: Vec<String> = c.dig("spec.scopes").items().map(|s| s.str().to_owned()).collect();
        scopes.sort();
        scopes.dedup();
        scopes
    };
    if sorted(new) != sorted(old) {
        let at = new.dig("spec.scopes");
        at.push(FieldError::invalid(at.path(), sorted(new), "field is immutable"));
    }
}

/// `cpu: 1/2, pods: 3/10`; limits apart.
fn usage(quota: &Value) -> [String; 2] {
    let mut cells = [Vec::new(), Vec::new()];
    for (resource, hard) in get(quota, "status.hard").and_then(Value::as_object).into_iter().flatten() {
        let used = quota["status"]["used"][resource].as_str().unwrap_or("0");
        let limit = resource == "limits.cpu" || resource == "limits.memory";
        cells[usize::from(limit)].push(format!("{resource}: {used}/{}", hard.as_str().unwrap_or_default()));
    }
    cells.map(|cell| cell.join(", "))
}
