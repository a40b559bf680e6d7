//! containerd and kubelet as processes of this machine: systemd units where systemd is PID 1, else our supervisor.

use crate::image::{Image, canonical_name, write_archive};
use crate::images::file_name;
use crate::layout::*;
use crate::supervise;
use anyhow::Context;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs a program and fails with what it said if it failed.
pub fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn ctr(arguments: &[&str]) -> anyhow::Result<String> {
    let mut all = vec!["--address", CONTAINERD_SOCKET, "--namespace", "k8s.io"];
    all.extend(arguments);
    run("ctr", &all)
}

/// Writes down how containerd and kubelet are started, and starts what is not running.
pub fn start(kubelet_arguments: &[String]) -> anyhow::Result<()> {
    let kubelet = format!("{BIN}/kubelet");
    if has_systemd() {
        let unit = |description: &str, command: &str, after: &str| {
            format!(
                "[Unit]\nDescription={description}\nAfter=network-online.target {after}\nWants=network-online.target {after}\nStartLimitIntervalSec=0\n\n\
                 [Service]\nExecStart={command}\nRestart=always\nRestartSec=1\nKillMode=process\nDelegate=yes\nOOMScoreAdjust=-999\nLimitNOFILE=1048576\nTasksMax=infinity\n\n\
                 [Install]\nWantedBy=multi-user.target\n"
            )
        };
        let containerd =
            unit("containerd of the cluster", &format!("/usr/bin/containerd --config {CONTAINERD_CONFIG}"), "");
        fs::write(format!("{UNITS}/{CONTAINERD_UNIT}"), containerd)?;
        let command = format!("{kubelet} {}", kubelet_arguments.join(" "));
        fs::write(
            format!("{UNITS}/{KUBELET_UNIT}"),
            unit("kubelet: The Kubernetes Node Agent", &command, CONTAINERD_UNIT),
        )?;
        run("systemctl", &["daemon-reload"])?;
        run("systemctl", &["enable", "--now", CONTAINERD_UNIT])?;
        run("systemctl", &["enable", "--now", KUBELET_UNIT])?;
        return Ok(());
    }
    let commands = format!("containerd\t--config\t{CONTAINERD_CONFIG}\n{kubelet}\t{}\n", kubelet_arguments.join("\t"));
    fs::write(supervise::COMMANDS, commands).with_context(|| format!("writing {}", supervise::COMMANDS))?;
    if supervise::running().is_none() {
        supervise::start(Path::new(&format!("{BIN}/ferrokube")))?;
    }
    Ok(())
}

/// Starts what [`start`] wrote down, after the machine was off.
pub fn boot() -> anyhow::Result<()> {
    match supervise::running() {
        Some(_) => Ok(()),
        None => supervise::start(Path::new(&format!("{BIN}/ferrokube"))),
    }
}

/// Whether a kubelet of ours runs, or would be started again.
pub fn is_running() -> bool {
    supervise::running().is_some() || has_systemd() && run("systemctl", &["is-active", "--quiet", KUBELET_UNIT]).is_ok()
}

/// Ends kubelet and containerd.
pub fn stop() -> anyhow::Result<()> {
    if has_systemd() {
        for unit in [KUBELET_UNIT, CONTAINERD_UNIT] {
            let path = format!("{UNITS}/{unit}");
            if Path::new(&path).exists() {
                let _ = run("systemctl", &["disable", "--now", unit]);
                fs::remove_file(&path).with_context(|| format!("removing {path}"))?;
            }
        }
        let _ = run("systemctl", &["daemon-reload"]);
        return Ok(());
    }
    supervise::stop()
}

/// Puts an image into containerd, pinned: no registry has it, so the kubelet must not remove it to make room.
pub fn import(image: &Image, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(file_name(image));
    write_archive(image, &path).with_context(|| format!("making the image {}", image.name))?;
    let text = path.to_string_lossy();
    ctr(&["images", "import", "--no-unpack=false", &text]).or_else(|_| ctr(&["images", "import", &text]))?;
    fs::remove_file(&path)?;
    ctr(&["images", "label", &canonical_name(&image.name), "io.cri-containerd.pinned=pinned"])?;
    Ok(())
}

pub fn has_image(name: &str) -> bool {
    let wanted = format!("name=={}", canonical_name(name));
    ctr(&["images", "ls", "-q", &wanted]).is_ok_and(|out| !out.trim().is_empty())
}
