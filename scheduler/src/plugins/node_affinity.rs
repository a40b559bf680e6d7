//! nodeSelector and node affinity: which nodes a pod must have, and which it would rather have.

use crate::cluster::{Cluster, NodeInfo, PodInfo, Slot};
use crate::framework::{Events, Plugin, PreFilter, Rejection, State, Verdict, scale};
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec};
use std::collections::HashSet;

pub struct NodeAffinity;

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

fn spec(pod: &PodInfo) -> Option<&PodSpec> {
    pod.pod.spec.as_ref()
}

fn required(pod: &PodInfo) -> Option<&Vec<NodeSelectorTerm>> {
    let affinity = spec(pod)?.affinity.as_ref()?.node_affinity.as_ref()?;
    Some(&affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms)
}

/// Whether a node meets a term: all its requirements; an empty term meets nothing.
pub fn matches_term(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    (!expressions.is_empty() || !fields.is_empty())
        && expressions.iter().all(|r| matches(r, node.label(&r.key)))
        && fields.iter().all(|r| r.key == "metadata.name" && matches(r, Some(&node.name)))
}

fn matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.iter().any(|w| w == v)),
        "NotIn" => value.is_none_or(|v| values.iter().all(|w| w != v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(number(values.first().map(String::as_str))).is_some_and(|(a, b)| a > b),
        "Lt" => number(value).zip(number(values.first().map(String::as_str))).is_some_and(|(a, b)| a < b),
        _ => false,
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn events(&self) -> Events {
        Events::NODE_ADDED.and(Events::NODE_LABELS).and(Events::OWN_UPDATE)
    }

    /// Terms that name their nodes, as those of daemon pods do, save looking at all others.
    fn pre_filter(&self, pod: &PodInfo, _: &Cluster) -> Result<PreFilter, Rejection> {
        let selects = spec(pod).and_then(|s| s.node_selector.as_ref()).is_some_and(|s| !s.is_empty());
        let Some(terms) = required(pod) else {
            return Ok(if selects { PreFilter::Run(None) } else { PreFilter::Skip });
        };
        let mut names: HashSet<String> = HashSet::new();
        for term in terms {
            let named = term.match_fields.iter().flatten().find(|r| r.key == "metadata.name" && r.operator == "In");
            match named {
                Some(requirement) => names.extend(requirement.values.iter().flatten().cloned()),
                None => return Ok(PreFilter::Run(None)),
            }
        }
        if names.is_empty() { Ok(PreFilter::Run(None)) } else { Ok(PreFilter::Only(names, None)) }
    }

    fn filter(&self, _: &State, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        let selector = spec(pod).and_then(|s| s.node_selector.as_ref());
        let selected = selector.into_iter().flatten().all(|(key, value)| node.label(key) == Some(value));
        let fits = selected && required(pod).is_none_or(|terms| terms.iter().any(|t| matches_term(t, node)));
        if fits { Ok(()) } else { Err(Rejection::final_(REASON)) }
    }

    fn pre_score(&self, pod: &PodInfo, _: &Cluster, _: &[Slot]) -> Option<State> {
        let affinity = spec(pod)?.affinity.as_ref()?.node_affinity.as_ref()?;
        let preferred = affinity.preferred_during_scheduling_ignored_during_execution.as_ref()?;
        (!preferred.is_empty()).then_some(None)
    }

    fn score(&self, _: &State, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let affinity = spec(pod).and_then(|s| s.affinity.as_ref()?.node_affinity.as_ref());
        let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        preferred.into_iter().flatten().filter(|p| matches_term(&p.preference, node)).map(|p| i64::from(p.weight)).sum()
    }

    fn normalize(&self, _: &State, scores: &mut [i64]) {
        scale(scores, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_compare_as_the_api_says() {
        let requirement = |operator: &str, values: &[&str]| NodeSelectorRequirement {
            key: "k".into(),
            operator: operator.into(),
            values: Some(values.iter().map(|v| v.to_string()).collect()),
        };
        let cases = [
            ("In", vec!["a", "b"], Some("a"), true),
            ("In", vec!["a"], None, false),
            ("NotIn", vec!["a"], None, true),
            ("NotIn", vec!["a"], Some("a"), false),
            ("Exists", vec![], Some(""), true),
            ("DoesNotExist", vec![], None, true),
            ("Gt", vec!["5"], Some("6"), true),
            ("Gt", vec!["5"], Some("x"), false),
            ("Lt", vec!["5"], Some("4"), true),
        ];
        for (operator, values, value, expected) in cases {
            assert_eq!(matches(&requirement(operator, &values), value), expected, "{operator} {values:?} {value:?}");
        }
    }
}
