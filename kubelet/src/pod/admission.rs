//! The node's own say on a pod: the scheduler may have decided on old facts, and some pods never met it.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};

use super::spec;
use super::status::Reason;
use crate::kubelet::Kubelet;
use crate::quantity;

/// Checks whether the node can run `pod` beside the pods it has.
pub fn admit(kubelet: &Kubelet, pod: &Pod) -> Result<(), Reason> {
    selected(kubelet, pod)?;
    pressure(kubelet, pod)?;
    sysctls(pod, &kubelet.config.allowed_unsafe_sysctls)?;
    let active: Vec<_> = kubelet.pods.list().into_iter().filter(|other| is_active(kubelet, other)).collect();
    fits(pod, active.iter().map(AsRef::as_ref), &kubelet.allocatable())
}

/// The pod still uses what it asked for.
fn is_active(kubelet: &Kubelet, pod: &Pod) -> bool {
    let phase = kubelet.statuses.get(spec::uid(pod)).and_then(|status| status.phase);
    !matches!(phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// Resources suffice. Critical pods are let in: eviction makes room for them.
fn fits<'a>(
    pod: &Pod,
    active: impl Iterator<Item = &'a Pod> + Clone,
    allocatable: &quantity::ResourceList,
) -> Result<(), Reason> {
    let refuse = |name: &str, requested: i64, used: i64, capacity: i64| {
        Err(Reason::new(
            &format!("OutOf{name}"),
            format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            ),
        ))
    };
    let pods_max = quantity::of(Some(allocatable), "pods");
    let count = i64::try_from(active.clone().count()).unwrap_or(i64::MAX);
    if count + 1 > pods_max {
        return refuse("pods", 1, count, pods_max);
    }
    let names: BTreeSet<String> = spec::spec(pod)
        .containers
        .iter()
        .chain(spec::init_containers(pod))
        .filter_map(|container| container.resources.as_ref()?.requests.as_ref())
        .flat_map(|requests| requests.keys().cloned())
        .collect();
    for name in names {
        let requested = spec::request(pod, &name);
        // An extended resource the node doesn't know: not ours to judge (upstream ignores it too).
        let Some(capacity) = allocatable.get(&name).map(|quantity| quantity::amount(&name, quantity)) else { continue };
        let used = active.clone().map(|other| spec::request(other, &name)).sum::<i64>();
        if requested > 0 && requested + used > capacity {
            return refuse(&name, requested, used, capacity);
        }
    }
    Ok(())
}

/// nodeSelector and required node affinity hold.
fn selected(kubelet: &Kubelet, pod: &Pod) -> Result<(), Reason> {
    let Some(node) = kubelet.node() else { return Ok(()) };
    let empty = Default::default();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let spec = spec::spec(pod);
    let by_label = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let name = &kubelet.node_name;
    let by_affinity = required
        .is_none_or(|selector| selector.node_selector_terms.iter().any(|term| term_matches(term, labels, name)));
    if by_label && by_affinity {
        return Ok(());
    }
    Err(Reason::new("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"))
}

fn term_matches(term: &NodeSelectorTerm, labels: &std::collections::BTreeMap<String, String>, node_name: &str) -> bool {
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

/// Under pressure the node takes no pods that it would evict next.
fn pressure(kubelet: &Kubelet, pod: &Pod) -> Result<(), Reason> {
    let conditions = kubelet.eviction.conditions();
    if conditions.is_empty() || spec::is_critical(pod) {
        return Ok(());
    }
    if conditions == ["MemoryPressure"] {
        let tolerated = spec::spec(pod)
            .tolerations
            .iter()
            .flatten()
            .any(|t| t.key.as_deref() == Some("node.kubernetes.io/memory-pressure"));
        if spec::qos_class(pod) != spec::QosClass::BestEffort || tolerated {
            return Ok(());
        }
    }
    Err(Reason::new("Evicted", format!("The node had condition: [{}]. ", conditions.join(" "))))
}

/// Namespaced sysctls that can't hurt the node (kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster).
const SAFE_SYSCTLS: [&str; 11] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
];

fn sysctls(pod: &Pod, allowed: &[String]) -> Result<(), Reason> {
    let wanted = spec::spec(pod).security_context.as_ref().and_then(|context| context.sysctls.as_ref());
    for sysctl in wanted.into_iter().flatten() {
        let name = sysctl.name.replace('/', ".");
        let safe = SAFE_SYSCTLS.contains(&name.as_str()) || name == "net.ipv4.tcp_wmem";
        let allowed = allowed.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *pattern == name,
        });
        if !safe && !allowed {
            return Err(Reason::new("SysctlForbidden", format!("forbidden sysctl: \"{name}\" not allowlisted")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(cpu: &str) -> Pod {
        serde_json::from_value(serde_json::json!({"spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}))
        .expect("a pod")
    }

    #[test]
    fn a_pod_fits_only_in_what_others_leave() {
        let allocatable = [("cpu".to_owned(), quantity::cpu(1000)), ("pods".to_owned(), quantity::count(2))].into();
        let (small, big) = (pod("300m"), pod("800m"));
        assert_eq!(fits(&big, [].iter(), &allocatable), Ok(()));
        let refused = fits(&big, [small.clone()].iter(), &allocatable).expect_err("refused");
        assert_eq!(refused.reason, "OutOfcpu");
        assert!(refused.message.ends_with("requested: 800, used: 300, capacity: 1000"), "{}", refused.message);
        let refused = fits(&small, [small.clone(), small.clone()].iter(), &allocatable).expect_err("refused");
        assert_eq!(refused.reason, "OutOfpods");
    }

    #[test]
    fn sysctls_are_safe_or_allowed() {
        let pod = |name: &str| -> Pod {
            serde_json::from_value(serde_json::json!({"spec": {"containers": [],
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}}))
            .expect("a pod")
        };
        let allowed = ["kernel.msg*".to_owned()];
        for (name, ok) in [("net.ipv4.tcp_syncookies", true), ("kernel.msgmax", true), ("kernel.sem", false)] {
            assert_eq!(sysctls(&pod(name), &allowed).is_ok(), ok, "{name}");
        }
    }
}
