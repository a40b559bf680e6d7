//! Whether a pod may be on this node at all: its system, selectors, taints, host ports.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};
use pod_state::spec;
use pod_state::status::Reason;

use super::{Node, tolerates};

const OS: &str = "linux";

/// What no freed resource would mend: the node's system and the runtime's features.
pub fn system(node: &Node, pod: &Pod) -> Result<(), Reason> {
    let refuse = |reason, message: &str| Err(Reason::new(reason, message));
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    if label.is_some_and(|label| label != OS) {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return refuse("PodOSSelectorNodeLabelDoesNotMatch", message);
    }
    if spec::spec(pod).os.as_ref().is_some_and(|os| os.name != OS) {
        return refuse("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS");
    }
    let context = spec::spec(pod).security_context.as_ref();
    let strict = context.is_some_and(|context| context.supplemental_groups_policy.as_deref() == Some("Strict"));
    if strict && !node.strict_groups {
        let message = "SupplementalGroupsPolicy=Strict is not supported in this node";
        return refuse("SupplementalGroupsPolicyNotSupported", message);
    }
    Ok(())
}

/// The predicates that are not about amounts, in upstream's order.
pub fn fits(node: &Node, pod: &Pod, others: &[Arc<Pod>]) -> Result<(), Reason> {
    let name = spec::spec(pod).node_name.as_deref().unwrap_or_default();
    let no_execute = |taint: &&k8s_openapi::api::core::v1::Taint| taint.effect == "NoExecute";
    let tainted = !spec::is_static(pod) && node.taints.iter().filter(no_execute).any(|taint| !tolerates(pod, taint));
    let predicates = [
        ("NodeAffinity", selected(node, pod), "node(s) didn't match Pod's node affinity/selector"),
        ("NodeName", name.is_empty() || name == node.name, "node(s) didn't match the requested node name"),
        ("NodePorts", ports_free(pod, others), "node(s) didn't have free ports for the requested pod ports"),
        ("TaintToleration", !tainted, "node(s) had taints that the pod didn't tolerate"),
    ];
    match predicates.into_iter().find(|(_, holds, _)| !holds) {
        Some((name, _, why)) => Err(Reason::new(name, format!("Predicate {name} failed: {why}"))),
        None => app_armor(node, pod),
    }
}

/// A profile that the node could not enforce.
fn app_armor(node: &Node, pod: &Pod) -> Result<(), Reason> {
    let spec = spec::spec(pod);
    let of_pod = spec.security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
    let containers = spec.containers.iter().chain(spec::init_containers(pod));
    let own = containers.filter_map(|c| c.security_context.as_ref()?.app_armor_profile.as_ref());
    let required = own.chain(of_pod).any(|profile| profile.type_ != "Unconfined");
    match required && !node.app_armor {
        true => Err(Reason::new("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")),
        false => Ok(()),
    }
}

/// Address, protocol and number of every port of the node that the pod takes.
fn host_ports(pod: &Pod) -> HashSet<(String, String, i32)> {
    let sidecars = spec::init_containers(pod).iter().filter(|container| spec::is_sidecar(container));
    let ports = spec::spec(pod).containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            // The API server fills it in; a static pod's file may not have it.
            let own = port.host_port.filter(|number| *number > 0);
            let number = own.or_else(|| spec::host_network(pod).then_some(port.container_port))?;
            let address = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
            Some((address, port.protocol.clone().unwrap_or_else(|| "TCP".into()), number))
        })
        .collect()
}

/// No other pod has a port that the pod wants.
fn ports_free(pod: &Pod, others: &[Arc<Pod>]) -> bool {
    let wanted = host_ports(pod);
    let collides = |(address, protocol, port): &(String, String, i32)| {
        wanted.iter().any(|(wanted_address, wanted_protocol, wanted_port)| {
            (port, protocol) == (wanted_port, wanted_protocol)
                && (address == wanted_address || address == "0.0.0.0" || wanted_address == "0.0.0.0")
        })
    };
    wanted.is_empty() || !others.iter().any(|other| host_ports(other).iter().any(collides))
}

/// nodeSelector and required node affinity hold.
fn selected(node: &Node, pod: &Pod) -> bool {
    let spec = spec::spec(pod);
    let by_label = spec.node_selector.iter().flatten().all(|(key, value)| node.labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    by_label
        && required.is_none_or(|selector| {
            selector.node_selector_terms.iter().any(|term| term_matches(term, &node.labels, &node.name))
        })
}

fn term_matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, node_name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term without requirements matches nothing.
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|r| requirement_matches(r, labels.get(&r.key).map(String::as_str)))
        && fields.iter().all(|r| r.key == "metadata.name" && requirement_matches(r, Some(node_name)))
}

fn requirement_matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|v| v == value));
    let compare = |holds: fn(&i64, &i64) -> bool| {
        let number = value.and_then(|value| value.parse::<i64>().ok());
        let bound = values.first().and_then(|bound| bound.parse::<i64>().ok());
        matches!((number, bound), (Some(number), Some(bound)) if holds(&number, &bound))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::admission::tests::{node, pod};

    fn verdict(spec: Value) -> String {
        let pod = pod("p", spec);
        let others = [super::super::tests::pod("o", with_port(json!({"containerPort": 1, "hostPort": 80})))];
        let mut node = node();
        node.taints = serde_json::from_value(json!([
            {"key": "k", "value": "v", "effect": "NoExecute"}, {"key": "x", "effect": "NoSchedule"}]))
        .expect("taints");
        let found = system(&node, &pod).and_then(|()| fits(&node, &pod, &others));
        found.err().map(|refused| refused.reason).unwrap_or_default()
    }

    fn with_port(port: Value) -> Value {
        json!({"containers": [{"name": "c", "ports": [port]}], "tolerations": [{"operator": "Exists"}]})
    }

    #[test]
    fn a_pod_is_refused_for_what_the_node_is() {
        let tolerant = |mut spec: Value| {
            spec["tolerations"] = json!([{"key": "k", "value": "v", "effect": "NoExecute"}]);
            spec
        };
        let affinity = |operator: &str, values: Value| {
            tolerant(json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": operator, "values": values}]}]}}}}))
        };
        for (spec, reason) in [
            (tolerant(json!({})), ""),
            (json!({}), "TaintToleration"),
            (json!({"tolerations": [{"key": "k", "value": "other"}]}), "TaintToleration"),
            (tolerant(json!({"os": {"name": "windows"}})), "PodOSNotSupported"),
            (tolerant(json!({"os": {"name": "linux"}})), ""),
            (tolerant(json!({"nodeName": "n2"})), "NodeName"),
            (tolerant(json!({"nodeSelector": {"zone": "b"}})), "NodeAffinity"),
            (affinity("In", json!(["a"])), ""),
            (affinity("NotIn", json!(["a"])), "NodeAffinity"),
            (
                tolerant(json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}})),
                "SupplementalGroupsPolicyNotSupported",
            ),
            (tolerant(json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}})), "AppArmor"),
            (tolerant(json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}})), ""),
            (with_port(json!({"containerPort": 1, "hostPort": 80})), "NodePorts"),
            (with_port(json!({"containerPort": 1, "hostPort": 80, "hostIP": "192.0.2.1"})), "NodePorts"),
            (with_port(json!({"containerPort": 1, "hostPort": 80, "protocol": "UDP"})), ""),
            (with_port(json!({"containerPort": 80})), ""),
        ] {
            assert_eq!(verdict(spec.clone()), reason, "{spec}");
        }
    }

    #[test]
    fn a_static_pod_stays_whatever_the_taints() {
        let mut pod = Pod::clone(&pod("p", json!({})));
        pod.metadata.annotations = Some([("kubernetes.io/config.source".to_owned(), "file".to_owned())].into());
        let mut node = node();
        node.taints = serde_json::from_value(json!([{"key": "k", "effect": "NoExecute"}])).expect("taints");
        assert_eq!(fits(&node, &pod, &[]), Ok(()));
    }
}
