//! Image collection: when the image file system fills beyond the high threshold, images that no container uses go,
//! those unused longest first, until it is below the low one.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use node_context::Context;
use tokio_util::sync::CancellationToken;

/// Upstream looks this often.
const PERIOD: Duration = Duration::from_secs(300);

/// What is known of an image that is present.
struct Record {
    detected: Instant,
    /// Last seen in use; when detected, if never.
    last_used: Instant,
    in_use: bool,
    size: u64,
    pinned: bool,
}

/// Collects until shutdown.
pub async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let mut records = HashMap::new();
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = collect(&context, &mut records).await {
            tracing::warn!(%error, "Image garbage collection failed, it is tried again in {PERIOD:?}");
        }
    }
}

async fn collect(context: &Context, records: &mut HashMap<String, Record>) -> anyhow::Result<()> {
    detect(context, records).await?;
    let config = &context.config;
    remove_old(context, records).await;
    let Some(usage) = context.cri.image_fs_info().await?.into_iter().next() else { return Ok(()) };
    let mountpoint = usage.fs_id.map(|id| id.mountpoint).unwrap_or_default();
    let stats = machine::filesystem(Path::new(&mountpoint))?;
    let percent = 100 - 100 * stats.available_bytes / stats.capacity_bytes.max(1);
    if percent < u64::from(config.image_gc_high_threshold_percent.unsigned_abs()) {
        return Ok(());
    }
    let free = stats.capacity_bytes * u64::from((100 - config.image_gc_low_threshold_percent).unsigned_abs()) / 100;
    let wanted = free.saturating_sub(stats.available_bytes);
    tracing::info!(percent, wanted, "Image file system is above the high threshold, removing unused images");
    let freed = free_space(context, records, wanted).await;
    if freed < wanted {
        let message = format!(
            "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
        );
        context.node_event("Warning", "FreeDiskSpaceFailed", &message);
    }
    Ok(())
}

async fn detect(context: &Context, records: &mut HashMap<String, Record>) -> anyhow::Result<()> {
    let images = context.cri.list_images().await?;
    let used: HashSet<String> = context
        .cri
        .list_containers(&[])
        .await?
        .into_iter()
        .flat_map(|container| [container.image_ref, container.image_id, container.image.unwrap_or_default().image])
        .collect();
    let now = Instant::now();
    let present: HashSet<&str> = images.iter().map(|image| image.id.as_str()).collect();
    records.retain(|id, _| present.contains(id.as_str()));
    for image in &images {
        let names = image.repo_tags.iter().chain(&image.repo_digests).chain([&image.id]);
        let in_use = names.into_iter().any(|name| used.contains(name));
        let infra = !context.pod_infra_image.is_empty()
            && image.repo_tags.iter().any(|tag| tag.ends_with(&context.pod_infra_image));
        let record = records.entry(image.id.clone()).or_insert(Record {
            detected: now,
            last_used: now,
            in_use,
            size: image.size,
            pinned: false,
        });
        record.in_use = in_use;
        record.pinned = image.pinned || infra;
        if in_use {
            record.last_used = now;
        }
    }
    Ok(())
}

/// Removes images that nobody has used for `imageMaximumGCAge`, however much room there is. What happened before this
/// kubelet started is unknown, so it has to have run as long.
async fn remove_old(context: &Context, records: &mut HashMap<String, Record>) {
    let age_max = context.config.image_maximum_gc_age.get();
    if age_max.is_zero() || context.started.elapsed() <= age_max {
        return;
    }
    for id in old(records, age_max, Instant::now()) {
        match context.cri.remove_image(&id).await {
            Ok(()) => drop(records.remove(&id)),
            Err(error) => tracing::warn!(image = id, %error, "Can't remove an image that is unused for long"),
        }
    }
}

/// Images that were last used longer than `age_max` ago.
fn old(records: &HashMap<String, Record>, age_max: Duration, now: Instant) -> Vec<String> {
    let unused = records.iter().filter(|(_, record)| !record.pinned && !record.in_use);
    unused.filter(|(_, record)| now - record.last_used > age_max).map(|(id, _)| id.clone()).collect()
}

/// Removes unused images until `wanted` bytes are free; returns the bytes freed.
async fn free_space(context: &Context, records: &mut HashMap<String, Record>, wanted: u64) -> u64 {
    let now = Instant::now();
    let min_age = context.config.image_minimum_gc_age.get();
    let mut unused: Vec<(Instant, String, u64)> = records
        .iter()
        .filter(|(_, r)| !r.pinned && !r.in_use && now - r.detected >= min_age)
        .map(|(id, r)| (r.last_used, id.clone(), r.size))
        .collect();
    unused.sort();
    let mut freed = 0;
    for (_, id, size) in unused {
        if freed >= wanted {
            break;
        }
        match context.cri.remove_image(&id).await {
            Ok(()) => {
                records.remove(&id);
                freed += size;
            }
            Err(error) => tracing::warn!(image = id, %error, "Can't remove an unused image"),
        }
    }
    freed
}

/// Removes every unused image, whatever its age: what eviction does first when the disk is full. Returns bytes freed.
pub async fn delete_unused(context: &Context) -> anyhow::Result<u64> {
    let mut records = HashMap::new();
    detect(context, &mut records).await?;
    let mut freed = 0;
    for (id, record) in records.iter().filter(|(_, record)| !record.pinned && !record.in_use) {
        if context.cri.remove_image(id).await.is_ok() {
            freed += record.size;
        }
    }
    Ok(freed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_old_when_nobody_has_used_it_for_long() {
        let start = Instant::now();
        let record = |in_use, pinned| Record { detected: start, last_used: start, in_use, size: 1, pinned };
        let records = HashMap::from([
            ("unused".to_owned(), record(false, false)),
            ("used".to_owned(), record(true, false)),
            ("pinned".to_owned(), record(false, true)),
        ]);
        let (age, second) = (Duration::from_secs(3600), Duration::from_secs(1));
        assert!(old(&records, age, start + age).is_empty());
        assert_eq!(old(&records, age, start + age + second), ["unused"]);
    }
}
