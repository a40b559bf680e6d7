//! The node's own say on a pod: the scheduler may have decided on old facts, and some pods never met it. A pod that is
//! refused fails, with upstream's reasons and messages; for a critical pod others may have to go.
//!
//! Everything in here is a function of the pod, the node and the other pods. Who stops whom is the manager's business.

mod fit;
mod place;
mod preemption;
mod sysctls;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use component_base::metrics::{self, IntCounterVec};
use configuration::quantity::ResourceList;
use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};
use node_context::Context;
use pod_state::spec;
use pod_state::status::Reason;

static REJECTIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::int_counter_vec(
        "kubelet_admission_rejections_total",
        "[ALPHA] Pods that the node refused, by reason",
        &["reason"],
    )
});
static PREEMPTIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::int_counter_vec(
        "kubelet_preemptions",
        "[ALPHA] Pods stopped to make room for critical ones, by the resource that was short",
        &["preemption_signal"],
    )
});

/// Reasons that the metric tells apart; upstream bounds the label the same way.
const COUNTED: [&str; 11] = [
    "AppArmor",
    "Evicted",
    "OutOfcpu",
    "OutOfephemeral-storage",
    "OutOfmemory",
    "OutOfpods",
    "PodOSNotSupported",
    "PodOSSelectorNodeLabelDoesNotMatch",
    "SupplementalGroupsPolicyNotSupported",
    "SysctlForbidden",
    "UnexpectedAdmissionError",
];

/// What admission looks at of the node.
pub struct Node {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub allocatable: ResourceList,
    /// The runtime can keep the image's groups out (KEP-3619).
    pub strict_groups: bool,
    pub app_armor: bool,
}

/// What came of looking at a pod.
#[derive(Debug, Default, PartialEq)]
pub struct Admitted {
    /// Pods that have to stop before this one may start.
    pub preempted: Vec<Arc<Pod>>,
    /// The resource they are preempted for.
    pub signal: String,
}

/// Checks whether the node can run `pod` beside `others`, the pods that use what they asked for.
pub fn admit(context: &Context, pod: &Pod, others: &[Arc<Pod>]) -> Result<Admitted, Reason> {
    let verdict = pressure(&context.pressure.conditions(), pod)
        .and_then(|()| sysctls::allowed(pod, &context.config.allowed_unsafe_sysctls))
        .and_then(|()| predicates(&node(context), pod, others));
    match &verdict {
        Ok(admitted) => {
            PREEMPTIONS.with_label_values(&[admitted.signal.as_str()]).inc_by(admitted.preempted.len() as u64);
        }
        Err(refused) => REJECTIONS.with_label_values(&[counted(&refused.reason)]).inc(),
    }
    verdict
}

fn counted(reason: &str) -> &str {
    match COUNTED.contains(&reason) {
        true => reason,
        false if reason.starts_with("OutOf") => "OutOfExtendedResources",
        false => "Other",
    }
}

fn node(context: &Context) -> Node {
    let object = context.node();
    let object = object.as_deref();
    let mut allocatable = context.allocatable();
    // Others add resources to the node's status; of those the kubelet knows, its own word counts.
    for (name, quantity) in object.and_then(|node| node.status.as_ref()?.allocatable.as_ref()).into_iter().flatten() {
        allocatable.entry(name.clone()).or_insert_with(|| quantity.clone());
    }
    Node {
        name: context.node_name.clone(),
        labels: object.map_or_else(|| context.labels(), |n| n.metadata.labels.clone().unwrap_or_default()),
        taints: object.and_then(|node| node.spec.as_ref()?.taints.clone()).unwrap_or_default(),
        allocatable,
        strict_groups: context.runtime.read().features.as_ref().and_then(|f| f.supplemental_groups_policy)
            == Some(true),
        app_armor: std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|on| on.starts_with('Y')),
    }
}

/// What the scheduler would ask too, and what only the node knows. Where several things are wrong, the first is told;
/// lack of resources comes before the rest, unless the pod is critical: then room can be made.
fn predicates(node: &Node, pod: &Pod, others: &[Arc<Pod>]) -> Result<Admitted, Reason> {
    place::system(node, pod)?;
    let missing = fit::missing(pod, others, &node.allocatable);
    let place = place::fits(node, pod, others);
    let Some(first) = missing.first() else { return place.map(|()| Admitted::default()) };
    if !spec::is_critical(pod) {
        return Err(first.reason());
    }
    place?;
    let signal = first.resource.clone();
    let preempted = preemption::victims(pod, others, &missing).map_err(|message| {
        let message = format!("Unexpected error while attempting to recover from admission failure: {message}");
        Reason::new("UnexpectedAdmissionError", message)
    })?;
    Ok(Admitted { preempted, signal })
}

/// Under pressure the node takes no pods that it would evict next.
fn pressure(conditions: &[&str], pod: &Pod) -> Result<(), Reason> {
    if conditions.is_empty() || spec::is_critical(pod) {
        return Ok(());
    }
    if conditions == ["MemoryPressure"] {
        let taint = Taint {
            key: "node.kubernetes.io/memory-pressure".into(),
            effect: "NoSchedule".into(),
            ..Default::default()
        };
        if spec::qos_class(pod) != spec::QosClass::BestEffort || tolerates(pod, &taint) {
            return Ok(());
        }
    }
    Err(Reason::new("Evicted", format!("The node had condition: [{}]. ", conditions.join(" "))))
}

/// Whether one of the pod's tolerations covers the taint.
fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    let covers = |toleration: &Toleration| {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (key, effect, value) = (text(&toleration.key), text(&toleration.effect), text(&toleration.value));
        (effect.is_empty() || effect == taint.effect)
            && (key.is_empty() || key == taint.key)
            && match toleration.operator.as_deref() {
                None | Some("" | "Equal") => value == text(&taint.value),
                Some("Exists") => true,
                Some(_) => false,
            }
    };
    spec::spec(pod).tolerations.iter().flatten().any(covers)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use configuration::quantity;

    /// A pod with this spec, and one container where it names none.
    pub(in crate::admission) fn pod(name: &str, mut spec: Value) -> Arc<Pod> {
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{"name": "c"}]);
        }
        let pod = json!({"metadata": {"name": name, "uid": name}, "spec": spec});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    pub(in crate::admission) fn requesting(name: &str, requests: Value) -> Arc<Pod> {
        pod(name, json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}))
    }

    pub(in crate::admission) fn node() -> Node {
        Node {
            name: "n1".into(),
            labels: [("kubernetes.io/os".to_owned(), "linux".to_owned()), ("zone".into(), "a".into())].into(),
            taints: Vec::new(),
            allocatable: [("cpu".to_owned(), quantity::cpu(1000)), ("pods".to_owned(), quantity::count(3))].into(),
            strict_groups: false,
            app_armor: false,
        }
    }

    #[test]
    fn under_pressure_only_pods_that_would_stay_are_let_in() {
        let best_effort = pod("p", json!({}));
        let tolerating = pod(
            "p",
            json!({"tolerations": [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}]}),
        );
        let critical = pod("p", json!({"priority": 2_000_000_000}));
        let burstable = requesting("p", json!({"cpu": "1m"}));
        let cases: [(&[&str], &Pod, bool); 7] = [
            (&[], &best_effort, true),
            (&["MemoryPressure"], &best_effort, false),
            (&["MemoryPressure"], &tolerating, true),
            (&["MemoryPressure"], &burstable, true),
            (&["DiskPressure"], &burstable, false),
            (&["DiskPressure", "MemoryPressure"], &tolerating, false),
            (&["DiskPressure"], &critical, true),
        ];
        for (conditions, pod, admitted) in cases {
            assert_eq!(pressure(conditions, pod).is_ok(), admitted, "{conditions:?} {pod:?}");
        }
        let refused = pressure(&["DiskPressure"], &burstable).expect_err("refused");
        assert_eq!(
            (refused.reason.as_str(), refused.message.as_str()),
            ("Evicted", "The node had condition: [DiskPressure]. ")
        );
    }

    #[test]
    fn lack_of_resources_is_told_first_but_a_critical_pod_fails_only_for_what_room_does_not_mend() {
        let spec = json!({"nodeSelector": {"zone": "b"}, "containers": [
            {"name": "c", "resources": {"requests": {"cpu": "2"}}}]});
        let refused = predicates(&node(), &pod("p", spec.clone()), &[]).expect_err("refused");
        assert_eq!(refused.reason, "OutOfcpu");
        let mut critical = spec;
        critical["priority"] = json!(2_000_000_000);
        let refused = predicates(&node(), &pod("p", critical), &[]).expect_err("refused");
        assert_eq!(refused.reason, "NodeAffinity");
    }

    #[test]
    fn a_critical_pod_preempts() {
        let critical = pod(
            "p",
            json!({"priority": 2_000_000_000, "containers": [
            {"name": "c", "resources": {"requests": {"cpu": "600m"}}}]}),
        );
        let other = requesting("other", json!({"cpu": "500m"}));
        let admitted = predicates(&node(), &critical, std::slice::from_ref(&other)).expect("admitted");
        assert_eq!(admitted, Admitted { preempted: vec![other], signal: "cpu".into() });
        let refused = predicates(&node(), &critical, std::slice::from_ref(&critical)).expect_err("nobody can go");
        assert_eq!(refused.reason, "UnexpectedAdmissionError");
    }

    #[test]
    fn the_metric_tells_only_known_reasons_apart() {
        for (reason, label) in
            [("OutOfcpu", "OutOfcpu"), ("OutOfexample.com/gpu", "OutOfExtendedResources"), ("NodePorts", "Other")]
        {
            assert_eq!(counted(reason), label);
        }
    }
}
