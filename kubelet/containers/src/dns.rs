//! resolv.conf of a pod, by dnsPolicy and dnsConfig.

use k8s_openapi::api::core::v1::Pod;
use node_context::ClusterDns;
use pod_state::spec;
use proto::cri::DnsConfig;

/// Bounds of glibc and of the API's validation; what is beyond is left out.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

/// Reads the lines of a resolv.conf that matter.
fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            // The last one counts; a lone "." means nothing to search.
            Some("search") => config.searches = words.filter(|w| *w != ".").map(str::to_owned).collect(),
            Some("options") => config.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    config
}

fn append_unique(list: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

/// The configuration of `pod`; `host` is the text of the node's file.
fn of(pod: &Pod, cluster: &ClusterDns, host: &str) -> DnsConfig {
    let spec = spec::spec(pod);
    let host = parse(host);
    let cluster_first = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => None,
        "ClusterFirstWithHostNet" => Some(true),
        "ClusterFirst" => Some(!spec::host_network(pod)),
        _ => Some(false),
    };
    let mut config = match cluster_first {
        None => DnsConfig::default(),
        Some(true) if !cluster.servers.is_empty() => {
            let mut searches = Vec::new();
            if !cluster.domain.is_empty() {
                let (namespace, domain) = (spec::namespace(pod), &cluster.domain);
                searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            }
            append_unique(&mut searches, host.searches);
            DnsConfig { servers: cluster.servers.clone(), searches, options: vec!["ndots:5".into()] }
        }
        // Without a cluster DNS, ClusterFirst can only be what the node has.
        Some(_) => host,
    };
    if let Some(own) = &spec.dns_config {
        append_unique(&mut config.servers, own.nameservers.clone().unwrap_or_default());
        append_unique(&mut config.searches, own.searches.clone().unwrap_or_default());
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            config.options.retain(|have| have.split(':').next() != Some(&name));
            config.options.push(match option.value.as_deref().filter(|value| !value.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name,
            });
        }
    }
    config.servers.truncate(NAMESERVERS_MAX);
    config.searches.truncate(SEARCHES_MAX);
    while config.searches.join(" ").len() > SEARCH_CHARS_MAX {
        config.searches.pop();
    }
    config
}

/// The configuration of `pod`. The node's file is read anew: it changes with DHCP and VPNs.
pub async fn config(pod: &Pod, cluster: &ClusterDns) -> DnsConfig {
    let host = match cluster.resolv_conf.as_str() {
        "" => String::new(),
        path => tokio::fs::read_to_string(path).await.unwrap_or_else(|error| {
            tracing::warn!(path, %error, "Can't read the node's resolv.conf; pods get none of it");
            String::new()
        }),
    };
    of(pod, cluster, &host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_decides_between_cluster_and_node() {
        let cluster =
            ClusterDns { servers: vec!["10.96.0.10".into()], domain: "cluster.local".into(), ..Default::default() };
        let host = "nameserver 1.1.1.1\nsearch corp.example .\noptions timeout:1\n";
        for (spec, servers, searches, options) in [
            (
                serde_json::json!({}),
                "10.96.0.10",
                "ns.svc.cluster.local svc.cluster.local cluster.local corp.example",
                "ndots:5",
            ),
            (serde_json::json!({"hostNetwork": true}), "1.1.1.1", "corp.example", "timeout:1"),
            (serde_json::json!({"dnsPolicy": "Default"}), "1.1.1.1", "corp.example", "timeout:1"),
            (
                serde_json::json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "searches": ["x"]}}),
                "9.9.9.9",
                "x",
                "",
            ),
            (
                serde_json::json!({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
                "10.96.0.10",
                "ns.svc.cluster.local svc.cluster.local cluster.local corp.example",
                "ndots:2 edns0",
            ),
        ] {
            let mut spec_json = spec.clone();
            spec_json["containers"] = serde_json::json!([]);
            let pod: Pod =
                serde_json::from_value(serde_json::json!({"metadata": {"namespace": "ns"}, "spec": spec_json}))
                    .expect("a pod");
            let made = of(&pod, &cluster, host);
            let joined = (made.servers.join(" "), made.searches.join(" "), made.options.join(" "));
            assert_eq!(joined, (servers.into(), searches.into(), options.into()), "{spec}");
        }
    }
}
