//! A pod's volumes on the node: made before its containers, kept up to date while they run, taken down after. Volumes
//! live where upstream puts them, `<root>/pods/<uid>/volumes/kubernetes.io~<plugin>/<name>`.
//!
//! [`Volumes::setup`] is idempotent: each sync of the pod calls it again, which is how changed ConfigMaps and fresh tokens
//! arrive. What containers do with volumes never comes in here; subPath, which depends on a container, is `subpath`. The
//! runtime is never called.

mod atomic_writer;
mod empty_dir;
mod host_path;
mod mounts;
mod ownership;
mod payload;
mod persistent;
pub mod subpath;
mod tokens;
pub mod usage;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use configuration::quantity;
use k8s_openapi::api::core::v1::{Pod, Volume};
use kube::Client;
use node_context::Context;
use node_context::objects::ObjectError;
use pod_state::field::NodeFacts;
use pod_state::spec;

/// Why a volume can't be set up. The pod waits and tries again.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("MountVolume.SetUp failed for volume {volume:?} : {source}")]
    SetUp { volume: String, source: Box<VolumeError> },
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("{0}")]
    Invalid(String),
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: String, source: std::io::Error },
    #[error("fetching a service account token: {0}")]
    Token(String),
}

/// An error of the file system, with what was done to what.
fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> VolumeError + 'a {
    move |source| VolumeError::Io { what, path: path.display().to_string(), source }
}

/// A volume as containers may mount it.
#[derive(Clone, Debug)]
pub struct MountedVolume {
    /// Where it is on the node.
    pub path: PathBuf,
    /// No container may write to it.
    pub read_only: bool,
    /// The runtime is to give it the pod's SELinux label.
    pub selinux_relabel: bool,
    /// How its use is found out.
    pub measure: Measure,
}

/// Volumes by name.
pub type MountedVolumes = HashMap<String, MountedVolume>;

pub use ownership::set_mode;
use tokens::Tokens;
use usage::{Measure, Usages, VolumeUsage};

/// The directory of one volume; `plugin` as in "kubernetes.io/empty-dir".
fn volume_dir(pod_dir: &Path, plugin: &str, name: &str) -> PathBuf {
    pod_dir.join("volumes").join(plugin.replace('/', "~")).join(name)
}

/// The volumes of the node's pods: the tokens in them, and what they use.
pub struct Volumes {
    tokens: Tokens,
    usages: Usages,
}

impl Volumes {
    /// `client`: the API server that tokens are asked of, if there is one.
    pub fn new(client: Option<Client>) -> Self {
        Self { tokens: Tokens::new(client), usages: Usages::default() }
    }

    /// Makes or refreshes all volumes of `pod`.
    pub async fn setup(&self, context: &Context, pod: &Pod, facts: &NodeFacts) -> Result<MountedVolumes, VolumeError> {
        let volumes = spec::spec(pod).volumes.as_deref().unwrap_or_default();
        let one = |volume: &Volume| {
            let volume = volume.clone();
            async move {
                match self.setup_one(context, pod, &volume, facts).await {
                    Ok(mounted) => Ok((volume.name, mounted)),
                    Err(error) => Err(VolumeError::SetUp { volume: volume.name, source: Box::new(error) }),
                }
            }
        };
        // Most wait for the API server, so they go together.
        let mounted = futures::future::try_join_all(volumes.iter().map(one)).await?.into_iter().collect();
        self.usages.mounted(spec::uid(pod), &mounted);
        Ok(mounted)
    }

    async fn setup_one(
        &self,
        context: &Context,
        pod: &Pod,
        volume: &Volume,
        facts: &NodeFacts,
    ) -> Result<MountedVolume, VolumeError> {
        let pod_dir = context.pod_dir(spec::uid(pod));
        let fs_group = spec::spec(pod).security_context.as_ref().and_then(|context| context.fs_group);
        let dir = |plugin| volume_dir(&pod_dir, plugin, &volume.name);
        if let Some(source) = &volume.host_path {
            return host_path::setup(source).await;
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            return persistent::setup(context, pod, claim).await;
        }
        if let Some(source) = &volume.empty_dir {
            let allocatable = quantity::of(Some(&context.allocatable()), "memory");
            let memory = empty_dir::memory_max(pod, source, allocatable);
            return empty_dir::setup(dir("kubernetes.io/empty-dir"), source, memory, fs_group).await;
        }
        let Some((plugin, in_memory)) = payload::plugin(volume) else {
            return Err(VolumeError::Invalid(format!(
                "volume {:?} is of a type this kubelet can't mount",
                volume.name
            )));
        };
        let payload = payload::collect(context, &self.tokens, pod, volume, facts).await?;
        let dir = dir(plugin);
        let path = dir.clone();
        blocking(move || {
            std::fs::create_dir_all(&dir).map_err(io("creating", &dir))?;
            if in_memory {
                // Secrets never touch the disk.
                mounts::tmpfs(&dir, None)?;
            }
            atomic_writer::write(&dir, &payload, fs_group)
        })
        .await?;
        Ok(MountedVolume { path, read_only: true, selinux_relabel: true, measure: Measure::Files })
    }

    /// The use of the pod's volumes, not older than `age_max`.
    pub async fn usage(&self, uid: &str, age_max: Duration) -> Arc<Vec<VolumeUsage>> {
        self.usages.of(uid, age_max).await
    }

    /// The pod's volumes are being taken down: drops its tokens, and what is known of their use.
    pub fn forget(&self, uid: &str) {
        self.tokens.forget(uid);
        self.usages.forget(uid);
    }
}

/// Runs file system work off the event loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => Err(VolumeError::Invalid(format!("volume work broke off: {panic}"))),
    }
}

/// Unmounts and deletes everything under a pod's directory. Idempotent. A mount that stays busy is an error, so that no
/// deletion ever reaches through a mount into someone's data.
pub async fn teardown(pod_dir: PathBuf) -> Result<(), VolumeError> {
    blocking(move || {
        mounts::unmount_below(&pod_dir)?;
        match std::fs::remove_dir_all(&pod_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("removing", &pod_dir)(error)),
            _ => Ok(()),
        }
    })
    .await
}
