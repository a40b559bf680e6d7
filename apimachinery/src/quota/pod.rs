//! What pods use.

use super::{Amounts, Basis, Side, count, totals};
use crate::Value;
use jiff::{SignedDuration, Timestamp};

/// Limited by request, by bare name or `requests.`, and by limit.
const MEASURED: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];
/// What containers must state where a quota limits it.
const MUST_STATE: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
const HUGE_PAGES: &str = "hugepages-";

/// A resource of somebody else's, such as `nvidia.com/gpu`.
fn is_extended(name: &str) -> bool {
    name.split_once('/').is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
}

/// Whether a name in `hard` is about what pods compute with.
pub fn is_compute(name: &str) -> bool {
    if let Some(limit) = name.strip_prefix("limits.") {
        return MEASURED.contains(&limit);
    }
    match name.strip_prefix("requests.") {
        Some(request) => MEASURED.contains(&request) || request.starts_with(HUGE_PAGES) || is_extended(request),
        None => MEASURED.contains(&name) || name.starts_with(HUGE_PAGES),
    }
}

/// Whether a pod counts for more than its place in etcd: not when it has ended, nor when it should have, but its node is lost.
pub fn counts(pod: &Value, now: Timestamp) -> bool {
    if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return false;
    }
    let meta = &pod["metadata"];
    let deleted = meta["deletionTimestamp"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    let (Some(deleted), Some(grace)) = (deleted, meta["deletionGracePeriodSeconds"].as_i64()) else { return true };
    now <= deleted.saturating_add(SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX)
}

pub fn usage(pod: &Value, used: &mut Amounts) {
    used.insert("pods".into(), count(1));
    for (resource, amount) in totals(pod, Side::Requests, Basis::WithStatus) {
        if MEASURED.contains(&resource.as_str()) || resource.starts_with(HUGE_PAGES) {
            used.insert(resource.clone(), amount.clone());
        }
        used.insert(format!("requests.{resource}"), amount);
    }
    for (resource, amount) in totals(pod, Side::Limits, Basis::WithStatus) {
        if MEASURED.contains(&resource.as_str()) {
            used.insert(format!("limits.{resource}"), amount);
        }
    }
}

/// What containers of a pod leave open that a quota with the limits `hard` wants stated:
/// `limits.cpu for: a; requests.cpu for: a,b`.
pub fn unstated(pod: &Value, hard: &Amounts) -> Option<String> {
    let stated = |container: &Value, name: &str| {
        let (side, resource) = name.split_once('.').unwrap_or(("requests", name));
        !container["resources"][side][resource].is_null() || !pod["spec"]["resources"][side][resource].is_null()
    };
    let mut parts = Vec::new();
    for name in hard.keys().filter(|name| MUST_STATE.contains(&name.as_str())) {
        let containers = ["containers", "initContainers"].into_iter().filter_map(|list| pod["spec"][list].as_array());
        let mut silent: Vec<&str> =
            containers.flatten().filter(|c| !stated(c, name)).filter_map(|c| c["name"].as_str()).collect();
        silent.sort_unstable();
        if !silent.is_empty() {
            parts.push(format!("{name} for: {}", silent.join(",")));
        }
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::PODS;
    use serde_json::json;

    #[test]
    fn pods_use_what_their_containers_ask_for() {
        let pod = json!({"spec": {"containers": [{"resources": {
            "requests": {"cpu": "500m", "memory": "1Gi", "hugepages-2Mi": "4Mi", "nvidia.com/gpu": "2"},
            "limits": {"cpu": "1", "nvidia.com/gpu": "2"}}}]}});
        let used = PODS.usage(&pod, Timestamp::UNIX_EPOCH);
        let text: Vec<String> = used.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        let want = "count/pods=1 cpu=500m hugepages-2Mi=4Mi limits.cpu=1 memory=1Gi pods=1 requests.cpu=500m \
                    requests.hugepages-2Mi=4Mi requests.memory=1Gi requests.nvidia.com/gpu=2";
        assert_eq!(text.join(" "), want);
    }

    #[test]
    fn pods_that_ended_or_should_have_keep_their_place_only() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let deleted = |at: &str| json!({"metadata": {"deletionTimestamp": at, "deletionGracePeriodSeconds": 30}});
        for (pod, counted) in [
            (json!({}), true),
            (json!({"status": {"phase": "Running"}}), true),
            (json!({"status": {"phase": "Failed"}}), false),
            (json!({"status": {"phase": "Succeeded"}}), false),
            (deleted("2026-01-01T00:00:45Z"), true),
            (deleted("2026-01-01T00:00:15Z"), false),
        ] {
            let used = PODS.usage(&pod, now);
            assert_eq!(used.contains_key("pods"), counted, "{pod}");
            assert!(used.contains_key("count/pods"));
        }
    }

    #[test]
    fn containers_must_state_what_is_limited() {
        let pod =
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "resources": {"requests": {"cpu": "1"}}}]}});
        let hard = Amounts::from([("requests.cpu".to_owned(), count(1)), ("pods".to_owned(), count(1))]);
        assert_eq!(unstated(&pod, &hard).as_deref(), Some("requests.cpu for: a"));
    }
}
