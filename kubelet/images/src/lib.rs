//! Images: present or pulled before a container is made, forgotten when the disk runs full. Credentials are in `auth`,
//! collection in `gc`. Which container needs which image is the pod worker's business, and no pod is touched here.

pub mod auth;
pub mod gc;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cri_client::Cri;
use k8s_openapi::api::core::v1::{Container, Pod};
use node_context::Context;
use parking_lot::Mutex;
use pod_state::spec;
use pod_state::status::Reason;
use proto::cri;
use tokio::sync::Semaphore;

/// Back-off between failed pulls of one image for one pod.
const BACKOFF_MIN: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Failures remembered; beyond this the oldest is forgotten, which only means an early retry.
const FAILURES_MAX: usize = 1024;

/// Why a container has no image. `reason` is what its status shows.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("Container image \"{0}\" is not present with pull policy of Never")]
    NeverPull(String),
    #[error("Back-off pulling image \"{image}\": ErrImagePull: {message}")]
    Backoff { image: String, message: String, until: Instant },
    #[error("{message}")]
    Pull { image: String, message: String },
    #[error("Failed to inspect image \"{image}\": {message}")]
    Inspect { image: String, message: String },
    #[error("Failed to apply default image tag \"{0}\": the reference is not a valid image name")]
    InvalidName(String),
}

impl ImageError {
    /// What the container's status shows while it waits.
    pub fn reason(&self) -> Reason {
        let reason = match self {
            Self::NeverPull(_) => "ErrImageNeverPull",
            Self::Backoff { .. } => "ImagePullBackOff",
            Self::Pull { .. } => "ErrImagePull",
            Self::Inspect { .. } => "ImageInspectError",
            Self::InvalidName(_) => "InvalidImageName",
        };
        Reason::new(reason, self.to_string())
    }
}

struct Failure {
    at: Instant,
    delay: Duration,
    message: String,
}

/// Pulls images, a bounded number at a time.
pub struct Images {
    cri: Cri,
    permits: Semaphore,
    /// By pod uid and image.
    failures: Mutex<HashMap<(String, String), Failure>>,
    node_credentials: auth::Keyring,
}

impl Images {
    /// `parallel_max`: pulls at once.
    pub fn new(cri: Cri, parallel_max: usize, node_credentials: auth::Keyring) -> Self {
        Self { cri, permits: Semaphore::new(parallel_max), failures: Mutex::new(HashMap::new()), node_credentials }
    }

    /// Forgets a pod's failures.
    pub fn forget(&self, uid: &str) {
        self.failures.lock().retain(|(of, _), _| of != uid);
    }

    /// Makes sure that the container's image is present as its pull policy demands, and returns it.
    pub async fn ensure(
        &self,
        context: &Context,
        pod: &Pod,
        container: &Container,
        sandbox: Option<cri::PodSandboxConfig>,
    ) -> Result<cri::Image, ImageError> {
        let name = container.image.as_deref().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) || name.starts_with(['/', ':', '@']) {
            return Err(ImageError::InvalidName(name.to_owned()));
        }
        let image = with_default_tag(name);
        let policy = container.image_pull_policy.as_deref().unwrap_or(default_policy(&image));
        let present = self.inspect(&image).await?;
        match (present, policy) {
            (Some(present), "IfNotPresent" | "Never") => {
                let message =
                    format!("Container image \"{name}\" already present on machine and can be accessed by the pod");
                context.event(pod, Some(&container.name), "Normal", "Pulled", &message);
                return Ok(present);
            }
            (None, "Never") => return Err(ImageError::NeverPull(name.to_owned())),
            _ => {}
        }
        let key = (spec::uid(pod).to_owned(), image.clone());
        self.check_backoff(&key, name)?;
        match self.pull(context, pod, container, &image, sandbox).await {
            Ok(image) => {
                self.failures.lock().remove(&key);
                Ok(image)
            }
            Err(error) => {
                self.note_failure(key, error.to_string());
                Err(error)
            }
        }
    }

    async fn inspect(&self, image: &str) -> Result<Option<cri::Image>, ImageError> {
        let inspected = self.cri.image_status(image).await;
        inspected.map_err(|error| ImageError::Inspect { image: image.to_owned(), message: error.message() })
    }

    fn check_backoff(&self, key: &(String, String), name: &str) -> Result<(), ImageError> {
        let failures = self.failures.lock();
        match failures.get(key) {
            Some(failure) if failure.at.elapsed() < failure.delay => Err(ImageError::Backoff {
                image: name.to_owned(),
                message: failure.message.clone(),
                until: failure.at + failure.delay,
            }),
            _ => Ok(()),
        }
    }

    fn note_failure(&self, key: (String, String), message: String) {
        let mut failures = self.failures.lock();
        if failures.len() >= FAILURES_MAX && !failures.contains_key(&key) {
            let oldest = failures.iter().min_by_key(|(_, failure)| failure.at).map(|(key, _)| key.clone());
            oldest.map(|oldest| failures.remove(&oldest));
        }
        let delay = failures.get(&key).map_or(BACKOFF_MIN, |failure| (failure.delay * 2).min(BACKOFF_MAX));
        failures.insert(key, Failure { at: Instant::now(), delay, message });
    }

    async fn pull(
        &self,
        context: &Context,
        pod: &Pod,
        container: &Container,
        image: &str,
        sandbox: Option<cri::PodSandboxConfig>,
    ) -> Result<cri::Image, ImageError> {
        let name = container.image.as_deref().unwrap_or_default();
        let failed = |message: String| ImageError::Pull { image: image.to_owned(), message };
        let asked = Instant::now();
        let _permit = self.permits.acquire().await.map_err(|error| failed(error.to_string()))?;
        context.event(pod, Some(&container.name), "Normal", "Pulling", &format!("Pulling image \"{name}\""));
        let started = Instant::now();
        let mut keyring = auth::of_pod(context, pod).await;
        keyring.extend(&self.node_credentials);
        // Each matching credential in turn, at last none; the first that works counts.
        let mut credentials: Vec<Option<cri::AuthConfig>> = keyring.lookup(image).into_iter().map(Some).collect();
        if credentials.is_empty() {
            credentials.push(None);
        }
        let mut failure = None;
        for credential in credentials {
            match self.cri.pull_image(image, credential, sandbox.clone()).await {
                Ok(_) => {
                    failure = None;
                    break;
                }
                Err(error) => failure = Some(format!("failed to pull image \"{name}\": {}", error.message())),
            }
        }
        if let Some(message) = failure {
            return Err(failed(message));
        }
        let pulled = self.inspect(image).await?;
        let pulled = pulled.ok_or_else(|| failed(format!("the runtime pulled \"{name}\" but doesn't have it")))?;
        let message = format!(
            "Successfully pulled image \"{name}\" in {} ({} including waiting). Image size: {} bytes.",
            millis(started.elapsed()),
            millis(asked.elapsed()),
            pulled.size
        );
        context.event(pod, Some(&container.name), "Normal", "Pulled", &message);
        Ok(pulled)
    }
}

fn millis(duration: Duration) -> String {
    format!("{}s", (duration.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// `name` with ":latest" where it has neither tag nor digest.
fn with_default_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

/// What the API server fills in; a static pod's file may leave it out.
fn default_policy(image: &str) -> &'static str {
    if image.ends_with(":latest") { "Always" } else { "IfNotPresent" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_tag_means_latest_and_latest_is_always_pulled() {
        for (name, full, policy) in [
            ("nginx", "nginx:latest", "Always"),
            ("nginx:1.23.3", "nginx:1.23.3", "IfNotPresent"),
            ("localhost:5000/nginx", "localhost:5000/nginx:latest", "Always"),
            ("nginx@sha256:00", "nginx@sha256:00", "IfNotPresent"),
        ] {
            let image = with_default_tag(name);
            assert_eq!((image.as_str(), default_policy(&image)), (full, policy));
        }
    }
}
