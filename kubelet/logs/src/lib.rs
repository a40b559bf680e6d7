//! Container logs on disk, in CRI's format (`pod_state::log`). The runtime writes them; the kubelet reads (`read`), rotates
//! (`rotate`) and removes them.
//!
//! Which container's log is meant, and when it may go, is for others to say.

pub mod read;
pub mod rotate;

use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use node_context::Context;

/// Removes a log and what was rotated from it. What is left over costs only disk, and goes with the pod.
pub async fn remove(path: &str) {
    let path = Path::new(path);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return };
    let Ok(mut entries) = tokio::fs::read_dir(dir).await else { return };
    let prefix = format!("{}.", name.to_string_lossy());
    while let Ok(Some(entry)) = entries.next_entry().await {
        let entry_name = entry.file_name();
        if entry_name == name || entry_name.to_string_lossy().starts_with(&prefix) {
            let _ = tokio::fs::remove_file(entry.path()).await;
        }
    }
    remove_dangling_links().await;
}

/// Removes all logs of a pod.
pub async fn remove_pod(context: &Context, pod: &Pod) {
    let dir = context.log_directory(pod);
    match tokio::fs::remove_dir_all(&dir).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(dir, %error, "Can't remove a pod's logs");
        }
        _ => remove_dangling_links().await,
    }
}

/// Removes links in /var/log/containers whose log is gone.
async fn remove_dangling_links() {
    let Ok(mut entries) = tokio::fs::read_dir("/var/log/containers").await else { return };
    while let Ok(Some(entry)) = entries.next_entry().await {
        if tokio::fs::metadata(entry.path()).await.is_err() && entry.file_name().to_string_lossy().ends_with(".log") {
            let _ = tokio::fs::remove_file(entry.path()).await;
        }
    }
}
