//! Kernel parameters that a pod may set: those that touch its own namespaces only
//! (kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster).

use k8s_openapi::api::core::v1::Pod;
use pod_state::spec;
use pod_state::status::Reason;

/// Namespaced sysctls that can't hurt the node.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// All sysctls of the pod are safe, or allowed by the node's configuration (`patterns`, which may end in "*").
pub fn allowed(pod: &Pod, patterns: &[String]) -> Result<(), Reason> {
    let spec = spec::spec(pod);
    let (host_network, host_ipc) = (spec::host_network(pod), spec.host_ipc == Some(true));
    let wanted = spec.security_context.as_ref().and_then(|context| context.sysctls.as_ref());
    for sysctl in wanted.into_iter().flatten() {
        let name = sysctl.name.replace('/', ".");
        let refuse = |why: &str| Err(Reason::new("SysctlForbidden", format!("forbidden sysctl: \"{name}\" {why}")));
        let listed = SAFE.contains(&name.as_str())
            || patterns.iter().map(|pattern| pattern.replace('/', ".")).any(|pattern| {
                match pattern.strip_suffix('*') {
                    Some(prefix) => name.starts_with(prefix),
                    None => pattern == name,
                }
            });
        if !listed {
            return refuse("not allowlisted");
        }
        // On the host's namespace it would be the node's own setting.
        match name.split_once('.').map(|(first, _)| first) {
            Some("net") if host_network => return refuse("not allowed with host Net enabled"),
            Some("kernel" | "fs") if host_ipc => return refuse("not allowed with host IPC enabled"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sysctls_are_safe_or_allowed_and_never_the_nodes_own() {
        let allowed_unsafe = ["kernel.msg*".to_owned()];
        for (name, host, expected) in [
            ("net.ipv4.tcp_syncookies", false, ""),
            ("net/ipv4/tcp_syncookies", false, ""),
            (
                "net.ipv4.tcp_syncookies",
                true,
                "forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host Net enabled",
            ),
            ("kernel.msgmax", false, ""),
            ("kernel.msgmax", true, "forbidden sysctl: \"kernel.msgmax\" not allowed with host IPC enabled"),
            ("kernel.sem", false, "forbidden sysctl: \"kernel.sem\" not allowlisted"),
        ] {
            let pod: Pod =
                serde_json::from_value(json!({"spec": {"containers": [], "hostNetwork": host, "hostIPC": host,
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}}))
                .expect("a pod");
            let message = allowed(&pod, &allowed_unsafe).err().map(|reason| reason.message).unwrap_or_default();
            assert_eq!(message, expected, "{name} host={host}");
        }
    }
}
