//! `ferrokube down`: everything that `up` made goes away, and nothing else. Each step works on what it finds, so it can be run
//! again after anything.

use crate::layout::*;
use crate::{kubeconfig, node, runtime};
use anyhow::Context;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Something to remove, and how.
type Step = (&'static str, fn() -> anyhow::Result<()>);

pub fn run() -> anyhow::Result<()> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "this needs root: it removes network interfaces, cgroups and containers"
    );
    let mut failed = Vec::new();
    // The kubelet first, or it would start again what is stopped.
    let steps: [Step; 9] = [
        ("Further nodes of this machine", node::remove_all),
        ("Kubelet and containerd", runtime::stop),
        ("Containers", end_containers),
        ("Mounts", unmount),
        ("Network", clear_network),
        ("Rules", clear_rules),
        ("Cgroups", clear_cgroups),
        ("Files", remove_files),
        ("Your kubeconfig", kubeconfig::remove_from_users),
    ];
    for (what, act) in steps {
        match act() {
            Ok(()) => println!("  ✓ {what}"),
            Err(e) => {
                println!("  ✗ {what}: {e:#}");
                failed.push(what);
            }
        }
    }
    anyhow::ensure!(failed.is_empty(), "not everything could be removed ({}); run it again", failed.join(", "));
    Ok(())
}

/// Ends the shims of our containerd, each with its containers: a shim carries our socket in its arguments.
fn end_containers() -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let pids = ours();
        if pids.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "processes {pids:?} do not end");
        for pid in pids {
            let _ = kill(pid, Signal::SIGKILL); // gone meanwhile is as good
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Processes of our containers and their shims.
fn ours() -> Vec<Pid> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        let is_shim = command.contains("containerd-shim") && command.contains(CONTAINERD_SOCKET);
        // A process in a cgroup that the kubelet made for a pod, whose root is in our containerd's state.
        let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let in_pod = cgroup.lines().any(|l| l.split(':').nth(2).is_some_and(|p| p.starts_with("/kubepods")));
        let root = fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        let in_ours = root.lines().next().is_some_and(|l| l.contains(CONTAINERD_ROOT) || l.contains(CONTAINERD_STATE));
        if is_shim || in_pod && in_ours {
            pids.push(Pid::from_raw(pid));
        }
    }
    pids
}

/// Unmounts what is mounted below our folders, the deepest first.
fn unmount() -> anyhow::Result<()> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    let mut mounts: Vec<&str> = table
        .lines()
        .filter_map(|l| l.split(' ').nth(1))
        .filter(|m| {
            [KUBELET_ROOT, CONTAINERD_ROOT, CONTAINERD_STATE, VAR, RUN]
                .iter()
                .any(|root| m.starts_with(&format!("{root}/")))
        })
        .collect();
    mounts.sort_by_key(|m| std::cmp::Reverse(m.len()));
    for mount in mounts {
        let path = mount.replace("\\040", " ");
        umount2(path.as_str(), MntFlags::MNT_DETACH).with_context(|| format!("unmounting {path}"))?;
    }
    Ok(())
}

/// Protocol number of the routes that the network addon makes.
const ROUTE_PROTOCOL: &str = "102";
/// Its tunnel to nodes that are on no common network.
const TUNNEL: &str = "ferrokube.vx";

/// Network namespaces of pods, whose ends of links on the host go with them, and what the network addon made.
fn clear_network() -> anyhow::Result<()> {
    // What is not there is as good as removed.
    for family in ["-4", "-6"] {
        let _ = runtime::run("ip", &[family, "route", "flush", "proto", ROUTE_PROTOCOL]);
    }
    let _ = runtime::run("ip", &["link", "del", TUNNEL]);
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = fs::read_dir("/var/lib/cni/results").into_iter().flatten().flatten().any(|result| {
            let text = fs::read_to_string(result.path()).unwrap_or_default();
            text.contains("\"ferrokube\"") && text.contains(&name)
        });
        if known {
            let path = entry.path();
            let _ = umount2(&path, MntFlags::MNT_DETACH);
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// The tables that kube-proxy and the network addon make.
fn clear_rules() -> anyhow::Result<()> {
    let tables = runtime::run("nft", &["list", "tables"]).unwrap_or_default();
    for line in tables.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["table", family, name] = words[..]
            && (name == "kube-proxy" || name.starts_with("ferrokube-network"))
        {
            runtime::run("nft", &["delete", "table", family, name])?;
        }
    }
    Ok(())
}

/// The cgroups that kubelets made, on version 1 in each hierarchy.
fn clear_cgroups() -> anyhow::Result<()> {
    let mut roots = vec!["/sys/fs/cgroup".to_owned()];
    roots.extend(
        fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path().to_string_lossy().into_owned()),
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    for path in roots.iter().flat_map(|root| ["kubepods", "ferrokube"].map(|name| format!("{root}/{name}"))) {
        // A cgroup can be removed a moment after its last process ended.
        while Path::new(&path).exists() && !remove_cgroup(Path::new(&path)) {
            anyhow::ensure!(Instant::now() < deadline, "{path} still has processes");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

fn remove_cgroup(path: &Path) -> bool {
    for entry in fs::read_dir(path).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        remove_cgroup(&entry.path());
    }
    fs::remove_dir(path).is_ok()
}

fn remove_files() -> anyhow::Result<()> {
    for folder in REMOVED {
        match fs::remove_dir_all(folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("removing {folder}"));
            }
            _ => {}
        }
    }
    Ok(())
}
