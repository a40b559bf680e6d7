//! A node's namespaces: each is held by a file, so that it outlives the program that made it. The files lie in a folder of ours and not
//! in /run/netns: `ip netns` mounts that folder over itself, and what was mounted in it before could no longer be taken away.

use super::LocalNode;
use crate::layout::*;
use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Namespaces that a node has beside that of the network.
const KINDS: [&str; 2] = ["mnt", "uts"];
/// The one of the network, which is there as long as the node is, also while it is switched off.
const NET: &str = "net";

fn file(node: &LocalNode, kind: &str) -> PathBuf {
    Path::new(NODE_NAMESPACES).join(format!("{}.{kind}", node.name))
}

/// What tells the node's mount namespace from others.
pub fn inode(node: &LocalNode) -> Option<u64> {
    held(&file(node, "mnt"))
}

/// The inode of the namespace that a file holds. Without one the file is of the folder's file system, or not there.
fn held(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    (metadata.dev() != fs::metadata(NODE_NAMESPACES).ok()?.dev()).then_some(metadata.ino())
}

/// Makes the node's network namespace, if it is not there. Nothing is in it yet.
pub fn create_network(node: &LocalNode) -> anyhow::Result<()> {
    let path = file(node, NET);
    if held(&path).is_some() {
        return Ok(());
    }
    hold()?;
    fs::write(&path, "").with_context(|| format!("making {}", path.display()))?;
    finish(Command::new("unshare").args([format!("--net={}", path.display()).as_str(), "true"]))
}

/// Lets go of it.
pub fn drop_network(node: &LocalNode) -> anyhow::Result<()> {
    drop_kind(node, NET)
}

/// A program that runs in the node's network, with all else that is this machine's.
pub fn in_network(node: &LocalNode, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    finish(Command::new("nsenter").arg(network_flag(node)).arg(program).args(arguments))
}

fn network_flag(node: &LocalNode) -> String {
    format!("--net={}", file(node, NET).display())
}

/// Makes the other namespaces, if they are not there, and prepares what is in them.
pub fn create(node: &LocalNode) -> anyhow::Result<()> {
    if inode(node).is_some() {
        return Ok(());
    }
    hold()?;
    let flags = [("--mount", "mnt"), ("--uts", "uts")].map(|(flag, kind)| (flag, file(node, kind)));
    for (_, path) in &flags {
        fs::write(path, "").with_context(|| format!("making {}", path.display()))?;
    }
    let program = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new("nsenter");
    command.args([&network_flag(node), "unshare", "--propagation=private"]);
    command.args(flags.map(|(flag, path)| format!("{flag}={}", path.display())));
    command.arg(program).args(["node", "enter", &node.name]);
    finish(&mut command)
}

/// A folder whose mounts nobody else sees: the kernel takes files of namespaces only there.
fn hold() -> anyhow::Result<()> {
    fs::create_dir_all(NODE_NAMESPACES).with_context(|| format!("making {NODE_NAMESPACES}"))?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some(NODE_NAMESPACES)) {
        return Ok(());
    }
    let none: Option<&str> = None;
    mount(Some(NODE_NAMESPACES), NODE_NAMESPACES, none, MsFlags::MS_BIND, none)
        .context("mounting a folder on itself")?;
    mount(none, NODE_NAMESPACES, none, MsFlags::MS_PRIVATE, none).context("keeping its mounts to itself")
}

/// Inside: the node's folders over the machine's, and its name. Mounts are shared from here on, as on a machine that systemd
/// started, so that pods can ask for them to go both ways.
pub fn enter(node: &LocalNode) -> anyhow::Result<()> {
    let none: Option<&str> = None;
    // All sources first: the folder that holds them is covered by one of the mounts.
    let mut mounts = Vec::new();
    for folder in NODE_FOLDERS {
        let source = node.files().join(&folder[1..]);
        if folder.starts_with("/run/") && source.exists() {
            fs::remove_dir_all(&source).with_context(|| format!("emptying {}", source.display()))?;
        }
        for path in [source.as_path(), Path::new(folder)] {
            fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
        }
        mounts.push((fs::File::open(&source).with_context(|| format!("opening {}", source.display()))?, folder));
    }
    for (source, folder) in &mounts {
        use std::os::fd::AsRawFd;
        let source = format!("/proc/self/fd/{}", source.as_raw_fd());
        mount(Some(source.as_str()), **folder, none, MsFlags::MS_BIND, none)
            .with_context(|| format!("mounting {folder}"))?;
    }
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none).context("sharing mounts")?;
    nix::unistd::sethostname(&node.name).context("setting the host name")
}

/// A program that runs in the node's namespaces.
pub fn command(node: &LocalNode, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(network_flag(node));
    for (kind, flag) in KINDS.iter().zip(["--mount", "--uts"]) {
        command.arg(format!("{flag}={}", file(node, kind).display()));
    }
    command.arg("--wd=/").args(arguments);
    command
}

/// Runs this program with other arguments in the node, and shows what it said if it fails.
pub fn run(node: &LocalNode, arguments: &[&str], env: &[(&str, &str)]) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut all = vec![program.as_os_str()];
    all.extend(arguments.iter().map(OsStr::new));
    finish(command(node, &all).envs(env.iter().copied()))
}

fn finish(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("running {}", command.get_program().display()))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    anyhow::ensure!(output.status.success(), "{}\n{}", said(&output.stderr), said(&output.stdout));
    Ok(())
}

/// Lets go of the namespaces but for the network's; with the last process in them they are gone.
pub fn drop(node: &LocalNode) -> anyhow::Result<()> {
    KINDS.iter().try_for_each(|kind| drop_kind(node, kind))
}

fn drop_kind(node: &LocalNode, kind: &str) -> anyhow::Result<()> {
    let path = file(node, kind);
    let _ = umount2(&path, MntFlags::MNT_DETACH); // not mounted is as good
    match fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
