//! How pods are listed.

use apimachinery::Value;

use registry::edit::{get, items, number, text};
use registry::printing::{AGE, NAME, age, column, created, name, or_none, wide};
use registry::strategy::Table;

pub const TABLE: Table = Table {
    columns: &[
        NAME,
        column("Ready", "The aggregate readiness state of this pod for accepting traffic."),
        column("Status", "The aggregate status of the containers in this pod."),
        column(
            "Restarts",
            "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
        ),
        AGE,
        wide("IP", ".status.podIP"),
        wide("Node", ".spec.nodeName"),
        wide("Nominated Node", ".status.nominatedNodeName"),
        wide("Readiness Gates", ".spec.readinessGates"),
    ],
    cells,
};

/// What a walk over the statuses of containers gathers.
#[derive(Default)]
struct Summary<'a> {
    ready: usize,
    restarts: i64,
    last_restart: Option<&'a Value>,
}

impl<'a> Summary<'a> {
    fn restarted(&mut self, status: &'a Value) {
        self.restarts += number(status, "restartCount");
        let finished = get(status, "lastState.terminated.finishedAt").filter(|t| t.is_string());
        // RFC 3339 times in UTC sort as text.
        if finished.and_then(Value::as_str) > self.last_restart.and_then(Value::as_str) {
            self.last_restart = finished;
        }
    }
}

fn cells(pod: &Value, now: i64) -> Vec<Value> {
    let sidecars = items(pod, "spec.initContainers").iter().filter(|c| is_sidecar(c)).count();
    let total = items(pod, "spec.containers").len() + sidecars;
    let (summary, reason) = summarize(pod);
    let restarts = match summary.last_restart.filter(|_| summary.restarts != 0) {
        Some(time) => format!("{} ({} ago)", summary.restarts, age(time, now)),
        None => summary.restarts.to_string(),
    };
    let ip = items(pod, "status.podIPs").first().map_or(text(pod, "status.podIP"), |ip| text(ip, "ip"));
    vec![
        name(pod),
        format!("{}/{total}", summary.ready).into(),
        reason.into(),
        restarts.into(),
        created(pod, now),
        or_none(ip),
        or_none(text(pod, "spec.nodeName")),
        or_none(text(pod, "status.nominatedNodeName")),
        or_none(&readiness_gates(pod)),
    ]
}

fn is_sidecar(container: &Value) -> bool {
    text(container, "restartPolicy") == "Always"
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    items(pod, "status.conditions").iter().find(|c| c["type"] == kind)
}

fn is_true(pod: &Value, kind: &str) -> bool {
    condition(pod, kind).is_some_and(|c| c["status"] == "True")
}

fn summarize(pod: &Value) -> (Summary<'_>, String) {
    let phase = text(pod, "status.phase");
    let mut reason = match text(pod, "status.reason") {
        "" => phase.to_owned(),
        reason => reason.to_owned(),
    };
    if condition(pod, "PodScheduled").is_some_and(|c| c["reason"] == "SchedulingGated") {
        reason = "SchedulingGated".into();
    }
    let (mut all, mut sidecars) = (Summary::default(), Summary::default());
    let initializing = initialization(pod, &mut all, &mut sidecars);
    if let Some(why) = &initializing {
        reason = why.clone();
    }
    if initializing.is_none() || is_true(pod, "Initialized") {
        let ready = all.ready;
        all = Summary { ready, ..sidecars };
        let mut running = false;
        for status in items(pod, "status.containerStatuses").iter().rev() {
            all.restarted(status);
            match ended_or_waiting(status) {
                Some(why) => reason = why,
                None if status["ready"] == true && get(status, "state.running").is_some() => {
                    running = true;
                    all.ready += 1;
                }
                None => {}
            }
        }
        // One container's end does not end the pod.
        if reason == "Completed" && running {
            reason = if is_true(pod, "Ready") { "Running" } else { "NotReady" }.into();
        }
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        if text(pod, "status.reason") == "NodeLost" {
            reason = "Unknown".into();
        } else if !matches!(phase, "Failed" | "Succeeded") {
            reason = "Terminating".into();
        }
    }
    (all, reason)
}

/// How far the init containers are; none if they are through.
fn initialization<'a>(pod: &'a Value, all: &mut Summary<'a>, sidecars: &mut Summary<'a>) -> Option<String> {
    let specs = items(pod, "spec.initContainers");
    for (i, status) in items(pod, "status.initContainerStatuses").iter().enumerate() {
        let sidecar = specs.iter().any(|c| c["name"] == status["name"] && is_sidecar(c));
        all.restarted(status);
        if sidecar {
            sidecars.restarted(status);
        }
        let terminated = get(status, "state.terminated");
        if terminated.is_some_and(|t| number(t, "exitCode") == 0) {
            continue;
        }
        if sidecar && status["started"] == true {
            all.ready += usize::from(status["ready"] == true);
            continue;
        }
        let waiting = text(status, "state.waiting.reason");
        return Some(match terminated {
            Some(terminated) => format!("Init:{}", end(terminated)),
            None if !matches!(waiting, "" | "PodInitializing") => format!("Init:{waiting}"),
            None => format!("Init:{i}/{}", specs.len()),
        });
    }
    None
}

fn ended_or_waiting(status: &Value) -> Option<String> {
    match text(status, "state.waiting.reason") {
        "" => get(status, "state.terminated").map(end),
        reason => Some(reason.to_owned()),
    }
}

fn end(terminated: &Value) -> String {
    match (text(terminated, "reason"), number(terminated, "signal")) {
        ("", 0) => format!("ExitCode:{}", number(terminated, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn readiness_gates(pod: &Value) -> String {
    let gates = items(pod, "spec.readinessGates");
    if gates.is_empty() {
        return String::new();
    }
    let met = gates.iter().filter(|g| is_true(pod, text(g, "conditionType"))).count();
    format!("{met}/{}", gates.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(status: Value) -> (String, String) {
        let pod = json!({"spec": {"containers": [{}], "initContainers": [{"name": "i"}]}, "status": status});
        let cells = cells(&pod, 0);
        (cells[1].as_str().unwrap().into(), cells[2].as_str().unwrap().into())
    }

    #[test]
    fn the_status_says_what_holds_the_pod_up() {
        let running = json!([{"ready": true, "state": {"running": {}}}]);
        for (given, ready, shown) in [
            (json!({"phase": "Pending"}), "0/1", "Pending"),
            (json!({"phase": "Running", "containerStatuses": running}), "1/1", "Running"),
            (json!({"phase": "Failed", "reason": "Evicted"}), "0/1", "Evicted"),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
                "0/1",
                "Init:0/1",
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 3}}}]}),
                "0/1",
                "Init:ExitCode:3",
            ),
            (
                json!({"phase": "Running", "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
                "0/1",
                "CrashLoopBackOff",
            ),
            (
                json!({"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"reason": "Completed"}}}]}),
                "0/1",
                "Completed",
            ),
        ] {
            assert_eq!(status(given.clone()), (ready.to_owned(), shown.to_owned()), "{given}");
        }
    }
}
