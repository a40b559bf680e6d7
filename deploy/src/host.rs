//! What this machine needs before it can be a node of any kind: programs, folders, kernel settings, containerd's configuration and
//! images.

use crate::image::{Image, canonical_name};
use crate::layout::*;
use crate::pki::write;
use crate::{images, manifests, runtime};
use anyhow::Context;
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub fn ensure_root(why: &str) -> anyhow::Result<()> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "this needs root: {why}");
    Ok(())
}

/// The node's name if none is given: the machine's.
pub fn default_node_name() -> anyhow::Result<String> {
    Ok(nix::unistd::gethostname()?.to_string_lossy().to_lowercase())
}

/// The address that this machine uses towards others.
pub fn default_address() -> anyhow::Result<IpAddr> {
    // Connecting a UDP socket sends nothing; it only picks the source address of the default route.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("192.0.2.1:9").context("this machine has no default route; give --node-ip")?;
    Ok(socket.local_addr()?.ip())
}

/// Programs where units and the supervisor find them, folders, and what the kernel must do for pods.
pub fn prepare() -> anyhow::Result<()> {
    for folder in [PKI, MANIFESTS, ETC, CNI_CONF_DIR, BIN, VAR, RUN, LOGS, KUBELET_ROOT, ETCD_DATA] {
        fs::create_dir_all(folder).with_context(|| format!("making {folder}"))?;
    }
    fs::set_permissions(ETCD_DATA, fs::Permissions::from_mode(0o700))?;
    let programs = images::programs()?;
    for program in ["ferrokube", "kubelet"] {
        let (from, to) = (programs.join(program), Path::new(BIN).join(program));
        if from == to || is_copy(&from, &to) {
            continue;
        }
        // A running program's file can't be written, but it can be replaced.
        let partial = to.with_extension("partial");
        fs::copy(&from, &partial)
            .with_context(|| format!("copying {}; build it with cargo build --release", from.display()))?;
        fs::rename(&partial, &to)?;
    }
    for module in ["overlay", "br_netfilter"] {
        let _ = runtime::run("modprobe", &[module]); // built in, or not there: what depends on it says so itself
    }
    share_mounts()?;
    sysctl("net/ipv4/ip_forward", "1")
}

/// Makes mounts shared where PID 1 left them private: volumes may ask for mounts that go from the machine to the pod
/// (`mountPropagation`), and the runtime refuses those otherwise.
fn share_mounts() -> anyhow::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    // "26 1 254:0 / / rw,relatime shared:1 - ext4 …": of several that cover each other the last is in effect.
    let root = table.lines().rfind(|line| line.split(' ').nth(4) == Some("/"));
    if root.is_some_and(|line| line.split(" - ").next().is_some_and(|fields| fields.contains(" shared:"))) {
        return Ok(());
    }
    let none: Option<&str> = None;
    let flags = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_SHARED;
    nix::mount::mount(none, "/", none, flags, none).context("sharing the mounts of /")
}

fn sysctl(name: &str, value: &str) -> anyhow::Result<()> {
    let path = format!("/proc/sys/{name}");
    if fs::read_to_string(&path).is_ok_and(|v| v.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).with_context(|| format!("setting {path} to {value}"))
}

/// Whether `to` was copied from `from`, and `from` not changed since.
fn is_copy(from: &Path, to: &Path) -> bool {
    let (Ok(from), Ok(to)) = (fs::metadata(from), fs::metadata(to)) else { return false };
    from.len() == to.len() && from.modified().is_ok_and(|from| to.modified().is_ok_and(|to| to > from))
}

pub fn write_containerd_config() -> anyhow::Result<()> {
    let snapshotter = if supports_overlay() { "overlayfs" } else { "native" };
    write(CONTAINERD_CONFIG, &manifests::containerd(!may_lower_oom_score(), snapshotter), 0o644)
}

/// Lowering an oom_score_adj takes CAP_SYS_RESOURCE, which a container may lack.
fn may_lower_oom_score() -> bool {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective =
        status.lines().find_map(|l| l.strip_prefix("CapEff:")).and_then(|v| u64::from_str_radix(v.trim(), 16).ok());
    effective.is_none_or(|caps| caps & CAP_SYS_RESOURCE != 0)
}

fn supports_overlay() -> bool {
    fs::read_to_string("/proc/filesystems")
        .is_ok_and(|f| f.lines().any(|l| l.split_whitespace().last() == Some("overlay")))
}

/// Gives containerd the images of the cluster, and those of the samples that it lacks.
pub fn import(cluster: &[Image], samples: &[Image]) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(VAR)?;
    for image in cluster {
        // Always: the programs may be newer than the images that are there.
        runtime::import(image, folder.path())?;
    }
    for image in samples.iter().filter(|i| !runtime::has_image(&canonical_name(&i.name))) {
        runtime::import(image, folder.path())?;
    }
    Ok(())
}
