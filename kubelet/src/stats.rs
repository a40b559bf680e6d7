//! What containers, pods and the node use: read from the runtime and from cgroups when someone asks, never before.

use std::collections::HashMap;

use jiff::Timestamp;
use proto::cri::{ContainerStats, UInt64Value};
use serde_json::{Value, json};

use crate::cri::names;
use crate::kubelet::Kubelet;
use crate::node::Filesystem;
use crate::pod::spec;

/// One container's use.
#[derive(Clone, Debug, Default)]
pub struct ContainerUsage {
    pub id: String,
    pub container: String,
    pub pod: String,
    pub namespace: String,
    pub uid: String,
    pub image: String,
    pub cpu_ns: u64,
    pub nano_cores: Option<u64>,
    /// These in bytes.
    pub working_set: u64,
    pub usage: u64,
    pub rss: u64,
    pub disk: u64,
    pub inodes: u64,
    /// ns since the epoch.
    pub timestamp: i64,
}

/// A pod's use in sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodUsage {
    pub cpu_ns: u64,
    pub working_set: u64,
    pub disk: u64,
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
pub async fn containers(kubelet: &Kubelet) -> Vec<ContainerUsage> {
    let stats = kubelet.cri.list_container_stats().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "The runtime gives no container stats");
        Vec::new()
    });
    // Containers that have ended are listed too, with nothing in use.
    let alive = |usage: &ContainerUsage| usage.cpu_ns > 0 || usage.usage > 0;
    let mut usages: Vec<ContainerUsage> = stats.into_iter().filter_map(usage).filter(alive).collect();
    usages.sort_by(|a, b| (&a.namespace, &a.pod, &a.container).cmp(&(&b.namespace, &b.pod, &b.container)));
    usages
}

/// Use by pod uid.
pub async fn by_pod(kubelet: &Kubelet) -> HashMap<String, PodUsage> {
    let mut pods: HashMap<String, PodUsage> = HashMap::new();
    for container in containers(kubelet).await {
        let pod = pods.entry(container.uid).or_default();
        pod.cpu_ns += container.cpu_ns;
        pod.working_set += container.working_set;
        pod.disk += container.disk;
    }
    pods
}

fn rfc3339(ns: i64) -> String {
    Timestamp::from_nanosecond(ns.into())
        .ok()
        .filter(|_| ns > 0)
        .unwrap_or_else(Timestamp::now)
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

fn filesystem(stats: Filesystem, time: &str) -> Value {
    json!({
        "time": time,
        "availableBytes": stats.available_bytes,
        "capacityBytes": stats.capacity_bytes,
        "usedBytes": stats.capacity_bytes.saturating_sub(stats.available_bytes),
        "inodesFree": stats.inodes_free,
        "inodes": stats.inodes,
        "inodesUsed": stats.inodes.saturating_sub(stats.inodes_free),
    })
}

/// The answer of `/stats/summary` (stats.k8s.io/v1alpha1).
pub async fn summary(kubelet: &Kubelet) -> Value {
    let now = rfc3339(0);
    let containers = containers(kubelet).await;
    let disk = kubelet.machine.node_filesystem().unwrap_or_default();
    let mut pods = Vec::new();
    for pod in kubelet.pods.list() {
        let uid = spec::uid(&pod);
        let own: Vec<&ContainerUsage> = containers.iter().filter(|container| container.uid == uid).collect();
        if own.is_empty() {
            continue;
        }
        let status = kubelet.statuses.get(uid).unwrap_or_default();
        let total = kubelet.cgroups.pod_usage(&pod);
        pods.push(json!({
            "podRef": {"name": spec::name(&pod), "namespace": spec::namespace(&pod), "uid": uid},
            "startTime": status.start_time,
            "containers": own.iter().map(|c| json!({
                "name": c.container,
                "startTime": status.start_time,
                "cpu": {"time": rfc3339(c.timestamp), "usageNanoCores": c.nano_cores, "usageCoreNanoSeconds": c.cpu_ns},
                "memory": {"time": rfc3339(c.timestamp), "usageBytes": c.usage, "workingSetBytes": c.working_set, "rssBytes": c.rss},
                "rootfs": {"time": rfc3339(c.timestamp), "usedBytes": c.disk, "inodesUsed": c.inodes},
            })).collect::<Vec<_>>(),
            "cpu": {"time": now, "usageCoreNanoSeconds": total.cpu_ns.max(own.iter().map(|c| c.cpu_ns).sum())},
            "memory": {"time": now, "usageBytes": total.memory, "workingSetBytes": total.working_set, "rssBytes": total.rss},
            "ephemeral-storage": {"time": now, "usedBytes": own.iter().map(|c| c.disk).sum::<u64>()},
        }));
    }
    let node = kubelet.cgroups.root_usage();
    json!({
        "node": {
            "nodeName": kubelet.node_name,
            "startTime": kubelet.started_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "cpu": {"time": now, "usageCoreNanoSeconds": node.cpu_ns},
            "memory": {
                "time": now,
                "availableBytes": kubelet.machine.memory_bytes.unsigned_abs().saturating_sub(node.working_set),
                "usageBytes": node.memory,
                "workingSetBytes": node.working_set,
                "rssBytes": node.rss,
            },
            "fs": filesystem(disk, &now),
        },
        "pods": pods,
    })
}
