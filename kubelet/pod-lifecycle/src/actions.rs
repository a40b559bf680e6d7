//! What to do next for a pod: a pure function of its spec and of what the runtime has. The worker carries it out, looks
//! again and asks again, so nothing here has to remember.

use containers::hash;
use k8s_openapi::api::core::v1::{Container, Pod};
use pod_state::runtime::{Instance, Observed, State};
use pod_state::spec::{self, RestartPolicy};
use probes::{Kill, Verdicts};

/// The kind of a container decides what it waits for and holds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Init,
    Regular,
    Ephemeral,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// Stop all containers and the sandbox first: the sandbox is dead or of the wrong kind.
    pub kill_pod: bool,
    /// Create a sandbox with this attempt number.
    pub create_sandbox: Option<u32>,
    /// Instances to kill, by id.
    pub kill: Vec<(String, Kill)>,
    /// Containers to start, in this order: kind and index in the pod's list of that kind.
    pub start: Vec<(Kind, usize)>,
    /// Nothing runs and nothing will: the pod is Succeeded or Failed.
    pub finished: bool,
}

/// Computes the actions.
pub fn compute(pod: &Pod, observed: &Observed, verdicts: &dyn Verdicts) -> Actions {
    let mut actions = Actions::default();
    let newest = observed.sandboxes.first();
    let usable = newest.filter(|sandbox| {
        sandbox.ready
            && sandbox.host_network == spec::host_network(pod)
            && (sandbox.host_network || !sandbox.ips.is_empty())
            && observed.sandboxes.iter().filter(|s| s.ready).count() == 1
    });
    let Some(sandbox) = usable else {
        actions.kill_pod = observed.sandboxes.iter().any(|s| s.ready) || observed.running().next().is_some();
        without_sandbox(pod, observed, newest.map_or(0, |s| s.attempt + 1), &mut actions);
        return actions;
    };

    for (index, container) in spec::ephemeral_containers(pod).iter().enumerate() {
        // Never restarted (KEP-277).
        if observed.newest(&container.name).is_none() {
            actions.start.push((Kind::Ephemeral, index));
        }
    }
    if init(pod, observed, &sandbox.id, verdicts, &mut actions) {
        regular(pod, observed, &sandbox.id, verdicts, &mut actions);
    }
    actions
}

/// The pod has no sandbox: make one and begin anew, unless all its work is done or nothing of it may run twice.
fn without_sandbox(pod: &Pod, observed: &Observed, attempt: u32, actions: &mut Actions) {
    let containers = &spec::spec(pod).containers;
    if attempt > 0 && !observed.containers.is_empty() && spec::restart_policy(pod) == RestartPolicy::Never {
        actions.finished = true;
        return;
    }
    let succeeded = |c: &Container| {
        spec::container_restart_policy(pod, c) == RestartPolicy::OnFailure
            && observed.newest(&c.name).is_some_and(|i| i.state == State::Exited && i.exit_code == 0)
    };
    let wanted: Vec<usize> = (0..containers.len()).filter(|index| !succeeded(&containers[*index])).collect();
    if wanted.is_empty() {
        actions.finished = true;
        return;
    }
    actions.create_sandbox = Some(attempt);
    match spec::init_containers(pod) {
        [] => actions.start.extend(wanted.into_iter().map(|index| (Kind::Regular, index))),
        // All that ran before is to run again in the new sandbox, from the first init container on.
        _ => actions.start.push((Kind::Init, 0)),
    }
}

fn may_retry_init(pod: &Pod, container: &Container) -> bool {
    spec::container_restart_policy(pod, container) != RestartPolicy::Never
}

/// Walks the init containers in order. Returns whether regular containers may run.
fn init(pod: &Pod, observed: &Observed, sandbox: &str, verdicts: &dyn Verdicts, actions: &mut Actions) -> bool {
    let inits = spec::init_containers(pod);
    // A regular container in this sandbox proves that initialization was complete, even where the runtime has lost the
    // finished init containers; then only sidecars are looked after.
    let initialized = spec::spec(pod).containers.iter().any(|c| observed.in_sandbox(&c.name, sandbox).is_some());
    // Likewise each later init container proves the ones before it.
    let last_seen = inits.iter().rposition(|c| observed.in_sandbox(&c.name, sandbox).is_some());

    for (index, container) in inits.iter().enumerate() {
        let instance = observed.in_sandbox(&container.name, sandbox);
        if spec::is_sidecar(container) {
            match instance {
                Some(i) if matches!(i.state, State::Running | State::Unknown) => {
                    if let Some(why) = condemned(container, i, verdicts) {
                        actions.kill.push((i.id.clone(), why));
                        actions.start.push((Kind::Init, index));
                    }
                    if !initialized && !verdicts.started(i) {
                        return false;
                    }
                }
                _ => {
                    actions.start.push((Kind::Init, index));
                    if !initialized && last_seen.is_none_or(|last| last <= index) {
                        return false;
                    }
                }
            }
            continue;
        }
        if initialized || last_seen.is_some_and(|last| last > index) {
            continue;
        }
        match instance {
            Some(i) if i.state == State::Exited && i.exit_code == 0 => continue,
            Some(i) if i.state == State::Exited && !may_retry_init(pod, container) => {
                actions.finished = true;
                return false;
            }
            Some(i) if matches!(i.state, State::Running | State::Unknown) => {
                if i.state == State::Unknown {
                    actions.kill.push((i.id.clone(), Kill::SpecChanged));
                }
                return false;
            }
            _ => {
                actions.start.push((Kind::Init, index));
                return false;
            }
        }
    }
    true
}

fn regular(pod: &Pod, observed: &Observed, sandbox: &str, verdicts: &dyn Verdicts, actions: &mut Actions) {
    let mut alive = false;
    for (index, container) in spec::spec(pod).containers.iter().enumerate() {
        let instance = observed.newest(&container.name);
        match instance.filter(|i| i.sandbox == sandbox || i.state == State::Exited) {
            None => {
                actions.start.push((Kind::Regular, index));
                alive = true;
            }
            Some(i) if i.state == State::Exited => {
                if spec::should_restart(pod, container, i.exit_code) {
                    actions.start.push((Kind::Regular, index));
                    alive = true;
                }
            }
            Some(i) if i.state == State::Created => {
                // Made but never started, by a kubelet that was killed in between.
                actions.start.push((Kind::Regular, index));
                alive = true;
            }
            Some(i) => {
                alive = true;
                if let Some(why) = condemned(container, i, verdicts) {
                    let restart = why == Kill::SpecChanged || spec::should_restart(pod, container, 137);
                    actions.kill.push((i.id.clone(), why));
                    if restart {
                        actions.start.push((Kind::Regular, index));
                    }
                }
            }
        }
    }
    if !alive {
        actions.finished = true;
        // Sidecars end with the pod; they are not started again for it.
        actions.start.clear();
        actions.kill.clear();
    }
}

fn condemned(container: &Container, instance: &Instance, verdicts: &dyn Verdicts) -> Option<Kill> {
    if instance.state == State::Unknown || instance.hash.is_some_and(|h| h != hash::of(container)) {
        return Some(Kill::SpecChanged);
    }
    verdicts.condemned(instance)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use pod_state::runtime::Sandbox;

    struct Fine;
    impl Verdicts for Fine {
        fn started(&self, _: &Instance) -> bool {
            true
        }
        fn condemned(&self, _: &Instance) -> Option<Kill> {
            None
        }
    }

    fn pod(policy: &str) -> Pod {
        serde_json::from_value(serde_json::json!({"spec": {
            "restartPolicy": policy,
            "initContainers": [{"name": "side", "restartPolicy": "Always"}, {"name": "init"}],
            "containers": [{"name": "a"}, {"name": "b"}],
        }}))
        .expect("a pod")
    }

    fn instance(name: &str, state: State, exit_code: i32) -> Arc<Instance> {
        Arc::new(Instance {
            id: format!("{name}-id"),
            name: name.into(),
            sandbox: "s".into(),
            state,
            exit_code,
            ..Default::default()
        })
    }

    fn observed(ready: bool, containers: &[(&str, State, i32)]) -> Observed {
        let sandbox = Sandbox { id: "s".into(), ready, ips: vec!["10.0.0.1".into()], ..Default::default() };
        Observed {
            sandboxes: vec![sandbox],
            containers: containers.iter().map(|(n, s, e)| instance(n, *s, *e)).collect(),
        }
    }

    use Kind::{Init, Regular};
    use State::{Exited, Running};

    #[test]
    fn containers_start_in_order_and_restart_by_policy() {
        type Case = (&'static str, &'static str, Vec<(&'static str, State, i32)>, Vec<(Kind, usize)>, bool);
        let cases: Vec<Case> = vec![
            ("the sidecar is first", "Always", vec![], vec![(Init, 0)], false),
            ("then the init container", "Always", vec![("side", Running, 0)], vec![(Init, 1)], false),
            ("which is waited for", "Always", vec![("side", Running, 0), ("init", Running, 0)], vec![], false),
            (
                "then the regular ones, together",
                "Always",
                vec![("side", Running, 0), ("init", Exited, 0)],
                vec![(Regular, 0), (Regular, 1)],
                false,
            ),
            (
                "a failed init container is retried",
                "OnFailure",
                vec![("side", Running, 0), ("init", Exited, 1)],
                vec![(Init, 1)],
                false,
            ),
            ("or ends the pod", "Never", vec![("side", Running, 0), ("init", Exited, 1)], vec![], true),
            (
                "a dead sidecar is restarted beside running containers",
                "Never",
                vec![("side", Exited, 1), ("a", Running, 0), ("b", Running, 0)],
                vec![(Init, 0)],
                false,
            ),
            (
                "a failed container restarts on failure",
                "OnFailure",
                vec![("side", Running, 0), ("a", Exited, 1), ("b", Exited, 0)],
                vec![(Regular, 0)],
                false,
            ),
            (
                "all done is done, and sidecars stay down",
                "Never",
                vec![("side", Exited, 0), ("a", Exited, 1), ("b", Exited, 0)],
                vec![],
                true,
            ),
        ];
        for (rule, policy, containers, start, finished) in cases {
            let actions = compute(&pod(policy), &observed(true, &containers), &Fine);
            assert_eq!((actions.start, actions.finished), (start, finished), "{rule}");
        }
    }

    #[test]
    fn a_dead_sandbox_is_replaced_unless_the_work_is_done() {
        for (rule, policy, containers, attempt, start) in [
            ("what runs goes and begins anew", "Always", vec![("a", Running, 0)], Some(1), vec![(Init, 0)]),
            ("also what had succeeded", "Always", vec![("a", Exited, 0), ("b", Exited, 0)], Some(1), vec![(Init, 0)]),
            (
                "on failure only what has failed",
                "OnFailure",
                vec![("a", Exited, 0), ("b", Exited, 1)],
                Some(1),
                vec![(Init, 0)],
            ),
            ("and nothing where nothing has", "OnFailure", vec![("a", Exited, 0), ("b", Exited, 0)], None, vec![]),
        ] {
            let actions = compute(&pod(policy), &observed(false, &containers), &Fine);
            assert_eq!((actions.create_sandbox, actions.finished), (attempt, attempt.is_none()), "{rule}");
            assert_eq!(actions.start, start, "{rule}");
        }
        let actions = compute(&pod("Never"), &observed(false, &[("a", Running, 0)]), &Fine);
        assert!(actions.finished && actions.kill_pod && actions.create_sandbox.is_none(), "what ran once is over");
        let actions = compute(&pod("Never"), &observed(false, &[]), &Fine);
        assert_eq!(actions.start, [(Init, 0)], "nothing has run yet");
    }
}
