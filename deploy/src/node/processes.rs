//! Which processes are a node's: those in its mount namespace (containerd, its shims, the kubelet), and those in cgroups below its
//! own (containers, which have mount namespaces of their own).

use super::{LocalNode, namespaces};
use anyhow::Context;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub fn of(node: &LocalNode) -> Vec<Pid> {
    let (inode, cgroup) = (namespaces::inode(node), format!("{}/", node.cgroup()));
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let within = inode.is_some() && fs::metadata(entry.path().join("ns/mnt")).ok().map(|m| m.ino()) == inode;
        if within || in_cgroup(&entry.path(), &cgroup) {
            pids.push(Pid::from_raw(pid));
        }
    }
    pids
}

fn in_cgroup(process: &Path, prefix: &str) -> bool {
    let text = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    text.lines().any(|line| line.splitn(3, ':').nth(2).is_some_and(|path| path.starts_with(prefix)))
}

/// Whether it stands still by SIGSTOP.
pub fn is_stopped(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The program's name stands in parentheses and may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// Sends a signal to all of them.
pub fn signal(node: &LocalNode, signal: Signal) -> anyhow::Result<()> {
    for pid in of(node) {
        match kill(pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("signalling {pid}")),
        }
    }
    Ok(())
}
