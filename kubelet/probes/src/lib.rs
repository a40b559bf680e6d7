//! Startup, liveness and readiness probes of one pod: a task per probe of a running container, its verdict here. What
//! follows from a verdict (a restart, a status) is the pod worker's business, which is woken when one changes. Hooks are run by
//! the same means (`handlers`), and their failures are verdicts too.

pub mod handlers;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use component_base::metrics::{self, IntCounterVec};
use component_base::runtime::AbortOnDrop;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus, Probe};
use node_context::Context;
use parking_lot::Mutex;
use pod_state::runtime::{Instance, Observed, State};
use pod_state::spec;
use tokio::sync::Notify;

use handlers::Outcome;

static PROBES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::int_counter_vec(
        "prober_probe_total",
        "Cumulative number of a liveness, readiness or startup probe for a container by result.",
        &["probe_type", "result", "container", "pod", "namespace", "pod_uid"],
    )
});

/// A fresh container is left alone by its liveness probe for this long, even where initialDelaySeconds is 0: upstream's
/// first try comes with the relist after the start.
const LIVENESS_SETTLE: Duration = Duration::from_secs(1);
/// The first wait between early tries of the other probes; it doubles.
const WARM_UP_MIN: Duration = Duration::from_millis(250);

/// What a probe decides on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Whether the container is up: until then no other probe is made.
    Startup,
    /// Whether it is to be killed.
    Liveness,
    /// Whether it may serve.
    Readiness,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// What probes and hooks have found out about an instance, by its id.
pub trait Verdicts {
    /// The startup probe passed, or there is none, and postStart is done.
    fn started(&self, container: &Instance) -> bool;
    /// A liveness or startup probe, or postStart, wants the container killed; why.
    fn condemned(&self, container: &Instance) -> Option<Kill>;
}

/// Why a running container has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kill {
    /// The instance is of another spec than the present one, or the runtime has lost track of it.
    SpecChanged,
    LivenessProbe,
    StartupProbe,
    /// postStart failed; its error.
    PostStart(String),
}

/// Verdicts by container instance; absent until a probe has decided.
type Results = Arc<Mutex<HashMap<(String, Kind), bool>>>;

/// The probes of one pod.
pub struct Probes {
    results: Results,
    tasks: HashMap<(String, Kind), AbortOnDrop>,
    wake: Arc<Notify>,
    /// Containers that have a startup probe, and their postStart failures, by instance.
    failed_hooks: HashMap<String, String>,
    /// The pod ends: a failing liveness probe is no news any more.
    ending: bool,
}

impl Probes {
    /// `wake` is notified when a verdict changes.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { results: Results::default(), tasks: HashMap::new(), wake, failed_hooks: HashMap::new(), ending: false }
    }

    /// Remembers that a container's postStart hook failed.
    pub fn hook_failed(&mut self, id: &str, message: String) {
        self.failed_hooks.insert(id.to_owned(), message);
    }

    /// Stops startup and liveness probes for good; readiness goes on, endpoints depend on it.
    pub fn ending(&mut self) {
        self.ending = true;
        self.tasks.retain(|(_, kind), _| *kind == Kind::Readiness);
    }

    /// Starts the probes of containers that run and stops those of containers that don't.
    pub fn sync(&mut self, context: &Arc<Context>, pod: &Arc<Pod>, observed: &Observed) {
        let sidecars = spec::init_containers(pod).iter().filter(|container| spec::is_sidecar(container));
        let mut wanted = Vec::new();
        for container in spec::spec(pod).containers.iter().chain(sidecars) {
            let Some(instance) = observed.newest(&container.name).filter(|i| i.state == State::Running) else {
                continue;
            };
            for kind in Kind::ALL {
                let due = match kind {
                    Kind::Startup => !self.started(instance, container) && !self.ending,
                    Kind::Liveness => self.started(instance, container) && !self.ending,
                    Kind::Readiness => self.started(instance, container),
                };
                if due && kind.of(container).is_some() {
                    wanted.push(((instance.id.clone(), kind), container, instance.clone()));
                }
            }
        }
        self.tasks.retain(|key, _| wanted.iter().any(|(wanted, ..)| wanted == key));
        let alive: Vec<&str> = observed.containers.iter().map(|instance| instance.id.as_str()).collect();
        self.results.lock().retain(|(id, _), _| alive.contains(&id.as_str()));
        self.failed_hooks.retain(|id, _| alive.contains(&id.as_str()));
        for (key, container, instance) in wanted {
            self.adopt(context, pod, &instance, key.1);
            if self.tasks.contains_key(&key) {
                continue;
            }
            let ips = observed.sandbox().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
            let task = Task {
                context: context.clone(),
                pod: pod.clone(),
                container: container.clone(),
                instance,
                kind: key.1,
                host: if spec::host_network(pod) { context.node_ips.clone() } else { ips }
                    .into_iter()
                    .next()
                    .unwrap_or_default(),
                results: self.results.clone(),
                wake: self.wake.clone(),
            };
            self.tasks.insert(key, AbortOnDrop(tokio::spawn(task.run())));
        }
    }

    /// After a restart of the kubelet a container keeps the verdict that the API server knows, until its probes say
    /// otherwise: an upgrade of the kubelet must not take every pod of the node out of its Services.
    fn adopt(&self, context: &Context, pod: &Pod, instance: &Instance, kind: Kind) {
        if instance.started_at >= context.started_at.as_nanosecond() as i64 || self.verdict(instance, kind).is_some() {
            return;
        }
        // The API server knows a static pod by its mirror.
        let mirror = spec::is_static(pod).then(|| context.mirror_of(&spec::full_name(pod))).flatten();
        let status = mirror.as_ref().map_or(&pod.status, |mirror| &mirror.status);
        if status.as_ref().is_some_and(|status| was_passed(status, instance, kind)) {
            self.results.lock().insert((instance.id.clone(), kind), true);
        }
    }

    fn verdict(&self, instance: &Instance, kind: Kind) -> Option<bool> {
        self.results.lock().get(&(instance.id.clone(), kind)).copied()
    }

    /// The container is past its startup probe, if it has one.
    pub fn started(&self, instance: &Instance, container: &Container) -> bool {
        container.startup_probe.is_none() || self.verdict(instance, Kind::Startup) == Some(true)
    }

    /// The container may serve.
    pub fn ready(&self, instance: &Instance, container: &Container) -> bool {
        container.readiness_probe.is_none() || self.verdict(instance, Kind::Readiness) == Some(true)
    }

    /// A view for the decisions on `pod`.
    pub fn verdicts<'a>(&'a self, pod: &'a Pod) -> impl Verdicts + 'a {
        View { probes: self, pod }
    }
}

/// The status tells that this very instance had passed the probe.
fn was_passed(status: &PodStatus, instance: &Instance, kind: Kind) -> bool {
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let is_same = |id: &str| id.rsplit('/').next() == Some(&instance.id);
    all.into_iter().find(|status| status.container_id.as_deref().is_some_and(is_same)).is_some_and(|same| match kind {
        Kind::Readiness => same.ready,
        Kind::Startup => same.started == Some(true),
        Kind::Liveness => false,
    })
}

struct View<'a> {
    probes: &'a Probes,
    pod: &'a Pod,
}

impl View<'_> {
    fn container(&self, instance: &Instance) -> Option<&Container> {
        let all = spec::spec(self.pod).containers.iter().chain(spec::init_containers(self.pod));
        all.into_iter().find(|container| container.name == instance.name)
    }
}

impl Verdicts for View<'_> {
    fn started(&self, instance: &Instance) -> bool {
        self.container(instance).is_none_or(|container| self.probes.started(instance, container))
    }

    fn condemned(&self, instance: &Instance) -> Option<Kill> {
        if let Some(message) = self.probes.failed_hooks.get(&instance.id) {
            return Some(Kill::PostStart(message.clone()));
        }
        match (self.probes.verdict(instance, Kind::Startup), self.probes.verdict(instance, Kind::Liveness)) {
            (Some(false), _) => Some(Kill::StartupProbe),
            (_, Some(false)) => Some(Kill::LivenessProbe),
            _ => None,
        }
    }
}

struct Task {
    context: Arc<Context>,
    pod: Arc<Pod>,
    container: Container,
    instance: Arc<Instance>,
    kind: Kind,
    host: String,
    results: Results,
    wake: Arc<Notify>,
}

impl Task {
    /// Probes until the verdict is final: started, or to be killed.
    async fn run(self) {
        let Some(probe) = self.kind.of(&self.container) else { return };
        let seconds = |value: Option<i32>, default: u32| {
            Duration::from_secs(
                value.and_then(|value| u32::try_from(value).ok()).filter(|s| *s > 0).unwrap_or(default).into(),
            )
        };
        let initial = Duration::from_secs(probe.initial_delay_seconds.unwrap_or(0).max(0).unsigned_abs().into());
        let age =
            (Timestamp::now().as_nanosecond() as i64).saturating_sub(self.instance.started_at).max(0).unsigned_abs();
        let settle = if self.kind == Kind::Liveness { LIVENESS_SETTLE } else { Duration::ZERO };
        tokio::time::sleep(initial.max(settle).saturating_sub(Duration::from_nanos(age))).await;

        let period = seconds(probe.period_seconds, 10);
        let timeout = seconds(probe.timeout_seconds, 1);
        if self.kind != Kind::Liveness && self.warm_up(probe, period, timeout).await {
            return;
        }
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut successes, mut failures) = (0, 0);
        loop {
            ticks.tick().await;
            let outcome = self.attempt(probe, timeout).await;
            match outcome {
                Outcome::Success => {
                    (successes, failures) = (successes + 1, 0);
                    if successes >= probe.success_threshold.unwrap_or(1).max(1) {
                        self.decide(true);
                        if self.kind == Kind::Startup {
                            return;
                        }
                    }
                }
                Outcome::Failure(message) => {
                    (successes, failures) = (0, failures + 1);
                    let message = format!("{} probe failed: {message}", self.kind.name());
                    self.context.event(&self.pod, Some(&self.container.name), "Warning", "Unhealthy", &message);
                    if failures >= probe.failure_threshold.unwrap_or(3).max(1) {
                        self.decide(false);
                        if self.kind != Kind::Readiness {
                            return;
                        }
                    }
                }
                // The probe itself could not be made; that says nothing about the container.
                Outcome::Unknown(message) => {
                    let message =
                        format!("{} probe errored and resulted in unknown state: {message}", self.kind.name());
                    self.context.event(&self.pod, Some(&self.container.name), "Warning", "Unhealthy", &message);
                }
            }
        }
    }

    /// Until the first period is over, a container that is just coming up is tried more often than its period says, and
    /// not blamed for failing: no one should wait ten seconds because the first try came a moment too early. Returns whether
    /// the verdict is final.
    async fn warm_up(&self, probe: &Probe, period: Duration, timeout: Duration) -> bool {
        if probe.success_threshold.unwrap_or(1) > 1 {
            return false;
        }
        let (mut wait, mut spent) = (WARM_UP_MIN, Duration::ZERO);
        while spent + wait <= period {
            if self.attempt(probe, timeout).await == Outcome::Success {
                self.decide(true);
                if self.kind == Kind::Startup {
                    return true;
                }
                tokio::time::sleep(period).await;
                return false;
            }
            tokio::time::sleep(wait).await;
            spent += wait;
            wait *= 2;
        }
        false
    }

    async fn attempt(&self, probe: &Probe, timeout: Duration) -> Outcome {
        let target = handlers::Target {
            cri: &self.context.cri,
            container: &self.container,
            container_id: &self.instance.id,
            host: &self.host,
        };
        let outcome = handlers::probe(&target, probe, timeout).await;
        self.count(&outcome);
        outcome
    }

    fn decide(&self, verdict: bool) {
        let before = self.results.lock().insert((self.instance.id.clone(), self.kind), verdict);
        if before != Some(verdict) {
            self.wake.notify_one();
        }
    }

    fn count(&self, outcome: &Outcome) {
        let result = match outcome {
            Outcome::Success => "successful",
            Outcome::Failure(_) => "failed",
            Outcome::Unknown(_) => "unknown",
        };
        let pod = &*self.pod;
        let labels =
            [self.kind.name(), result, &self.container.name, spec::name(pod), spec::namespace(pod), spec::uid(pod)];
        PROBES.with_label_values(&labels).inc();
    }
}

/// Drops the counters of a pod that is gone, so that the metric stays as large as the node.
pub fn forget(pod: &Pod) {
    let all = spec::spec(pod).containers.iter().chain(spec::init_containers(pod));
    for container in all {
        for kind in Kind::ALL {
            for result in ["successful", "failed", "unknown"] {
                let labels =
                    [kind.name(), result, &container.name, spec::name(pod), spec::namespace(pod), spec::uid(pod)];
                let _ = PROBES.remove_label_values(&labels);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_verdict_is_taken_over_only_for_the_same_instance() {
        let instance = |id: &str| Instance { id: id.into(), ..Default::default() };
        let status: PodStatus = serde_json::from_value(json!({
            "initContainerStatuses": [{"name": "side", "containerID": "containerd://s", "ready": true, "started": true, "image": "", "imageID": "", "restartCount": 0}],
            "containerStatuses": [{"name": "a", "containerID": "containerd://a", "ready": false, "started": true, "image": "", "imageID": "", "restartCount": 0}],
        }))
        .expect("a status");
        for (id, kind, passed) in [
            ("s", Kind::Readiness, true),
            ("a", Kind::Readiness, false),
            ("a", Kind::Startup, true),
            ("a", Kind::Liveness, false),
            ("aa", Kind::Startup, false),
        ] {
            assert_eq!(was_passed(&status, &instance(id), kind), passed, "{id} {kind:?}");
        }
    }
}
