//! Whether a pod may run on a node, as far as controllers have to know: tolerations, node selector, node affinity.

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};
use kube::ResourceExt;

use super::meta;

/// Whether a toleration bears a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let set = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
    if set(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    let exists = toleration.operator.as_deref() == Some("Exists");
    match set(&toleration.key) {
        // No key with Exists: everything.
        None => exists,
        Some(key) if key != taint.key => false,
        Some(_) => {
            exists || {
                let value = taint.value.as_deref().unwrap_or_default();
                compare(toleration.operator.as_deref(), toleration.value.as_deref().unwrap_or_default(), value)
            }
        }
    }
}

/// `Equal`, and the numeric operators of KEP-5471: the taint's value against the toleration's.
fn compare(operator: Option<&str>, bound: &str, value: &str) -> bool {
    let numbers = || Some((value.parse::<i64>().ok()?, bound.parse::<i64>().ok()?));
    match operator {
        None | Some("" | "Equal") => bound == value,
        Some("Gt") => numbers().is_some_and(|(value, bound)| value > bound),
        Some("Lt") => numbers().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

/// The first of `taints` with one of `effects` that none of `tolerations` bears.
pub fn untolerated<'a>(tolerations: &[Toleration], taints: &'a [Taint], effects: &[&str]) -> Option<&'a Taint> {
    let relevant = taints.iter().filter(|taint| effects.contains(&taint.effect.as_str()));
    relevant.into_iter().find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

/// Whether `nodeSelector` and the required node affinity allow the node.
pub fn fits_affinity(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.labels();
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|selector| matches(selector, node))
}

/// Any of the terms; one without requirements matches nothing.
pub fn matches(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| matches_term(term, node))
}

fn matches_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let field = |key: &str| (key == "metadata.name").then(|| meta::name(node));
    let label = |key: &str| node.labels().get(key).map(String::as_str);
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|requirement| meets(requirement, label(&requirement.key)))
        && fields.iter().all(|requirement| meets(requirement, field(&requirement.key)))
}

fn meets(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let has = value.is_some_and(|value| values.iter().any(|own| own == value));
    let numbers = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => has,
        "NotIn" => !has,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(own, bound)| own > bound),
        "Lt" => numbers().is_some_and(|(own, bound)| own < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tolerations_and_taints() {
        let taint: Taint = serde_json::from_value(json!({"key": "k", "value": "5", "effect": "NoSchedule"})).unwrap();
        for (toleration, tolerated) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"key": "k", "value": "5"}), true),
            (json!({"key": "k", "operator": "Equal", "value": "6"}), false),
            (json!({"key": "k", "operator": "Gt", "value": "4"}), true),
            (json!({"key": "k", "operator": "Lt", "value": "4"}), false),
            (json!({"key": "other", "operator": "Exists"}), false),
            (json!({"operator": "Exists", "effect": "NoExecute"}), false),
            (json!({}), false),
        ] {
            let parsed: Toleration = serde_json::from_value(toleration.clone()).unwrap();
            assert_eq!(tolerates(&parsed, &taint), tolerated, "{toleration}");
        }
    }

    #[test]
    fn node_selector_terms() {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n1", "labels": {"zone": "a", "cores": "8"}}})).unwrap();
        let expression = |key, operator, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (terms, expected) in [
            (json!([expression("zone", "In", &["a", "b"])]), true),
            (json!([expression("zone", "NotIn", &["a"])]), false),
            (json!([expression("rack", "NotIn", &["a"])]), true),
            (json!([expression("rack", "DoesNotExist", &[])]), true),
            (json!([expression("cores", "Gt", &["4"])]), true),
            (json!([expression("cores", "Lt", &["4"])]), false),
            (json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]), true),
            (json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}]), false),
            (json!([{}]), false),
            (json!([expression("zone", "In", &["b"]), expression("zone", "Exists", &[])]), true),
        ] {
            let selector: NodeSelector = serde_json::from_value(json!({"nodeSelectorTerms": terms.clone()})).unwrap();
            assert_eq!(matches(&selector, &node), expected, "{terms}");
        }
    }
}
