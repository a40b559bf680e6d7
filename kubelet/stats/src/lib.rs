//! What containers, pods and the node use: read from the runtime and from cgroups when someone asks, never before. Nothing
//! is decided here, and nothing remembered.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri_client::names;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};
use machine::Filesystem;
use pod_lifecycle::Lifecycle;
use pod_state::spec;
use proto::cri::{ContainerStats, UInt64Value};
use serde_json::{Value, json};
use volumes::usage::{self, Tree, VolumeUsage};

/// One container's use.
#[derive(Clone, Debug, Default)]
pub struct ContainerUsage {
    pub id: String,
    pub container: String,
    pub pod: String,
    pub namespace: String,
    pub uid: String,
    pub image: String,
    /// ns of CPU since it started.
    pub cpu_ns: u64,
    /// Thousand-millionths of a core at present, where the runtime tells.
    pub nano_cores: Option<u64>,
    /// These in bytes.
    pub working_set: u64,
    pub usage: u64,
    pub rss: u64,
    pub disk: u64,
    /// Inodes of its writable layer.
    pub inodes: u64,
    /// ns since the epoch.
    pub timestamp: i64,
}

/// What a pod uses: its running containers, its volumes, and what the kubelet keeps for it.
#[derive(Clone, Debug, Default)]
pub struct PodUsage {
    /// With the size of each one's logs.
    pub containers: Vec<(ContainerUsage, Tree)>,
    /// Of volumes that can be measured.
    pub volumes: Arc<Vec<VolumeUsage>>,
    /// What of the node's disk the pod uses: logs, volumes on disk, and writable layers where images share it.
    pub ephemeral: Tree,
}

impl PodUsage {
    /// Bytes of all its containers that the kernel can't take back at once.
    pub fn working_set(&self) -> u64 {
        self.containers.iter().map(|(container, _)| container.working_set).sum()
    }
}

fn value(value: Option<UInt64Value>) -> u64 {
    value.map_or(0, |value| value.value)
}

fn usage(stats: ContainerStats) -> Option<ContainerUsage> {
    let attributes = stats.attributes?;
    let label = |key: &str| attributes.labels.get(key).cloned().unwrap_or_default();
    let (cpu, memory, disk) =
        (stats.cpu.unwrap_or_default(), stats.memory.unwrap_or_default(), stats.writable_layer.unwrap_or_default());
    Some(ContainerUsage {
        container: label(names::CONTAINER_NAME),
        pod: label(names::POD_NAME),
        namespace: label(names::POD_NAMESPACE),
        uid: label(names::POD_UID),
        id: attributes.id,
        image: String::new(),
        cpu_ns: value(cpu.usage_core_nano_seconds),
        nano_cores: cpu.usage_nano_cores.map(|cores| cores.value),
        working_set: value(memory.working_set_bytes),
        usage: value(memory.usage_bytes),
        rss: value(memory.rss_bytes),
        disk: value(disk.used_bytes),
        inodes: value(disk.inodes_used),
        timestamp: cpu.timestamp,
    })
}

/// Use of all running containers, in a stable order.
pub async fn containers(lifecycle: &Lifecycle) -> Vec<ContainerUsage> {
    let stats = lifecycle.context.cri.list_container_stats().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "The runtime gives no container stats");
        Vec::new()
    });
    // Containers that have ended are listed too, with nothing in use.
    let alive = |usage: &ContainerUsage| usage.cpu_ns > 0 || usage.usage > 0;
    let mut usages: Vec<ContainerUsage> = stats.into_iter().filter_map(usage).filter(alive).collect();
    usages.sort_by(|a, b| (&a.namespace, &a.pod, &a.container).cmp(&(&b.namespace, &b.pod, &b.container)));
    usages
}

/// Use by pod uid, of the pods that have anything running.
pub async fn pods(lifecycle: &Lifecycle) -> HashMap<String, PodUsage> {
    let mut pods: HashMap<String, PodUsage> = HashMap::new();
    for container in containers(lifecycle).await {
        let uid = container.uid.clone();
        pods.entry(uid).or_default().containers.push((container, Tree::default()));
    }
    let layers_on_node_disk = !image_disk(lifecycle).await.dedicated;
    for pod in lifecycle.pods.list() {
        let uid = spec::uid(&pod);
        let Some(usage) = pods.get_mut(uid) else { continue };
        usage.volumes = lifecycle.volumes.usage(uid, lifecycle.context.config.volume_stats_agg_period.get()).await;
        let logs = PathBuf::from(lifecycle.context.log_directory(&pod));
        for (container, size) in &mut usage.containers {
            // A few files of bounded size: there is no need to leave the thread for them.
            *size = usage::tree(&logs.join(&container.container));
            usage.ephemeral += *size;
            if layers_on_node_disk {
                usage.ephemeral += Tree { bytes: container.disk, inodes: container.inodes };
            }
        }
        for volume in usage.volumes.iter().filter(|volume| is_on_node_disk(&pod, &volume.name)) {
            usage.ephemeral += volume.used;
        }
        usage.ephemeral += usage::tree(&lifecycle.context.pod_dir(uid).join("etc-hosts"));
    }
    pods
}

/// The volume takes room on the node's disk that is the pod's own.
fn is_on_node_disk(pod: &Pod, name: &str) -> bool {
    spec::spec(pod).volumes.iter().flatten().filter(|volume| volume.name == name).any(|volume| {
        let on_disk = |source: &EmptyDirVolumeSource| source.medium.as_deref().unwrap_or_default().is_empty();
        volume.empty_dir.as_ref().is_some_and(on_disk) || volume.config_map.is_some()
    })
}

/// The claim behind a volume, if there is one.
pub fn claim(pod: &Pod, name: &str) -> Option<String> {
    let volume = spec::spec(pod).volumes.iter().flatten().find(|volume| volume.name == name)?;
    match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (_, Some(_)) => Some(format!("{}-{name}", spec::name(pod))),
        _ => None,
    }
}

/// Where images and writable layers are.
#[derive(Clone, Copy, Debug, Default)]
struct ImageDisk {
    filesystem: Filesystem,
    used: Tree,
    /// It isn't the node's own.
    dedicated: bool,
}

async fn image_disk(lifecycle: &Lifecycle) -> ImageDisk {
    let usage = lifecycle.context.cri.image_fs_info().await.unwrap_or_default().into_iter().next().unwrap_or_default();
    let mountpoint = PathBuf::from(usage.fs_id.map(|id| id.mountpoint).unwrap_or_default());
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    ImageDisk {
        filesystem: machine::filesystem(&mountpoint).unwrap_or_default(),
        used: Tree { bytes: value(usage.used_bytes), inodes: value(usage.inodes_used) },
        dedicated: device(&mountpoint).is_some_and(|disk| device(&lifecycle.context.root_dir) != Some(disk)),
    }
}

fn rfc3339(ns: i64) -> String {
    Timestamp::from_nanosecond(ns.into())
        .ok()
        .filter(|_| ns > 0)
        .unwrap_or_else(Timestamp::now)
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// A file system, and what someone uses of it.
fn filesystem(stats: Filesystem, used: Tree, time: &str) -> Value {
    json!({
        "time": time,
        "availableBytes": stats.available_bytes,
        "capacityBytes": stats.capacity_bytes,
        "usedBytes": used.bytes,
        "inodesFree": stats.inodes_free,
        "inodes": stats.inodes,
        "inodesUsed": used.inodes,
    })
}

/// Leaves of a summary what an autoscaler looks at.
pub fn only_cpu_and_memory(summary: &mut Value) {
    let keep = |stats: &mut Value, fields: &[&str]| {
        if let Value::Object(stats) = stats {
            stats.retain(|field, _| fields.contains(&field.as_str()));
        }
    };
    keep(&mut summary["node"], &["nodeName", "startTime", "cpu", "memory"]);
    for pod in summary["pods"].as_array_mut().into_iter().flatten() {
        keep(pod, &["podRef", "startTime", "containers", "cpu", "memory"]);
        for container in pod["containers"].as_array_mut().into_iter().flatten() {
            keep(container, &["name", "startTime", "cpu", "memory"]);
        }
    }
}

/// All that is used of a file system.
fn whole(stats: Filesystem) -> Tree {
    Tree {
        bytes: stats.capacity_bytes.saturating_sub(stats.available_bytes),
        inodes: stats.inodes.saturating_sub(stats.inodes_free),
    }
}

/// The answer of `/stats/summary` (stats.k8s.io/v1alpha1).
pub async fn summary(lifecycle: &Lifecycle) -> Value {
    let now = rfc3339(0);
    let disk = lifecycle.context.machine.node_filesystem().unwrap_or_default();
    let images = image_disk(lifecycle).await;
    let usages = pods(lifecycle).await;
    let mut pods = Vec::new();
    for pod in lifecycle.pods.list() {
        let uid = spec::uid(&pod);
        let Some(usage) = usages.get(uid) else { continue };
        let status = lifecycle.statuses.get(uid).unwrap_or_default();
        let total = lifecycle.context.cgroups.pod_usage(&pod);
        let volumes = usage.volumes.iter().map(|volume| {
            let mut stats = filesystem(volume.filesystem, volume.used, &now);
            stats["name"] = json!(volume.name);
            if let Some(claim) = claim(&pod, &volume.name) {
                stats["pvcRef"] = json!({"name": claim, "namespace": spec::namespace(&pod)});
            }
            stats
        });
        let cpu_ns = usage.containers.iter().map(|(container, _)| container.cpu_ns).sum();
        pods.push(json!({
            "podRef": {"name": spec::name(&pod), "namespace": spec::namespace(&pod), "uid": uid},
            "startTime": status.start_time,
            "containers": usage.containers.iter().map(|(c, logs)| json!({
                "name": c.container,
                "startTime": status.start_time,
                "cpu": {"time": rfc3339(c.timestamp), "usageNanoCores": c.nano_cores, "usageCoreNanoSeconds": c.cpu_ns},
                "memory": {"time": rfc3339(c.timestamp), "usageBytes": c.usage, "workingSetBytes": c.working_set, "rssBytes": c.rss},
                "rootfs": filesystem(images.filesystem, Tree { bytes: c.disk, inodes: c.inodes }, &rfc3339(c.timestamp)),
                "logs": filesystem(disk, *logs, &now),
            })).collect::<Vec<_>>(),
            "cpu": {"time": now, "usageCoreNanoSeconds": total.cpu_ns.max(cpu_ns)},
            "memory": {"time": now, "usageBytes": total.memory, "workingSetBytes": total.working_set, "rssBytes": total.rss},
            "volume": volumes.collect::<Vec<_>>(),
            "ephemeral-storage": filesystem(disk, usage.ephemeral, &now),
        }));
    }
    let node = lifecycle.context.cgroups.root_usage();
    json!({
        "node": {
            "nodeName": lifecycle.context.node_name,
            "startTime": lifecycle.context.started_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "cpu": {"time": now, "usageCoreNanoSeconds": node.cpu_ns},
            "memory": {
                "time": now,
                "availableBytes": lifecycle.context.machine.memory_bytes.unsigned_abs().saturating_sub(node.working_set),
                "usageBytes": node.memory,
                "workingSetBytes": node.working_set,
                "rssBytes": node.rss,
            },
            "fs": filesystem(disk, whole(disk), &now),
            "runtime": {
                "imageFs": filesystem(images.filesystem, images.used, &now),
                "containerFs": filesystem(images.filesystem, images.used, &now),
            },
            "rlimit": machine::pids().map(|(used, max)| json!({"time": now, "maxpid": max, "curproc": used})),
        },
        "pods": pods,
    })
}
