//! What the workers say about their pods, and getting it to the API server: the last status per pod wins, one write per
//! pod at a time, only what changed, only the fields that are the kubelet's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use component_base::controller::{self, Action};
use component_base::queue::WorkQueue;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;
use pod_state::{json, spec};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::Lifecycle;

/// Writes at once: enough to hide the round trip in a burst of pods, few enough not to crowd out the rest.
const WORKERS: usize = 4;
/// Wait after a write that failed for a reason that will pass.
const RETRY: Duration = Duration::from_secs(2);

/// Fields of PodStatus that the kubelet owns.
const OWNED: [&str; 14] = [
    "phase",
    "conditions",
    "message",
    "reason",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "startTime",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
    "qosClass",
    "observedGeneration",
];
/// Lists that a strategic merge patch would merge by key where they are to be replaced.
const REPLACED: [&str; 2] = ["hostIPs", "podIPs"];

struct Entry {
    pod: Arc<Pod>,
    status: PodStatus,
    /// What the API server has, as far as known: its last answer, or what the watch showed.
    server: PodStatus,
    server_version: u64,
    /// The worker knew what the API server knew of the pod when it made the status.
    informed: bool,
    /// The pod has ended and been deleted: once its status is written, the object may go.
    finish: bool,
}

/// The statuses of the node's pods.
pub struct Statuses {
    entries: Mutex<HashMap<String, Entry>>,
    queue: WorkQueue<String>,
}

impl Default for Statuses {
    fn default() -> Self {
        Self { entries: Mutex::default(), queue: WorkQueue::new("pod-status") }
    }
}

fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

impl Statuses {
    /// The pod's status as this kubelet knows it.
    pub fn get(&self, uid: &str) -> Option<PodStatus> {
        self.entries.lock().get(uid).map(|entry| entry.status.clone())
    }

    /// Takes a new status; it is written soon. One made without knowing what the API server knew of the pod (`informed`)
    /// is not: a restarted kubelet would take static pods out of their Services until they are probed.
    pub fn set(&self, pod: &Arc<Pod>, status: PodStatus, informed: bool) {
        let uid = spec::uid(pod).to_owned();
        let mut entries = self.entries.lock();
        match entries.get_mut(&uid) {
            Some(entry) if entry.status == status && entry.informed == informed => {
                entry.pod = pod.clone();
                return;
            }
            Some(entry) => {
                entry.pod = pod.clone();
                entry.status = status;
                entry.informed = informed;
            }
            None => {
                let server =
                    if spec::is_static(pod) { PodStatus::default() } else { pod.status.clone().unwrap_or_default() };
                let server_version = version(pod);
                let entry = Entry { pod: pod.clone(), status, server, server_version, informed, finish: false };
                entries.insert(uid.clone(), entry);
            }
        }
        drop(entries);
        self.queue.add(uid);
    }

    /// The watch shows the pod: where someone else has changed its status, ours is written again.
    pub fn observed(&self, pod: &Arc<Pod>) {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(spec::uid(pod)) else { return };
        if version(pod) <= entry.server_version {
            return; // older than what our last write was answered with
        }
        entry.server_version = version(pod);
        entry.server = pod.status.clone().unwrap_or_default();
        if patch(&entry.server, &entry.status).is_some() {
            self.queue.add(spec::uid(pod).to_owned());
        }
    }

    /// The pod has ended and nothing of it runs: delete its object, after its last status.
    pub fn finish(&self, pod: &Arc<Pod>) {
        let uid = spec::uid(pod).to_owned();
        if let Some(entry) = self.entries.lock().get_mut(&uid) {
            entry.pod = pod.clone();
            entry.finish = true;
        }
        self.queue.add(uid);
    }

    pub fn forget(&self, uid: &str) {
        self.entries.lock().remove(uid);
    }

    /// Looks again whether the pod's status has to be written: its mirror has come into being.
    pub fn kick(&self, uid: &str) {
        self.queue.add(uid.to_owned());
    }
}

/// Writes statuses until shutdown.
pub async fn run(lifecycle: Arc<Lifecycle>, shutdown: CancellationToken) {
    let Some(client) = lifecycle.context.client.clone() else { return };
    let queue = lifecycle.statuses.queue.clone();
    controller::run("pod-status", queue, WORKERS, shutdown, |uid: String| {
        let (lifecycle, client) = (lifecycle.clone(), client.clone());
        async move {
            match write(&lifecycle, client, &uid).await {
                Ok(()) => Ok::<_, kube::Error>(Action::Done),
                Err(error) => {
                    tracing::warn!(uid, %error, "Can't write a pod's status yet");
                    Ok(Action::After(RETRY))
                }
            }
        }
    })
    .await;
}

async fn write(lifecycle: &Lifecycle, client: kube::Client, uid: &str) -> Result<(), kube::Error> {
    let (pod, status, mut server, finish, informed) = {
        let entries = lifecycle.statuses.entries.lock();
        let Some(entry) = entries.get(uid) else { return Ok(()) };
        (entry.pod.clone(), entry.status.clone(), entry.server.clone(), entry.finish, entry.informed)
    };
    if !informed {
        // The worker looks again, now that the API server answers.
        lifecycle.pods.wake(uid);
        return Ok(());
    }
    let api_uid = if spec::is_static(&pod) {
        let Some(mirror) = lifecycle.context.mirror_of(&spec::full_name(&pod)) else { return Ok(()) };
        server = mirror.status.clone().unwrap_or_default();
        mirror.metadata.uid.clone().unwrap_or_default()
    } else {
        uid.to_owned()
    };
    let api: Api<Pod> = Api::namespaced(client, spec::namespace(&pod));
    if let Some(status_patch) = patch(&server, &status) {
        let body = json!({"metadata": {"uid": api_uid}, "status": status_patch});
        match api.patch_status(spec::name(&pod), &PatchParams::default(), &Patch::Strategic(&body)).await {
            Ok(answer) => {
                if let Some(entry) = lifecycle.statuses.entries.lock().get_mut(uid) {
                    entry.server_version = entry.server_version.max(version(&answer));
                    entry.server = answer.status.unwrap_or_default();
                }
            }
            // Deleted: the watch will say so. A conflict (another pod has the name by now, or a write came between) is
            // tried again until it does.
            Err(kube::Error::Api(error)) if error.code == 404 => {
                tracing::debug!(pod = spec::key(&pod), error = error.message, "Status was not written");
            }
            Err(error) => return Err(error),
        }
    }
    if finish && !spec::is_static(&pod) {
        let preconditions = Preconditions { uid: Some(api_uid), resource_version: None };
        let params =
            DeleteParams { grace_period_seconds: Some(0), preconditions: Some(preconditions), ..Default::default() };
        match api.delete(spec::name(&pod), &params).await {
            Err(kube::Error::Api(error)) if error.code == 404 => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// A strategic merge patch of the owned fields from `old` to `new`; `None` where nothing differs.
fn patch(old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (old, mut new) = (json::fields(old), json::fields(new));
    let mut patch = Map::new();
    for field in OWNED {
        let (before, after) = (old.get(field), new.remove(field));
        if before == after.as_ref() {
            continue;
        }
        let value = match after {
            None => Value::Null,
            Some(Value::Array(items)) if field == "conditions" => {
                let before = before.and_then(Value::as_array);
                let before = before.map(Vec::as_slice).unwrap_or_default();
                let changed = items.into_iter().filter(|item| !before.contains(item));
                let items: Vec<Value> = changed.map(|item| over(before, item)).collect();
                if items.is_empty() {
                    continue;
                }
                Value::Array(items)
            }
            Some(Value::Array(mut items)) if REPLACED.contains(&field) && before.is_some() => {
                items.push(json!({"$patch": "replace"}));
                Value::Array(items)
            }
            Some(value) => value,
        };
        patch.insert(field.to_owned(), value);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// The condition `item`, with null for what the one of its type in `before` has and it has not: merging would keep that,
/// such as the reason of a condition that holds no more.
fn over(before: &[Value], mut item: Value) -> Value {
    let same = before.iter().find(|condition| condition["type"] == item["type"]).and_then(Value::as_object);
    for field in same.into_iter().flat_map(Map::keys) {
        if item.get(field).is_none() {
            item[field] = Value::Null;
        }
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).expect("a status")
    }

    #[test]
    fn only_what_changed_is_written_and_others_fields_are_left() {
        let old = status(json!({
            "phase": "Pending", "reason": "x", "qosClass": "BestEffort", "nominatedNodeName": "n",
            "conditions": [
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m"},
                {"type": "Gate", "status": "True"},
            ],
        }));
        let new = status(json!({
            "phase": "Running", "qosClass": "BestEffort", "podIPs": [{"ip": "10.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }));
        assert_eq!(
            patch(&old, &new),
            Some(json!({
                "phase": "Running", "reason": null, "podIPs": [{"ip": "10.0.0.1"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}],
            }))
        );
        assert_eq!(patch(&new, &new), None);
    }

    #[test]
    fn addresses_replace_the_old_ones() {
        let ips = |ip: &str| status(json!({"podIPs": [{"ip": ip}]}));
        assert_eq!(patch(&ips("a"), &ips("b")), Some(json!({"podIPs": [{"ip": "b"}, {"$patch": "replace"}]})));
    }
}
