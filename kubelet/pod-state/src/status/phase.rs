//! A pod's phase, from the states of its containers (kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle).

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::{is_running, is_terminated, last_run};
use crate::spec;

/// The pod's phase. It never leaves Succeeded or Failed. `initialized`: a regular container has run in the present
/// sandbox. `terminated`: none will run again.
pub fn phase(
    pod: &Pod,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
    initialized: bool,
    terminated: bool,
    old: Option<&str>,
) -> &'static str {
    match old {
        Some("Succeeded") => return "Succeeded",
        Some("Failed") => return "Failed",
        _ => {}
    }
    // The end of a static pod's containers is not the pod's: its manifest is still there.
    let terminated = terminated && !spec::is_static(pod);
    let (mut pending, mut running) = (false, 0);
    for (container, status) in spec::init_containers(pod).iter().zip(init) {
        let up = is_running(status);
        match last_run(status) {
            _ if spec::is_sidecar(container) => {
                running += usize::from(up);
                // One that is being restarted does not set the pod back.
                pending |= !initialized && if up { status.started != Some(true) } else { last_run(status).is_none() };
            }
            Some(0) => {}
            Some(code) if !spec::should_restart(pod, container, code) => return "Failed",
            Some(_) => {}
            None => pending = true,
        }
    }
    let (mut waiting, mut stopped, mut succeeded, mut restarting) = (0, 0, 0, false);
    for (container, status) in spec::spec(pod).containers.iter().zip(regular) {
        match last_run(status) {
            _ if is_running(status) => running += 1,
            Some(code) => {
                stopped += 1;
                succeeded += usize::from(is_terminated(status) == Some(0));
                restarting |= spec::should_restart(pod, container, code);
            }
            None => waiting += 1,
        }
    }
    match (running, stopped) {
        _ if (pending || waiting > 0) && terminated => "Failed",
        _ if pending || waiting > 0 => "Pending",
        (1.., _) => "Running",
        (0, 1..) if restarting && !terminated => "Running",
        (0, 1..) if stopped == succeeded => "Succeeded",
        (0, 1..) => "Failed",
        _ => "Pending",
    }
}
