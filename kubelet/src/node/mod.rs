//! The node's object: registered once, its status kept true, its Lease renewed. What pods do never comes in here.

pub mod address;
pub mod bootstrap;
mod conditions;
pub mod lease;
pub mod machine;
pub mod runtime;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerImage, Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::json;
use crate::kubelet::Kubelet;
use crate::options::Args;
use crate::quantity::ResourceList;

const REGISTER_RETRY_MIN: Duration = Duration::from_millis(200);
const REGISTER_RETRY_MAX: Duration = Duration::from_secs(7);

/// A time as the API has it: whole seconds.
fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// What a file system has, in bytes and inodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filesystem {
    pub capacity_bytes: u64,
    pub available_bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// Asks the file system that holds `path`.
pub fn filesystem(path: &Path) -> std::io::Result<Filesystem> {
    let stats = nix::sys::statvfs::statvfs(path)?;
    Ok(Filesystem {
        capacity_bytes: stats.blocks() * stats.fragment_size(),
        available_bytes: stats.blocks_available() * stats.fragment_size(),
        inodes: stats.files(),
        inodes_free: stats.files_available(),
    })
}

/// Threads that exist, and the most there may be.
pub fn pids() -> Option<(i64, i64)> {
    let max = std::fs::read_to_string("/proc/sys/kernel/pid_max").ok()?.trim().parse().ok()?;
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let threads = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some((threads, max))
}

/// Keeps the kernel from killing the kubelet first when memory runs out, where it lets us.
pub fn protect_self(oom_score_adj: i32) {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", oom_score_adj.to_string()) {
        tracing::warn!(%error, oom_score_adj, "Can't set the kubelet's own oom_score_adj, going on without it");
    }
}

/// Registers the node, then keeps its status true until shutdown.
pub async fn run(kubelet: Arc<Kubelet>, args: Args, shutdown: CancellationToken) {
    let Some(client) = kubelet.client.clone() else { return };
    let api: Api<Node> = Api::all(client);
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = async {
            kubelet.api.wait().await;
            if kubelet.config.register_node {
                register(&kubelet, &args, &api).await;
                kubelet.node_event("Normal", "Starting", "Starting kubelet.");
            }
            report(&kubelet, &args, &api).await;
        } => {}
    }
}

/// The labels that a node registers with.
pub fn labels(kubelet: &Kubelet) -> BTreeMap<String, String> {
    let (os, arch) = ("linux", machine::architecture());
    [
        ("kubernetes.io/hostname", kubelet.node_name.as_str()),
        ("kubernetes.io/os", os),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", os),
        ("beta.kubernetes.io/arch", arch),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .chain(kubelet.node_labels.clone())
    .collect()
}

/// The object a new node begins with.
fn initial(kubelet: &Kubelet, args: &Args) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(kubelet.node_name.clone());
    node.metadata.labels = Some(labels(kubelet));
    // Tells the attach/detach controller who mounts.
    node.metadata.annotations =
        Some([("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned())].into());
    let mut taints: Vec<Taint> = kubelet
        .config
        .register_with_taints
        .iter()
        .map(|taint| Taint {
            key: taint.key.clone(),
            value: (!taint.value.is_empty()).then(|| taint.value.clone()),
            effect: taint.effect.clone(),
            time_added: None,
        })
        .collect();
    if args.cloud_provider.as_deref() == Some("external") {
        taints.push(Taint {
            key: "node.cloudprovider.kubernetes.io/uninitialized".into(),
            value: Some("true".into()),
            effect: "NoSchedule".into(),
            time_added: None,
        });
    }
    node.spec = Some(NodeSpec {
        taints: (!taints.is_empty()).then_some(taints),
        unschedulable: (args.register_schedulable == Some(false)).then_some(true),
        provider_id: Some(kubelet.config.provider_id.clone()).filter(|id| !id.is_empty()),
        ..Default::default()
    });
    node
}

/// Creates the node, or brings the labels of the one that is there up to date. Tries until it works.
async fn register(kubelet: &Kubelet, args: &Args, api: &Api<Node>) {
    let mut retry = REGISTER_RETRY_MIN;
    let mut node = initial(kubelet, args);
    loop {
        node.status = Some(status(kubelet, args, None).await);
        let registered = match api.create(&PostParams::default(), &node).await {
            Ok(_) => {
                tracing::info!(node = kubelet.node_name, "Registered the node");
                return;
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let labels: Value = json!(labels(kubelet));
                let body = json!({"metadata": {"labels": labels}});
                api.patch(&kubelet.node_name, &PatchParams::default(), &Patch::Strategic(&body)).await.map(|_| ())
            }
            Err(error) => Err(error),
        };
        match registered {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "Can't register the node yet"),
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(REGISTER_RETRY_MAX);
    }
}

/// Writes the status when it changes, and now and then when it doesn't.
async fn report(kubelet: &Kubelet, args: &Args, api: &Api<Node>) {
    let mut last: Option<(NodeStatus, Instant)> = None;
    let mut pod_cidr = String::new();
    let mut ticks = tokio::time::interval(kubelet.config.node_status_update_frequency.get());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = kubelet.node_changed.notified() => {}
        }
        let old = match kubelet.node().and_then(|node| node.status.clone()).or(last.as_ref().map(|(s, _)| s.clone())) {
            Some(old) => old,
            None => match api.get_opt(&kubelet.node_name).await {
                Ok(Some(node)) => node.status.unwrap_or_default(),
                Ok(None) => {
                    if kubelet.config.register_node {
                        register(kubelet, args, api).await;
                    }
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "Can't read the node's object");
                    continue;
                }
            },
        };
        tell_pod_cidr(kubelet, &mut pod_cidr).await;
        let new = status(kubelet, args, Some(&old)).await;
        let due = last.as_ref().is_none_or(|(_, at)| at.elapsed() >= kubelet.config.node_status_report_frequency.get());
        let Some(patch) = patch(&old, &new, due) else { continue };
        let body = json!({"metadata": {"name": kubelet.node_name}, "status": patch});
        match api.patch_status(&kubelet.node_name, &PatchParams::default(), &Patch::Strategic(&body)).await {
            Ok(_) => last = Some((new, Instant::now())),
            Err(kube::Error::Api(status)) if status.code == 404 => last = None,
            Err(error) => tracing::warn!(%error, "Can't write the node's status"),
        }
    }
}

/// Tells the runtime the node's range of pod addresses, where it has a new one: some make their CNI configuration of it.
async fn tell_pod_cidr(kubelet: &Kubelet, told: &mut String) {
    let spec = kubelet.node().and_then(|node| node.spec.clone()).unwrap_or_default();
    let ranges = spec.pod_cidrs.unwrap_or_default().join(",");
    let range = if ranges.is_empty() { kubelet.config.pod_cidr.clone() } else { ranges };
    if range.is_empty() || range == *told {
        return;
    }
    match kubelet.cri.update_runtime_config(&range).await {
        Ok(()) => *told = range,
        Err(error) => tracing::warn!(range, %error, "Can't tell the runtime the range of pod addresses yet"),
    }
}

/// The node's status now; transition times of conditions come from `old`.
async fn status(kubelet: &Kubelet, args: &Args, old: Option<&NodeStatus>) -> NodeStatus {
    let external = args.cloud_provider.as_deref() == Some("external");
    let runtime = kubelet.runtime.read().clone();
    let version = component_base::version::GIT_VERSION;
    NodeStatus {
        addresses: match old.and_then(|old| old.addresses.clone()) {
            Some(addresses) if external => Some(addresses),
            _ => Some(address::addresses(&kubelet.node_name, &kubelet.node_ips())),
        },
        allocatable: Some(allocatable(kubelet, old)),
        capacity: Some(kubelet.machine.capacity(&kubelet.config)),
        conditions: Some(conditions::conditions(kubelet, old)),
        daemon_endpoints: Some(
            json::from_value(&json!({"kubeletEndpoint": {"Port": kubelet.config.port}})).unwrap_or_default(),
        ),
        images: Some(images(kubelet).await),
        node_info: Some(kubelet.machine.info(version, &kubelet.runtime_name, &kubelet.runtime_version)),
        runtime_handlers: (!runtime.handlers.is_empty()).then_some(runtime.handlers),
        features: runtime.features,
        ..Default::default()
    }
}

/// What pods may ask for. Of a resource that someone else has added to the node's capacity, that is all of it.
fn allocatable(kubelet: &Kubelet, old: Option<&NodeStatus>) -> ResourceList {
    let mut allocatable = kubelet.allocatable();
    for (name, quantity) in old.and_then(|old| old.capacity.as_ref()).into_iter().flatten() {
        allocatable.entry(name.clone()).or_insert_with(|| quantity.clone());
    }
    allocatable
}

/// The largest images, at most as many as the API server should have to carry.
async fn images(kubelet: &Kubelet) -> Vec<ContainerImage> {
    let mut images = kubelet.cri.list_images().await.unwrap_or_default();
    images.sort_by_key(|image| std::cmp::Reverse(image.size));
    let max = usize::try_from(kubelet.config.node_status_max_images).unwrap_or(usize::MAX);
    images
        .into_iter()
        .take(max)
        .map(|image| ContainerImage {
            // Five names are enough to find an image by.
            names: Some(image.repo_digests.into_iter().chain(image.repo_tags).take(5).collect()),
            size_bytes: i64::try_from(image.size).ok(),
        })
        .collect()
}

/// A strategic merge patch from `old` to `new`. `due`: heartbeats alone are worth a write.
fn patch(old: &NodeStatus, new: &NodeStatus, due: bool) -> Option<Value> {
    let without_heartbeats = |conditions: Option<&Value>| {
        let mut conditions = conditions.cloned();
        for condition in conditions.iter_mut().filter_map(Value::as_array_mut).flatten() {
            condition.as_object_mut().map(|condition| condition.remove("lastHeartbeatTime"));
        }
        conditions
    };
    let (old, new) = (json::fields(old), json::fields(new));
    let ours: Vec<&str> = new
        .get("conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|c| c["type"].as_str())
        .collect();
    let mut patch = Map::new();
    for (field, value) in &new {
        let before = old.get(field);
        let changed = match field.as_str() {
            "conditions" => {
                // Others have conditions on the node too (network plugins, problem detectors).
                let mut before = without_heartbeats(before);
                if let Some(Value::Array(list)) = &mut before {
                    list.retain(|condition| condition["type"].as_str().is_some_and(|type_| ours.contains(&type_)));
                }
                due || before != without_heartbeats(Some(value))
            }
            _ => before != Some(value),
        };
        if !changed {
            continue;
        }
        let mut value = value.clone();
        if let (true, Value::Array(items)) = (field == "addresses" && before.is_some(), &mut value) {
            items.push(json!({"$patch": "replace"}));
        }
        if let ("allocatable", Value::Object(amounts)) = (field.as_str(), &mut value) {
            // Merging would keep what has gone from the capacity.
            for name in before.and_then(Value::as_object).into_iter().flat_map(Map::keys) {
                amounts.entry(name.clone()).or_insert(Value::Null);
            }
        }
        patch.insert(field.clone(), value);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_that_has_gone_can_not_be_had_any_more() {
        let status = |allocatable: Value| -> NodeStatus {
            serde_json::from_value(json!({"allocatable": allocatable})).expect("a status")
        };
        let found = patch(&status(json!({"cpu": "1", "example.com/gpu": "2"})), &status(json!({"cpu": "1"})), false);
        assert_eq!(found, Some(json!({"allocatable": {"cpu": "1", "example.com/gpu": null}})));
    }

    #[test]
    fn heartbeats_alone_are_written_only_when_due() {
        let status = |heartbeat: &str, ready: &str| -> NodeStatus {
            serde_json::from_value(
                json!({"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": heartbeat}]}),
            )
            .expect("a status")
        };
        let (one, two) = (status("2026-01-01T00:00:00Z", "True"), status("2026-01-01T00:00:10Z", "True"));
        assert_eq!(patch(&one, &two, false), None);
        assert!(patch(&one, &two, true).is_some());
        assert!(patch(&one, &status("2026-01-01T00:00:10Z", "False"), false).is_some());
    }
}
