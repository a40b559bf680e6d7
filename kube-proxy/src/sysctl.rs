//! What kube-proxy sets in the kernel besides rules: limits of connection tracking, and its own place when memory runs out.

use crate::config::Conntrack;
use std::path::Path;

const FOLDER: &str = "/proc/sys/net/netfilter";
/// Tracked connections for each bucket of the kernel's table.
const PER_BUCKET: u64 = 4;
const HASHSIZE: &str = "/sys/module/nf_conntrack/parameters/hashsize";

/// A setting under [`FOLDER`], its value, and whether one that is higher already stays.
type Setting = (&'static str, u64, bool);

/// What is to be set on a machine with so many cores. A value of 0 leaves what is.
fn settings(conntrack: &Conntrack, cores: u64) -> Vec<Setting> {
    let scaled = u64::from(conntrack.max_per_core.unwrap_or(32 * 1024)) * cores;
    let max = if scaled == 0 { 0 } else { scaled.max(u64::from(conntrack.min.unwrap_or(128 * 1024))) };
    let secs =
        |duration: Option<component_base::cli::GoDuration>, preset| duration.map_or(preset, |d| d.get().as_secs());
    let all = [
        ("nf_conntrack_max", max, true),
        ("nf_conntrack_tcp_timeout_established", secs(conntrack.tcp_established_timeout, 24 * 3600), false),
        ("nf_conntrack_tcp_timeout_close_wait", secs(conntrack.tcp_close_wait_timeout, 3600), false),
        ("nf_conntrack_tcp_be_liberal", u64::from(conntrack.tcp_be_liberal), false),
        ("nf_conntrack_udp_timeout", secs(conntrack.udp_timeout, 0), false),
        ("nf_conntrack_udp_timeout_stream", secs(conntrack.udp_stream_timeout, 0), false),
    ];
    all.into_iter().filter(|(_, value, _)| *value > 0).collect()
}

/// Sets them. A kernel that is not ours to set (a container without the right, no such module) is told of, and no reason to stop.
pub fn apply(conntrack: &Conntrack, oom_score_adj: i32) {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    for (name, value, keeps_higher) in settings(conntrack, cores) {
        write(&Path::new(FOLDER).join(name), value, keeps_higher);
        if name == "nf_conntrack_max" {
            write(Path::new(HASHSIZE), value / PER_BUCKET, true);
        }
    }
    let path = "/proc/self/oom_score_adj";
    if let Err(error) = std::fs::write(path, oom_score_adj.to_string()) {
        tracing::warn!(%error, path, "cannot be set");
    }
}

fn write(path: &Path, value: u64, keeps_higher: bool) {
    let current = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if current.is_some_and(|current| current == value || keeps_higher && current > value) {
        return;
    }
    match std::fs::write(path, value.to_string()) {
        Ok(()) => tracing::info!(path = %path.display(), value, "set"),
        Err(error) => tracing::warn!(path = %path.display(), value, %error, "cannot be set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_grow_with_the_cores_and_zero_leaves_what_is() {
        let with = |change: &dyn Fn(&mut Conntrack)| {
            let mut conntrack = Conntrack::default();
            change(&mut conntrack);
            settings(&conntrack, 8).into_iter().map(|(name, value, _)| (name, value)).collect::<Vec<_>>()
        };
        let (max, established) = ("nf_conntrack_max", "nf_conntrack_tcp_timeout_established");
        let close_wait = ("nf_conntrack_tcp_timeout_close_wait", 3600);
        assert_eq!(with(&|_| {}), [(max, 262_144), (established, 86_400), close_wait]);
        assert_eq!(with(&|c| c.max_per_core = Some(1))[0], (max, 131_072));
        assert_eq!(with(&|c| c.max_per_core = Some(0))[0], (established, 86_400));
        assert_eq!(with(&|c| c.tcp_established_timeout = "0s".parse().ok()), [(max, 262_144), close_wait]);
        assert!(with(&|c| c.tcp_be_liberal = true).contains(&("nf_conntrack_tcp_be_liberal", 1)));
        assert!(with(&|c| c.udp_timeout = "30s".parse().ok()).contains(&("nf_conntrack_udp_timeout", 30)));
    }
}
