//! The cgroup file system: v1 with a tree per controller, or v2 with one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Limits;
use crate::resources;

/// The kernel's two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A tree for each controller.
    V1,
    /// One tree for all.
    V2,
}

/// Something that could not be set.
pub struct Problem {
    pub what: String,
    pub path: String,
    pub error: std::io::Error,
}

/// What a cgroup uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// ns of CPU since it was made
    pub cpu_ns: u64,
    /// bytes
    pub memory: u64,
    /// bytes, less file cache that the kernel can take back at once
    pub working_set: u64,
    /// bytes of anonymous memory
    pub rss: u64,
}

/// Controllers that v2 has to hand down to children.
const V2_CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];
const V2_ROOT: &str = "/sys/fs/cgroup";

/// The mounted trees.
pub struct Hierarchy {
    version: Version,
    /// v1: controllers and mount point of each tree; v2: one, without controllers.
    trees: Vec<(Vec<String>, PathBuf)>,
}

impl Hierarchy {
    /// Finds what is mounted.
    pub fn detect() -> Self {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self::parse(&mountinfo, Path::new(V2_ROOT).join("cgroup.controllers").exists())
    }

    fn parse(mountinfo: &str, unified: bool) -> Self {
        if unified {
            return Self { version: Version::V2, trees: vec![(Vec::new(), V2_ROOT.into())] };
        }
        let mut trees: Vec<(Vec<String>, PathBuf)> = Vec::new();
        for line in mountinfo.lines() {
            let Some((head, tail)) = line.split_once(" - ") else { continue };
            let (Some(point), mut tail) = (head.split(' ').nth(4), tail.split(' ')) else { continue };
            match tail.next() {
                Some("cgroup") => {}
                // A hybrid set-up has v2 without controllers beside v1; runc follows its containers there too.
                Some("cgroup2") => {
                    trees.push((Vec::new(), point.into()));
                    continue;
                }
                _ => continue,
            }
            let options = tail.nth(1).unwrap_or_default();
            let controllers: Vec<String> = options
                .split(',')
                .filter(|o| !matches!(*o, "rw" | "ro") && !o.contains('='))
                .map(str::to_owned)
                .collect();
            // "name=systemd" alone has no controllers, but systemd and runc want the pod there too.
            if !trees.iter().any(|(have, _)| *have == controllers && !have.is_empty()) {
                trees.push((controllers, point.into()));
            }
        }
        Self { version: Version::V1, trees }
    }

    pub fn version(&self) -> Version {
        self.version
    }

    fn tree(&self, controller: &str) -> Option<&Path> {
        match self.version {
            Version::V2 => self.trees.first().map(|(_, root)| root.as_path()),
            Version::V1 => {
                self.trees.iter().find(|(have, _)| have.iter().any(|c| c == controller)).map(|(_, root)| root.as_path())
            }
        }
    }

    /// Makes the cgroup at `path` in every tree and sets its limits. Returns what could not be done.
    pub fn apply(&self, path: &str, limits: &Limits) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (controllers, root) in &self.trees {
            if let Err(error) = self.make(root, path, controllers) {
                let what = format!("cgroups in {}", root.display());
                problems.push(Problem { what, path: path.to_owned(), error });
            }
        }
        for (controller, file, value) in self.values(limits) {
            let Some(tree) = self.tree(controller) else {
                let error = std::io::Error::new(ErrorKind::NotFound, format!("no {controller} controller is mounted"));
                problems.push(Problem { what: file.to_owned(), path: path.to_owned(), error });
                continue;
            };
            let target = tree.join(path).join(file);
            // Writing what is there already would still cost the kernel a walk.
            let same = std::fs::read_to_string(&target).is_ok_and(|have| have.trim() == value);
            if let Err(error) = if same { Ok(()) } else { std::fs::write(&target, &value) } {
                problems.push(Problem { what: file.to_owned(), path: target.display().to_string(), error });
            }
        }
        problems
    }

    /// Controller, file and text of each value.
    fn values(&self, limits: &Limits) -> Vec<(&'static str, &'static str, String)> {
        let mut values = Vec::new();
        let v2 = self.version == Version::V2;
        let number = |value: i64| if value < 0 && v2 { "max".to_owned() } else { value.to_string() };
        if let Some(shares) = limits.cpu_shares {
            values.push(match v2 {
                true => ("cpu", "cpu.weight", resources::weight(shares).to_string()),
                false => ("cpu", "cpu.shares", shares.to_string()),
            });
        }
        if let Some((quota, period)) = limits.cpu_quota {
            if v2 {
                values.push(("cpu", "cpu.max", format!("{} {period}", number(quota))));
            } else {
                values.push(("cpu", "cpu.cfs_period_us", period.to_string()));
                values.push(("cpu", "cpu.cfs_quota_us", quota.to_string()));
            }
        }
        if let Some(memory) = limits.memory {
            values.push(("memory", if v2 { "memory.max" } else { "memory.limit_in_bytes" }, number(memory)));
        }
        if let Some(pids) = limits.pids {
            values.push(("pids", "pids.max", if pids < 0 { "max".to_owned() } else { pids.to_string() }));
        }
        values
    }

    /// Makes the directories of `path`, each able to hold limited children.
    fn make(&self, root: &Path, path: &str, controllers: &[String]) -> std::io::Result<()> {
        let mut dir = root.to_path_buf();
        for part in path.split('/') {
            if self.version == Version::V2 {
                delegate(&dir);
            }
            let parent = dir.clone();
            dir.push(part);
            match std::fs::create_dir(&dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            if controllers.iter().any(|c| c == "cpuset") {
                inherit_cpuset(&parent, &dir)?;
            }
        }
        if self.version == Version::V2 {
            delegate(&dir);
        }
        Ok(())
    }

    /// Names of the cgroups directly below `path`.
    pub fn children(&self, path: &str) -> Vec<String> {
        let mut names = Vec::new();
        for (_, root) in &self.trees {
            let Ok(entries) = std::fs::read_dir(root.join(path)) else { continue };
            let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
            names.extend(dirs.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        }
        names.sort();
        names.dedup();
        names
    }

    /// Kills every process below `path` and removes the cgroups, innermost first. Returns whether all are gone.
    pub fn remove(&self, path: &str) -> bool {
        self.trees.iter().fold(true, |gone, (_, root)| remove_tree(&root.join(path)) && gone)
    }

    pub fn usage(&self, path: &str) -> Usage {
        let read = |controller: &str, file: &str| {
            self.tree(controller)
                .and_then(|tree| std::fs::read_to_string(tree.join(path).join(file)).ok())
                .unwrap_or_default()
        };
        let number = |text: String| text.trim().parse().unwrap_or(0);
        let field = |text: &str, key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            value.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        let stat = read("memory", "memory.stat");
        match self.version {
            Version::V1 => {
                let memory = number(read("memory", "memory.usage_in_bytes"));
                Usage {
                    cpu_ns: number(read("cpuacct", "cpuacct.usage")),
                    memory,
                    working_set: memory.saturating_sub(field(&stat, "total_inactive_file")),
                    rss: field(&stat, "total_rss"),
                }
            }
            Version::V2 => {
                let memory = match path {
                    // The root cgroup has no memory.current.
                    "" => field(&stat, "anon") + field(&stat, "file"),
                    _ => number(read("memory", "memory.current")),
                };
                Usage {
                    cpu_ns: field(&read("cpu", "cpu.stat"), "usage_usec") * 1000,
                    memory,
                    working_set: memory.saturating_sub(field(&stat, "inactive_file")),
                    rss: field(&stat, "anon"),
                }
            }
        }
    }
}

/// v2: lets children have the controllers that this cgroup has. What it lacks shows when a limit is set.
fn delegate(dir: &Path) {
    let have = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let given = std::fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    for controller in V2_CONTROLLERS {
        let (have, given) =
            (have.split_whitespace().any(|c| c == controller), given.split_whitespace().any(|c| c == controller));
        if have && !given {
            let _ = std::fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

/// v1: a new cpuset is empty, and no process can join it until it has its parent's CPUs and memory nodes.
fn inherit_cpuset(parent: &Path, child: &Path) -> std::io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if std::fs::read_to_string(child.join(file))?.trim().is_empty() {
            std::fs::write(child.join(file), std::fs::read_to_string(parent.join(file))?.trim())?;
        }
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return !dir.exists() };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())) {
        remove_tree(&entry.path());
    }
    for pid in std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
        if let Ok(pid) = pid.parse() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
    match std::fs::remove_dir(dir) {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      32 25 0:28 / /proc rw - proc proc rw\n";

    #[test]
    fn limits_become_the_files_of_each_version() {
        let limits =
            Limits { cpu_shares: Some(1024), cpu_quota: Some((50_000, 100_000)), memory: Some(-1), pids: Some(100) };
        let files = |unified| {
            let values = Hierarchy::parse(V1, unified).values(&limits);
            values.into_iter().map(|(_, file, value)| format!("{file}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            files(false),
            "cpu.shares=1024 cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000 memory.limit_in_bytes=-1 pids.max=100"
        );
        assert_eq!(files(true), "cpu.weight=39 cpu.max=50000 100000 memory.max=max pids.max=100");
    }

    #[test]
    fn trees_are_found_by_controller() {
        let hierarchy = Hierarchy::parse(V1, false);
        assert_eq!(hierarchy.tree("memory"), Some(Path::new("/sys/fs/cgroup/memory")));
        assert_eq!(hierarchy.tree("pids"), None);
    }
}
