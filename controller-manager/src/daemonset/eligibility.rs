//! Which nodes a DaemonSet runs on.

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{
        Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
    },
};
use kube::ResourceExt;

use crate::common::{meta, pod, scheduling};

/// What a node means to a DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A pod should run there.
    Run,
    /// One that runs may go on, no new one starts.
    Tolerate,
    /// None may be there.
    Leave,
}

/// Trouble of a node that a DaemonSet's pods live with: taint and effect.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// Only for pods on the host's network, which need no other.
const TOLERATED_ON_HOST: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

pub(super) fn node_should_run(set: &DaemonSet, node: &Node) -> Verdict {
    let mut spec = set.spec.as_ref().and_then(|spec| spec.template.spec.clone()).unwrap_or_default();
    tolerate_node_conditions(&mut spec);
    let wrong_node = spec.node_name.as_deref().is_some_and(|name| !name.is_empty() && name != meta::name(node));
    if wrong_node || !scheduling::fits_affinity(&spec, node) {
        return Verdict::Leave;
    }
    let tolerations = spec.tolerations.unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    if scheduling::untolerated(&tolerations, taints, &["NoExecute"]).is_some() {
        Verdict::Leave
    } else if scheduling::untolerated(&tolerations, taints, &["NoSchedule"]).is_some() {
        Verdict::Tolerate
    } else {
        Verdict::Run
    }
}

/// Whether two states of a node cannot differ in any verdict.
pub(super) fn looks_same(old: &Node, new: &Node) -> bool {
    let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
    old.labels() == new.labels() && taints(old) == taints(new)
}

pub(super) fn tolerate_node_conditions(spec: &mut PodSpec) {
    let on_host = spec.host_network == Some(true);
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED.into_iter().chain(on_host.then_some(TOLERATED_ON_HOST)) {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
}

/// Makes the scheduler bind the pod to `node`, whatever else its template's affinity asked for: that was checked here.
pub(super) fn pin(pod: &mut Pod, node: &str) {
    let requirement =
        NodeSelectorRequirement { key: "metadata.name".into(), operator: "In".into(), values: Some(vec![node.into()]) };
    let term = NodeSelectorTerm { match_fields: Some(vec![requirement]), ..NodeSelectorTerm::default() };
    let affinity: &mut Affinity = pod.spec.get_or_insert_default().affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node a pod runs on or is pinned to.
pub(super) fn target_node(pod: &Pod) -> Option<String> {
    let bound = pod::node_name(pod);
    if !bound.is_empty() {
        return Some(bound.to_owned());
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let selector = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = selector.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let mut names = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
    names.find_map(|field| field.values.as_ref()?.first().cloned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(pod_spec: serde_json::Value) -> DaemonSet {
        let mut pod_spec = pod_spec;
        pod_spec["containers"] = json!([]);
        serde_json::from_value(json!({"metadata": {}, "spec": {"selector": {}, "template": {"spec": pod_spec}}}))
            .unwrap()
    }

    #[test]
    fn verdicts() {
        let node = |taints: serde_json::Value| -> Node {
            serde_json::from_value(json!({
                "metadata": {"name": "n1", "labels": {"disk": "ssd"}}, "spec": {"taints": taints},
            }))
            .unwrap()
        };
        let taint = |key: &str, effect: &str| json!([{"key": key, "effect": effect}]);
        let unreachable = "node.kubernetes.io/unreachable";
        let no_network = "node.kubernetes.io/network-unavailable";
        for (name, spec, taints, verdict) in [
            ("plain", json!({}), json!([]), Verdict::Run),
            ("selected", json!({"nodeSelector": {"disk": "ssd"}}), json!([]), Verdict::Run),
            ("not selected", json!({"nodeSelector": {"disk": "hdd"}}), json!([]), Verdict::Leave),
            ("another node's name", json!({"nodeName": "n2"}), json!([]), Verdict::Leave),
            ("tainted", json!({}), taint("dedicated", "NoSchedule"), Verdict::Tolerate),
            ("evicting", json!({}), taint("dedicated", "NoExecute"), Verdict::Leave),
            ("preference only", json!({}), taint("dedicated", "PreferNoSchedule"), Verdict::Run),
            ("unreachable", json!({}), taint(unreachable, "NoExecute"), Verdict::Run),
            ("no network", json!({}), taint(no_network, "NoSchedule"), Verdict::Tolerate),
            ("no network, on the host's", json!({"hostNetwork": true}), taint(no_network, "NoSchedule"), Verdict::Run),
            (
                "tolerated",
                json!({"tolerations": [{"key": "dedicated", "operator": "Exists"}]}),
                taint("dedicated", "NoSchedule"),
                Verdict::Run,
            ),
        ] {
            assert_eq!(node_should_run(&set(spec), &node(taints)), verdict, "{name}");
        }
    }

    #[test]
    fn a_pinned_pod_is_meant_for_its_node() {
        let mut pod = Pod::default();
        assert_eq!(target_node(&pod), None);
        pin(&mut pod, "n1");
        assert_eq!(target_node(&pod).as_deref(), Some("n1"));
        pod.spec.as_mut().unwrap().node_name = Some("n2".into());
        assert_eq!(target_node(&pod).as_deref(), Some("n2"));
    }
}
