//! The node's object: registered once, its status kept true, its Lease renewed. What pods do never comes in here; they are
//! only woken when the runtime becomes ready.

pub mod address;
mod conditions;
pub mod lease;
pub mod runtime;

use std::sync::Arc;
use std::time::{Duration, Instant};

use configuration::quantity::ResourceList;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerImage, Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use pod_lifecycle::Lifecycle;
use pod_state::json;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

const REGISTER_RETRY_MIN: Duration = Duration::from_millis(200);
const REGISTER_RETRY_MAX: Duration = Duration::from_secs(7);

/// A time as the API has it: whole seconds.
fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Keeps the kernel from killing the kubelet first when memory runs out, where it lets us.
pub fn protect_self(oom_score_adj: i32) {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", oom_score_adj.to_string()) {
        tracing::warn!(%error, oom_score_adj, "Can't set the kubelet's own oom_score_adj, going on without it");
    }
}

/// What the node's object begins with, as the flags say.
#[derive(Clone, Copy, Debug)]
pub struct Registration {
    /// A cloud provider that runs elsewhere tells the node's addresses, and takes the taint away that keeps pods off until
    /// then (`--cloud-provider=external`).
    pub external_cloud_provider: bool,
    /// The node begins as cordoned (`--register-schedulable=false`).
    pub unschedulable: bool,
}

/// Registers the node, then keeps its status true until shutdown.
pub async fn run(lifecycle: Arc<Lifecycle>, registration: Registration, shutdown: CancellationToken) {
    let Some(client) = lifecycle.context.client.clone() else { return };
    let api: Api<Node> = Api::all(client);
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = async {
            lifecycle.context.api.wait().await;
            if lifecycle.context.config.register_node {
                register(&lifecycle, &registration, &api).await;
                lifecycle.context.node_event("Normal", "Starting", "Starting kubelet.");
            }
            report(&lifecycle, &registration, &api).await;
        } => {}
    }
}

/// The object a new node begins with.
fn initial(lifecycle: &Lifecycle, registration: &Registration) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(lifecycle.context.node_name.clone());
    node.metadata.labels = Some(lifecycle.context.labels());
    // Tells the attach/detach controller who mounts.
    node.metadata.annotations =
        Some([("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned())].into());
    let mut taints: Vec<Taint> = lifecycle
        .context
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
    if registration.external_cloud_provider {
        taints.push(Taint {
            key: "node.cloudprovider.kubernetes.io/uninitialized".into(),
            value: Some("true".into()),
            effect: "NoSchedule".into(),
            time_added: None,
        });
    }
    node.spec = Some(NodeSpec {
        taints: (!taints.is_empty()).then_some(taints),
        unschedulable: registration.unschedulable.then_some(true),
        provider_id: Some(lifecycle.context.config.provider_id.clone()).filter(|id| !id.is_empty()),
        ..Default::default()
    });
    node
}

/// Creates the node, or brings the labels of the one that is there up to date. Tries until it works.
async fn register(lifecycle: &Lifecycle, registration: &Registration, api: &Api<Node>) {
    let mut retry = REGISTER_RETRY_MIN;
    let mut node = initial(lifecycle, registration);
    loop {
        node.status = Some(status(lifecycle, registration, None).await);
        let registered = match api.create(&PostParams::default(), &node).await {
            Ok(_) => {
                tracing::info!(node = lifecycle.context.node_name, "Registered the node");
                return;
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let labels: Value = json!(lifecycle.context.labels());
                let body = json!({"metadata": {"labels": labels}});
                api.patch(&lifecycle.context.node_name, &PatchParams::default(), &Patch::Strategic(&body))
                    .await
                    .map(|_| ())
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
async fn report(lifecycle: &Lifecycle, registration: &Registration, api: &Api<Node>) {
    let mut last: Option<(NodeStatus, Instant)> = None;
    let mut pod_cidr = String::new();
    let mut ticks = tokio::time::interval(lifecycle.context.config.node_status_update_frequency.get());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = lifecycle.context.node_changed.notified() => {}
        }
        let old = match lifecycle
            .context
            .node()
            .and_then(|node| node.status.clone())
            .or(last.as_ref().map(|(s, _)| s.clone()))
        {
            Some(old) => old,
            None => match api.get_opt(&lifecycle.context.node_name).await {
                Ok(Some(node)) => node.status.unwrap_or_default(),
                Ok(None) => {
                    if lifecycle.context.config.register_node {
                        register(lifecycle, registration, api).await;
                    }
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "Can't read the node's object");
                    continue;
                }
            },
        };
        tell_pod_cidr(lifecycle, &mut pod_cidr).await;
        let new = status(lifecycle, registration, Some(&old)).await;
        let due = last
            .as_ref()
            .is_none_or(|(_, at)| at.elapsed() >= lifecycle.context.config.node_status_report_frequency.get());
        let Some(patch) = patch(&old, &new, due) else { continue };
        let body = json!({"metadata": {"name": lifecycle.context.node_name}, "status": patch});
        match api.patch_status(&lifecycle.context.node_name, &PatchParams::default(), &Patch::Strategic(&body)).await {
            Ok(_) => last = Some((new, Instant::now())),
            Err(kube::Error::Api(status)) if status.code == 404 => last = None,
            Err(error) => tracing::warn!(%error, "Can't write the node's status"),
        }
    }
}

/// Tells the runtime the node's range of pod addresses, where it has a new one: some make their CNI configuration of it.
async fn tell_pod_cidr(lifecycle: &Lifecycle, told: &mut String) {
    let spec = lifecycle.context.node().and_then(|node| node.spec.clone()).unwrap_or_default();
    let ranges = spec.pod_cidrs.unwrap_or_default().join(",");
    let range = if ranges.is_empty() { lifecycle.context.config.pod_cidr.clone() } else { ranges };
    if range.is_empty() || range == *told {
        return;
    }
    match lifecycle.context.cri.update_runtime_config(&range).await {
        Ok(()) => *told = range,
        Err(error) => tracing::warn!(range, %error, "Can't tell the runtime the range of pod addresses yet"),
    }
}

/// The node's status now; transition times of conditions come from `old`.
async fn status(lifecycle: &Lifecycle, registration: &Registration, old: Option<&NodeStatus>) -> NodeStatus {
    let external = registration.external_cloud_provider;
    let runtime = lifecycle.context.runtime.read().clone();
    let version = component_base::version::GIT_VERSION;
    NodeStatus {
        addresses: match old.and_then(|old| old.addresses.clone()) {
            Some(addresses) if external => Some(addresses),
            _ => Some(address::addresses(&lifecycle.context.node_name, &lifecycle.context.node_ips)),
        },
        allocatable: Some(allocatable(lifecycle, old)),
        capacity: Some(lifecycle.context.machine.capacity(&lifecycle.context.config)),
        conditions: Some(conditions::conditions(lifecycle, old)),
        daemon_endpoints: Some(
            json::from_value(&json!({"kubeletEndpoint": {"Port": lifecycle.context.config.port}})).unwrap_or_default(),
        ),
        images: Some(images(lifecycle).await),
        node_info: Some(lifecycle.context.machine.info(
            version,
            &lifecycle.context.runtime_name,
            &lifecycle.context.runtime_version,
        )),
        runtime_handlers: (!runtime.handlers.is_empty()).then_some(runtime.handlers),
        features: runtime.features,
        ..Default::default()
    }
}

/// What pods may ask for. Of a resource that someone else has added to the node's capacity, that is all of it.
fn allocatable(lifecycle: &Lifecycle, old: Option<&NodeStatus>) -> ResourceList {
    let mut allocatable = lifecycle.context.allocatable();
    for (name, quantity) in old.and_then(|old| old.capacity.as_ref()).into_iter().flatten() {
        allocatable.entry(name.clone()).or_insert_with(|| quantity.clone());
    }
    allocatable
}

/// The largest images, at most as many as the API server should have to carry.
async fn images(lifecycle: &Lifecycle) -> Vec<ContainerImage> {
    let mut images = lifecycle.context.cri.list_images().await.unwrap_or_default();
    images.sort_by_key(|image| std::cmp::Reverse(image.size));
    let max = usize::try_from(lifecycle.context.config.node_status_max_images).unwrap_or(usize::MAX);
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
