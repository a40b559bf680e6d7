//! The task that owns one pod, from the moment the node knows it until nothing of it is left.
//!
//! The worker is woken by a new desired state, by the runtime (`pleg`), by a probe's verdict or by its own timer. Each
//! time it reads what the runtime has, reports the status, and takes the next steps. It remembers little: a worker that
//! is started over in a new process finds its way from the same inputs.

mod start;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use pod_state::runtime::{self, Observed, State as ContainerState};
use pod_state::spec;
use pod_state::status::{self, Facts, Reason};
use probes::Probes;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use volumes::MountedVolumes;

use crate::Lifecycle;
use crate::actions::{self, Actions, Kind};
use crate::backoff::Backoffs;
use crate::kill;
use start::Started;

/// Waits between tries of a step that failed, doubling up to the second.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(20);

/// Bounds of the wait between looks at a running init container; beyond the second, the relist will do.
const INIT_WAIT_MIN: Duration = Duration::from_millis(25);
const INIT_WAIT_MAX: Duration = Duration::from_secs(1);

/// What the pod is to be.
#[derive(Clone, Debug)]
pub struct Desired {
    pub pod: Arc<Pod>,
    /// The pod has to end, whatever its spec says.
    pub end: Option<End>,
}

/// Why a pod has to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Its source no longer has it; nobody waits for a status.
    Gone,
    /// The node never let it in; why.
    Rejected(Reason),
    /// The node ends it, and its status says so.
    Evicted(Eviction),
}

/// How the node ends a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    pub reason: Reason,
    /// Replaces the pod's own.
    pub grace: Option<Duration>,
    /// Message of the condition DisruptionTarget; "": the pod has only itself to blame.
    pub disruption: String,
}

impl Desired {
    /// Whether the pod is on its way out, by its own object or by the node's will.
    pub fn must_end(&self) -> bool {
        self.end.is_some() || self.pod.metadata.deletion_timestamp.is_some()
    }

    fn grace(&self) -> Duration {
        match &self.end {
            Some(End::Evicted(Eviction { grace: Some(grace), .. })) => (*grace).max(Duration::from_secs(1)),
            _ => spec::grace_period(&self.pod),
        }
    }
}

/// A step that failed; `reason` is its event's.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SyncError {
    pub reason: &'static str,
    pub message: String,
}

/// Where the pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Containers are made to match the spec. Left when the pod is deleted, evicted or past its deadline, or when all
    /// its containers are done.
    Syncing,
    /// Containers are being stopped. Left when none runs.
    Terminating,
    /// Nothing runs. Volumes and cgroup are taken down; once the pod is deleted, containers and directory too. Left
    /// when its source has forgotten it.
    Terminated,
    /// Nothing is left.
    Finished,
}

/// What a look at the pod led to.
enum Outcome {
    /// More is to do at once.
    Again,
    /// Nothing to do until something changes or the time has passed.
    Settled(Option<Duration>),
    /// All containers are done for good.
    Done,
}

/// The worker's state.
pub struct Worker {
    lifecycle: Arc<Lifecycle>,
    desired: watch::Receiver<Desired>,
    wake: Arc<Notify>,
    observed: Observed,
    /// Why containers don't run, by name.
    waiting: HashMap<String, Reason>,
    backoffs: Backoffs,
    probes: Probes,
    volumes: MountedVolumes,
    /// When volumes were last brought up to date.
    volumes_at: Option<Instant>,
    start_time: Timestamp,
    failed: Option<Reason>,
    /// Message of DisruptionTarget, where the node ended the pod.
    disruption: Option<String>,
    /// Cancelled once nothing of the pod runs any more.
    stopped: CancellationToken,
    /// The last status computed; what the API server had at first.
    reported: PodStatus,
}

impl Worker {
    pub fn new(
        lifecycle: Arc<Lifecycle>,
        desired: watch::Receiver<Desired>,
        wake: Arc<Notify>,
        stopped: CancellationToken,
    ) -> Self {
        let max = lifecycle.context.config.max_restart_backoff();
        let reported = desired.borrow().pod.status.clone().unwrap_or_default();
        let failed = (reported.phase.as_deref() == Some("Failed") && reported.reason.is_some()).then(|| {
            Reason::new(reported.reason.as_deref().unwrap_or_default(), reported.message.clone().unwrap_or_default())
        });
        Self {
            lifecycle,
            desired,
            probes: Probes::new(wake.clone()),
            wake,
            observed: Observed::default(),
            waiting: HashMap::new(),
            backoffs: Backoffs::new(max),
            volumes: MountedVolumes::new(),
            volumes_at: None,
            start_time: reported.start_time.as_ref().map_or_else(Timestamp::now, |time| time.0),
            failed,
            disruption: None,
            stopped,
            reported,
        }
    }

    /// Lives the pod's life, once those of `after` have stopped that had to make room for it.
    pub async fn run(mut self, after: Vec<CancellationToken>) {
        let mut desired = self.desired.clone();
        tokio::select! {
            _ = futures::future::join_all(after.iter().map(CancellationToken::cancelled)) => {}
            _ = desired.wait_for(Desired::must_end) => {}
        }
        let mut life = Life::Syncing;
        while life != Life::Finished {
            life = match life {
                Life::Syncing => self.syncing().await,
                Life::Terminating => self.terminating().await,
                Life::Terminated => self.terminated().await,
                Life::Finished => Life::Finished,
            };
            tracing::debug!(pod = spec::key(&self.pod()), ?life, "Pod goes on");
        }
    }

    fn pod(&self) -> Arc<Pod> {
        self.desired.borrow().pod.clone()
    }

    async fn syncing(&mut self) -> Life {
        let mut retry = RETRY_MIN;
        loop {
            let desired = self.desired.borrow_and_update().clone();
            if desired.must_end() || self.is_terminal(&desired.pod) || self.is_past_deadline(&desired.pod) {
                if let Some(End::Evicted(eviction)) = &desired.end {
                    self.failed = Some(eviction.reason.clone());
                    self.disruption = Some(eviction.disruption.clone()).filter(|message| !message.is_empty());
                }
                return Life::Terminating;
            }
            let mut watch = self.desired.clone();
            let outcome = tokio::select! {
                outcome = self.sync(&desired.pod) => outcome,
                // A deletion does not wait for a slow pull or a volume that never comes.
                _ = watch.wait_for(Desired::must_end) => continue,
            };
            let wait = match outcome {
                Ok(Outcome::Again) => {
                    retry = RETRY_MIN;
                    continue;
                }
                Ok(Outcome::Done) => return Life::Terminating,
                Ok(Outcome::Settled(wait)) => {
                    retry = RETRY_MIN;
                    wait
                }
                Err(error) => {
                    tracing::warn!(pod = spec::key(&desired.pod), %error, "Pod is not in order yet");
                    self.lifecycle.context.event(&desired.pod, None, "Warning", error.reason, &error.message);
                    let wait = retry;
                    retry = (retry * 2).min(RETRY_MAX);
                    Some(wait)
                }
            };
            self.sleep(&desired.pod, wait).await;
        }
    }

    /// Waits until something changes, `wait` is over, the pod's deadline comes or its volumes want a refresh.
    async fn sleep(&mut self, pod: &Pod, wait: Option<Duration>) {
        let period = self.lifecycle.context.config.sync_frequency.get();
        let wait = [wait, self.until_deadline(pod), Some(period)].into_iter().flatten().min().unwrap_or(period);
        tokio::select! {
            () = self.wake.notified() => {}
            changed = self.desired.changed() => {
                if changed.is_err() {
                    // The kubelet shuts down and leaves the pod as it is.
                    std::future::pending::<()>().await;
                }
            }
            () = tokio::time::sleep(wait) => {}
        }
    }

    fn is_terminal(&self, pod: &Pod) -> bool {
        let phase = |status: &PodStatus| matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        !spec::is_static(pod) && (phase(&self.reported) || pod.status.as_ref().is_some_and(phase))
    }

    fn until_deadline(&self, pod: &Pod) -> Option<Duration> {
        let seconds = spec::spec(pod).active_deadline_seconds?;
        let deadline = self.start_time.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()?;
        Some(Duration::try_from(deadline.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO))
    }

    fn is_past_deadline(&mut self, pod: &Pod) -> bool {
        let past = self.until_deadline(pod).is_some_and(|left| left.is_zero());
        if past {
            let reason =
                Reason::new("DeadlineExceeded", "Pod was active on the node longer than the specified deadline");
            self.lifecycle.context.event(pod, None, "Normal", "DeadlineExceeded", &reason.message);
            self.failed = Some(reason);
        }
        past
    }

    async fn observe(&mut self, pod: &Pod) -> Result<(), SyncError> {
        let observed = runtime::observe(&self.lifecycle.context.cri, spec::uid(pod), &self.observed).await;
        self.observed = observed.map_err(|error| SyncError { reason: "FailedSync", message: error.to_string() })?;
        Ok(())
    }

    /// Reports what the pod's status is now, while anyone wants to know.
    fn publish(&mut self, pod: &Arc<Pod>, terminated: bool) {
        match self.desired.borrow().end.clone() {
            Some(End::Gone) => return,
            Some(End::Rejected(reason)) => {
                self.reported = status::rejected(pod, &reason, self.start_time);
                return self.lifecycle.statuses.set(pod, self.reported.clone(), true);
            }
            _ => {}
        }
        let node_ips = self.lifecycle.context.node_ips.clone();
        let facts = Facts {
            waiting: &self.waiting,
            ready: &|container, instance| self.probes.ready(instance, container),
            started: &|container, instance| self.probes.started(instance, container),
            failed: self.failed.as_ref(),
            disruption: self.disruption.as_deref(),
            terminated,
            node_ips: &node_ips,
            start_time: self.start_time,
            now: Timestamp::now(),
            runtime_name: &self.lifecycle.context.runtime_name,
        };
        self.reported = status::generate(pod, &self.reported, &self.observed, &facts);
        let informed =
            terminated || !spec::is_static(pod) || self.lifecycle.context.mirror_of(&spec::full_name(pod)).is_some();
        self.lifecycle.statuses.set(pod, self.reported.clone(), informed);
    }

    /// One look at the pod and the steps that follow from it.
    async fn sync(&mut self, pod: &Arc<Pod>) -> Result<Outcome, SyncError> {
        self.observe(pod).await?;
        self.probes.sync(&self.lifecycle.context, pod, &self.observed);
        let actions = actions::compute(pod, &self.observed, &self.probes.verdicts(pod));
        self.publish(pod, false);
        if actions.finished {
            return Ok(Outcome::Done);
        }
        let idle = actions == Actions::default();
        let wait = self.init_wait(pod);
        let refresh =
            self.volumes_at.is_none_or(|at| at.elapsed() >= self.lifecycle.context.config.sync_frequency.get());
        if idle && !refresh {
            return Ok(Outcome::Settled(wait));
        }
        self.prepare(pod).await?;
        if idle {
            return Ok(Outcome::Settled(wait));
        }
        self.act(pod, actions).await
    }

    /// How long to wait for an init container to end without being told: everything behind it waits too, so it is looked
    /// at after a quarter of its age, where a relist would come once a second.
    fn init_wait(&self, pod: &Pod) -> Option<Duration> {
        let running = |name: &str| self.observed.newest(name).filter(|i| i.state == ContainerState::Running);
        let init = spec::init_containers(pod).iter().filter(|container| !spec::is_sidecar(container));
        let started_at = init.filter_map(|container| running(&container.name)).map(|i| i.started_at).max()?;
        let age = (Timestamp::now().as_nanosecond() as i64).saturating_sub(started_at).max(0).unsigned_abs();
        Some(Duration::from_nanos(age / 4).max(INIT_WAIT_MIN)).filter(|wait| *wait < INIT_WAIT_MAX)
    }

    /// Makes what containers need around them: directories, cgroup, volumes.
    async fn prepare(&mut self, pod: &Arc<Pod>) -> Result<(), SyncError> {
        let lifecycle = self.lifecycle.clone();
        if !spec::host_network(pod) {
            lifecycle.context.network_ready().map_err(|message| SyncError { reason: "NetworkNotReady", message })?;
        }
        let first = self.volumes_at.is_none();
        if first {
            lifecycle.context.objects.refresh(spec::namespace(pod));
            let dir = lifecycle.context.pod_dir(spec::uid(pod));
            for sub in ["volumes", "containers", "plugins"] {
                let path = dir.join(sub);
                tokio::fs::create_dir_all(&path).await.map_err(|error| SyncError {
                    reason: "FailedToMakePodDataDirectories",
                    message: format!("error making pod data directories: {}: {error}", path.display()),
                })?;
            }
        }
        lifecycle.context.cgroups.ensure_pod(pod);
        let facts = lifecycle.context.node_facts(self.pod_ips(pod));
        self.volumes = lifecycle
            .volumes
            .setup(&lifecycle.context, pod, &facts)
            .await
            .map_err(|error| SyncError { reason: "FailedMount", message: error.to_string() })?;
        self.volumes_at = Some(Instant::now());
        Ok(())
    }

    fn pod_ips(&self, pod: &Pod) -> Vec<String> {
        match self.observed.sandbox() {
            _ if spec::host_network(pod) => self.lifecycle.context.node_ips.clone(),
            Some(sandbox) => sandbox.ips.clone(),
            None => Vec::new(),
        }
    }

    async fn act(&mut self, pod: &Arc<Pod>, actions: Actions) -> Result<Outcome, SyncError> {
        let lifecycle = self.lifecycle.clone();
        let failed = |reason, error: cri_client::CriError| SyncError { reason, message: error.message() };
        if actions.kill_pod {
            if actions.create_sandbox.is_some() {
                lifecycle.context.event(
                    pod,
                    None,
                    "Normal",
                    "SandboxChanged",
                    "Pod sandbox changed, it will be killed and re-created.",
                );
            }
            let grace = spec::grace_period(pod);
            kill::pod(&lifecycle, pod, &self.observed, grace).await.map_err(|e| failed("FailedKillPod", e))?;
            self.observe(pod).await?;
        }
        for (id, why) in &actions.kill {
            if let Some(instance) = self.observed.containers.iter().find(|instance| &instance.id == id).cloned() {
                kill::container(&lifecycle, pod, &instance, why).await.map_err(|e| failed("FailedKillPod", e))?;
            }
        }
        if !actions.kill.is_empty() {
            // Restarts count from what the runtime says of the killed ones.
            self.observe(pod).await?;
        }
        if let Some(attempt) = actions.create_sandbox {
            start::create_sandbox(&lifecycle, pod, attempt).await?;
            self.observe(pod).await?;
            self.publish(pod, false);
        }
        let Some(sandbox) = self.observed.sandbox().cloned() else {
            let message = "the pod's sandbox is not ready".to_owned();
            return Err(SyncError { reason: "FailedSync", message });
        };
        let config = start::sandbox_config(&lifecycle, pod, sandbox.attempt).await;
        let pod_ips = self.pod_ips(pod);
        let (mut again, mut wait) = (false, None::<Duration>);
        for (kind, index) in actions.start {
            let Some(container) = container(pod, kind, index) else { continue };
            match self.start_container(pod, &container, &sandbox.id, &config, &pod_ips).await {
                Started::Yes => again = true,
                Started::Later(after) => wait = wait.into_iter().chain(after).min(),
            }
        }
        self.observe(pod).await?;
        self.probes.sync(&lifecycle.context, pod, &self.observed);
        self.collect_dead(pod).await;
        self.publish(pod, false);
        Ok(if again { Outcome::Again } else { Outcome::Settled(wait) })
    }

    /// Removes instances of containers that have been restarted, but for the last: its log and end are still of use.
    async fn collect_dead(&mut self, pod: &Pod) {
        let keep = 1;
        let init = spec::init_containers(pod);
        for container in spec::spec(pod).containers.iter().chain(init) {
            let dead = self.observed.containers.iter().filter(|i| i.name == container.name).skip(1);
            let dead: Vec<_> = dead.filter(|i| i.state == ContainerState::Exited).skip(keep).cloned().collect();
            for instance in dead {
                if self.lifecycle.context.cri.remove_container(&instance.id).await.is_ok() {
                    container_logs::remove(&instance.log_path).await;
                    self.observed.containers.retain(|i| i.id != instance.id);
                }
            }
        }
    }

    async fn terminating(&mut self) -> Life {
        self.probes.ending();
        let mut retry = RETRY_MIN;
        loop {
            let desired = self.desired.borrow_and_update().clone();
            let grace = desired.grace();
            let mut watch = self.desired.clone();
            let stopped = tokio::select! {
                stopped = self.stop(&desired.pod, grace) => stopped,
                // `kubectl delete --grace-period=1` after a plain delete cuts the wait.
                _ = watch.wait_for(|desired| desired.grace() < grace) => continue,
            };
            match stopped {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(pod = spec::key(&desired.pod), %error, "Pod is not stopped yet");
                    self.lifecycle.context.event(&desired.pod, None, "Warning", error.reason, &error.message);
                }
            }
            self.sleep(&desired.pod, Some(retry)).await;
            retry = (retry * 2).min(RETRY_MAX);
        }
        self.probes = Probes::new(self.wake.clone());
        self.publish(&self.pod(), true);
        self.stopped.cancel();
        Life::Terminated
    }

    /// Stops what runs; returns whether nothing does any more.
    async fn stop(&mut self, pod: &Arc<Pod>, grace: Duration) -> Result<bool, SyncError> {
        self.observe(pod).await?;
        self.publish(pod, false);
        if !self.observed.is_stopped() {
            let (lifecycle, observed) = (self.lifecycle.clone(), self.observed.clone());
            let mut killing = std::pin::pin!(kill::pod(&lifecycle, pod, &observed, grace));
            let killed = loop {
                tokio::select! {
                    killed = &mut killing => break killed,
                    // Clients stop coming once the pod says that it is not ready, and containers end one by one.
                    () = self.wake.notified() => {
                        // A failure here must not cut off preStop hooks; the next look will do.
                        if self.observe(pod).await.is_ok() {
                            self.probes.sync(&lifecycle.context, pod, &self.observed);
                            self.publish(pod, false);
                        }
                    }
                }
            };
            killed.map_err(|error| SyncError {
                reason: "FailedKillPod",
                message: format!("error killing pod: {}", error.message()),
            })?;
            self.observe(pod).await?;
        }
        Ok(self.observed.is_stopped())
    }

    async fn terminated(&mut self) -> Life {
        let mut retry = RETRY_MIN;
        loop {
            let desired = self.desired.borrow_and_update().clone();
            let pod = &desired.pod;
            let gone = desired.end == Some(End::Gone);
            let deleted = gone || pod.metadata.deletion_timestamp.is_some();
            match self.clean_up(pod, deleted).await {
                Ok(()) if gone => {
                    self.lifecycle.statuses.forget(spec::uid(pod));
                    probes::forget(pod);
                    return Life::Finished;
                }
                Ok(()) => {
                    if deleted {
                        self.lifecycle.statuses.finish(pod);
                    }
                    retry = RETRY_MIN;
                    if self.desired.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                Err(message) => {
                    tracing::warn!(pod = spec::key(pod), message, "Can't clean up after a pod yet");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Takes down what the pod had on the node. Of a pod that is done but not deleted, containers and logs stay for
    /// `kubectl logs`.
    async fn clean_up(&mut self, pod: &Arc<Pod>, deleted: bool) -> Result<(), String> {
        let uid = spec::uid(pod);
        self.lifecycle.volumes.forget(uid);
        self.lifecycle.images.forget(uid);
        if deleted {
            for sandbox in std::mem::take(&mut self.observed).sandboxes {
                match self.lifecycle.context.cri.remove_pod_sandbox(&sandbox.id).await {
                    Err(error) if !error.is_not_found() => return Err(error.to_string()),
                    _ => {}
                }
            }
            container_logs::remove_pod(&self.lifecycle.context, pod).await;
            volumes::teardown(self.lifecycle.context.pod_dir(uid)).await.map_err(|error| error.to_string())?;
        } else {
            let volumes = self.lifecycle.context.pod_dir(uid).join("volumes");
            volumes::teardown(self.lifecycle.context.pod_dir(uid).join("volume-subpaths"))
                .await
                .map_err(|e| e.to_string())?;
            volumes::teardown(volumes).await.map_err(|error| error.to_string())?;
        }
        if !self.lifecycle.context.cgroups.remove_pod(uid) {
            return Err("processes of the pod are still in its cgroup".into());
        }
        Ok(())
    }
}

fn container(pod: &Pod, kind: Kind, index: usize) -> Option<Container> {
    match kind {
        Kind::Init => spec::init_containers(pod).get(index).cloned(),
        Kind::Regular => spec::spec(pod).containers.get(index).cloned(),
        Kind::Ephemeral => spec::ephemeral_containers(pod).into_iter().nth(index),
    }
}
