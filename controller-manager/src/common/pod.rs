//! What a pod's status means.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::{Value, json};

use super::{conditions, meta};

/// Indexes of the shared pod store.
pub mod index {
    /// By the controller's uid; pods without one under [`super::orphans`] of their namespace.
    pub const CONTROLLER: &str = "controller";
    pub const NODE: &str = "node";
    pub const NAMESPACE: &str = "namespace";
}

/// The value of [`index::CONTROLLER`] for pods of a namespace that nothing controls.
pub fn orphans(namespace: &str) -> String {
    format!("orphan/{namespace}")
}

/// Succeeded, Failed, Running, Pending, Unknown or nothing yet.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// Succeeded or failed: it will not run again.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither finished nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !meta::is_deleting(pod)
}

/// Being deleted and not finished yet.
pub fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && meta::is_deleting(pod)
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    conditions::get(&pod.status.as_ref()?.conditions, kind)
}

/// A condition for a strategic merge patch of the pod's status. What it does not say is null, so that nothing stays of an
/// earlier state; its transition time stays if its status does.
pub fn condition_patch(pod: &Pod, kind: &str, status: &str, reason: &str, message: &str) -> Value {
    let text = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    let same = condition(pod, kind).filter(|before| before.status == status);
    let since = same.and_then(|before| before.last_transition_time.clone()).unwrap_or_else(meta::now);
    json!({
        "type": kind, "status": status, "reason": text(reason), "message": text(message), "lastProbeTime": null,
        "lastTransitionTime": since, "observedGeneration": pod.metadata.generation,
    })
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// When the pod became ready; `None` if it is not.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0))
}

/// Ready for at least `min_ready_secs`.
pub fn is_available(pod: &Pod, min_ready_secs: i32, now: Timestamp) -> bool {
    match ready_since(pod) {
        Some(_) if min_ready_secs == 0 => true,
        Some(since) => now.duration_since(since).as_secs() >= i64::from(min_ready_secs),
        None => false,
    }
}

/// How long until the first of `pods` that is ready becomes available.
pub fn next_availability<'a>(
    pods: impl Iterator<Item = &'a Pod>,
    min_ready_secs: i32,
    now: Timestamp,
) -> Option<Duration> {
    if min_ready_secs == 0 {
        return None;
    }
    let waits = pods.filter(|pod| !is_available(pod, min_ready_secs, now)).filter_map(ready_since).map(|since| {
        let left_ms = i64::from(min_ready_secs) * 1000 - now.duration_since(since).as_millis() as i64;
        Duration::from_millis(u64::try_from(left_ms).unwrap_or(0).max(1))
    });
    waits.min()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use k8s_openapi::{api::core::v1::PodStatus, apimachinery::pkg::apis::meta::v1::Time};

    use super::*;

    #[test]
    fn available_after_min_ready_seconds() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1000);
        let pod = |ready: &str, secs_ago: i64| {
            let condition = PodCondition {
                type_: "Ready".into(),
                status: ready.into(),
                last_transition_time: Some(Time(now - SignedDuration::from_secs(secs_ago))),
                ..PodCondition::default()
            };
            let status = PodStatus { conditions: Some(vec![condition]), ..PodStatus::default() };
            Pod { status: Some(status), ..Pod::default() }
        };
        for (ready, secs_ago, min_ready, available, wait_secs) in [
            ("True", 0, 0, true, None),
            ("False", 100, 0, false, None),
            ("True", 9, 10, false, Some(1)),
            ("True", 10, 10, true, None),
        ] {
            let pod = pod(ready, secs_ago);
            assert_eq!(is_available(&pod, min_ready, now), available, "{ready} {secs_ago} {min_ready}");
            let wait = next_availability([&pod].into_iter(), min_ready, now);
            assert_eq!(wait.map(|wait| wait.as_secs()), wait_secs, "{ready} {secs_ago} {min_ready}");
        }
    }

    #[test]
    fn a_patch_leaves_nothing_of_an_earlier_state() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"generation": 3}, "status": {"conditions": [
            {"type": "A", "status": "False", "reason": "R", "message": "m", "lastTransitionTime": "2024-01-01T00:00:00Z"}]}}))
        .unwrap();
        let patch = condition_patch(&pod, "A", "True", "", "");
        assert_eq!((&patch["reason"], &patch["message"]), (&Value::Null, &Value::Null));
        assert!(patch.as_object().unwrap().contains_key("reason"), "null removes, absence would not");
        assert_ne!(patch["lastTransitionTime"], "2024-01-01T00:00:00Z");
        assert_eq!(patch["observedGeneration"], 3);
        let again = condition_patch(&pod, "A", "False", "S", "n");
        assert_eq!(again["lastTransitionTime"], "2024-01-01T00:00:00Z");
        assert_eq!((&again["reason"], &again["message"]), (&json!("S"), &json!("n")));
    }
}
