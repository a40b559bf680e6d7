//! The machine that the kubelet runs on: what it is and has, what of it pods may use, its file systems and PIDs, and a way
//! to wait for changes of files.
//!
//! Nothing here knows pods, the runtime or the API server.

pub mod inotify;

use std::path::{Path, PathBuf};

use configuration::KubeletConfiguration;
use configuration::quantity::{self, ResourceList};
use k8s_openapi::api::core::v1::NodeSystemInfo;

/// What a file system has, in bytes and inodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filesystem {
    /// All that there is, in use or not.
    pub capacity_bytes: u64,
    /// What users other than root may still take.
    pub available_bytes: u64,
    /// All inodes; 0 where the file system has no fixed number of them.
    pub inodes: u64,
    /// Inodes that users other than root may still take.
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

/// The machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// CPUs that are online.
    pub cpus: i64,
    /// Memory that the kernel has.
    pub memory_bytes: i64,
    /// Swap space; 0: none.
    pub swap_bytes: i64,
    /// Of the file system that holds the root directory.
    pub disk_bytes: i64,
    /// Bytes by page size in the kernel's spelling ("2048kB").
    hugepages: Vec<(u64, i64)>,
    machine_id: String,
    system_uuid: String,
    boot_id: String,
    kernel: String,
    os_image: String,
    root_dir: PathBuf,
}

/// Go's name of this architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn read(paths: &[&str]) -> String {
    let mut texts = paths.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts.find(|text| !text.trim().is_empty()).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// A value of /proc/meminfo, in bytes.
pub fn meminfo(text: &str, key: &str) -> i64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<i64>().ok()).unwrap_or(0) * 1024
}

fn os_image() -> String {
    let release = read(&["/etc/os-release", "/usr/lib/os-release"]);
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

fn hugepages() -> Vec<(u64, i64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kilobytes = name.strip_prefix("hugepages-").and_then(|name| name.strip_suffix("kB")?.parse::<u64>().ok());
        let count =
            std::fs::read_to_string(entry.path().join("nr_hugepages")).ok().and_then(|n| n.trim().parse::<i64>().ok());
        if let (Some(kilobytes), Some(count)) = (kilobytes, count) {
            found.push((kilobytes * 1024, count * i64::try_from(kilobytes * 1024).unwrap_or(0)));
        }
    }
    found.sort_unstable();
    found
}

impl Machine {
    /// Reads the machine. What can't be read is empty or zero, as for upstream.
    pub fn read(root_dir: &Path) -> Self {
        let memory = read(&["/proc/meminfo"]);
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let online = read(&["/proc/cpuinfo"]).lines().filter(|line| line.starts_with("processor")).count();
        Self {
            // The affinity of this process may be narrower than the node.
            cpus: i64::try_from(online.max(cpus)).unwrap_or(1),
            memory_bytes: meminfo(&memory, "MemTotal"),
            swap_bytes: meminfo(&memory, "SwapTotal"),
            disk_bytes: filesystem(root_dir).map_or(0, |stats| i64::try_from(stats.capacity_bytes).unwrap_or(i64::MAX)),
            hugepages: hugepages(),
            machine_id: read(&["/etc/machine-id", "/var/lib/dbus/machine-id"]),
            system_uuid: read(&["/sys/class/dmi/id/product_uuid", "/proc/device-tree/vm,uuid", "/etc/machine-id"]),
            boot_id: read(&["/proc/sys/kernel/random/boot_id"]),
            kernel: read(&["/proc/sys/kernel/osrelease"]),
            os_image: os_image(),
            root_dir: root_dir.to_path_buf(),
        }
    }

    /// What the node has.
    pub fn capacity(&self, config: &KubeletConfiguration) -> ResourceList {
        let pods = match config.pods_per_core {
            0 => config.max_pods,
            per_core => config.max_pods.min(per_core * self.cpus),
        };
        let mut capacity = ResourceList::from([
            ("cpu".to_owned(), quantity::cpu(self.cpus * 1000)),
            ("memory".to_owned(), quantity::bytes(self.memory_bytes)),
            ("ephemeral-storage".to_owned(), quantity::bytes(self.disk_bytes)),
            ("pods".to_owned(), quantity::count(pods)),
        ]);
        for (size, bytes) in &self.hugepages {
            let name = match size >> 20 {
                0 => format!("hugepages-{}Ki", size >> 10),
                mega if mega % 1024 == 0 => format!("hugepages-{}Gi", mega >> 10),
                mega => format!("hugepages-{mega}Mi"),
            };
            capacity.insert(name, quantity::bytes(*bytes));
        }
        capacity
    }

    fn reserved(config: &KubeletConfiguration, name: &str) -> i64 {
        let amount = |list: &std::collections::BTreeMap<String, String>| {
            let text = list.get(name).map(String::as_str).unwrap_or_default();
            if name == "cpu" { quantity::parse_milli(text) } else { quantity::parse(text) }.unwrap_or(0)
        };
        amount(&config.system_reserved) + amount(&config.kube_reserved)
    }

    /// What pods' cgroups may use together: capacity less what is reserved. Eviction acts before that bound.
    pub fn memory_for_pods(&self, config: &KubeletConfiguration) -> i64 {
        (self.memory_bytes - Self::reserved(config, "memory")).max(0)
    }

    /// What pods may ask for: capacity less reservations and hard eviction thresholds.
    pub fn allocatable(&self, config: &KubeletConfiguration) -> ResourceList {
        let threshold = |signal: &str, capacity: i64| {
            config.eviction_hard.get(signal).map_or(0, |text| configuration::eviction::amount(text, capacity))
        };
        let mut allocatable = self.capacity(config);
        let cpu = self.cpus * 1000 - Self::reserved(config, "cpu");
        let memory = self.memory_for_pods(config) - threshold("memory.available", self.memory_bytes);
        let huge: i64 = self.hugepages.iter().map(|(_, bytes)| bytes).sum();
        let disk = self.disk_bytes
            - Self::reserved(config, "ephemeral-storage")
            - threshold("nodefs.available", self.disk_bytes);
        allocatable.insert("cpu".into(), quantity::cpu(cpu.max(0)));
        allocatable.insert("memory".into(), quantity::bytes((memory - huge).max(0)));
        allocatable.insert("ephemeral-storage".into(), quantity::count(disk.max(0)));
        allocatable
    }

    /// The part of the status that names versions.
    pub fn info(&self, version: &str, runtime: &str, runtime_version: &str) -> NodeSystemInfo {
        NodeSystemInfo {
            machine_id: self.machine_id.clone(),
            system_uuid: self.system_uuid.clone(),
            boot_id: self.boot_id.clone(),
            kernel_version: self.kernel.clone(),
            os_image: self.os_image.clone(),
            container_runtime_version: format!("{runtime}://{}", runtime_version.trim_start_matches('v')),
            kubelet_version: version.to_owned(),
            kube_proxy_version: String::new(),
            operating_system: "linux".into(),
            architecture: architecture().into(),
            ..Default::default()
        }
    }

    /// The file system of pods' volumes and logs, as it is now.
    pub fn node_filesystem(&self) -> std::io::Result<Filesystem> {
        filesystem(&self.root_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocatable_is_capacity_less_reservations_and_thresholds() {
        let machine = Machine { cpus: 4, memory_bytes: 8 << 30, disk_bytes: 100 << 30, ..Default::default() };
        let mut config = KubeletConfiguration::default();
        config.kube_reserved.insert("cpu".into(), "500m".into());
        config.system_reserved.insert("memory".into(), "1Gi".into());
        let allocatable = machine.allocatable(&config);
        assert_eq!(allocatable["cpu"].0, "3500m");
        assert_eq!(quantity::of(Some(&allocatable), "memory"), (7 << 30) - (100 << 20));
        assert_eq!(quantity::of(Some(&allocatable), "ephemeral-storage"), 90 << 30);
        assert_eq!(allocatable["pods"].0, "110");
    }

    #[test]
    fn meminfo_is_in_bytes() {
        assert_eq!(meminfo("MemTotal:       1024 kB\nMemFree: 1 kB\n", "MemTotal"), 1 << 20);
    }
}
