//! The static pod directory: read when inotify tells of a change, and now and then in case it doesn't (NFS, overlays).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use machine::inotify::{AddWatchFlags, Changes};
use node_context::Context;
use tokio::sync::watch;

use super::decode;

/// Manifests are small; something larger is a mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Editors write in steps: looking a moment later sees the last one.
const SETTLE: Duration = Duration::from_millis(20);

/// Follows `staticPodPath`. A manifest that can't be read keeps what it said before: a half-written file must not stop
/// the API server.
pub async fn follow(context: &Arc<Context>, pods: watch::Sender<Option<Vec<Arc<Pod>>>>) {
    let path = context.config.static_pod_path.clone();
    if path.is_empty() {
        pods.send_replace(Some(Vec::new()));
        return std::future::pending().await;
    }
    let path = Path::new(&path);
    let mut known: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    let mut changes = None;
    loop {
        if changes.is_none() {
            changes = watch_changes(path);
        }
        read(path, &context.node_name, &mut known);
        let all: Vec<Arc<Pod>> = known.values().flatten().cloned().collect();
        pods.send_if_modified(|before| {
            let uids = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.metadata.uid.clone()).collect::<Vec<_>>();
            let changed = before.as_deref().map(uids) != Some(uids(&all));
            if changed {
                *before = Some(all);
            }
            changed
        });
        let changed = async {
            match &changes {
                Some(changes) => changes.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed => tokio::time::sleep(SETTLE).await,
            () = tokio::time::sleep(context.config.file_check_frequency.get()) => {}
        }
    }
}

fn watch_changes(path: &Path) -> Option<Changes> {
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF;
    match Changes::watch(path, flags) {
        Ok(changes) => Some(changes),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "Can't watch the static pod directory, it is only polled");
            None
        }
    }
}

/// Reads every manifest of the directory (or the one file) into `known`.
fn read(path: &Path, node_name: &str, known: &mut BTreeMap<String, Vec<Arc<Pod>>>) {
    let files: Vec<std::path::PathBuf> = match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => vec![path.to_path_buf()],
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "Can't read the static pod directory");
            return;
        }
    };
    let visible = |path: &std::path::PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // Hidden files are editors' and kubeadm's own.
        !name.starts_with('.')
            && std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= FILE_BYTES_MAX)
    };
    let files: Vec<String> = files.into_iter().filter(visible).map(|path| path.display().to_string()).collect();
    known.retain(|file, _| files.contains(file));
    for file in files {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(file, %error, "Can't read a static pod manifest");
                continue;
            }
        };
        match decode::pods(&text, "file", &file, node_name) {
            Ok(pods) => {
                known.insert(file, pods.into_iter().map(Arc::new).collect());
            }
            Err(error) => tracing::error!(file, %error, "A static pod manifest is not valid and is ignored"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_manifest_keeps_the_pod_it_described() {
        let dir = tempfile::tempdir().expect("a directory");
        let manifest = dir.path().join("a.yaml");
        let mut known = BTreeMap::new();
        let mut count = |text: Option<&str>| {
            match text {
                Some(text) => std::fs::write(&manifest, text).expect("written"),
                None => std::fs::remove_file(&manifest).expect("removed"),
            }
            read(dir.path(), "n", &mut known);
            known.values().flatten().count()
        };
        assert_eq!(count(Some("kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c}]}")), 1);
        assert_eq!(count(Some("kind: Pod\nmeta")), 1);
        assert_eq!(count(None), 0);
    }
}
