//! The client side of CRI: one gRPC channel to the runtime's socket, a method per call the kubelet makes, each with its
//! deadline, and the names by which the kubelet knows again what it made. What the calls mean for pods is for others to say; no
//! decision is taken here.

pub mod names;

use std::collections::HashMap;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use proto::cri::image_service_client::ImageServiceClient;
use proto::cri::runtime_service_client::RuntimeServiceClient;
use proto::cri::{self};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Runtimes answer lists of whole nodes in one message; upstream allows 16 MB.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Pulls have their own progress based deadline in the runtime; this only bounds a runtime that hangs.
const PULL_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// A hook without a deadline of its own may run this long.
const EXEC_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// A CRI call that failed.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    #[error("container runtime endpoint {0:?} is not a unix socket; use unix:///path/to.sock")]
    Endpoint(String),
    #[error("{call}: {}", .status.message())]
    Call { call: &'static str, status: Box<tonic::Status> },
}

impl CriError {
    /// The runtime knows no such object: what was to be removed is gone.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Call { status, .. } if status.code() == tonic::Code::NotFound)
    }

    /// The runtime has no such call.
    pub fn is_unimplemented(&self) -> bool {
        matches!(self, Self::Call { status, .. } if status.code() == tonic::Code::Unimplemented)
    }

    /// The call's deadline passed, in the runtime or here.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Call { status, .. }
            if matches!(status.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled))
    }

    /// The runtime's own words.
    pub fn message(&self) -> String {
        match self {
            Self::Endpoint(_) => self.to_string(),
            Self::Call { status, .. } => status.message().to_owned(),
        }
    }
}

pub type Result<T> = std::result::Result<T, CriError>;

/// A handle on the runtime; clones share the channel. The channel connects when first used and again after a loss.
#[derive(Clone)]
pub struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    timeout: Duration,
}

/// Opens `endpoint` (`unix:///…` or a path).
fn channel(endpoint: &str) -> Result<Channel> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    if !path.starts_with('/') {
        return Err(CriError::Endpoint(endpoint.to_owned()));
    }
    let path = path.to_owned();
    // The URI only fills the :authority header; the connector below decides where bytes go.
    Ok(Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    })))
}

/// Awaits one unary call within `timeout`; an error names the call.
async fn call<T>(
    call: &'static str,
    timeout: Duration,
    response: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    match tokio::time::timeout(timeout, response).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(CriError::Call { call, status: Box::new(status) }),
        Err(_) => {
            let message = format!("no answer from the container runtime within {timeout:?}");
            Err(CriError::Call { call, status: Box::new(tonic::Status::deadline_exceeded(message)) })
        }
    }
}

/// A filter on labels.
fn selector(labels: &[(&str, &str)]) -> HashMap<String, String> {
    labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

impl Cri {
    /// A client of the runtime and image services. `timeout` bounds every call that has no longer bound of its own.
    pub fn connect(runtime_endpoint: &str, image_endpoint: &str, timeout: Duration) -> Result<Self> {
        let runtime = channel(runtime_endpoint)?;
        let images = if image_endpoint == runtime_endpoint { runtime.clone() } else { channel(image_endpoint)? };
        Ok(Self {
            runtime: RuntimeServiceClient::new(runtime)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
            images: ImageServiceClient::new(images).max_decoding_message_size(MESSAGE_BYTES_MAX),
            timeout,
        })
    }

    // ---- runtime ----

    /// Name, version and API version of the runtime.
    pub async fn version(&self) -> Result<cri::VersionResponse> {
        let request = cri::VersionRequest { version: "0.1.0".into() };
        call("Version", self.timeout, self.runtime.clone().version(request)).await
    }

    /// Conditions RuntimeReady and NetworkReady, handlers and features.
    pub async fn status(&self) -> Result<cri::StatusResponse> {
        call("Status", self.timeout, self.runtime.clone().status(cri::StatusRequest { verbose: false })).await
    }

    /// The runtime's cgroup driver, where it tells (containerd 2, CRI-O).
    pub async fn cgroup_driver(&self) -> Result<Option<cri::CgroupDriver>> {
        let request = cri::RuntimeConfigRequest {};
        let response = call("RuntimeConfig", self.timeout, self.runtime.clone().runtime_config(request)).await?;
        Ok(response.linux.map(|linux| linux.cgroup_driver()))
    }

    /// Tells the runtime the node's pod CIDR.
    pub async fn update_runtime_config(&self, pod_cidr: &str) -> Result<()> {
        let network_config = Some(cri::NetworkConfig { pod_cidr: pod_cidr.to_owned() });
        let request = cri::UpdateRuntimeConfigRequest { runtime_config: Some(cri::RuntimeConfig { network_config }) };
        call("UpdateRuntimeConfig", self.timeout, self.runtime.clone().update_runtime_config(request)).await?;
        Ok(())
    }

    /// The stream of container events. Runtimes older than containerd 1.7 answer Unimplemented.
    pub async fn events(&self) -> Result<tonic::Streaming<cri::ContainerEventResponse>> {
        let mut client = self.runtime.clone();
        call("GetContainerEvents", self.timeout, client.get_container_events(cri::GetEventsRequest {})).await
    }

    // ---- sandboxes ----

    /// Creates and starts a sandbox; returns its id.
    pub async fn run_pod_sandbox(&self, config: cri::PodSandboxConfig, runtime_handler: String) -> Result<String> {
        let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler };
        // CNI plugins may be slow; upstream gives sandboxes twice the usual time.
        let mut client = self.runtime.clone();
        Ok(call("RunPodSandbox", self.timeout * 2, client.run_pod_sandbox(request)).await?.pod_sandbox_id)
    }

    /// Stops a sandbox and frees its network. Idempotent.
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        call("StopPodSandbox", self.timeout, self.runtime.clone().stop_pod_sandbox(request)).await?;
        Ok(())
    }

    /// Removes a stopped sandbox and its containers. Idempotent.
    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        call("RemovePodSandbox", self.timeout, self.runtime.clone().remove_pod_sandbox(request)).await?;
        Ok(())
    }

    pub async fn pod_sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let response = call("PodSandboxStatus", self.timeout, self.runtime.clone().pod_sandbox_status(request)).await?;
        Ok(response.status.unwrap_or_default())
    }

    /// Sandboxes whose labels have all of `labels`.
    pub async fn list_pod_sandboxes(&self, labels: &[(&str, &str)]) -> Result<Vec<cri::PodSandbox>> {
        let filter = Some(cri::PodSandboxFilter { label_selector: selector(labels), ..Default::default() });
        let request = cri::ListPodSandboxRequest { filter };
        Ok(call("ListPodSandbox", self.timeout, self.runtime.clone().list_pod_sandbox(request)).await?.items)
    }

    // ---- containers ----

    /// Creates a container in a sandbox; returns its id.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<String> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(call("CreateContainer", self.timeout, self.runtime.clone().create_container(request)).await?.container_id)
    }

    pub async fn start_container(&self, id: &str) -> Result<()> {
        let request = cri::StartContainerRequest { container_id: id.to_owned() };
        call("StartContainer", self.timeout, self.runtime.clone().start_container(request)).await?;
        Ok(())
    }

    /// Sends the stop signal, and SIGKILL once `grace` has passed; returns when the container has ended. Idempotent.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let request =
            cri::StopContainerRequest { container_id: id.to_owned(), timeout: grace.as_secs_f64().ceil() as i64 };
        let stopped = call("StopContainer", self.timeout + grace, self.runtime.clone().stop_container(request)).await;
        match stopped {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Removes a container, killing it if it runs. Idempotent.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let request = cri::RemoveContainerRequest { container_id: id.to_owned() };
        call("RemoveContainer", self.timeout, self.runtime.clone().remove_container(request)).await?;
        Ok(())
    }

    /// Containers whose labels have all of `labels`, in any state.
    pub async fn list_containers(&self, labels: &[(&str, &str)]) -> Result<Vec<cri::Container>> {
        let filter = Some(cri::ContainerFilter { label_selector: selector(labels), ..Default::default() });
        let request = cri::ListContainersRequest { filter };
        Ok(call("ListContainers", self.timeout, self.runtime.clone().list_containers(request)).await?.containers)
    }

    pub async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus> {
        let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let response = call("ContainerStatus", self.timeout, self.runtime.clone().container_status(request)).await?;
        Ok(response.status.unwrap_or_default())
    }

    /// Changes the limits of a running container.
    pub async fn update_container_resources(&self, id: &str, linux: cri::LinuxContainerResources) -> Result<()> {
        let request = cri::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(linux),
            annotations: HashMap::new(),
        };
        let mut client = self.runtime.clone();
        call("UpdateContainerResources", self.timeout, client.update_container_resources(request)).await?;
        Ok(())
    }

    /// Makes the runtime open the container's log file anew, after the old one was moved.
    pub async fn reopen_container_log(&self, id: &str) -> Result<()> {
        let request = cri::ReopenContainerLogRequest { container_id: id.to_owned() };
        call("ReopenContainerLog", self.timeout, self.runtime.clone().reopen_container_log(request)).await?;
        Ok(())
    }

    // ---- streaming ----

    /// Runs `cmd` to its end and returns its output. `timeout` zero: as long as it takes, a day at most.
    pub async fn exec_sync(&self, id: &str, cmd: &[String], timeout: Duration) -> Result<cri::ExecSyncResponse> {
        let request = cri::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: cmd.to_vec(),
            timeout: timeout.as_secs_f64().ceil() as i64,
        };
        let bound = if timeout.is_zero() { EXEC_TIMEOUT_MAX } else { timeout + self.timeout };
        call("ExecSync", bound, self.runtime.clone().exec_sync(request)).await
    }

    /// The URL at which the runtime streams an exec.
    pub async fn exec(&self, request: cri::ExecRequest) -> Result<String> {
        Ok(call("Exec", self.timeout, self.runtime.clone().exec(request)).await?.url)
    }

    /// The URL at which the runtime streams an attach.
    pub async fn attach(&self, request: cri::AttachRequest) -> Result<String> {
        Ok(call("Attach", self.timeout, self.runtime.clone().attach(request)).await?.url)
    }

    /// The URL at which the runtime streams forwarded ports.
    pub async fn port_forward(&self, sandbox: &str, port: Vec<i32>) -> Result<String> {
        let request = cri::PortForwardRequest { pod_sandbox_id: sandbox.to_owned(), port };
        Ok(call("PortForward", self.timeout, self.runtime.clone().port_forward(request)).await?.url)
    }

    // ---- stats ----

    /// Usage of all running containers.
    pub async fn list_container_stats(&self) -> Result<Vec<cri::ContainerStats>> {
        let request = cri::ListContainerStatsRequest { filter: None };
        Ok(call("ListContainerStats", self.timeout, self.runtime.clone().list_container_stats(request)).await?.stats)
    }

    /// Usage of all ready sandboxes.
    pub async fn list_pod_sandbox_stats(&self) -> Result<Vec<cri::PodSandboxStats>> {
        let request = cri::ListPodSandboxStatsRequest { filter: None };
        let mut client = self.runtime.clone();
        Ok(call("ListPodSandboxStats", self.timeout, client.list_pod_sandbox_stats(request)).await?.stats)
    }

    // ---- images ----

    pub async fn list_images(&self) -> Result<Vec<cri::Image>> {
        let request = cri::ListImagesRequest { filter: None };
        Ok(call("ListImages", self.timeout, self.images.clone().list_images(request)).await?.images)
    }

    /// The image that `name` means, where it is present.
    pub async fn image_status(&self, name: &str) -> Result<Option<cri::Image>> {
        let image = Some(cri::ImageSpec { image: name.to_owned(), ..Default::default() });
        let request = cri::ImageStatusRequest { image, verbose: false };
        Ok(call("ImageStatus", self.timeout, self.images.clone().image_status(request)).await?.image)
    }

    /// Pulls an image; returns the runtime's reference to it.
    pub async fn pull_image(
        &self,
        name: &str,
        auth: Option<cri::AuthConfig>,
        sandbox_config: Option<cri::PodSandboxConfig>,
    ) -> Result<String> {
        let image = Some(cri::ImageSpec { image: name.to_owned(), ..Default::default() });
        let request = cri::PullImageRequest { image, auth, sandbox_config };
        Ok(call("PullImage", PULL_TIMEOUT, self.images.clone().pull_image(request)).await?.image_ref)
    }

    pub async fn remove_image(&self, id: &str) -> Result<()> {
        let image = Some(cri::ImageSpec { image: id.to_owned(), ..Default::default() });
        let request = cri::RemoveImageRequest { image };
        call("RemoveImage", self.timeout, self.images.clone().remove_image(request)).await?;
        Ok(())
    }

    /// Where images live and how much they use.
    pub async fn image_fs_info(&self) -> Result<Vec<cri::FilesystemUsage>> {
        let mut client = self.images.clone();
        let response = call("ImageFsInfo", self.timeout, client.image_fs_info(cri::ImageFsInfoRequest {})).await?;
        Ok(response.image_filesystems)
    }
}
