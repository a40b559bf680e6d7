//! Where systemd is not PID 1: one process that starts containerd and the kubelet, and starts them again when they end. What
//! they print goes to files that are kept small.

use crate::layout::*;
use anyhow::Context;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A program to keep running.
struct Child {
    name: &'static str,
    command: Vec<String>,
    pid: Option<Pid>,
    started: Instant,
    /// Not before this.
    restart_at: Instant,
    backoff: Duration,
}

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A program that ran this long is taken for healthy: its next end restarts it soon.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
const LOG_BYTES_MAX: u64 = 20 * 1024 * 1024;

/// The commands, as `up` wrote them down: a name and its arguments, one per line, separated by tabs.
pub const COMMANDS: &str = "/etc/ferrokube/commands";

/// Runs until SIGTERM, then ends the kubelet and containerd, in this order. Containers live on: they have shims of their own.
pub fn run() -> anyhow::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let now = Instant::now();
    let text = fs::read_to_string(COMMANDS).with_context(|| format!("reading {COMMANDS}"))?;
    let mut children: Vec<Child> = text
        .lines()
        .filter_map(|line| {
            let command: Vec<String> = line.split('\t').map(str::to_owned).collect();
            let name =
                ["containerd", "kubelet"].into_iter().find(|n| command.first().is_some_and(|c| c.ends_with(n)))?;
            Some(Child { name, command, pid: None, started: now, restart_at: now, backoff: BACKOFF_MIN })
        })
        .collect();
    loop {
        for child in &mut children {
            if child.pid.is_none() && Instant::now() >= child.restart_at {
                child.start();
            }
        }
        match wait_signal(&signals, Duration::from_millis(100)) {
            Some(Signal::SIGTERM | Signal::SIGINT) => break,
            _ => reap(&mut children),
        }
    }
    for child in children.iter().rev() {
        child.stop();
    }
    Ok(())
}

/// Waits for a signal, at most `timeout`.
fn wait_signal(signals: &SigSet, timeout: Duration) -> Option<Signal> {
    let timeout = libc::timespec { tv_sec: timeout.as_secs() as libc::time_t, tv_nsec: timeout.subsec_nanos().into() };
    // SAFETY: both pointers are to live, initialised values; no information about the signal is asked for.
    let number = unsafe { libc::sigtimedwait(signals.as_ref(), std::ptr::null_mut(), &timeout) };
    Signal::try_from(number).ok()
}

fn reap(children: &mut [Child]) {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        let Some(pid) = status.pid() else { return };
        let ended = matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..));
        if let Some(child) = children.iter_mut().find(|c| ended && c.pid == Some(pid)) {
            eprintln!("{} ended ({status:?})", child.name);
            child.pid = None;
            child.backoff = if child.started.elapsed() > HEALTHY_AFTER {
                BACKOFF_MIN
            } else {
                (child.backoff * 2).min(BACKOFF_MAX)
            };
            child.restart_at = Instant::now() + child.backoff;
        }
    }
}

impl Child {
    fn start(&mut self) {
        self.started = Instant::now();
        match self.spawn() {
            Ok(pid) => self.pid = Some(pid),
            Err(e) => {
                eprintln!("cannot start {}: {e:#}", self.name);
                self.restart_at = Instant::now() + self.backoff;
            }
        }
    }

    fn spawn(&self) -> anyhow::Result<Pid> {
        let path = format!("{LOGS}/{}.log", self.name);
        if fs::metadata(&path).is_ok_and(|m| m.len() > LOG_BYTES_MAX) {
            let _ = fs::rename(&path, format!("{path}.1"));
        }
        let log =
            OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("opening {path}"))?;
        let (program, arguments) = self.command.split_first().context("an empty command")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: a terminal's Ctrl-C is not for it. Signals are blocked here, they must not be there.
        command.process_group(0);
        // SAFETY: between fork and exec only the async-signal-safe sigprocmask is called.
        unsafe {
            command.pre_exec(|| {
                SigSet::all().thread_unblock()?;
                Ok(())
            });
        }
        Ok(Pid::from_raw(command.spawn().with_context(|| format!("starting {program}"))?.id() as i32))
    }

    /// SIGTERM, and SIGKILL for what does not listen.
    fn stop(&self) {
        let Some(pid) = self.pid else { return };
        let _ = kill(pid, Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(20)),
                _ => return,
            }
        }
        let _ = kill(pid, Signal::SIGKILL);
        let _ = waitpid(pid, None);
    }
}

/// The supervisor that runs, if one does: its pid, checked to be ours.
pub fn running() -> Option<Pid> {
    let pid: i32 = fs::read_to_string(SUPERVISOR_PID).ok()?.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&command);
    (text.contains("ferrokube") && text.contains("supervise")).then(|| Pid::from_raw(pid))
}

/// Starts the supervisor in the background, detached from this terminal.
pub fn start(program: &std::path::Path) -> anyhow::Result<()> {
    let path = format!("{LOGS}/supervisor.log");
    let log = OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("opening {path}"))?;
    let mut command = Command::new(program);
    command.arg("supervise").current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // SAFETY: between fork and exec only the async-signal-safe setsid is called.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            Ok(())
        });
    }
    let child = command.spawn().context("starting the supervisor")?;
    fs::write(SUPERVISOR_PID, child.id().to_string()).with_context(|| format!("writing {SUPERVISOR_PID}"))
}

/// Ends the supervisor and with it the kubelet and containerd.
pub fn stop() -> anyhow::Result<()> {
    let Some(pid) = running() else { return Ok(()) };
    kill(pid, Signal::SIGTERM).context("ending the supervisor")?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while running().is_some() && Instant::now() < deadline {
        // It is no child of ours, or one that nobody waits for: take what there is.
        let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = fs::remove_file(SUPERVISOR_PID);
    anyhow::ensure!(running().is_none(), "the supervisor (pid {pid}) does not end");
    Ok(())
}
