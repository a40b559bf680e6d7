//! emptyDir: a directory that lives as long as the pod, on disk or in memory.

use std::path::PathBuf;

use configuration::quantity;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};
use pod_state::spec;

use super::usage::Measure;
use super::{MountedVolume, VolumeError, blocking, io, mounts, ownership};

/// How large the volume may be where it is in memory, in bytes: as its `sizeLimit` says, and no larger than what the pod
/// may use at all, so that a pod that fills it is stopped by its own limits before the node is in need (KEP-1967).
pub fn memory_max(pod: &Pod, source: &EmptyDirVolumeSource, allocatable: i64) -> i64 {
    let own = source.size_limit.as_ref().and_then(|limit| quantity::parse(&limit.0));
    let bounds = [own, spec::limit(pod, "memory")].into_iter().flatten().filter(|bytes| *bytes > 0);
    bounds.fold(allocatable, i64::min)
}

/// `memory_max`: size where it is in memory, in bytes.
pub async fn setup(
    dir: PathBuf,
    source: &EmptyDirVolumeSource,
    memory_max: i64,
    fs_group: Option<i64>,
) -> Result<MountedVolume, VolumeError> {
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
            mounts::tmpfs(&dir, Some(memory_max).filter(|bytes| *bytes > 0))?;
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_volume_in_memory_is_bounded_by_its_own_size_the_pods_limit_and_the_node() {
        for (size, limit, expected) in [
            (None, None, 1000),
            (None, Some("200"), 200),
            (Some("100"), Some("200"), 100),
            (Some("300"), Some("200"), 200),
            (Some("5000"), None, 1000),
            (Some("0"), None, 1000),
        ] {
            let limits = limit.map(|limit| json!({"limits": {"memory": limit}}));
            let pod: Pod =
                serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "resources": limits}]}}))
                    .expect("a pod");
            let source: EmptyDirVolumeSource =
                serde_json::from_value(json!({"medium": "Memory", "sizeLimit": size})).expect("a source");
            assert_eq!(memory_max(&pod, &source, 1000), expected, "{size:?} {limit:?}");
        }
    }
}
