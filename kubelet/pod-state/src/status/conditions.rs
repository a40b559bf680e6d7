//! A pod's conditions: what of it is in order, and if not, what is missing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};

use super::{Reason, is_running, is_terminated, time};
use crate::spec;

/// The kubelet's own conditions. Others' (readiness gates, the scheduler's) are left as the API server has them.
pub fn conditions(
    pod: &Pod,
    old: &PodStatus,
    phase: &str,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
    has_sandbox: bool,
    now: Timestamp,
) -> Vec<PodCondition> {
    let sidecars_not_ready =
        spec::init_containers(pod).iter().zip(init).filter(|(c, s)| spec::is_sidecar(c) && !s.ready);
    let unready: Vec<&str> = sidecars_not_ready
        .map(|(_, status)| status)
        .chain(regular.iter().filter(|status| !status.ready))
        .map(|status| status.name.as_str())
        .collect();
    let incomplete: Vec<&str> = spec::init_containers(pod)
        .iter()
        .zip(init)
        .filter(|(c, s)| if spec::is_sidecar(c) { s.started != Some(true) } else { !s.ready })
        .map(|(_, status)| status.name.as_str())
        .collect();
    let any_started = regular.iter().any(|s| is_running(s) || is_terminated(s).is_some());

    let ended = match phase {
        "Succeeded" => Some("PodCompleted"),
        "Failed" => Some("PodFailed"),
        _ => None,
    };
    let initialized = match ended {
        Some("PodCompleted") => Ok(Some("PodCompleted")),
        _ if incomplete.is_empty() || any_started => Ok(None),
        _ => Err(Reason::new(
            "ContainersNotInitialized",
            format!("containers with incomplete status: [{}]", incomplete.join(" ")),
        )),
    };
    let containers_ready = match ended {
        Some(reason) => Err(Reason::new(reason, "")),
        None if unready.is_empty() => Ok(None),
        None => {
            Err(Reason::new("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))))
        }
    };
    let ready = containers_ready.clone().and_then(|ok| readiness_gates(pod, old).map(|()| ok));
    let sandbox = if has_sandbox { Ok(None) } else { Err(Reason::default()) };

    [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Ok(None)),
    ]
    .into_iter()
    .map(|(type_, verdict)| {
        let (status, reason) = match verdict {
            Ok(reason) => ("True", Reason::new(reason.unwrap_or_default(), "")),
            Err(reason) => ("False", reason),
        };
        condition(pod, old, type_, status, reason, now)
    })
    .collect()
}

/// One condition; its transition time comes from `old` where its status is the same there.
pub fn condition(
    pod: &Pod,
    old: &PodStatus,
    type_: &str,
    status: &str,
    reason: Reason,
    now: Timestamp,
) -> PodCondition {
    let before = old.conditions.iter().flatten().find(|c| c.type_ == type_ && c.status == status);
    PodCondition {
        type_: type_.into(),
        status: status.into(),
        reason: (!reason.reason.is_empty()).then_some(reason.reason),
        message: (!reason.message.is_empty()).then_some(reason.message),
        last_transition_time: before
            .and_then(|before| before.last_transition_time.clone())
            .or_else(|| time(now.as_nanosecond() as i64)),
        observed_generation: pod.metadata.generation,
        last_probe_time: None,
    }
}

fn readiness_gates(pod: &Pod, old: &PodStatus) -> Result<(), Reason> {
    let current: BTreeMap<&str, &str> = pod
        .status
        .iter()
        .chain([old])
        .flat_map(|status| status.conditions.iter().flatten())
        .map(|condition| (condition.type_.as_str(), condition.status.as_str()))
        .collect();
    let problems: Vec<String> = spec::spec(pod)
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| match current.get(gate.condition_type.as_str()) {
            Some(&"True") => None,
            Some(status) => Some(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {status}",
                gate.condition_type
            )),
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(Reason::new("ReadinessGatesNotReady", problems.join(", "))) }
}
