//! Starting things for a pod: its sandbox and its containers. Each step that fails says so in an event and in the
//! container's waiting reason, and is tried again later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use containers::{config, dns, sandbox};
use images::ImageError;
use k8s_openapi::api::core::v1::{Container, Pod};
use pod_state::runtime::{Instance, State};
use pod_state::spec;
use pod_state::status::Reason;
use probes::handlers::Target;
use proto::cri::PodSandboxConfig;

use super::{SyncError, Worker};
use crate::Lifecycle;
use crate::hooks;

/// What came of trying to start a container.
pub enum Started {
    Yes,
    /// Not now; look again after this long (`None`: when something changes).
    Later(Option<Duration>),
}

/// The sandbox configuration, the same for the sandbox and for each container made in it.
pub async fn sandbox_config(lifecycle: &Lifecycle, pod: &Pod, attempt: u32) -> PodSandboxConfig {
    let dns = dns::config(pod, &lifecycle.context.dns).await;
    sandbox::config(&lifecycle.context, pod, attempt, dns)
}

/// Makes the pod's sandbox.
pub async fn create_sandbox(lifecycle: &Arc<Lifecycle>, pod: &Pod, attempt: u32) -> Result<(), SyncError> {
    let config = sandbox_config(lifecycle, pod, attempt).await;
    let failed = |what: &'static str, message: String| SyncError { reason: what, message };
    if spec::spec(pod).host_users == Some(false) {
        // Running it as the host's users would take away the protection that it asks for.
        let message =
            "Failed to create pod sandbox: can't set `spec.hostUsers: false`, runtime does not support user namespaces";
        return Err(failed("FailedCreatePodSandBox", message.to_owned()));
    }
    tokio::fs::create_dir_all(&config.log_directory).await.map_err(|error| {
        failed("FailedCreatePodSandBox", format!("making the log directory {}: {error}", config.log_directory))
    })?;
    let handler = match spec::spec(pod).runtime_class_name.as_deref().filter(|name| !name.is_empty()) {
        Some(class) => lifecycle
            .context
            .runtime_handler(class)
            .await
            .map_err(|message| failed("FailedCreatePodSandBox", message))?,
        None => String::new(),
    };
    // More at once only make the runtime and CNI plugins fight over the CPUs.
    let _permit = lifecycle
        .sandbox_permits
        .acquire()
        .await
        .map_err(|error| failed("FailedCreatePodSandBox", error.to_string()))?;
    match lifecycle.context.cri.run_pod_sandbox(config, handler).await {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(failed("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {}", error.message())))
        }
    }
}

impl Worker {
    /// Starts `container`, unless it has to wait.
    pub(super) async fn start_container(
        &mut self,
        pod: &Arc<Pod>,
        container: &Container,
        sandbox_id: &str,
        sandbox_config: &PodSandboxConfig,
        pod_ips: &[String],
    ) -> Started {
        let before = self.observed.newest(&container.name).cloned();
        if let Some(wait) = self.in_backoff(pod, container, before.as_deref()) {
            return Started::Later(Some(wait));
        }
        let lifecycle = self.lifecycle.clone();
        let image =
            match lifecycle.images.ensure(&lifecycle.context, pod, container, Some(sandbox_config.clone())).await {
                Ok(image) => image,
                Err(error) => {
                    let reason = error.reason();
                    let (kind, event) = match &error {
                        ImageError::Backoff { .. } => ("Normal", "BackOff"),
                        _ => ("Warning", "Failed"),
                    };
                    lifecycle.context.event(pod, Some(&container.name), kind, event, &error.to_string());
                    if !matches!(error, ImageError::Backoff { .. }) {
                        lifecycle.context.event(
                            pod,
                            Some(&container.name),
                            "Warning",
                            "Failed",
                            &format!("Error: {}", reason.reason),
                        );
                    }
                    self.waiting.insert(container.name.clone(), reason);
                    return Started::Later(match error {
                        ImageError::Backoff { until, .. } => Some(until.saturating_duration_since(Instant::now())),
                        ImageError::Pull { .. } => Some(Duration::from_secs(10)),
                        _ => None,
                    });
                }
            };
        let restart_count = before.as_ref().map_or(0, |before| before.restart_count + 1);
        if let Some(before) = before.as_deref().filter(|before| before.state == State::Exited) {
            let now = Instant::now();
            self.backoffs.restarted(&container.name, finished(before, now), now);
        }
        let target = spec::ephemeral_target(pod, &container.name).and_then(|target| self.observed.newest(target));
        let request = config::Request {
            pod,
            container,
            restart_count,
            image: &image,
            volumes: &self.volumes,
            pod_ips,
            target: target.map(|target| target.id.as_str()),
        };
        let made = match config::make(&lifecycle.context, &request).await {
            Ok(config) => config,
            Err(error) => return self.failed_start(pod, container, "CreateContainerConfigError", error.to_string()),
        };
        let log_path = format!("{}/{}", sandbox_config.log_directory, made.log_path);
        if let Some(dir) = std::path::Path::new(&log_path).parent()
            && let Err(error) = tokio::fs::create_dir_all(dir).await
        {
            let message = format!("can't make log directory {}: {error}", dir.display());
            return self.failed_start(pod, container, "CreateContainerError", message);
        }
        let id = match lifecycle.context.cri.create_container(sandbox_id, made, sandbox_config.clone()).await {
            Ok(id) => id,
            Err(error) => return self.failed_start(pod, container, "CreateContainerError", error.message()),
        };
        lifecycle.context.event(pod, Some(&container.name), "Normal", "Created", "Container created");
        if let Err(error) = lifecycle.context.cri.start_container(&id).await {
            return self.failed_start(pod, container, "RunContainerError", error.message());
        }
        lifecycle.context.event(pod, Some(&container.name), "Normal", "Started", "Container started");
        self.waiting.remove(&container.name);
        link_log(pod, container, &id, &log_path).await;
        self.post_start(pod, container, &id, pod_ips).await;
        Started::Yes
    }

    fn failed_start(&mut self, pod: &Pod, container: &Container, reason: &str, message: String) -> Started {
        self.lifecycle.context.event(pod, Some(&container.name), "Warning", "Failed", &format!("Error: {message}"));
        self.waiting.insert(container.name.clone(), Reason::new(reason, message));
        Started::Later(Some(Duration::from_secs(10)))
    }

    /// How long a crashing container has to wait yet.
    fn in_backoff(&mut self, pod: &Pod, container: &Container, before: Option<&Instance>) -> Option<Duration> {
        let before = before.filter(|before| before.state == State::Exited)?;
        let now = Instant::now();
        let (left, delay) = self.backoffs.remaining(&container.name, finished(before, now), now)?;
        let message = format!(
            "back-off {} restarting failed container={} pod={}_{}({})",
            component_base::cli::GoDuration(delay),
            container.name,
            spec::name(pod),
            spec::namespace(pod),
            spec::uid(pod)
        );
        let reason = Reason::new("CrashLoopBackOff", message.clone());
        if self.waiting.insert(container.name.clone(), reason.clone()).as_ref() != Some(&reason) {
            let message = format!(
                "Back-off restarting failed container {} in pod {}({})",
                container.name,
                spec::name(pod),
                spec::uid(pod)
            );
            self.lifecycle.context.event(pod, Some(&container.name), "Warning", "BackOff", &message);
        }
        Some(left)
    }

    async fn post_start(&mut self, pod: &Pod, container: &Container, id: &str, pod_ips: &[String]) {
        let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) else {
            return;
        };
        let lifecycle = self.lifecycle.clone();
        let host = pod_ips.first().cloned().unwrap_or_default();
        let target = Target { cri: &lifecycle.context.cri, container, container_id: id, host: &host };
        if let Err(message) = hooks::run(&target, hook).await {
            lifecycle.context.event(
                pod,
                Some(&container.name),
                "Warning",
                "FailedPostStartHook",
                &format!("PostStartHook failed: {message}"),
            );
            self.probes.hook_failed(id, message);
        }
    }
}

/// When an instance ended, on the monotonic clock.
fn finished(instance: &Instance, now: Instant) -> Instant {
    let ago = (jiff::Timestamp::now().as_nanosecond() as i64).saturating_sub(instance.finished_at).max(0);
    now.checked_sub(Duration::from_nanos(ago.unsigned_abs())).unwrap_or(now)
}

/// Links the log where log collectors of old look for it; without it, they only miss this container.
async fn link_log(pod: &Pod, container: &Container, id: &str, log_path: &str) {
    let name = format!("{}_{}_{}-{id}.log", spec::name(pod), spec::namespace(pod), container.name);
    let dir = std::path::Path::new("/var/log/containers");
    let linked = async {
        tokio::fs::create_dir_all(dir).await?;
        tokio::fs::symlink(log_path, dir.join(name)).await
    };
    if let Err(error) = linked.await {
        tracing::debug!(container = container.name, %error, "No log link in /var/log/containers");
    }
}
