//! Stopping containers: preStop, the stop signal, and after the grace period SIGKILL. Sidecars outlive the containers
//! they serve (KEP-753).

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod};
use pod_state::runtime::{Instance, Observed};
use pod_state::spec;
use probes::Kill;
use probes::handlers::Target;

use crate::Lifecycle;
use crate::hooks;

/// What preStop leaves at least for the stop signal, and a late sidecar at least for its end.
const GRACE_MIN: Duration = Duration::from_secs(2);

/// What the event says of a container that is killed and comes again.
fn message(why: &Kill, container: &str) -> String {
    let why = match why {
        Kill::SpecChanged => format!("Container {container} definition changed"),
        Kill::LivenessProbe => format!("Container {container} failed liveness probe"),
        Kill::StartupProbe => format!("Container {container} failed startup probe"),
        Kill::PostStart(_) => "FailedPostStartHook".to_owned(),
    };
    format!("{why}, will be restarted")
}

/// Stops one container for a reason of its own.
pub async fn container(lifecycle: &Lifecycle, pod: &Pod, instance: &Instance, why: &Kill) -> cri_client::Result<()> {
    let probe = match why {
        Kill::LivenessProbe => spec_of(pod, &instance.name).and_then(|container| container.liveness_probe.as_ref()),
        Kill::StartupProbe => spec_of(pod, &instance.name).and_then(|container| container.startup_probe.as_ref()),
        _ => None,
    };
    let own = probe.and_then(|probe| probe.termination_grace_period_seconds);
    let grace =
        own.map_or_else(|| spec::grace_period(pod), |seconds| Duration::from_secs(seconds.max(1).unsigned_abs()));
    stop(lifecycle, pod, instance, grace, &message(why, &instance.name)).await
}

fn spec_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    spec::spec(pod).containers.iter().chain(spec::init_containers(pod)).find(|container| container.name == name)
}

async fn stop(
    lifecycle: &Lifecycle,
    pod: &Pod,
    instance: &Instance,
    grace: Duration,
    message: &str,
) -> cri_client::Result<()> {
    lifecycle.context.event(pod, Some(&instance.name), "Normal", "Killing", message);
    let started = Instant::now();
    if let Some(container) = spec_of(pod, &instance.name)
        && let Some(pre_stop) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref())
    {
        let host = lifecycle.pod_ip(pod);
        let target = Target { cri: &lifecycle.context.cri, container, container_id: &instance.id, host: &host };
        match tokio::time::timeout(grace, hooks::run(&target, pre_stop)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let message = format!("PreStopHook failed: {error}");
                lifecycle.context.event(pod, Some(&instance.name), "Warning", "FailedPreStopHook", &message);
            }
            Err(_) => {
                tracing::info!(pod = spec::key(pod), container = instance.name, "preStop hook used up the grace period")
            }
        }
    }
    let left = grace.saturating_sub(started.elapsed());
    let left = if started.elapsed() > Duration::from_millis(1) { left.max(GRACE_MIN.min(grace)) } else { left };
    lifecycle.context.cri.stop_container(&instance.id, left).await
}

/// Stops all containers of the pod, and its sandboxes. Containers end together; sidecars in the reverse order of their
/// start, each once all before it are down, all within `grace`.
///
/// Cancel safe: what was sent stays sent, and another call with a shorter grace cuts the wait.
pub async fn pod(
    lifecycle: &Arc<Lifecycle>,
    pod: &Pod,
    observed: &Observed,
    grace: Duration,
) -> cri_client::Result<()> {
    let deadline = Instant::now() + grace;
    let is_sidecar = |name: &str| spec::init_containers(pod).iter().any(|c| c.name == name && spec::is_sidecar(c));
    let message = |instance: &Instance| format!("Stopping container {}", instance.name);

    let regular = observed.running().filter(|instance| !is_sidecar(&instance.name));
    let stopping = regular.map(|instance| {
        let grace = instance.grace_period.filter(|_| pod.spec.is_none()).map_or(grace, Duration::from_secs);
        async move { stop(lifecycle, pod, instance, grace, &message(instance)).await }
    });
    for result in futures::future::join_all(stopping).await {
        result?;
    }
    for sidecar in spec::init_containers(pod).iter().rev().filter(|container| spec::is_sidecar(container)) {
        for instance in observed.running().filter(|instance| instance.name == sidecar.name) {
            let left = deadline.saturating_duration_since(Instant::now()).max(GRACE_MIN.min(grace));
            stop(lifecycle, pod, instance, left, &message(instance)).await?;
        }
    }
    for sandbox in &observed.sandboxes {
        match lifecycle.context.cri.stop_pod_sandbox(&sandbox.id).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
