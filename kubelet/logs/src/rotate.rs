//! Rotation: a log beyond its size is moved aside and the runtime opens a new one; older ones are compressed, the oldest
//! removed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use configuration::quantity;
use flate2::Compression;
use flate2::write::GzEncoder;
use node_context::Context;
use tokio_util::sync::CancellationToken;

/// Rotates until shutdown.
pub async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let config = &context.config;
    let Some(size_max) = quantity::parse(&config.container_log_max_size).and_then(|size| u64::try_from(size).ok())
    else {
        tracing::error!(
            size = config.container_log_max_size,
            "containerLogMaxSize is no quantity; logs are not rotated"
        );
        return;
    };
    let mut ticks = tokio::time::interval(config.container_log_monitor_interval.get());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = rotate_all(&context, size_max).await {
            tracing::warn!(error = format!("{error:#}"), "Log rotation failed, it is tried again");
        }
    }
}

async fn rotate_all(context: &Context, size_max: u64) -> anyhow::Result<()> {
    for container in context.cri.list_containers(&[]).await? {
        if container.state() != proto::cri::ContainerState::ContainerRunning {
            continue;
        }
        let Ok(status) = context.cri.container_status(&container.id).await else { continue };
        let path = PathBuf::from(status.log_path);
        if tokio::fs::metadata(&path).await.is_ok_and(|meta| meta.len() > size_max) {
            rotate(context, &container.id, &path).await?;
        }
    }
    Ok(())
}

async fn rotate(context: &Context, id: &str, path: &Path) -> anyhow::Result<()> {
    let keep = context.config.container_log_max_files.max(2).unsigned_abs() as usize;
    let old = path.to_path_buf();
    tokio::task::spawn_blocking(move || tidy(&old, keep)).await??;
    let moved = PathBuf::from(format!("{}.{}", path.display(), jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S")));
    tokio::fs::rename(path, &moved).await.with_context(|| format!("moving {}", path.display()))?;
    if let Err(error) = context.cri.reopen_container_log(id).await {
        // The runtime writes on to the moved file; give it back its name so that readers find it.
        tokio::fs::rename(&moved, path).await?;
        return Err(error.into());
    }
    Ok(())
}

/// Compresses what was rotated before, and leaves room for one more: the log itself and the newest rotated one stay
/// plain, as readers may still be in them.
fn tidy(path: &Path, keep: usize) -> anyhow::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut rotated: Vec<PathBuf> = std::fs::read_dir(dir)?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    for half_done in rotated.extract_if(.., |path| path.extension().is_some_and(|extension| extension == "tmp")) {
        std::fs::remove_file(half_done)?;
    }
    rotated.sort();
    while rotated.len() > keep - 2 {
        std::fs::remove_file(rotated.remove(0))?;
    }
    for path in rotated.iter().filter(|path| path.extension().is_none_or(|extension| extension != "gz")) {
        compress(path)?;
    }
    Ok(())
}

fn compress(path: &Path) -> anyhow::Result<()> {
    let temporary = PathBuf::from(format!("{}.tmp", path.display()));
    let mut encoder = GzEncoder::new(std::fs::File::create(&temporary)?, Compression::default());
    std::io::copy(&mut std::fs::File::open(path)?, &mut encoder)?;
    encoder.finish()?.flush()?;
    std::fs::rename(&temporary, format!("{}.gz", path.display()))?;
    std::fs::remove_file(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_logs_are_compressed_and_the_oldest_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in
            ["0.log", "0.log.20260101-000001.gz", "0.log.20260101-000002.gz", "0.log.20260101-000003", "0.log.x.tmp"]
        {
            std::fs::write(dir.path().join(name), name).expect("written");
        }
        tidy(&dir.path().join("0.log"), 4).expect("tidy");
        let mut names: Vec<String> = std::fs::read_dir(dir.path())
            .expect("listed")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["0.log", "0.log.20260101-000002.gz", "0.log.20260101-000003.gz"]);
    }
}
