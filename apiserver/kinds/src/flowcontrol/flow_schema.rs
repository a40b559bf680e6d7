//! FlowSchemas.

use apimachinery::Value;
use apimachinery::validation::{Cursor, FieldError, names};

use registry::edit::{copy, default_number, items, object, text};
use registry::printing::{AGE, NAME, NONE, column, created, name, number, text_or};
use registry::strategy::{Strategy, Subresource, Table};

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
        let kind = method.field("type");
        if !["ByNamespace", "ByUser"].contains(&kind.str()) {
            kind.not_supported(&["ByNamespace", "ByUser"]);
        }
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
            verbs(&resource.field("verbs"));
            for name in ["apiGroups", "resources"] {
                if resource.field(name).required() {
                    alone_if_wildcard(&resource.field(name));
                }
            }
            let namespaces = resource.field("namespaces");
            if !alone_if_wildcard(&namespaces) {
                for namespace in namespaces.items() {
                    namespace.shape(names::dns1123_label);
                }
            }
            if resource.field("namespaces").is_empty() && !resource.field("clusterScope").bool() {
                resource
                    .field("namespaces")
                    .missing("resource rules that are not cluster scoped must supply at least one namespace");
            }
        }
        for url in urls.items() {
            verbs(&url.field("verbs"));
            let paths = url.field("nonResourceURLs");
            if paths.required() && !alone_if_wildcard(&paths) {
                paths.items().for_each(|path| non_resource_path(&path));
            }
        }
    }
}

/// A list that has `*` for everything needs no more. True if it has.
fn alone_if_wildcard(list: &Cursor<'_>) -> bool {
    let wildcard = list.array().iter().any(|item| item == "*");
    if wildcard && list.len() > 1 {
        list.invalid("if '*' is present, must not specify others");
    }
    wildcard
}

fn verbs(list: &Cursor<'_>) {
    const KNOWN: [&str; 9] =
        ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
    if list.required() && !alone_if_wildcard(list) && !list.items().all(|verb| KNOWN.contains(&verb.str())) {
        list.push(FieldError::not_supported(list.path(), list.value().cloned().unwrap_or_default(), &KNOWN));
    }
}

fn non_resource_path(path: &Cursor<'_>) {
    let text = path.str();
    let stars = text.matches('*').count();
    let problem = match text {
        "" => "must not be empty",
        "/" => return,
        _ if !text.starts_with('/') => "must start with slash",
        _ if text.contains(' ') => "must not contain white-space",
        _ if text.contains("//") => "must not contain double slash",
        _ if stars > 1 || stars == 1 && !text.ends_with("/*") => "wildcard can only do suffix matching",
        _ => return,
    };
    path.invalid_value(text, problem);
}

fn subject(subject: &Cursor<'_>) {
    const KINDS: [(&str, &str); 3] = [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];
    let kind = subject.field("kind").str();
    if !KINDS.iter().any(|(name, _)| *name == kind) {
        return subject.field("kind").not_supported(&KINDS.map(|(name, _)| name));
    }
    for (name, member) in KINDS {
        let described = subject.field(member);
        if name != kind {
            described.absent(&format!("{member} is forbidden when subject kind is not '{name}'"));
        } else if !described.exists() {
            described.missing(&format!("{member} is required when subject kind is '{name}'"));
        } else {
            described.field("name").required();
            if member == "serviceAccount" {
                if described.field("name").str() != "*" {
                    described.field("name").optional_shape(names::dns1123_subdomain);
                }
                described.field("namespace").required_shape(names::dns1123_label);
            }
        }
    }
}
