//! Questions about a Pod object that need nothing else: identity, origin, containers, resources, QoS.

use std::time::Duration;

use configuration::quantity;
use cri_client::names;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};

use crate::json;

/// The identity of a pod on this node: of a static pod the hash of its manifest, of any other the API object's UID.
pub type Uid = String;
/// The pod's UID, "" where it has none.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}
/// The pod's name.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}
/// The pod's namespace; "default" where its manifest names none.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// "name_namespace", by which a static pod and its mirror find each other.
pub fn full_name(pod: &Pod) -> String {
    format!("{}_{}", name(pod), namespace(pod))
}

/// "namespace/name", for people.
pub fn key(pod: &Pod) -> String {
    format!("{}/{}", namespace(pod), name(pod))
}
/// The pod's spec; an empty one where it has none, as what is only known from the runtime.
pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::OnceLock<PodSpec> = std::sync::OnceLock::new();
    pod.spec.as_ref().unwrap_or_else(|| EMPTY.get_or_init(PodSpec::default))
}
/// The value of one of the pod's annotations.
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The pod is the API server's image of a static pod.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, names::CONFIG_MIRROR).is_some()
}

/// The pod comes from a file or URL on this node.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, names::CONFIG_SOURCE).is_some_and(|source| source != "api")
}

/// Static pods and those of priority 2·10⁹ and more are never evicted for the node's sake.
pub fn is_critical(pod: &Pod) -> bool {
    is_static(pod) || is_mirror(pod) || spec(pod).priority.is_some_and(|priority| priority >= 2_000_000_000)
}
/// The pod is on the node's network.
pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}
/// The pod's own policy; containers may differ, see [`container_restart_policy`].
pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    RestartPolicy::parse(spec(pod).restart_policy.as_deref())
}

/// When a container that has ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// However it ended.
    Always,
    /// Where its exit code is not 0.
    OnFailure,
    /// Not at all.
    Never,
}

impl RestartPolicy {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("OnFailure") => Self::OnFailure,
            Some("Never") => Self::Never,
            _ => Self::Always,
        }
    }
}

/// An init container that keeps running beside the others (KEP-753).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}
/// The pod's init containers, sidecars among them, in their order.
pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// What holds for one container: its own policy where it has one (KEP-753, KEP-5307), else the pod's.
/// A plain init container under Always is retried until it succeeds, never run again after.
pub fn container_restart_policy(pod: &Pod, container: &Container) -> RestartPolicy {
    match container.restart_policy.as_deref() {
        Some(own) => RestartPolicy::parse(Some(own)),
        None => restart_policy(pod),
    }
}

/// Whether a container that ended with `exit_code` is to run again.
pub fn should_restart(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.iter().flatten() {
        if let Some(codes) = &rule.exit_codes {
            let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
            if listed == (codes.operator == "In") && rule.action == "Restart" {
                return true;
            }
        }
    }
    match container_restart_policy(pod, container) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

/// The time between SIGTERM and SIGKILL. A deleted pod carries its own, in seconds.
pub fn grace_period(pod: &Pod) -> Duration {
    let seconds =
        pod.metadata.deletion_grace_period_seconds.or(spec(pod).termination_grace_period_seconds).unwrap_or(30).max(1);
    Duration::from_secs(seconds.unsigned_abs())
}

/// Quality of service: how the node treats a pod when it runs short. Ordered from who goes first to who goes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QosClass {
    /// Nothing is requested.
    BestEffort,
    /// Something is requested, and more may be used.
    Burstable,
    /// All containers have limits of cpu and memory that equal their requests.
    Guaranteed,
}

impl QosClass {
    /// The name in a pod's status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BestEffort => "BestEffort",
            Self::Burstable => "Burstable",
            Self::Guaranteed => "Guaranteed",
        }
    }
}

/// The class a pod's cpu and memory requests and limits put it in. Pod-level resources, where set, decide alone.
pub fn qos_class(pod: &Pod) -> QosClass {
    let spec = spec(pod);
    let own = spec.resources.iter();
    let of_containers = spec.containers.iter().chain(init_containers(pod)).filter_map(|c| c.resources.as_ref());
    let (all, count): (Vec<&ResourceRequirements>, usize) = if spec.resources.is_some() {
        (own.collect(), 1)
    } else {
        (of_containers.collect(), spec.containers.len() + init_containers(pod).len())
    };
    let mut any = false;
    let mut guaranteed = all.len() == count;
    for resources in all {
        for name in ["cpu", "memory"] {
            let limit = quantity::of(resources.limits.as_ref(), name);
            let request = match quantity::of(resources.requests.as_ref(), name) {
                0 => limit,
                request => request,
            };
            any |= request > 0;
            guaranteed &= limit > 0 && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

#[derive(Clone, Copy)]
enum Side {
    Requests,
    Limits,
}

fn amount(resources: Option<&ResourceRequirements>, side: Side, name: &str) -> i64 {
    let Some(resources) = resources else { return 0 };
    match side {
        Side::Limits => quantity::of(resources.limits.as_ref(), name),
        // A limit without a request is the request too; the API server fills it in, a static pod's file may not.
        Side::Requests => match resources.requests.as_ref().is_some_and(|requests| requests.contains_key(name)) {
            true => quantity::of(resources.requests.as_ref(), name),
            false => quantity::of(resources.limits.as_ref(), name),
        },
    }
}

/// The most the pod needs at once: sidecars run beside all that come after them, plain init containers one at a time
/// before the rest (KEP-753).
fn aggregate(pod: &Pod, side: Side, name: &str) -> i64 {
    let spec = spec(pod);
    let own = amount(spec.resources.as_ref(), side, name);
    if own > 0 {
        return own;
    }
    let mut sidecars = 0;
    let mut peak = 0;
    for init in init_containers(pod) {
        let own = amount(init.resources.as_ref(), side, name);
        if is_sidecar(init) {
            sidecars += own;
        } else {
            peak = peak.max(sidecars + own);
        }
    }
    let running: i64 = spec.containers.iter().map(|c| amount(c.resources.as_ref(), side, name)).sum();
    peak.max(running + sidecars)
}

/// The pod's request of `name`: thousandths of cores for cpu, units otherwise; with its overhead.
pub fn request(pod: &Pod, name: &str) -> i64 {
    aggregate(pod, Side::Requests, name) + quantity::of(spec(pod).overhead.as_ref(), name)
}

/// The pod's limit of `name`, `None` where it is unbounded.
pub fn limit(pod: &Pod, name: &str) -> Option<i64> {
    let unbounded = |c: &Container| container_limit(c, name) == 0;
    let lasting = spec(pod).containers.iter().chain(init_containers(pod).iter().filter(|c| is_sidecar(c)));
    let bounded = amount(spec(pod).resources.as_ref(), Side::Limits, name) > 0 || !lasting.into_iter().any(unbounded);
    bounded.then(|| aggregate(pod, Side::Limits, name) + quantity::of(spec(pod).overhead.as_ref(), name))
}

/// The sum of the limits that the pod's containers have, 0 where none has one.
pub fn limits_sum(pod: &Pod, name: &str) -> i64 {
    aggregate(pod, Side::Limits, name)
}

/// One container's request or limit, in the same units.
pub fn container_request(container: &Container, name: &str) -> i64 {
    amount(container.resources.as_ref(), Side::Requests, name)
}
/// One container's limit, 0 where it has none: thousandths of cores for cpu, units otherwise.
pub fn container_limit(container: &Container, name: &str) -> i64 {
    amount(container.resources.as_ref(), Side::Limits, name)
}

/// Ephemeral containers as containers: they have the same fields, less those the API forbids them.
pub fn ephemeral_containers(pod: &Pod) -> Vec<Container> {
    let ephemeral = spec(pod).ephemeral_containers.iter().flatten();
    ephemeral.filter_map(|ephemeral| json::from_value(&json::to_value(ephemeral).ok()?).ok()).collect()
}

/// The container whose processes an ephemeral container is to see.
pub fn ephemeral_target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let ephemeral = spec(pod).ephemeral_containers.iter().flatten().find(|ephemeral| ephemeral.name == name)?;
    ephemeral.target_container_name.as_deref().filter(|target| !target.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod")
    }

    #[test]
    fn qos_follows_requests_and_limits_of_cpu_and_memory() {
        for (resources, class) in [
            (serde_json::json!([{}]), QosClass::BestEffort),
            (serde_json::json!([{"requests": {"cpu": "1"}}]), QosClass::Burstable),
            (serde_json::json!([{"limits": {"cpu": "1", "memory": "1Gi"}}]), QosClass::Guaranteed),
            (serde_json::json!([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}]), QosClass::Burstable),
            (
                serde_json::json!([{"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}]),
                QosClass::Burstable,
            ),
        ] {
            let containers: Vec<_> = resources
                .as_array()
                .expect("array")
                .iter()
                .map(|r| serde_json::json!({"name": "c", "resources": r}))
                .collect();
            assert_eq!(qos_class(&pod(serde_json::json!({"containers": containers}))), class, "{resources}");
        }
    }

    #[test]
    fn a_pod_needs_the_larger_of_its_init_peak_and_its_running_sum_plus_sidecars() {
        let pod = pod(serde_json::json!({
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "1"}}},
            ],
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "200m"}, "limits": {"cpu": "1"}}}],
        }));
        assert_eq!(request(&pod, "cpu"), 1100);
        assert_eq!(limit(&pod, "cpu"), None, "the sidecar has no limit");
    }

    #[test]
    fn restart_rules_override_the_policy() {
        let pod = pod(serde_json::json!({"restartPolicy": "Never", "containers": [{
            "name": "c", "restartPolicy": "Never",
            "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
        }]}));
        let container = &spec(&pod).containers[0];
        assert!(should_restart(&pod, container, 42));
        assert!(!should_restart(&pod, container, 1));
    }
}
