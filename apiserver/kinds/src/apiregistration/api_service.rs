//! APIServices: which groups and versions are served here, and which by another server.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};
use serde_json::json;

use registry::edit::{at, copy, default, get, items, text};
use registry::printing::{AGE, NAME, column, created, name};
use registry::strategy::{NameRule, Strategy, Subresource, Table};

pub const STRATEGY: Strategy = Strategy {
    // `v1.` is the name of the core group's.
    name: NameRule::PathSegment,
    unconditional_update: false,
    default: |service| {
        if let Some(reference) = at(service, "spec.service") {
            default(reference, "port", 443);
        }
    },
    prepare_for_create: |service, context| {
        // What is served here is there at once; of others the aggregator finds out.
        if get(service, "spec.service").is_none() {
            service["status"] = json!({"conditions": [{
                "type": "Available", "status": "True", "lastTransitionTime": context.now, "reason": "Local",
                "message": "Local APIServices are always available",
            }]});
        }
    },
    validate,
    validate_update: |new, _| validate(new),
    subresources: &[Subresource {
        name: "status",
        prepare: |service, old, _| {
            copy(service, old, "spec");
            for name in ["labels", "annotations", "finalizers", "ownerReferences"] {
                copy(&mut service["metadata"], &old["metadata"], name);
            }
        },
        validate: |_, _| {},
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[NAME, column("Service", ".spec.service"), column("Available", "Whether it can be reached."), AGE],
        cells: |service, now| {
            let by = match get(service, "spec.service") {
                Some(reference) => format!("{}/{}", text(reference, "namespace"), text(reference, "name")),
                None => "Local".into(),
            };
            vec![name(service), by.into(), available(service).into(), created(service, now)]
        },
    }),
    ..Strategy::GENERIC
};

fn validate(service: &Cursor<'_>) {
    let (spec, name) = (service.field("spec"), service.dig("metadata.name"));
    let (group, version) = (spec.field("group"), spec.field("version"));
    let required = format!("{}.{}", version.str(), group.str());
    if !name.is_empty() && name.str() != required {
        name.invalid(format!("must be `spec.version+\".\"+spec.group`: {required:?}"));
    }
    group.optional_shape(names::dns1123_subdomain);
    version.required_shape(names::dns1035_label);
    for (name, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = spec.field(name);
        let n = priority.i64().unwrap_or_default();
        if !(1..=max).contains(&n) {
            priority.invalid_value(n, format!("must be positive and less than {max}"));
        }
    }
    let (reference, bundle, insecure) =
        (spec.field("service"), spec.field("caBundle"), spec.field("insecureSkipTLSVerify"));
    if reference.exists() {
        reference.field("namespace").required();
        reference.field("name").required();
        reference.field("port").port();
        if insecure.bool() && !bundle.is_empty() {
            insecure.invalid("may not be true if caBundle is present");
        }
        return;
    }
    if !bundle.is_empty() {
        bundle.invalid("local APIServices may not have a caBundle");
    }
    if insecure.bool() {
        insecure.invalid("local APIServices may not have insecureSkipTLSVerify");
    }
}

fn available(service: &Value) -> String {
    match items(service, "status.conditions").iter().find(|c| c["type"] == "Available") {
        None => "Unknown".into(),
        Some(c) if c["status"] == "True" => "True".into(),
        Some(c) => format!("{} ({})", text(c, "status"), text(c, "reason")),
    }
}
