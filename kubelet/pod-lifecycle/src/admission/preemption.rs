//! Whom a critical pod drives out: as few pods as possible, BestEffort before Burstable before Guaranteed, and of those
//! that would do the smallest.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use pod_state::spec::{self, QosClass};

use super::fit::Missing;

/// What is still to be freed, by resource.
type ResourceRequests = Vec<(String, i64)>;

/// The pods of `others` to stop so that all that is `missing` becomes free. An error tells that no set of them suffices.
pub fn victims(pod: &Pod, others: &[Arc<Pod>], missing: &[Missing]) -> Result<Vec<Arc<Pod>>, String> {
    let wanted: ResourceRequests = missing.iter().map(|missing| (missing.resource.clone(), missing.amount())).collect();
    let of_class = |class| -> Vec<Arc<Pod>> {
        let candidates = others.iter().filter(|other| is_preemptable(pod, other));
        candidates.filter(|other| spec::qos_class(other) == class).cloned().collect()
    };
    let (best_effort, burstable, guaranteed) =
        (of_class(QosClass::BestEffort), of_class(QosClass::Burstable), of_class(QosClass::Guaranteed));
    let insufficient = |wanted: &ResourceRequests| {
        let list: String = wanted.iter().map(|(name, amount)| format!("(res: {name}, q: {amount}), ")).collect();
        format!(
            "preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: [{list}]"
        )
    };
    let left = without(&wanted, best_effort.iter().chain(&burstable).chain(&guaranteed));
    if !left.is_empty() {
        return Err(insufficient(&left));
    }
    // Of each class only what the lower ones can't give, even if all of them went.
    let guaranteed = nearest(guaranteed, without(&wanted, best_effort.iter().chain(&burstable)));
    let burstable = nearest(burstable, without(&wanted, best_effort.iter().chain(&guaranteed)));
    let best_effort = nearest(best_effort, without(&wanted, burstable.iter().chain(&guaranteed)));
    Ok([best_effort, burstable, guaranteed].concat())
}

/// Critical pods yield only to those of a higher priority.
fn is_preemptable(preemptor: &Pod, pod: &Pod) -> bool {
    !spec::is_critical(pod)
        || matches!((spec::spec(preemptor).priority, spec::spec(pod).priority), (Some(own), Some(other)) if own > other)
}

fn request(pod: &Pod, resource: &str) -> i64 {
    if resource == "pods" { 1 } else { spec::request(pod, resource) }
}

/// What is still wanted once `pods` are gone.
fn without<'a>(wanted: &ResourceRequests, pods: impl Iterator<Item = &'a Arc<Pod>> + Clone) -> ResourceRequests {
    let left = wanted.iter().map(|(resource, amount)| {
        (resource.clone(), amount - pods.clone().map(|pod| request(pod, resource)).sum::<i64>())
    });
    left.filter(|(_, amount)| *amount > 0).collect()
}

/// Takes pods until nothing is wanted any more: each time the one that leaves the least, the smaller of two that leave
/// the same.
fn nearest(mut pods: Vec<Arc<Pod>>, mut wanted: ResourceRequests) -> Vec<Arc<Pod>> {
    let mut taken = Vec::new();
    while !wanted.is_empty() {
        let left = |pod: &Pod| -> f64 {
            let share = |(resource, amount): &(String, i64)| {
                ((amount - request(pod, resource)).max(0) as f64 / *amount as f64).powi(2)
            };
            wanted.iter().map(share).sum()
        };
        let order = |a: &Arc<Pod>, b: &Arc<Pod>| {
            let size = |pod: &Pod| (spec::request(pod, "memory"), spec::request(pod, "cpu"));
            left(a).total_cmp(&left(b)).then_with(|| size(a).cmp(&size(b)))
        };
        let Some(index) = (0..pods.len()).min_by(|a, b| order(&pods[*a], &pods[*b])) else { break };
        let pod = pods.swap_remove(index);
        wanted = without(&wanted, std::iter::once(&pod));
        taken.push(pod);
    }
    taken
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::tests::pod;

    fn sized(name: &str, memory: i64, guaranteed: bool, priority: i32) -> Arc<Pod> {
        let list = json!({"cpu": "1m", "memory": memory});
        let resources = if guaranteed { json!({"limits": list}) } else { json!({"requests": list}) };
        pod(name, json!({"priority": priority, "containers": [{"name": "c", "resources": resources}]}))
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|pod| spec::name(pod)).collect()
    }

    #[test]
    fn few_and_small_pods_go_the_lower_classes_first() {
        let critical = pod("critical", json!({"priority": 2_000_000_000}));
        let missing =
            |resource: &str, requested| Missing { resource: resource.into(), requested, used: 0, capacity: 0 };
        let (small, middle, large) =
            (sized("small", 10, false, 0), sized("middle", 50, false, 0), sized("large", 90, false, 0));
        let guaranteed = sized("guaranteed", 100, true, 0);
        let best_effort = pod("best-effort", json!({}));
        let important = sized("important", 1000, false, 2_000_000_000);
        let all = [guaranteed, large, small, middle, best_effort, important];
        for (resource, amount, expected) in [
            ("memory", 10, vec!["small"]),
            ("memory", 40, vec!["middle"]),
            ("memory", 60, vec!["large"]),
            ("memory", 120, vec!["large", "middle"]),
            ("memory", 160, vec!["large", "guaranteed"]),
            ("pods", 1, vec!["best-effort"]),
        ] {
            let found = victims(&critical, &all, &[missing(resource, amount)]).expect("victims");
            assert_eq!(names(&found), expected, "{resource} {amount}");
        }
        assert!(victims(&critical, &all, &[missing("memory", 300)]).is_err(), "the important one stays");
        let more = pod("more", json!({"priority": 2_000_001_000}));
        let found = victims(&more, &all, &[missing("memory", 500)]).expect("victims");
        assert_eq!(names(&found), ["important"]);
    }
}
