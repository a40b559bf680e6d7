//! What the kernel says of a process.

use std::fs;
use std::time::Duration;

/// CPU that a process has used so far, and its memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu: Duration,
    /// kB
    pub resident: u64,
    /// kB, the most it ever was.
    pub peak: u64,
}

/// Reads `/proc/<pid>`; nothing where there is no such process.
pub fn usage(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces; utime and stime are the 12th and 13th fields after it. (proc(5))
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    // The kernel counts in USER_HZ, which is 100 wherever Linux runs.
    Some(Usage { cpu: Duration::from_millis(ticks * 10), resident: of("VmRSS:")?, peak: of("VmHWM:")? })
}

/// Lets the peak of a process begin anew; where the kernel does not allow it, it stays. (proc(5), clear_refs)
pub fn forget_peak(pid: Option<u32>) {
    if let Some(pid) = pid {
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}
