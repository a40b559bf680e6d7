//! Which requests a webhook or a policy is asked about.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};
use kubernetes_cel::{Env, Program, Type};

use crate::registry::edit::{default, each, object};

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

/// Checks one rule.
pub fn rule(rule: &Cursor<'_>) {
    for name in ["apiGroups", "apiVersions", "resources"] {
        let list = rule.field(name);
        list.required();
        let all = list.array().iter().any(|v| v == "*" || v == "*/*" && name == "resources");
        if all && list.len() > 1 && name != "resources" {
            list.invalid("if '*' is present, must not specify other values");
        }
        for item in list.items().filter(|_| name != "apiGroups") {
            item.required();
        }
    }
    let operations = rule.field("operations");
    operations.required();
    if operations.len() > 1 && operations.array().iter().any(|o| o == "*") {
        operations.invalid("if '*' is present, must not specify other operations");
    }
    for operation in operations.items() {
        operation.one_of(&OPERATIONS);
    }
    rule.field("scope").one_of(&["*", "Cluster", "Namespaced"]);
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
