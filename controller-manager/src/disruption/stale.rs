//! Pods that were to be disrupted and were not: after a while they no longer say that they are.

use std::time::Duration;

use component_base::controller::Action;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::common::{Doing, Result, meta, pod};

const CONDITION: &str = "DisruptionTarget";
/// A pod that is not being deleted within this time is not going to be.
const TIMEOUT: SignedDuration = SignedDuration::from_secs(120);

/// How long a pod may still say that it is to be disrupted; `None` if it does not say so, or rightly so.
pub(super) fn left(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let condition = pod::condition(pod, CONDITION).filter(|condition| condition.status == "True")?;
    // A kubelet takes its time until it ends a pod.
    let by_kubelet = condition.reason.as_deref() == Some("TerminationByKubelet");
    if by_kubelet || meta::is_deleting(pod) || pod::is_terminal(pod) {
        return None;
    }
    let since = condition.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0);
    Some(Duration::try_from(TIMEOUT - now.duration_since(since)).unwrap_or_default())
}

pub(super) async fn reconcile(client: &Client, pod: &Pod) -> Result {
    match left(pod, Timestamp::now()) {
        None => return Ok(Action::Done),
        Some(left) if !left.is_zero() => return Ok(Action::After(left)),
        Some(_) => {}
    }
    let condition = pod::condition_patch(pod, CONDITION, "False", "", "");
    let patch = json!({"metadata": {"uid": meta::uid(pod)}, "status": {"conditions": [condition]}});
    let api: Api<Pod> = Api::namespaced(client.clone(), meta::namespace(pod));
    let patched = api.patch_status(meta::name(pod), &PatchParams::default(), &Patch::Strategic(patch)).await;
    patched.or_gone(|| format!("take {CONDITION} off pod {}", meta::key(pod)))?;
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn only_pods_that_stay_lose_the_condition() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let pod = |status: &str, reason: &str, phase: &str, deleted: Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"deletionTimestamp": deleted}, "status": {"phase": phase,
                "conditions": [{"type": CONDITION, "status": status, "reason": reason,
                    "lastTransitionTime": "2026-01-01T00:09:00Z"}]}}))
            .unwrap()
        };
        let eviction = "EvictionByEvictionAPI";
        for (pod, secs) in [
            (pod("True", eviction, "Running", Value::Null), Some(60)),
            (pod("True", "TerminationByKubelet", "Running", Value::Null), None),
            (pod("True", eviction, "Failed", Value::Null), None),
            (pod("True", eviction, "Running", json!("2026-01-01T00:09:30Z")), None),
            (pod("False", eviction, "Running", Value::Null), None),
            (Pod::default(), None),
        ] {
            assert_eq!(left(&pod, now).map(|left| left.as_secs()), secs, "{pod:?}");
            let later = now + SignedDuration::from_secs(300);
            assert_eq!(left(&pod, later).map(|left| left.as_secs()), secs.map(|_| 0));
        }
    }
}
