//! FlowSchemas.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};

use crate::registry::edit::{copy, default_number, items, object, text};
use crate::registry::printing::{AGE, NAME, NONE, column, created, name, number, text_or};
use crate::registry::strategy::{Strategy, Subresource, Table};

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    default: |schema| default_number(object(schema, "spec"), "matchingPrecedence", 1000),
    validate,
    validate_update: |new, _| validate(new),
    subresources: &[Subresource {
        name: "status",
        prepare: |schema, old, _| {
            copy(schema, old, "spec");
        },
        validate: |_, _| {},
        reset_fields: &["spec", "metadata"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("PriorityLevel", ".spec.priorityLevelConfiguration"),
            column("MatchingPrecedence", ".spec.matchingPrecedence"),
            column("DistinguisherMethod", ".spec.distinguisherMethod"),
            AGE,
            column("MissingPL", "Whether the level is missing."),
        ],
        cells: |schema, now| {
            let dangling = items(schema, "status.conditions").iter().find(|c| c["type"] == "Dangling");
            vec![
                name(schema),
                text(schema, "spec.priorityLevelConfiguration.name").into(),
                number(schema, "spec.matchingPrecedence"),
                text_or(schema, "spec.distinguisherMethod.type", NONE),
                created(schema, now),
                dangling.map_or("?".into(), |c| Value::from(text(c, "status"))),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn validate(schema: &Cursor<'_>) {
    let spec = schema.field("spec");
    let precedence = spec.field("matchingPrecedence");
    precedence.positive();
    if precedence.i64().is_some_and(|p| p > 10_000) {
        precedence.invalid("must not be greater than 10000");
    }
    if precedence.i64() == Some(1) && schema.dig("metadata.name").str() != "exempt" {
        precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1");
    }
    spec.dig("priorityLevelConfiguration.name").required_shape(names::dns1123_subdomain);
    let method = spec.field("distinguisherMethod");
    if method.exists() {
        method.field("type").required_one_of(&["ByNamespace", "ByUser"]);
    }
    for rule in spec.field("rules").items() {
        rule.field("subjects").required_because("subjects must contain at least one value");
        for subject in rule.field("subjects").items() {
            self::subject(&subject);
        }
        let (resources, urls) = (rule.field("resourceRules"), rule.field("nonResourceRules"));
        if resources.is_empty() && urls.is_empty() {
            rule.missing("at least one of resourceRules and nonResourceRules has to be non-empty");
        }
        for resource in resources.items() {
            for name in ["verbs", "apiGroups", "resources"] {
                resource.field(name).required();
            }
            if resource.field("namespaces").is_empty() && !resource.field("clusterScope").bool() {
                resource
                    .field("namespaces")
                    .missing("resource rules that are not cluster scoped must supply at least one namespace");
            }
        }
        for url in urls.items() {
            url.field("verbs").required();
            url.field("nonResourceURLs").required();
        }
    }
}

fn subject(subject: &Cursor<'_>) {
    match subject.field("kind").str() {
        "User" => {
            subject.dig("user.name").required();
        }
        "Group" => {
            subject.dig("group.name").required();
        }
        "ServiceAccount" => {
            subject.dig("serviceAccount.name").required();
            subject.dig("serviceAccount.namespace").required();
        }
        _ => subject.field("kind").not_supported(&["Group", "ServiceAccount", "User"]),
    }
}
