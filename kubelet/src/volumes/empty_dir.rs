//! emptyDir: a directory that lives as long as the pod, on disk or in memory.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;

use super::usage::Measure;
use super::{MountedVolume, VolumeError, blocking, io, mounts, ownership};
use crate::quantity;

pub async fn setup(
    dir: PathBuf,
    source: &EmptyDirVolumeSource,
    fs_group: Option<i64>,
) -> Result<MountedVolume, VolumeError> {
    let size = source.size_limit.as_ref().and_then(|limit| quantity::parse(&limit.0)).filter(|bytes| *bytes > 0);
    let medium = source.medium.clone().unwrap_or_default();
    if !matches!(medium.as_str(), "" | "Memory") {
        return Err(VolumeError::Invalid(format!("emptyDir medium {medium:?} is not supported on this node")));
    }
    let path = dir.clone();
    blocking(move || {
        let fresh = !dir.exists();
        std::fs::create_dir_all(&dir).map_err(io("creating", &dir))?;
        let mounted = medium == "Memory" && !mounts::is_mount_point(&dir);
        if mounted {
            mounts::tmpfs(&dir, size)?;
        }
        // Only once: what containers did to modes and owners since is theirs.
        if fresh || mounted {
            ownership::set_mode(&dir, 0o777).map_err(io("opening to all", &dir))?;
            if let Some(group) = fs_group {
                ownership::give(&dir, group, false).map_err(io("giving to fsGroup", &dir))?;
            }
        }
        Ok(())
    })
    .await?;
    Ok(MountedVolume { path, read_only: false, selinux_relabel: true, measure: Measure::Files })
}
