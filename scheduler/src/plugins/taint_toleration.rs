//! Taints keep pods away that do not tolerate them; the fewer soft ones a pod minds, the better the node.

use crate::cluster::{Cluster, NodeInfo, PodInfo, Slot};
use crate::framework::{Events, Plugin, Rejection, State, Verdict, scale};
use k8s_openapi::api::core::v1::{Taint, Toleration};

pub struct TaintToleration;

/// Whether one of the pod's tolerations covers a taint.
pub fn tolerates(pod: &PodInfo, taint: &Taint) -> bool {
    let tolerations = pod.pod.spec.as_ref().and_then(|s| s.tolerations.as_ref());
    tolerations.into_iter().flatten().any(|t| covers(t, taint))
}

fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let effect = toleration.effect.as_deref().unwrap_or("");
    let key = toleration.key.as_deref().unwrap_or("");
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("") {
        "Exists" => true,
        "" | "Equal" => text(&toleration.value) == text(&taint.value),
        _ => false,
    }
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn events(&self) -> Events {
        Events::NODE_ADDED.and(Events::NODE_TAINTS).and(Events::OWN_UPDATE)
    }

    fn filter(&self, _: &State, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        let hard = |t: &&Taint| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute");
        match node.taints().iter().filter(hard).find(|t| !tolerates(pod, t)) {
            None => Ok(()),
            Some(taint) => Err(Rejection::final_(format!(
                "node(s) had untolerated taint {{{}: {}}}",
                taint.key,
                taint.value.as_deref().unwrap_or("")
            ))),
        }
    }

    fn pre_score(&self, _: &PodInfo, _: &Cluster, _: &[Slot]) -> Option<State> {
        Some(None)
    }

    fn score(&self, _: &State, pod: &PodInfo, node: &NodeInfo) -> i64 {
        node.taints().iter().filter(|t| t.effect == "PreferNoSchedule" && !tolerates(pod, t)).count() as i64
    }

    fn normalize(&self, _: &State, scores: &mut [i64]) {
        scale(scores, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_cover_taints_by_key_value_and_effect() {
        let toleration = |key: &str, operator: &str, value: &str, effect: &str| Toleration {
            key: Some(key.into()),
            operator: Some(operator.into()),
            value: Some(value.into()),
            effect: Some(effect.into()),
            toleration_seconds: None,
        };
        let taint = Taint { key: "k".into(), value: Some("v".into()), effect: "NoSchedule".into(), time_added: None };
        let cases = [
            (toleration("k", "Equal", "v", "NoSchedule"), true),
            (toleration("k", "", "v", ""), true),
            (toleration("k", "Equal", "w", "NoSchedule"), false),
            (toleration("k", "Exists", "", "NoExecute"), false),
            (toleration("", "Exists", "", ""), true),
            (toleration("other", "Exists", "", ""), false),
        ];
        for (toleration, covered) in cases {
            assert_eq!(covers(&toleration, &taint), covered, "{toleration:?}");
        }
    }
}
