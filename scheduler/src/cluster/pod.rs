//! A pod with everything that cycles look at worked out once.

use super::node::Port;
use super::resources::{Resources, asked, asked_or_usual, requests};
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A term about other pods.
#[derive(Clone, Debug)]
pub struct Term {
    pub topology_key: String,
    selector: Option<Selector>,
    namespaces: BTreeSet<String>,
    /// Namespaces by label; none: only those named.
    pub namespace_selector: Option<LabelSelector>,
}

impl Term {
    fn new(pod: &Pod, term: &PodAffinityTerm) -> Term {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(pod.metadata.namespace.clone().unwrap_or_default());
        }
        Term {
            topology_key: term.topology_key.clone(),
            selector: term.label_selector.clone().and_then(|s| s.try_into().ok()),
            namespaces,
            namespace_selector: term.namespace_selector.clone(),
        }
    }

    /// Whether a pod is one of those the term is about.
    pub fn matches(&self, other: &PodInfo) -> bool {
        let everywhere =
            self.namespace_selector.as_ref().is_some_and(|s| s.match_labels.is_none() && s.match_expressions.is_none());
        (everywhere || self.namespaces.contains(&other.namespace))
            && self.selector.as_ref().is_some_and(|s| s.matches(other.labels()))
    }
}

#[derive(Clone, Debug)]
pub struct WeightedTerm {
    pub term: Term,
    pub weight: i64,
}

/// A pod, taken apart.
#[derive(Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub priority: i32,
    pub requests: Resources,
    /// Requests with the usual amounts for containers that name none: for scoring.
    pub usual: Resources,
    pub ports: Vec<Port>,
    pub required_affinity: Vec<Term>,
    pub required_anti_affinity: Vec<Term>,
    pub preferred_affinity: Vec<WeightedTerm>,
    pub preferred_anti_affinity: Vec<WeightedTerm>,
}

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> PodInfo {
        let meta = &pod.metadata;
        let spec = pod.spec.as_ref();
        let affinity = spec.and_then(|s| s.affinity.as_ref());
        let near = affinity.and_then(|a| a.pod_affinity.as_ref());
        let far = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
        let required =
            |terms: Option<&Vec<PodAffinityTerm>>| terms.into_iter().flatten().map(|t| Term::new(&pod, t)).collect();
        let preferred = |terms: Option<&Vec<k8s_openapi::api::core::v1::WeightedPodAffinityTerm>>| {
            terms
                .into_iter()
                .flatten()
                .map(|t| WeightedTerm { term: Term::new(&pod, &t.pod_affinity_term), weight: t.weight.into() })
                .collect()
        };
        PodInfo {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            priority: spec.and_then(|s| s.priority).unwrap_or(0),
            requests: spec.map(|s| requests(s, asked)).unwrap_or_default(),
            usual: spec.map(|s| requests(s, asked_or_usual)).unwrap_or_default(),
            ports: spec.map(Port::of).unwrap_or_default(),
            required_affinity: required(
                near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            required_anti_affinity: required(
                far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred_affinity: preferred(
                near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred_anti_affinity: preferred(
                far.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
            pod,
        }
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.pod.metadata.labels.as_ref().unwrap_or(&NONE)
    }

    pub fn has_affinity(&self) -> bool {
        let required = [&self.required_affinity, &self.required_anti_affinity];
        let preferred = [&self.preferred_affinity, &self.preferred_anti_affinity];
        required.iter().any(|terms| !terms.is_empty()) || preferred.iter().any(|terms| !terms.is_empty())
    }

    pub fn is_terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    pub fn scheduler_name(&self) -> &str {
        self.pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref()).unwrap_or(crate::config::DEFAULT_SCHEDULER)
    }
}
