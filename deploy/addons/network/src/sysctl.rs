//! What the kernel must do for pods' packets to pass this node.

use anyhow::Context;
use std::fs;

/// Has the node forward packets of the families that its pods have.
pub fn forward(ipv6: bool) -> anyhow::Result<()> {
    set("/proc/sys/net/ipv4/ip_forward")?;
    if ipv6 { set("/proc/sys/net/ipv6/conf/all/forwarding") } else { Ok(()) }
}

fn set(path: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).is_ok_and(|value| value.trim() == "1") {
        return Ok(());
    }
    fs::write(path, "1").with_context(|| format!("setting {path} to 1; set it on the machine, or run this privileged"))
}
