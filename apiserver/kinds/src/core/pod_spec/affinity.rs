//! Where a pod may run: selectors of nodes, affinity, tolerations, topology spread.

use apimachinery::validation::selector::label_selector;
use apimachinery::validation::{Cursor, FieldError, names, object_meta};

/// Checks `affinity` of a pod.
pub fn affinity(affinity: &Cursor<'_>) {
    let node = affinity.field("nodeAffinity");
    let required = node.field("requiredDuringSchedulingIgnoredDuringExecution");
    if required.exists() {
        node_selector(&required);
    }
    for preferred in node.field("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&preferred.field("weight"));
        node_selector_term(&preferred.field("preference"));
    }
    for name in ["podAffinity", "podAntiAffinity"] {
        let pod = affinity.field(name);
        for term in pod.field("requiredDuringSchedulingIgnoredDuringExecution").items() {
            pod_affinity_term(&term);
        }
        for preferred in pod.field("preferredDuringSchedulingIgnoredDuringExecution").items() {
            weight(&preferred.field("weight"));
            pod_affinity_term(&preferred.field("podAffinityTerm"));
        }
    }
}

fn weight(weight: &Cursor<'_>) {
    let n = weight.i64().unwrap_or_default();
    if !(1..=100).contains(&n) {
        weight.invalid_value(n, "must be in the range 1-100");
    }
}

/// Checks a selector of nodes, of a pod or a persistent volume.
pub fn node_selector(selector: &Cursor<'_>) {
    let terms = selector.field("nodeSelectorTerms");
    if terms.required_because("must have at least one node selector term") {
        terms.items().for_each(|term| node_selector_term(&term));
    }
}

fn node_selector_term(term: &Cursor<'_>) {
    for expression in term.field("matchExpressions").items() {
        requirement(&expression);
        expression.field("key").shape(names::qualified_name);
        if matches!(expression.field("operator").str(), "In" | "NotIn") {
            for value in expression.field("values").items() {
                value.shape(names::label_value);
            }
        }
    }
    for field in term.field("matchFields").items() {
        let (key, operator, values) = (field.field("key"), field.field("operator"), field.field("values"));
        match operator.str() {
            "In" | "NotIn" if values.len() != 1 => {
                values.missing("must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
            }
            "In" | "NotIn" => {}
            _ => operator.invalid("not a valid selector operator"),
        }
        if key.str() == "metadata.name" {
            for v in values.items() {
                v.shape(names::dns1123_subdomain);
            }
        } else {
            key.invalid("not a valid field selector key");
        }
    }
}

fn requirement(expression: &Cursor<'_>) {
    let (operator, values) = (expression.field("operator"), expression.field("values"));
    match operator.str() {
        "In" | "NotIn" => {
            values.required_because("must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                values.forbid("may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
        }
        "Gt" | "Lt" => {
            if values.len() != 1 {
                values.missing("must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
        }
        _ => operator.invalid("not a valid selector operator"),
    }
}

fn pod_affinity_term(term: &Cursor<'_>) {
    label_selector(&term.field("labelSelector"));
    label_selector(&term.field("namespaceSelector"));
    match_label_keys(term);
    for namespace in term.field("namespaces").items() {
        // Errors are at `namespace`: upstream's name for the list here.
        let at = Cursor::at(namespace.value(), term.path().child("namespace"), term.errors());
        at.shape(names::dns1123_label);
    }
    let key = term.field("topologyKey");
    if key.is_empty() {
        key.missing("can not be empty");
    }
    names::qualified_name(key.str()).into_iter().for_each(|problem| key.invalid_value(key.str(), problem));
}

fn match_label_keys(term: &Cursor<'_>) {
    let (selector, keys) = (term.field("labelSelector"), term.field("matchLabelKeys"));
    let mismatch = term.field("mismatchLabelKeys");
    for list in [&keys, &mismatch] {
        if !list.is_empty() && !selector.exists() {
            list.forbid("must not be specified when labelSelector is not set");
            continue;
        }
        for key in list.items() {
            key.shape(names::qualified_name);
        }
    }
    for key in keys.items() {
        if mismatch.array().contains(&key.str().into()) {
            key.invalid("exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
}

/// Checks `tolerations` of a pod.
pub fn tolerations(list: &Cursor<'_>) {
    for toleration in list.items() {
        let field = |name| toleration.field(name);
        let (key, operator, value, effect) = (field("key"), field("operator"), field("value"), field("effect"));
        if !key.is_empty() {
            key.shape(names::qualified_name);
        }
        if key.is_empty() && operator.str() != "Exists" {
            operator.push(FieldError::invalid(
                operator.path(),
                operator.str(),
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        if field("tolerationSeconds").exists() && effect.str() != "NoExecute" {
            effect.push(FieldError::invalid(
                effect.path(),
                effect.str(),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
        match operator.str() {
            "" | "Equal" => {
                names::label_value(value.str()).into_iter().for_each(|p| operator.invalid_value(value.str(), p))
            }
            "Exists" if !value.is_empty() => {
                operator.invalid_value(value.str(), "value must be empty when `operator` is 'Exists'")
            }
            "Exists" => {}
            _ => operator.not_supported(&["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            taint_effect(&effect);
        }
    }
}

/// Checks the effect of a taint or toleration.
pub fn taint_effect(effect: &Cursor<'_>) {
    effect.one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"]);
}

/// Checks `topologySpreadConstraints` of a pod.
pub fn topology_spread(list: &Cursor<'_>) {
    let mut seen = Vec::new();
    for constraint in list.items() {
        let skew = constraint.field("maxSkew");
        if skew.i64().unwrap_or_default() <= 0 {
            skew.invalid_value(skew.i64().unwrap_or_default(), "must be greater than zero");
        }
        let key = constraint.field("topologyKey");
        key.required_because("can not be empty");
        let action = constraint.field("whenUnsatisfiable");
        if !matches!(action.str(), "DoNotSchedule" | "ScheduleAnyway") {
            action.not_supported(&["DoNotSchedule", "ScheduleAnyway"]);
        }
        let pair = (key.str(), action.str());
        if seen.contains(&pair) {
            let at = constraint.path().child("{topologyKey, whenUnsatisfiable}");
            constraint.push(FieldError::duplicate(&at, format!("{{{}, {}}}", pair.0, pair.1)));
        }
        seen.push(pair);
        let domains = constraint.field("minDomains");
        domains.positive();
        if domains.exists() && action.str() != "DoNotSchedule" {
            domains.invalid("can only use minDomains if whenUnsatisfiable=DoNotSchedule");
        }
        constraint.field("nodeAffinityPolicy").one_of(&["Honor", "Ignore"]);
        constraint.field("nodeTaintsPolicy").one_of(&["Honor", "Ignore"]);
        label_selector(&constraint.field("labelSelector"));
        match_label_keys(&constraint);
    }
}

/// Checks `nodeSelector` of a pod.
pub fn node_labels(labels: &Cursor<'_>) {
    object_meta::labels(labels);
}
