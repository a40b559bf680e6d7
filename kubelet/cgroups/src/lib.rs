//! The cgroups of pods: `/kubepods`, below it a level per QoS class, below that one cgroup per pod, whose limits bound the
//! pod as a whole. The runtime makes the containers' own cgroups inside; what they are told of requests and limits is in the
//! kernel's units too (`resources`).
//!
//! cgroup v1 and v2 differ only in files (`hierarchy`). What the kernel or the container around us forbids is logged once
//! and done without: a pod without a limit is better than none. Limits of containers are never set here; the runtime is told them.

mod hierarchy;
pub mod resources;

use std::collections::HashSet;
use std::sync::Mutex;

use k8s_openapi::api::core::v1::Pod;
use pod_state::spec::{self, QosClass};

use hierarchy::Hierarchy;
pub use hierarchy::{Usage, Version};

/// How cgroups are named, which must be as the runtime does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// A directory for each part of the name.
    Cgroupfs,
    /// A slice for each part of the name, which holds those above it.
    Systemd,
}

impl Driver {
    /// `cgroupDriver` of the configuration; `None` where it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "cgroupfs" => Some(Self::Cgroupfs),
            "systemd" => Some(Self::Systemd),
            _ => None,
        }
    }
}

/// Limits of a cgroup; `None` leaves a value as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Weight, in shares of cgroup v1 (1024 for a core).
    pub cpu_shares: Option<i64>,
    /// µs of quota and of period; quota -1: none.
    pub cpu_quota: Option<(i64, i64)>,
    /// Bytes; -1: none.
    pub memory: Option<i64>,
    /// Threads of the whole pod.
    pub pids: Option<i64>,
}

/// The manager of the node's pod cgroups.
pub struct Cgroups {
    hierarchy: Hierarchy,
    driver: Driver,
    /// Names from the root down, "kubepods" being the last.
    root: Vec<String>,
    enabled: bool,
    pids_limit: Option<i64>,
    cfs_quota: bool,
    /// µs
    period_us: i64,
    /// What was found impossible, so that it is said once.
    complaints: Mutex<HashSet<String>>,
}

impl Cgroups {
    /// `cgroup_root`: where `/kubepods` goes; `enabled` is cgroupsPerQOS.
    pub fn new(config: &configuration::KubeletConfiguration) -> Self {
        let root = config.cgroup_root.split('/').filter(|part| !part.is_empty()).map(str::to_owned);
        Self {
            hierarchy: Hierarchy::detect(),
            driver: Driver::parse(&config.cgroup_driver).unwrap_or(Driver::Cgroupfs),
            root: root.chain(["kubepods".to_owned()]).collect(),
            enabled: config.cgroups_per_qos,
            pids_limit: Some(config.pod_pids_limit).filter(|limit| *limit > 0),
            cfs_quota: config.cpu_cfs_quota,
            period_us: i64::try_from(config.cpu_cfs_quota_period.get().as_micros()).unwrap_or(100_000),
            complaints: Mutex::new(HashSet::new()),
        }
    }
    /// Which kind of hierarchy the machine has.
    pub fn version(&self) -> Version {
        self.hierarchy.version()
    }

    /// Takes over the driver that the runtime says it uses (KEP-4033).
    pub fn set_driver(&mut self, driver: Driver) {
        self.driver = driver;
    }

    /// Name of a class's cgroup, from the root down. Guaranteed pods live directly in kubepods.
    fn qos(&self, class: QosClass) -> Vec<String> {
        let mut name = self.root.clone();
        match class {
            QosClass::Guaranteed => {}
            QosClass::Burstable => name.push("burstable".into()),
            QosClass::BestEffort => name.push("besteffort".into()),
        }
        name
    }

    fn pod(&self, class: QosClass, uid: &str) -> Vec<String> {
        let mut name = self.qos(class);
        name.push(format!("pod{uid}"));
        name
    }

    /// The path below the hierarchy's root.
    fn path(&self, name: &[String]) -> String {
        match self.driver {
            Driver::Cgroupfs => name.join("/"),
            Driver::Systemd => {
                // Each slice's name holds those of its parents: kubepods.slice/kubepods-burstable.slice/…
                let escaped: Vec<String> = name.iter().map(|part| part.replace('-', "_")).collect();
                let slices = (1..=escaped.len()).map(|depth| format!("{}.slice", escaped[..depth].join("-")));
                slices.collect::<Vec<_>>().join("/")
            }
        }
    }

    /// The parent cgroup to tell the runtime, "" where it is to choose.
    pub fn parent_for_runtime(&self, pod: &Pod) -> String {
        if !self.enabled {
            return String::new();
        }
        let path = self.path(&self.pod(spec::qos_class(pod), spec::uid(pod)));
        match self.driver {
            Driver::Cgroupfs => format!("/{path}"),
            // The runtime takes the slice's own name and finds its parents in it.
            Driver::Systemd => path.rsplit('/').next().unwrap_or_default().to_owned(),
        }
    }

    /// Makes the tree of classes, bounded by what pods may have of the node: `memory` bytes, `cpu_milli` thousandths.
    pub fn setup_root(&self, memory: i64, cpu_milli: i64) {
        if !self.enabled {
            return;
        }
        let limits =
            Limits { cpu_shares: Some(resources::shares(cpu_milli)), memory: Some(memory), ..Default::default() };
        self.apply(&self.root, &limits);
        self.apply(&self.qos(QosClass::Burstable), &Limits::default());
        let least = Limits { cpu_shares: Some(resources::shares(0)), ..Default::default() };
        self.apply(&self.qos(QosClass::BestEffort), &least);
    }

    /// Weighs the Burstable class by what its pods request: `cpu_milli` in sum.
    pub fn weigh_burstable(&self, cpu_milli: i64) {
        if self.enabled {
            let limits = Limits { cpu_shares: Some(resources::shares(cpu_milli)), ..Default::default() };
            self.apply(&self.qos(QosClass::Burstable), &limits);
        }
    }

    /// Makes a pod's cgroup, or brings its limits up to date.
    pub fn ensure_pod(&self, pod: &Pod) {
        if self.enabled {
            self.apply(&self.pod(spec::qos_class(pod), spec::uid(pod)), &self.pod_limits(pod));
        }
    }

    fn pod_limits(&self, pod: &Pod) -> Limits {
        let cpu = spec::limit(pod, "cpu").filter(|limit| *limit > 0 && self.cfs_quota);
        Limits {
            cpu_shares: Some(resources::shares(spec::request(pod, "cpu"))),
            cpu_quota: cpu.map(|cpu| (resources::quota(cpu, self.period_us), self.period_us)),
            memory: spec::limit(pod, "memory").filter(|limit| *limit > 0),
            pids: self.pids_limit,
        }
    }

    fn apply(&self, name: &[String], limits: &Limits) {
        for problem in self.hierarchy.apply(&self.path(name), limits) {
            // Keyed by file, not by pod: an environment that forbids something forbids it to all pods.
            let first = self.complaints.lock().is_ok_and(|mut said| said.insert(problem.what.clone()));
            if first {
                tracing::warn!(cgroup = %problem.path, error = %problem.error,
                    "Can't set {}; pods on this node run without it", problem.what);
            }
        }
    }

    /// Kills what is left in a pod's cgroup and removes it. Returns whether it is gone.
    pub fn remove_pod(&self, uid: &str) -> bool {
        let classes = [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort];
        !self.enabled || classes.into_iter().all(|class| self.hierarchy.remove(&self.path(&self.pod(class, uid))))
    }

    /// UIDs of all pods that have a cgroup.
    pub fn pods(&self) -> HashSet<String> {
        let classes = [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort];
        let mut uids = HashSet::new();
        for class in classes {
            let name = self.qos(class);
            for child in self.hierarchy.children(&self.path(&name)) {
                let child = child.strip_suffix(".slice").unwrap_or(&child);
                let child = child.rsplit('-').next().filter(|_| self.driver == Driver::Systemd).unwrap_or(child);
                if let Some(uid) = child.strip_prefix("pod") {
                    let systemd = self.driver == Driver::Systemd;
                    uids.insert(if systemd { uid.replace('_', "-") } else { uid.to_owned() });
                }
            }
        }
        uids
    }

    /// CPU and memory in use by a pod as a whole.
    pub fn pod_usage(&self, pod: &Pod) -> Usage {
        self.hierarchy.usage(&self.path(&self.pod(spec::qos_class(pod), spec::uid(pod))))
    }

    /// CPU and memory in use by all pods.
    pub fn kubepods_usage(&self) -> Usage {
        self.hierarchy.usage(&self.path(&self.root))
    }

    /// CPU and memory in use by the node.
    pub fn root_usage(&self) -> Usage {
        self.hierarchy.usage("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroups(driver: &str) -> Cgroups {
        let config = configuration::KubeletConfiguration { cgroup_driver: driver.into(), ..Default::default() };
        Cgroups::new(&config)
    }

    fn pod(resources: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"uid": "a-b"},
            "spec": {"containers": [{"name": "c", "resources": resources}]},
        }))
        .expect("a pod")
    }

    #[test]
    fn names_follow_the_driver() {
        let burstable = pod(serde_json::json!({"requests": {"cpu": "1"}}));
        assert_eq!(cgroups("cgroupfs").parent_for_runtime(&burstable), "/kubepods/burstable/poda-b");
        assert_eq!(cgroups("systemd").parent_for_runtime(&burstable), "kubepods-burstable-poda_b.slice");
        let systemd = cgroups("systemd");
        assert_eq!(systemd.path(&systemd.pod(QosClass::Guaranteed, "a-b")), "kubepods.slice/kubepods-poda_b.slice");
    }

    #[test]
    fn a_pod_is_bounded_only_where_all_its_containers_are() {
        let limits = cgroups("cgroupfs").pod_limits(&pod(serde_json::json!({
            "requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "200Mi"}})));
        let expected =
            Limits { cpu_shares: Some(256), cpu_quota: Some((50_000, 100_000)), memory: Some(200 << 20), pids: None };
        assert_eq!(limits, expected);
        let unbounded = cgroups("cgroupfs").pod_limits(&pod(serde_json::json!({"requests": {"cpu": "250m"}})));
        assert_eq!((unbounded.cpu_quota, unbounded.memory), (None, None));
    }
}
