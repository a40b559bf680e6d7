//! PodStatus as a pure function of the pod, what the runtime has, and what the worker knows besides. Phase and condition
//! rules: kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle.

mod conditions;
mod phase;

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, HostIP, LinuxContainerUser, Pod, PodIP, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::runtime::{Instance, Observed, State};
use crate::spec;
use conditions::{condition, conditions};
use phase::phase;

/// A short CamelCase reason and a sentence for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason {
    /// CamelCase, for machines.
    pub reason: String,
    /// A sentence, for people; "" where there is nothing to add.
    pub message: String,
}

impl Reason {
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

/// What the worker knows that neither the spec nor the runtime tells.
pub struct Facts<'a> {
    /// Why a container isn't running, by container name: the last failed start, or a back-off.
    pub waiting: &'a HashMap<String, Reason>,
    /// Readiness probe verdicts, by instance.
    pub ready: &'a dyn Fn(&Container, &Instance) -> bool,
    /// Startup probe verdicts, by instance.
    pub started: &'a dyn Fn(&Container, &Instance) -> bool,
    /// The pod failed as a whole (evicted, rejected, past its deadline).
    pub failed: Option<&'a Reason>,
    /// Message of DisruptionTarget, where the node ended the pod.
    pub disruption: Option<&'a str>,
    /// No container will run again: the worker has stopped them all.
    pub terminated: bool,
    /// Addresses of the node, the primary one first.
    pub node_ips: &'a [String],
    /// When the kubelet first saw the pod.
    pub start_time: Timestamp,
    /// The time of transitions that this status brings.
    pub now: Timestamp,
    /// The scheme of container ids ("containerd").
    pub runtime_name: &'a str,
}

/// Upstream's bound on the termination messages of all containers of a pod together.
const TERMINATION_MESSAGES_BYTES_MAX: usize = 12 << 10;

/// Time from the runtime's ns; API times have whole seconds.
pub fn time(ns: i64) -> Option<Time> {
    (ns > 0).then(|| Timestamp::from_second(ns / 1_000_000_000).ok().map(Time)).flatten()
}

/// Computes the status to report. `old` is what was reported last (or what the API server had when the kubelet
/// started); transition times and vanished instances' last states come from there.
pub fn generate(pod: &Pod, old: &PodStatus, observed: &Observed, facts: &Facts) -> PodStatus {
    let init = spec::init_containers(pod);
    let regular = &spec::spec(pod).containers;
    let list = |containers: &[Container], old: Option<&Vec<ContainerStatus>>| -> Vec<ContainerStatus> {
        containers.iter().map(|c| container_status(pod, c, old, observed, facts)).collect()
    };
    if facts.failed.is_some() && observed.containers.is_empty() && old.container_statuses.is_none() {
        // Rejected before anything was made: there are no containers to tell of.
        return PodStatus { conditions: None, ..old.clone() };
    }
    let mut init_statuses = list(init, old.init_container_statuses.as_ref());
    let mut statuses = list(regular, old.container_statuses.as_ref());
    let ephemeral = spec::ephemeral_containers(pod);
    let mut ephemeral_statuses = list(&ephemeral, old.ephemeral_container_statuses.as_ref());

    let sandbox = observed.sandbox();
    let in_sandbox = |name: &str| sandbox.and_then(|sandbox| observed.in_sandbox(name, &sandbox.id));
    let has_run =
        |c: &Container| in_sandbox(&c.name).is_some_and(|i| matches!(i.state, State::Running | State::Exited));
    let initialized = regular.iter().any(has_run);
    let phase = match facts.failed {
        Some(_) => "Failed",
        None => phase(pod, &init_statuses, &statuses, initialized, facts.terminated, old.phase.as_deref()),
    };
    if facts.terminated {
        end_missing(pod, &mut init_statuses, &mut statuses);
    }
    // Others take over what the pod held (ports, volumes, its name) as soon as it is over, so it is not before nothing
    // runs.
    let phase = match old.phase.as_deref() {
        Some("Succeeded" | "Failed") => phase,
        Some("Running") if is_terminal(phase) && !facts.terminated => "Running",
        _ if is_terminal(phase) && !facts.terminated => "Pending",
        _ => phase,
    };
    let failed = facts.failed.filter(|_| phase == "Failed");
    let pod_ips: Vec<String> = match sandbox {
        _ if spec::host_network(pod) => facts.node_ips.to_vec(),
        Some(sandbox) => sandbox.ips.clone(),
        // A pod that ended keeps the address it had: Endpoints and people look at it.
        None => old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect(),
    };
    let some = |list: Vec<ContainerStatus>| (!list.is_empty()).then_some(list);
    let share = TERMINATION_MESSAGES_BYTES_MAX / (init.len() + regular.len() + ephemeral.len()).max(1);
    for status in init_statuses.iter_mut().chain(&mut statuses).chain(&mut ephemeral_statuses) {
        shorten(status, share);
    }
    let mut conditions = conditions(pod, old, phase, &init_statuses, &statuses, sandbox.is_some(), facts.now);
    if let Some(message) = facts.disruption.filter(|_| is_terminal(phase)) {
        let reason = Reason::new("TerminationByKubelet", message);
        conditions.push(condition(pod, old, "DisruptionTarget", "True", reason, facts.now));
    }
    // Init containers have an order of their own; the others are listed by name, as upstream's.
    statuses.sort_by(|a, b| a.name.cmp(&b.name));
    ephemeral_statuses.sort_by(|a, b| a.name.cmp(&b.name));
    PodStatus {
        conditions: Some(conditions),
        phase: Some(phase.to_owned()),
        reason: failed.map(|failed| failed.reason.clone()),
        message: failed.map(|failed| failed.message.clone()),
        host_ip: facts.node_ips.first().cloned(),
        host_ips: (!facts.node_ips.is_empty())
            .then(|| facts.node_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: pod_ips.first().cloned(),
        pod_ips: (!pod_ips.is_empty()).then(|| pod_ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: old.start_time.clone().or_else(|| time(facts.start_time.as_nanosecond() as i64)),
        init_container_statuses: some(init_statuses),
        container_statuses: some(statuses),
        ephemeral_container_statuses: some(ephemeral_statuses),
        qos_class: Some(spec::qos_class(pod).as_str().to_owned()),
        observed_generation: pod.metadata.generation,
        ..Default::default()
    }
}

/// Cuts the container's termination messages to `bytes_max`.
fn shorten(status: &mut ContainerStatus, bytes_max: usize) {
    for state in [&mut status.state, &mut status.last_state] {
        if let Some(message) = state.as_mut().and_then(|state| state.terminated.as_mut()?.message.as_mut()) {
            message.truncate(message.floor_char_boundary(bytes_max));
        }
    }
}

/// The state of a container whose end nobody saw.
fn lost(message: &str) -> ContainerState {
    let terminated = ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".into()),
        message: Some(message.into()),
        ..Default::default()
    };
    ContainerState { terminated: Some(terminated), ..Default::default() }
}

/// The pod is over, and so is each of its containers: those that should have run but have no end to show failed. Init
/// containers that were never reached, and regular ones behind them, keep waiting.
fn end_missing(pod: &Pod, init: &mut [ContainerStatus], regular: &mut [ContainerStatus]) {
    let has_begun = |status: &ContainerStatus| {
        status.state.as_ref().is_none_or(|state| state.waiting.is_none()) || last_exit(status).is_some()
    };
    let completed = |(container, status): (&Container, &ContainerStatus)| {
        if spec::is_sidecar(container) { status.started == Some(true) } else { last_run(status) == Some(0) }
    };
    let initialized = regular.iter().any(has_begun) || spec::init_containers(pod).iter().zip(&*init).all(completed);
    let reached = init.iter().rposition(has_begun).unwrap_or(0) + 1;
    let missing = init.iter_mut().take(reached).chain(regular.iter_mut().filter(|_| initialized));
    for status in missing.filter(|status| is_terminated(status).is_none()) {
        status.state = Some(lost("The container could not be located when the pod was terminated"));
    }
}

/// The status of a pod the node refuses to run.
pub fn rejected(pod: &Pod, reason: &Reason, start_time: Timestamp) -> PodStatus {
    PodStatus {
        phase: Some("Failed".into()),
        reason: Some(reason.reason.clone()),
        message: Some(format!("Pod was rejected: {}", reason.message)),
        qos_class: Some(spec::qos_class(pod).as_str().to_owned()),
        start_time: time(start_time.as_nanosecond() as i64),
        observed_generation: pod.metadata.generation,
        ..Default::default()
    }
}

fn container_status(
    pod: &Pod,
    container: &Container,
    old: Option<&Vec<ContainerStatus>>,
    observed: &Observed,
    facts: &Facts,
) -> ContainerStatus {
    let old = old.into_iter().flatten().find(|old| old.name == container.name);
    let Some(instance) = observed.newest(&container.name) else {
        return absent(pod, container, old, facts);
    };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        container_id: Some(format!("{}://{}", facts.runtime_name, instance.id)),
        image: if instance.image.is_empty() {
            container.image.clone().unwrap_or_default()
        } else {
            instance.image.clone()
        },
        image_id: instance.image_ref.clone(),
        restart_count: i32::try_from(instance.restart_count).unwrap_or(i32::MAX),
        started: Some(false),
        user: instance.user.as_ref().map(user),
        volume_mounts: volume_mounts(container),
        resources: container.resources.clone(),
        allocated_resources: container.resources.as_ref().and_then(|r| r.requests.clone()),
        ..Default::default()
    };
    let previous = observed.previous(&container.name).filter(|p| p.state == State::Exited);
    status.last_state = match previous {
        Some(previous) => Some(ContainerState { terminated: Some(terminated(previous, facts)), ..Default::default() }),
        None => old.and_then(|old| last_state_from(old, &status)),
    };
    let plain_init = spec::init_containers(pod).iter().any(|c| c.name == container.name && !spec::is_sidecar(c));
    match instance.state {
        State::Running => {
            status.started = Some((facts.started)(container, instance));
            // A plain init container is ready when it is done.
            status.ready = !plain_init && status.started == Some(true) && (facts.ready)(container, instance);
            let started_at = time(instance.started_at);
            status.state =
                Some(ContainerState { running: Some(ContainerStateRunning { started_at }), ..Default::default() });
        }
        State::Exited => {
            let ended = ContainerState { terminated: Some(terminated(instance, facts)), ..Default::default() };
            status.ready = plain_init && instance.exit_code == 0;
            match facts.waiting.get(&container.name).filter(|_| !facts.terminated && facts.failed.is_none()) {
                Some(reason) => {
                    status.state = Some(waiting(reason));
                    status.last_state = Some(ended);
                }
                None => status.state = Some(ended),
            }
        }
        State::Created | State::Unknown => {
            let fallback = Reason::new("ContainerCreating", "");
            status.state = Some(waiting(facts.waiting.get(&container.name).unwrap_or(&fallback)));
        }
    }
    if status.last_state.is_none() {
        status.last_state = Some(ContainerState::default());
    }
    status
}

/// A container the runtime has no instance of: not made yet, or lost.
fn absent(pod: &Pod, container: &Container, old: Option<&ContainerStatus>, facts: &Facts) -> ContainerStatus {
    let was = old.and_then(|old| old.state.as_ref());
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        restart_count: old.map_or(0, |old| old.restart_count),
        last_state: Some(old.and_then(|old| old.last_state.clone()).unwrap_or_default()),
        started: Some(false),
        volume_mounts: volume_mounts(container),
        ..Default::default()
    };
    match was {
        // It ended and its remains were collected: what was reported stays true.
        Some(state) if state.terminated.is_some() => {
            let old = old.cloned().unwrap_or_default();
            return ContainerStatus { started: Some(false), ..old };
        }
        // It ran, and the runtime knows nothing of it any more.
        Some(state) if state.running.is_some() && last_exit(&status).is_none() => {
            status.last_state = Some(lost(
                "The container could not be located when the pod was deleted.  The container used to be Running",
            ));
            status.restart_count += i32::from(pod.metadata.deletion_timestamp.is_none());
        }
        _ => {}
    }
    let default = if spec::init_containers(pod).is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let fallback = Reason::new(default, "");
    status.state = Some(waiting(facts.waiting.get(&container.name).unwrap_or(&fallback)));
    status
}

/// Read-only mounts are not read-only for what is mounted below them (KEP-3857 is not done here).
fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref().filter(|mounts| !mounts.is_empty())?;
    let status = mounts.iter().map(|mount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only,
        recursive_read_only: (mount.read_only == Some(true)).then(|| "Disabled".to_owned()),
    });
    Some(status.collect())
}

fn last_state_from(old: &ContainerStatus, new: &ContainerStatus) -> Option<ContainerState> {
    let is_other = |state: &&ContainerState| {
        state.terminated.as_ref().is_some_and(|terminated| terminated.container_id != new.container_id)
    };
    // What is this instance's own end is not the end of the one before it.
    old.state.as_ref().filter(is_other).or_else(|| old.last_state.as_ref().filter(is_other)).cloned()
}

fn waiting(reason: &Reason) -> ContainerState {
    let message = (!reason.message.is_empty()).then(|| reason.message.clone());
    let waiting = ContainerStateWaiting { reason: Some(reason.reason.clone()), message };
    ContainerState { waiting: Some(waiting), ..Default::default() }
}

fn terminated(instance: &Instance, facts: &Facts) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: instance.exit_code,
        reason: (!instance.reason.is_empty()).then(|| instance.reason.clone()),
        message: (!instance.message.is_empty()).then(|| instance.message.clone()),
        // A container that never started has the epoch here, as upstream's: without a time clients show the year 1.
        started_at: time(instance.started_at).or(Some(Time(Timestamp::UNIX_EPOCH))),
        finished_at: time(instance.finished_at).or(Some(Time(Timestamp::UNIX_EPOCH))),
        container_id: Some(format!("{}://{}", facts.runtime_name, instance.id)),
        signal: None,
    }
}

fn user(user: &proto::cri::LinuxContainerUser) -> ContainerUser {
    ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: user.uid,
            gid: user.gid,
            supplemental_groups: (!user.supplemental_groups.is_empty()).then(|| user.supplemental_groups.clone()),
        }),
    }
}

fn is_terminated(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

fn last_exit(status: &ContainerStatus) -> Option<i32> {
    Some(status.last_state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// The exit code of the container's last run, unless it runs again.
fn last_run(status: &ContainerStatus) -> Option<i32> {
    if is_running(status) { None } else { is_terminated(status).or_else(|| last_exit(status)) }
}

fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::runtime::Sandbox;

    fn pod(policy: &str) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p"},
            "spec": {"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]},
        }))
        .expect("a pod")
    }

    fn instance(name: &str, state: State, exit_code: i32) -> Arc<Instance> {
        Arc::new(Instance {
            id: name.into(),
            name: name.into(),
            sandbox: "s".into(),
            state,
            created_at: 1,
            started_at: 1,
            finished_at: 1,
            exit_code,
            image: "i".into(),
            ..Default::default()
        })
    }

    /// What the worker knows of a pod that is well.
    fn facts(waiting: &HashMap<String, Reason>) -> Facts<'_> {
        static NODE_IPS: std::sync::LazyLock<[String; 1]> = std::sync::LazyLock::new(|| ["192.0.2.1".to_owned()]);
        Facts {
            waiting,
            ready: &|_, _| true,
            started: &|_, _| true,
            failed: None,
            disruption: None,
            terminated: false,
            node_ips: NODE_IPS.as_slice(),
            start_time: Timestamp::UNIX_EPOCH,
            now: Timestamp::now(),
            runtime_name: "containerd",
        }
    }

    fn status(pod: &Pod, containers: &[(&str, State, i32)], terminated: bool, waiting: &[&str]) -> PodStatus {
        let observed = Observed {
            sandboxes: vec![Sandbox {
                id: "s".into(),
                ready: true,
                ips: vec!["10.0.0.1".into()],
                ..Default::default()
            }],
            containers: containers.iter().map(|(n, s, e)| instance(n, *s, *e)).collect(),
        };
        let waiting = waiting.iter().map(|name| ((*name).to_owned(), Reason::new("CrashLoopBackOff", ""))).collect();
        let facts = Facts { terminated, ..facts(&waiting) };
        generate(pod, &PodStatus::default(), &observed, &facts)
    }

    use State::{Exited, Running};

    #[test]
    fn the_phase_follows_the_containers_and_the_restart_policy() {
        type Case = (&'static str, &'static [(&'static str, State, i32)], bool, &'static [&'static str], &'static str);
        let cases: &[Case] = &[
            ("Always", &[], false, &[], "Pending"),
            ("Always", &[("a", Running, 0)], false, &[], "Pending"),
            ("Always", &[("a", Running, 0), ("b", Running, 0)], false, &[], "Running"),
            ("Always", &[("a", Exited, 1), ("b", Running, 0)], false, &["a"], "Running"),
            ("Always", &[("a", Exited, 0), ("b", Exited, 0)], false, &[], "Running"),
            ("Never", &[("a", Exited, 0), ("b", Exited, 0)], true, &[], "Succeeded"),
            ("Never", &[("a", Exited, 0), ("b", Exited, 3)], true, &[], "Failed"),
            // The sandbox, or a sidecar, may still run.
            ("Never", &[("a", Exited, 0), ("b", Exited, 0)], false, &[], "Pending"),
            ("OnFailure", &[("a", Exited, 0), ("b", Exited, 3)], false, &[], "Running"),
            ("Always", &[("a", Exited, 0), ("b", Exited, 0)], true, &[], "Succeeded"),
            ("Always", &[("a", Exited, 143), ("b", Exited, 0)], true, &[], "Failed"),
        ];
        for (policy, containers, terminated, waiting, phase) in cases {
            let status = status(&pod(policy), containers, *terminated, waiting);
            assert_eq!(status.phase.as_deref(), Some(*phase), "{policy} {containers:?} terminated={terminated}");
        }
    }

    #[test]
    fn an_evicted_pod_fails_when_nothing_of_it_runs_any_more_and_says_who_ended_it() {
        let pod = pod("Always");
        let observed =
            Observed { containers: vec![instance("a", Running, 0), instance("b", Running, 0)], ..Default::default() };
        let reason = Reason::new("Evicted", "low on memory");
        let old = PodStatus { phase: Some("Running".into()), ..Default::default() };
        let waiting = HashMap::new();
        let status = |terminated| {
            let facts =
                Facts { failed: Some(&reason), disruption: Some("low on memory"), terminated, ..facts(&waiting) };
            let status = generate(&pod, &old, &observed, &facts);
            let disrupted = status.conditions.iter().flatten().any(|condition| {
                condition.type_ == "DisruptionTarget" && condition.reason.as_deref() == Some("TerminationByKubelet")
            });
            (status.phase.unwrap_or_default(), status.reason, disrupted)
        };
        assert_eq!(status(false), ("Running".into(), None, false));
        assert_eq!(status(true), ("Failed".into(), Some("Evicted".into()), true));
    }

    fn pod_with_inits(policy: &str, inits: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p"},
            "spec": {"restartPolicy": policy, "initContainers": inits, "containers": [{"name": "run"}]},
        }))
        .expect("a pod")
    }

    #[test]
    fn initialized_names_every_init_container_that_is_not_done() {
        let two = serde_json::json!([{"name": "init1"}, {"name": "init2"}]);
        let sidecar = serde_json::json!([{"name": "init1", "restartPolicy": "Always"}, {"name": "init2"}]);
        let incomplete = |names: &str| format!("containers with incomplete status: [{names}]");
        type Case<'a> = (&'a str, &'a serde_json::Value, Vec<(&'a str, State, i32)>, &'a [&'a str], &'a str, String);
        let cases: Vec<Case> = vec![
            ("Always", &two, vec![], &[], "Pending", incomplete("init1 init2")),
            ("Always", &two, vec![("init1", Exited, 1)], &["init1"], "Pending", incomplete("init1 init2")),
            ("Always", &two, vec![("init1", Exited, 1)], &[], "Pending", incomplete("init1 init2")),
            ("Never", &two, vec![("init1", Exited, 0), ("init2", Exited, 1)], &[], "Failed", incomplete("init2")),
            ("Never", &two, vec![("init1", Exited, 1)], &[], "Failed", incomplete("init1 init2")),
            ("Always", &two, vec![("init1", Exited, 0), ("init2", Running, 0)], &[], "Pending", incomplete("init2")),
            ("Always", &sidecar, vec![], &[], "Pending", incomplete("init1 init2")),
            ("Always", &sidecar, vec![("init1", Running, 0)], &[], "Pending", incomplete("init2")),
            (
                "Always",
                &sidecar,
                vec![("init1", Exited, 1), ("init2", Exited, 0), ("run", Running, 0)],
                &["init1"],
                "Running",
                String::new(),
            ),
        ];
        for (policy, inits, containers, waiting, phase, message) in cases {
            let terminated = phase == "Failed";
            let status = status(&pod_with_inits(policy, inits.clone()), &containers, terminated, waiting);
            let condition =
                status.conditions.iter().flatten().find(|c| c.type_ == "Initialized").expect("the condition");
            let found = condition.message.clone().unwrap_or_default();
            assert_eq!((status.phase.as_deref(), found), (Some(phase), message), "{policy} {containers:?}");
        }
    }

    #[test]
    fn once_a_pod_is_over_each_container_it_reached_has_an_end() {
        let code = |status: &ContainerStatus| is_terminated(status);
        let over = status(&pod("Always"), &[("a", Exited, 0)], true, &[]);
        let codes: Vec<_> = over.container_statuses.iter().flatten().map(code).collect();
        assert_eq!((codes, over.phase.as_deref()), (vec![Some(0), Some(137)], Some("Failed")));
        let inits = serde_json::json!([{"name": "init1"}, {"name": "init2"}]);
        let early = status(&pod_with_inits("Always", inits), &[("init1", Exited, 1)], true, &[]);
        let codes: Vec<_> = early.init_container_statuses.iter().flatten().map(code).collect();
        assert_eq!((codes, early.phase.as_deref()), (vec![Some(1), None], Some("Failed")));
        assert_eq!(early.container_statuses.iter().flatten().map(code).collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn a_container_that_could_not_start_ended_once_and_began_never() {
        let pod = pod("Never");
        let mut broken = Instance::clone(&instance("a", Exited, 128));
        (broken.started_at, broken.reason) = (0, "StartError".into());
        let observed = Observed { containers: vec![Arc::new(broken), instance("b", Exited, 0)], ..Default::default() };
        let waiting = HashMap::from([("a".to_owned(), Reason::new("RunContainerError", ""))]);
        let before = generate(&pod, &PodStatus::default(), &observed, &facts(&waiting));
        let over = generate(&pod, &before, &observed, &Facts { terminated: true, ..facts(&waiting) });
        let a = &over.container_statuses.expect("statuses")[0];
        let ended = a.state.as_ref().and_then(|state| state.terminated.as_ref()).expect("an end");
        assert_eq!((ended.exit_code, ended.reason.as_deref()), (128, Some("StartError")));
        assert_eq!(ended.started_at, Some(Time(Timestamp::UNIX_EPOCH)));
        assert_eq!(last_exit(a), None, "it is not its own predecessor");
    }

    #[test]
    fn termination_messages_of_a_pod_are_bounded_together() {
        let mut loud = Instance::clone(&instance("a", Exited, 1));
        loud.message = "é".repeat(4096);
        let observed = Observed { containers: vec![Arc::new(loud)], ..Default::default() };
        let waiting = HashMap::new();
        let many: Vec<_> =
            (0..7).map(|n| serde_json::json!({"name": if n == 0 { "a".into() } else { format!("c{n}") }})).collect();
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {"containers": many}})).expect("a pod");
        let status = generate(&pod, &PodStatus::default(), &observed, &facts(&waiting));
        let a = &status.container_statuses.expect("statuses")[0];
        let message = a.state.as_ref().and_then(|s| s.terminated.as_ref()?.message.as_ref()).expect("a message");
        assert_eq!(message.len(), 12 * 1024 / 7 / 2 * 2);
    }

    #[test]
    fn a_running_pod_is_ready_and_an_incomplete_one_names_what_is_missing() {
        let condition = |status: &PodStatus, type_: &str| {
            let found = status.conditions.iter().flatten().find(|c| c.type_ == type_).cloned();
            found.map(|c| (c.status, c.message.unwrap_or_default())).expect("the condition")
        };
        let running = status(&pod("Always"), &[("a", Running, 0), ("b", Running, 0)], false, &[]);
        assert_eq!(condition(&running, "Ready").0, "True");
        assert_eq!(running.pod_ip.as_deref(), Some("10.0.0.1"));
        let partial = status(&pod("Always"), &[("a", Running, 0)], false, &[]);
        let (ready, message) = condition(&partial, "ContainersReady");
        assert_eq!((ready.as_str(), message.as_str()), ("False", "containers with unready status: [b]"));
    }

    #[test]
    fn a_container_in_backoff_waits_and_shows_its_last_end() {
        let status = status(&pod("Always"), &[("a", Exited, 7), ("b", Running, 0)], false, &["a"]);
        let a = &status.container_statuses.expect("statuses")[0];
        let state = a.state.clone().expect("a state");
        assert_eq!(state.waiting.and_then(|w| w.reason).as_deref(), Some("CrashLoopBackOff"));
        assert_eq!(last_exit(a), Some(7));
    }
}
