//! Eviction: before memory, disk or PIDs of the node run out, the pod that is most at fault is ended
//! (kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction). One pod per round, so that its end can show
//! in the next look.
//!
//! A pod is asked to be ended, never ended here; what the node is short of is told by [`Pressure`].

mod local_storage;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use apimachinery::quantity::{Format, Quantity};
use component_base::metrics::{self, IntCounterVec};
use configuration::KubeletConfiguration;
use configuration::eviction::{SIGNALS, amount};
use configuration::quantity;
use images::gc;
use k8s_openapi::api::core::v1::Pod;
use machine::Filesystem;
use node_context::Pressure;
use pod_lifecycle::Lifecycle;
use pod_lifecycle::worker;
use pod_state::spec;
use pod_state::status::Reason;
use stats::ContainerUsage;
use tokio_util::sync::CancellationToken;
use volumes::usage::Tree;

const PERIOD: Duration = Duration::from_secs(10);
/// What a pod has to end where it is not to be waited for.
const GRACE_MIN: Duration = Duration::from_secs(1);

static EVICTIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::int_counter_vec(
        "kubelet_evictions",
        "[ALPHA] Pods evicted, by the signal that asked for it",
        &["eviction_signal"],
    )
});

/// One line of evictionHard or evictionSoft.
#[derive(Clone, Debug)]
struct Threshold {
    signal: &'static str,
    condition: &'static str,
    resource: &'static str,
    value: String,
    /// How long it has to hold; `None`: hard, at once.
    grace: Option<Duration>,
    min_reclaim: String,
}

/// What a signal reads now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Observation {
    available: i64,
    capacity: i64,
}

/// Thresholds, and what was seen of them.
struct Eviction {
    thresholds: Vec<Threshold>,
    soft_grace_max: Duration,
    /// Since when each threshold (by its place in the list) is crossed.
    since: HashMap<usize, Instant>,
}

impl Eviction {
    pub fn new(config: &KubeletConfiguration) -> Self {
        let one = |signal: &str, value: &str, grace| {
            let (signal, condition, resource) = SIGNALS.into_iter().find(|(name, ..)| *name == signal)?;
            let min_reclaim = config.eviction_minimum_reclaim.get(signal).cloned().unwrap_or_default();
            Some(Threshold { signal, condition, resource, value: value.to_owned(), grace, min_reclaim })
        };
        let hard = config.eviction_hard.iter().filter_map(|(signal, value)| one(signal, value, None));
        let soft = config.eviction_soft.iter().filter_map(|(signal, value)| {
            let grace =
                config.eviction_soft_grace_period.get(signal)?.parse::<component_base::cli::GoDuration>().ok()?;
            one(signal, value, Some(grace.get()))
        });
        Self {
            thresholds: hard.chain(soft).collect(),
            soft_grace_max: Duration::from_secs(config.eviction_max_pod_grace_period.max(0).unsigned_abs()),
            since: HashMap::new(),
        }
    }

    /// Takes note of what the signals read, and of the `pressure` that follows; returns the thresholds to act on, memory
    /// first.
    fn crossed(
        &mut self,
        read: &HashMap<&'static str, Observation>,
        pressure: &Pressure,
        now: Instant,
    ) -> Vec<Threshold> {
        let mut act = Vec::new();
        for (index, threshold) in self.thresholds.iter().enumerate() {
            let Some(seen) = read.get(threshold.signal) else { continue };
            let mut bound = amount(&threshold.value, seen.capacity);
            if self.since.contains_key(&index) {
                // Once crossed, more has to be won back than just the threshold.
                bound += amount(&threshold.min_reclaim, seen.capacity);
            }
            if seen.available >= bound {
                self.since.remove(&index);
                continue;
            }
            let since = *self.since.entry(index).or_insert(now);
            if threshold.grace.is_none_or(|grace| now.duration_since(since) >= grace) {
                pressure.set(threshold.condition, now);
                act.push(threshold.clone());
            }
        }
        act.sort_by_key(|threshold| (threshold.condition != "MemoryPressure", threshold.grace.is_some()));
        act
    }
}

/// Looks and evicts until shutdown.
pub async fn run(lifecycle: Arc<Lifecycle>, shutdown: CancellationToken) {
    let mut eviction = Eviction::new(&lifecycle.context.config);
    let pressure = &lifecycle.context.pressure;
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let read = observe(&lifecycle).await;
        let before = pressure.conditions();
        let crossed = eviction.crossed(&read, pressure, Instant::now());
        if pressure.conditions() != before {
            lifecycle.context.node_changed.notify_one();
        }
        if lifecycle.context.config.local_storage_capacity_isolation && hold_to_own_bounds(&lifecycle).await {
            continue; // that may be all it takes
        }
        if let Some(threshold) = crossed.first() {
            relieve(&lifecycle, threshold, read[threshold.signal], eviction.soft_grace_max).await;
        }
    }
}

async fn observe(lifecycle: &Lifecycle) -> HashMap<&'static str, Observation> {
    let mut read = HashMap::new();
    let clamp = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut filesystem = |bytes: &'static str, inodes: &'static str, stats: Filesystem| {
        read.insert(
            bytes,
            Observation { available: clamp(stats.available_bytes), capacity: clamp(stats.capacity_bytes) },
        );
        // Some file systems have no inodes to count (btrfs).
        if stats.inodes > 0 {
            read.insert(inodes, Observation { available: clamp(stats.inodes_free), capacity: clamp(stats.inodes) });
        }
    };
    if let Ok(stats) = lifecycle.context.machine.node_filesystem() {
        filesystem("nodefs.available", "nodefs.inodesFree", stats);
    }
    if let Ok(usages) = lifecycle.context.cri.image_fs_info().await
        && let Some(id) = usages.into_iter().find_map(|usage| usage.fs_id)
        && let Ok(stats) = machine::filesystem(Path::new(&id.mountpoint))
    {
        filesystem("imagefs.available", "imagefs.inodesFree", stats);
    }
    let capacity = lifecycle.context.machine.memory_bytes;
    let meminfo = tokio::fs::read_to_string("/proc/meminfo").await.unwrap_or_default();
    let used = match lifecycle.context.cgroups.root_usage().working_set {
        0 => capacity - machine::meminfo(&meminfo, "MemAvailable"),
        working_set => clamp(working_set),
    };
    read.insert("memory.available", Observation { available: capacity - used, capacity });
    if let Some((used, max)) = machine::pids() {
        read.insert("pid.available", Observation { available: max - used, capacity: max });
    }
    read
}

/// Makes room: unused images where the disk is full, else the pod that ranks first. `soft_grace_max`: the most that a pod
/// has to end where the threshold is a soft one.
async fn relieve(lifecycle: &Lifecycle, threshold: &Threshold, seen: Observation, soft_grace_max: Duration) {
    let message = format!("Attempting to reclaim {}", threshold.resource);
    lifecycle.context.node_event("Warning", "EvictionThresholdMet", &message);
    if threshold.condition == "DiskPressure" && gc::delete_unused(&lifecycle.context).await.is_ok_and(|freed| freed > 0)
    {
        return; // the next round sees whether that was enough
    }
    let stats = stats::pods(lifecycle).await;
    let mut pods: Vec<Arc<Pod>> = evictable(lifecycle);
    let usage = |pod: &Pod| -> i64 {
        let Some(usage) = stats.get(spec::uid(pod)) else { return 0 };
        let value = match threshold.resource {
            "memory" => usage.working_set(),
            "inodes" => usage.ephemeral.inodes,
            _ => usage.ephemeral.bytes,
        };
        i64::try_from(value).unwrap_or(i64::MAX)
    };
    pods.sort_by_key(|pod| rank(pod, threshold.resource, usage(pod)));
    let Some(pod) = pods.first() else {
        tracing::warn!(
            signal = threshold.signal,
            available = seen.available,
            "Under pressure, but no pod can be evicted"
        );
        return;
    };
    let text = |amount: i64| Quantity::new(amount, Format::BinarySi);
    let mut message = format!(
        "The node was low on resource: {}. Threshold quantity: {}, available: {}. ",
        threshold.resource,
        text(amount(&threshold.value, seen.capacity)),
        text(seen.available),
    );
    for (container, logs) in stats.get(spec::uid(pod)).into_iter().flat_map(|usage| &usage.containers) {
        message += &blame(pod, container, *logs, threshold.resource).unwrap_or_default();
    }
    let grace = match threshold.grace {
        None => GRACE_MIN,
        Some(_) => spec::grace_period(pod).min(soft_grace_max.max(GRACE_MIN)),
    };
    evict(lifecycle, pod, threshold.signal, grace, &message, &message).await;
}

/// The pods that may be evicted.
fn evictable(lifecycle: &Lifecycle) -> Vec<Arc<Pod>> {
    let mut pods = lifecycle.pods.active(&lifecycle.statuses);
    pods.retain(|pod| !spec::is_critical(pod) && !lifecycle.pods.is_ending(spec::uid(pod)));
    pods
}

/// Ends a pod; `disruption` is the message of the condition DisruptionTarget, "" for none.
async fn evict(lifecycle: &Lifecycle, pod: &Pod, signal: &str, grace: Duration, message: &str, disruption: &str) {
    tracing::info!(pod = spec::key(pod), signal, message, "Evicting a pod");
    EVICTIONS.with_label_values(&[signal]).inc();
    lifecycle.context.event(pod, None, "Warning", "Evicted", message);
    let reason = Reason::new("Evicted", message);
    let eviction = worker::Eviction { reason, grace: Some(grace), disruption: disruption.to_owned() };
    lifecycle.pods.evict(spec::uid(pod), eviction).await;
}

/// Ends the pods that use more of the disk than they have said they would; returns whether there were any.
async fn hold_to_own_bounds(lifecycle: &Lifecycle) -> bool {
    let pods: Vec<Arc<Pod>> = evictable(lifecycle).into_iter().filter(|pod| local_storage::is_bounded(pod)).collect();
    if pods.is_empty() {
        return false;
    }
    let stats = stats::pods(lifecycle).await;
    let mut any = false;
    for pod in pods {
        let Some(usage) = stats.get(spec::uid(&pod)) else { continue };
        let used = local_storage::Used {
            volumes: usage.volumes.iter().map(|volume| (volume.name.as_str(), volume.used.bytes)).collect(),
            containers: usage
                .containers
                .iter()
                .map(|(container, logs)| (container.container.as_str(), container.disk + logs.bytes))
                .collect(),
            all: usage.ephemeral.bytes,
        };
        if let Some(exceeded) = local_storage::exceeded(&pod, &used) {
            evict(lifecycle, &pod, exceeded.signal, GRACE_MIN, &exceeded.message, "").await;
            any = true;
        }
    }
    any
}

/// What a container has to do with the shortage, where it uses more than it requested.
fn blame(pod: &Pod, usage: &ContainerUsage, logs: Tree, resource: &str) -> Option<String> {
    let name = &usage.container;
    let container = spec::spec(pod).containers.iter().chain(spec::init_containers(pod)).find(|c| c.name == *name)?;
    let used = match resource {
        "memory" => usage.working_set,
        "ephemeral-storage" => usage.disk + logs.bytes,
        _ => return None,
    };
    let used = i64::try_from(used).ok()?;
    let request = container.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get(resource));
    let text = request.map_or("0", |request| request.0.as_str());
    let more = used > quantity::parse(text).unwrap_or(0);
    let used = Quantity::new(used, Format::BinarySi);
    more.then(|| {
        format!("Container {name} was using {used}, request is {text}, has larger consumption of {resource}. ")
    })
}

/// Who goes first: pods that use more than they asked for, then low priority, then the largest excess.
fn rank(pod: &Pod, resource: &str, usage: i64) -> (bool, i32, std::cmp::Reverse<i64>) {
    let request = spec::request(pod, resource);
    (usage <= request, spec::spec(pod).priority.unwrap_or(0), std::cmp::Reverse(usage - request))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_hard_threshold_acts_at_once_a_soft_one_after_its_grace() {
        let mut config = KubeletConfiguration {
            eviction_hard: BTreeMap::from([("memory.available".into(), "100".into())]),
            ..Default::default()
        };
        config.eviction_soft.insert("nodefs.available".into(), "50%".into());
        config.eviction_soft_grace_period.insert("nodefs.available".into(), "1m".into());
        let mut eviction = Eviction::new(&config);
        let pressure = Pressure::new(Duration::from_secs(300));
        let read = |memory, disk| {
            HashMap::from([
                ("memory.available", Observation { available: memory, capacity: 1000 }),
                ("nodefs.available", Observation { available: disk, capacity: 1000 }),
            ])
        };
        let start = Instant::now();
        assert!(eviction.crossed(&read(100, 500), &pressure, start).is_empty());
        assert_eq!(eviction.crossed(&read(99, 499), &pressure, start).len(), 1);
        assert_eq!(pressure.conditions(), ["MemoryPressure"]);
        let later = start + Duration::from_secs(61);
        assert_eq!(eviction.crossed(&read(100, 499), &pressure, later)[0].signal, "nodefs.available");
    }

    #[test]
    fn pods_beyond_their_requests_go_first_then_by_priority() {
        let pod = |request: &str, priority: i32| -> Pod {
            serde_json::from_value(serde_json::json!({"spec": {"priority": priority, "containers": [
                {"name": "c", "resources": {"requests": {"memory": request}}}]}}))
            .expect("a pod")
        };
        let within = rank(&pod("100", 0), "memory", 50);
        let beyond = rank(&pod("100", 10), "memory", 150);
        let far_beyond = rank(&pod("100", 10), "memory", 250);
        let unimportant = rank(&pod("100", 5), "memory", 101);
        let mut order = [&within, &beyond, &far_beyond, &unimportant];
        order.sort();
        assert_eq!(order, [&unimportant, &far_beyond, &beyond, &within]);
    }
}
