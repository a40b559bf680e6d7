//! What the runtime says about one pod: its sandboxes and containers, read afresh by `observe`. The kubelet keeps no
//! other truth about what runs, so a restarted kubelet knows as much as one that never stopped.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use cri_client::{Cri, Result, names};
use proto::cri::{self, ContainerState, PodSandboxState};

/// Upstream's bounds on a termination message: of its file, and of log lines where it falls back to them.
const TERMINATION_MESSAGE_BYTES_MAX: usize = 4096;
const TERMINATION_LOG_BYTES_MAX: usize = 2048;
const TERMINATION_LOG_LINES_MAX: usize = 80;

/// A sandbox and, while it is ready, its addresses.
#[derive(Clone, Debug, Default)]
pub struct Sandbox {
    pub id: String,
    /// How many sandboxes the pod had before.
    pub attempt: u32,
    /// The sandbox lives, and containers may be made in it.
    pub ready: bool,
    /// ns since the epoch
    pub created_at: i64,
    /// The primary address first; empty on the node's network.
    pub ips: Vec<String>,
    /// It is on the node's network.
    pub host_network: bool,
}

/// What a container is doing, in CRI's terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Made, and not started yet.
    #[default]
    Created,
    /// Started, and not known to have ended.
    Running,
    /// Ended, by itself or by force.
    Exited,
    /// The runtime has lost track of it.
    Unknown,
}

/// One container instance, of any attempt.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    pub id: String,
    pub name: String,
    /// Id of the sandbox it is in.
    pub sandbox: String,
    /// How many instances of this container there were before.
    pub restart_count: u32,
    /// Hash of the spec it was made from; `None` where the annotation is missing.
    pub hash: Option<u32>,
    /// As the runtime says.
    pub state: State,
    /// These three in ns since the epoch; 0: not yet.
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    /// 0 until it has exited.
    pub exit_code: i32,
    /// The runtime's word for its end ("Completed", "OOMKilled").
    pub reason: String,
    /// Its termination message, or what the runtime says of its state.
    pub message: String,
    /// The image as the spec names it, where the runtime remembers.
    pub image: String,
    /// The image by digest.
    pub image_ref: String,
    /// Path of its log on the node.
    pub log_path: String,
    /// The user that its first process runs as, where the runtime tells.
    pub user: Option<cri::LinuxContainerUser>,
    /// Seconds, from the annotation: for containers whose pod object is gone.
    pub grace_period: Option<u64>,
}

/// Everything the runtime has of a pod.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Newest first.
    pub containers: Vec<Arc<Instance>>,
}

impl Observed {
    /// The newest instance of a container.
    pub fn newest(&self, name: &str) -> Option<&Arc<Instance>> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The instance before the newest.
    pub fn previous(&self, name: &str) -> Option<&Arc<Instance>> {
        self.containers.iter().filter(|c| c.name == name).nth(1)
    }

    /// The newest instance that belongs to `sandbox`.
    pub fn in_sandbox(&self, name: &str, sandbox: &str) -> Option<&Arc<Instance>> {
        self.newest(name).filter(|c| c.sandbox == sandbox)
    }

    /// The one sandbox the pod lives in: the newest, if it is ready.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }
    /// Instances that run, or may run: the runtime is not sure of every one.
    pub fn running(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.containers.iter().filter(|c| matches!(c.state, State::Running | State::Unknown))
    }

    /// Nothing of the pod runs any more.
    pub fn is_stopped(&self) -> bool {
        self.running().next().is_none() && !self.sandboxes.iter().any(|sandbox| sandbox.ready)
    }
}

/// Reads the pod's state. Instances that can't have changed since `before` are taken from it, so a look at a settled
/// pod costs two list calls.
pub async fn observe(cri: &Cri, uid: &str, before: &Observed) -> Result<Observed> {
    let label = [(names::POD_UID, uid)];
    let (sandboxes, containers) = tokio::try_join!(cri.list_pod_sandboxes(&label), cri.list_containers(&label))?;

    let mut observed = Observed::default();
    for sandbox in sandboxes {
        observed.sandboxes.push(read_sandbox(cri, sandbox, before).await?);
    }
    observed.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.created_at));
    for container in containers {
        let same = before.containers.iter().find(|b| b.id == container.id && b.state == state(container.state()));
        let instance = match same.filter(|same| matches!(same.state, State::Running | State::Exited)) {
            Some(same) => same.clone(),
            None => match cri.container_status(&container.id).await {
                Ok(status) => Arc::new(instance(status, container.pod_sandbox_id).await),
                Err(error) if error.is_not_found() => continue, // removed since it was listed
                Err(error) => return Err(error),
            },
        };
        observed.containers.push(instance);
    }
    observed.containers.sort_by_key(|c| std::cmp::Reverse(c.created_at));
    Ok(observed)
}

async fn read_sandbox(cri: &Cri, sandbox: cri::PodSandbox, before: &Observed) -> Result<Sandbox> {
    let ready = sandbox.state() == PodSandboxState::SandboxReady;
    if let Some(known) = before.sandboxes.iter().find(|b| b.id == sandbox.id && b.ready == ready) {
        return Ok(known.clone());
    }
    let mut read = Sandbox {
        id: sandbox.id,
        attempt: sandbox.metadata.unwrap_or_default().attempt,
        ready,
        created_at: sandbox.created_at,
        ..Default::default()
    };
    if !ready {
        return Ok(read);
    }
    match cri.pod_sandbox_status(&read.id).await {
        Ok(status) => {
            let namespaces = status.linux.and_then(|linux| linux.namespaces).and_then(|n| n.options);
            read.host_network = namespaces.is_some_and(|n| n.network() == cri::NamespaceMode::Node);
            if let Some(network) = status.network {
                let additional = network.additional_ips.into_iter().map(|ip| ip.ip);
                read.ips = std::iter::once(network.ip).chain(additional).filter(|ip| !ip.is_empty()).collect();
            }
        }
        Err(error) if error.is_not_found() => read.ready = false,
        Err(error) => return Err(error),
    }
    Ok(read)
}

fn state(state: ContainerState) -> State {
    match state {
        ContainerState::ContainerCreated => State::Created,
        ContainerState::ContainerRunning => State::Running,
        ContainerState::ContainerExited => State::Exited,
        ContainerState::ContainerUnknown => State::Unknown,
    }
}

async fn instance(status: cri::ContainerStatus, sandbox: String) -> Instance {
    let state = state(status.state());
    let annotation = |key: &str| status.annotations.get(key);
    let message = match state {
        State::Exited => termination_message(&status).await,
        _ => status.message.clone(),
    };
    let image = status.image.clone().unwrap_or_default();
    Instance {
        name: status
            .labels
            .get(names::CONTAINER_NAME)
            .cloned()
            .or_else(|| Some(status.metadata.clone()?.name))
            .unwrap_or_default(),
        sandbox,
        restart_count: annotation(names::CONTAINER_RESTART_COUNT)
            .and_then(|count| count.parse().ok())
            .unwrap_or_else(|| status.metadata.as_ref().map_or(0, |m| m.attempt)),
        hash: annotation(names::CONTAINER_HASH).and_then(|hash| u32::from_str_radix(hash, 16).ok()),
        state,
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason.clone(),
        message,
        image: if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image },
        image_ref: status.image_ref.clone(),
        log_path: status.log_path.clone(),
        user: status.user.clone().and_then(|user| user.linux),
        grace_period: annotation(names::POD_DELETION_GRACE_PERIOD)
            .or_else(|| annotation(names::POD_TERMINATION_GRACE_PERIOD))
            .and_then(|seconds| seconds.parse().ok()),
        id: status.id,
    }
}

/// What the runtime says of the container's end, and what the container left in its termination message file or, under
/// FallbackToLogsOnError, at the end of its log.
async fn termination_message(status: &cri::ContainerStatus) -> String {
    let annotation = |key: &str| status.annotations.get(key).map(String::as_str).unwrap_or_default();
    let path = annotation(names::CONTAINER_TERMINATION_MESSAGE_PATH);
    // One that could not even be started has no log.
    let fall_back = annotation(names::CONTAINER_TERMINATION_MESSAGE_POLICY) == "FallbackToLogsOnError"
        && status.exit_code != 0
        && status.reason != "ContainerCannotRun";
    let mount = status.mounts.iter().find(|mount| mount.container_path == path);
    let mut own = String::new();
    if let Some(mount) = mount {
        own = match read_tail(Path::new(&mount.host_path), TERMINATION_MESSAGE_BYTES_MAX).await {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => format!("Error on reading termination log {}: {error}", mount.host_path),
        };
    }
    if own.is_empty() && fall_back {
        let log = Path::new(&status.log_path);
        own = match crate::log::end(log, TERMINATION_LOG_LINES_MAX, TERMINATION_LOG_BYTES_MAX).await {
            Ok(output) => String::from_utf8_lossy(&output).into_owned(),
            Err(error) => format!("Error on reading termination message from logs: {error}"),
        };
    }
    let said = [status.message.as_str(), &own];
    said.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ")
}

/// The last `bytes_max` of a regular file. The container wrote it, so it may be anything: never a device or a pipe.
async fn read_tail(path: &Path, bytes_max: usize) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncSeekExt};
    let meta = tokio::fs::symlink_metadata(path).await?;
    if !meta.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(std::io::SeekFrom::Start(meta.len().saturating_sub(bytes_max as u64))).await?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// State of every sandbox and container on the node by pod uid: what the relist compares.
pub async fn relist(cri: &Cri) -> Result<HashMap<String, Vec<(String, i32)>>> {
    let (sandboxes, containers) = tokio::try_join!(cri.list_pod_sandboxes(&[]), cri.list_containers(&[]))?;
    let mut pods: HashMap<String, Vec<(String, i32)>> = HashMap::new();
    let sandboxes = sandboxes.into_iter().map(|s| (s.labels, s.id, s.state));
    let containers = containers.into_iter().map(|c| (c.labels, c.id, 16 + c.state));
    for (mut labels, id, state) in sandboxes.chain(containers) {
        if let Some(uid) = labels.remove(names::POD_UID) {
            pods.entry(uid).or_default().push((id, state));
        }
    }
    for states in pods.values_mut() {
        states.sort_unstable();
    }
    Ok(pods)
}
