//! The hosts file and host name of a pod.

use std::fmt::Write;

use k8s_openapi::api::core::v1::Pod;
use pod_state::spec;

/// A Linux host name is at most this long.
const HOSTNAME_MAX: usize = 63;

/// Short host name, and the domain a headless Service may resolve it in ("" if none).
pub fn hostname(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = spec::spec(pod);
    if let Some(name) = spec.hostname_override.as_deref().filter(|name| !name.is_empty()) {
        return (name.to_owned(), String::new());
    }
    let mut hostname = spec.hostname.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| {
        let mut name = spec::name(pod).to_owned();
        name.truncate(HOSTNAME_MAX);
        name.trim_end_matches(['-', '.']).to_owned()
    });
    let domain = match spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty()) {
        Some(subdomain) => format!("{subdomain}.{}.svc.{cluster_domain}", spec::namespace(pod)),
        None => String::new(),
    };
    if spec.set_hostname_as_fqdn == Some(true) && !domain.is_empty() {
        hostname = format!("{hostname}.{domain}");
    }
    (hostname, domain)
}

/// The text of /etc/hosts: `ips` are the pod's, `node_hosts` the node's own file for pods on its network.
pub fn hosts_file(pod: &Pod, ips: &[String], cluster_domain: &str, node_hosts: &str) -> String {
    let mut text = String::new();
    if spec::host_network(pod) {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(node_hosts);
    } else {
        text.push_str(
            "# Kubernetes-managed hosts file.\n\
             127.0.0.1\tlocalhost\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\n\
             fe00::0\tip6-mcastprefix\n\
             fe00::1\tip6-allnodes\n\
             fe00::2\tip6-allrouters\n",
        );
        let (hostname, domain) = hostname(pod, cluster_domain);
        for ip in ips {
            let _ = if domain.is_empty() {
                writeln!(text, "{ip}\t{hostname}")
            } else {
                writeln!(text, "{ip}\t{hostname}.{domain}\t{hostname}")
            };
        }
    }
    let aliases = spec::spec(pod).host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_with_a_subdomain_has_a_full_name_in_its_hosts_file() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web-0", "namespace": "ns"},
            "spec": {"subdomain": "web", "containers": [], "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]},
        }))
        .expect("a pod");
        let text = hosts_file(&pod, &["10.0.0.5".into()], "cluster.local", "");
        assert!(text.contains("\n10.0.0.5\tweb-0.web.ns.svc.cluster.local\tweb-0\n"), "{text}");
        assert!(text.ends_with("\n1.2.3.4\ta\tb\n"), "{text}");
    }

    #[test]
    fn a_long_name_is_cut_to_a_legal_host_name() {
        let name = format!("{}-{}", "a".repeat(62), "b");
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": name}})).expect("a pod");
        assert_eq!(hostname(&pod, "").0, "a".repeat(62));
    }
}
