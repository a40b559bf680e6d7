//! Which requests a webhook or a policy is asked about.

use apimachinery::Value;
use apimachinery::validation::selector::label_selector;
use apimachinery::validation::{Cursor, FieldError, names};
use kubernetes_cel::{Env, Program, Type};

use registry::edit::{default, each, object};

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

/// Defaults of what webhooks and policies match.
pub fn defaults(matches: &mut Value, rules: &str) {
    default(matches, "matchPolicy", "Equivalent");
    object(matches, "namespaceSelector");
    object(matches, "objectSelector");
    for list in [rules, "excludeResourceRules"] {
        each(matches, list, |rule| default(rule, "scope", "*"));
    }
}

/// Checks what a policy or a binding matches.
pub fn match_resources(matches: &Cursor<'_>) {
    let policy = matches.field("matchPolicy");
    if !["Equivalent", "Exact"].contains(&policy.str()) {
        policy.push(FieldError::not_supported(policy.path(), policy.str(), &["Equivalent", "Exact"]));
    }
    label_selector(&matches.field("namespaceSelector"));
    label_selector(&matches.field("objectSelector"));
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in matches.field(list).items() {
            let names = rule.field("resourceNames");
            for name in names.items() {
                name.shape(names::path_segment);
            }
            names.unique(Cursor::clone);
            self::rule(&rule);
        }
    }
}

/// Checks one rule.
pub fn rule(rule: &Cursor<'_>) {
    let (groups, versions, operations) = (rule.field("apiGroups"), rule.field("apiVersions"), rule.field("operations"));
    for (list, what) in [(&groups, "API groups"), (&versions, "API versions"), (&operations, "operations")] {
        list.required();
        if list.len() > 1 && list.array().iter().any(|item| item == "*") {
            list.invalid(format!("if '*' is present, must not specify other {what}"));
        }
    }
    for version in versions.items() {
        version.required();
    }
    for operation in operations.items() {
        operation.one_of(&OPERATIONS);
    }
    resources(&rule.field("resources"));
    rule.field("scope").one_of(&["*", "Cluster", "Namespaced"]);
}

/// Resources and subresources; a star covers what must then not be named.
fn resources(list: &Cursor<'_>) {
    list.required();
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    let mut plain = false;
    for item in list.items() {
        if !item.required() {
            continue;
        }
        let Some((resource, part)) = item.str().split_once('/') else {
            // Upstream remembers only the last one.
            plain = item.str() != "*";
            continue;
        };
        if whole.contains(&resource) {
            item.invalid(format!("if '{resource}/*' is present, must not specify {}", item.str()));
        }
        if parts.contains(&part) {
            item.invalid(format!("if '*/{part}' is present, must not specify {}", item.str()));
        }
        if part == "*" {
            whole.push(resource);
        }
        if resource == "*" {
            parts.push(part);
        }
    }
    let has = |name: &str| list.array().iter().any(|item| item == name);
    if list.len() > 1 && has("*/*") {
        list.invalid("if '*/*' is present, must not specify other resources");
    }
    if plain && has("*") {
        list.invalid("if '*' is present, must not specify other resources without subresources");
    }
}

/// Compiles an expression of a type. Without one that is asked for, `None`.
pub fn expression(at: &Cursor<'_>, env: &Env, must: &str, fits: impl Fn(&Type) -> bool) -> Option<Program> {
    if at.str().trim().is_empty() {
        at.missing("expression is not specified");
        return None;
    }
    match Program::compile(at.str(), env) {
        Err(issues) => at.invalid(format!("compilation failed: {issues}")),
        Ok(program) if !fits(program.result()) => at.invalid(must),
        Ok(program) => return Some(program),
    }
    None
}

/// Checks conditions on requests: each with a name of its own.
pub fn match_conditions(list: &Cursor<'_>, env: &Env) {
    const MAX: usize = 64;
    list.items_max(MAX);
    let mut seen = Vec::new();
    for condition in list.items() {
        let name = condition.field("name");
        let is_bool = |ty: &Type| matches!(ty, Type::Bool | Type::Dyn);
        expression(&condition.field("expression"), env, "must evaluate to bool", is_bool);
        if name.required() {
            name.shape(names::qualified_name);
            if seen.contains(&name.str()) {
                name.duplicate();
            }
            seen.push(name.str());
        }
    }
}
