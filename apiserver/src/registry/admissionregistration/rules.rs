//! Which requests a webhook or a policy is asked about.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};

use crate::registry::edit::{default, default_text, each, object};

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

/// Defaults of what webhooks and policies match.
pub fn defaults(matches: &mut Value, rules: &str) {
    default_text(matches, "matchPolicy", "Equivalent");
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

/// Checks conditions on requests: each with a name of its own.
pub fn match_conditions(list: &Cursor<'_>) {
    const MAX: usize = 64;
    list.items_max(MAX);
    let mut seen = Vec::new();
    for condition in list.items() {
        let name = condition.field("name");
        condition.field("expression").required();
        if name.required() {
            name.shape(names::qualified_name);
            if seen.contains(&name.str()) {
                name.duplicate();
            }
            seen.push(name.str());
        }
    }
}
