//! Peers that are gone without a word.

use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

/// Seconds without a word before the kernel asks, seconds between questions, and how many may stay without an answer.
const IDLE_SECONDS: u32 = 15;
const INTERVAL_SECONDS: u32 = 15;
const PROBES: u32 = 9;

/// Has the kernel ask a silent peer whether it is still there, as Go's listeners do: a watch that has nothing to say would never
/// learn of it.
pub fn set(stream: &impl AsFd) {
    let result = setsockopt(stream, sockopt::KeepAlive, &true)
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepIdle, &IDLE_SECONDS))
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepInterval, &INTERVAL_SECONDS))
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepCount, &PROBES));
    if let Err(error) = result {
        tracing::debug!(%error, "Cannot set TCP keepalive");
    }
}
