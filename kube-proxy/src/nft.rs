//! nftables: what is there besides services, and how a script is applied.

use crate::rules::*;
use anyhow::Context as _;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The table of a family, as scripts name it.
pub fn table(ipv6: bool) -> &'static str {
    if ipv6 { "ip6 kube-proxy" } else { "ip kube-proxy" }
}

/// A script that puts an empty table with its hooks in the place of whatever was there.
pub fn base(context: &Context, mark: u32) -> String {
    let t = table(context.ipv6);
    let address = if context.ipv6 { "ipv6_addr" } else { "ipv4_addr" };
    let family = context.family();
    let icmp = if context.ipv6 { "icmpv6" } else { "icmp" };
    let service = format!("{family} daddr . meta l4proto . th dport");
    let node_port = format!("{family} daddr @nodeport-ips meta l4proto . th dport");
    let unmark = !mark;
    format!(
        "add table {t}
delete table {t}
add table {t} {{ comment \"rules for kube-proxy\" ; }}
add set {t} {CLUSTER_IPS} {{ type {address} ; comment \"Active ClusterIPs\" ; }}
add set {t} nodeport-ips {{ type {address} ; comment \"IPs that accept NodePort traffic\" ; }}
add map {t} {SERVICE_IPS} {{ type {address} . inet_proto . inet_service : verdict ; comment \"ClusterIP, ExternalIP and LoadBalancer IP traffic\" ; }}
add map {t} {SERVICE_NODEPORTS} {{ type inet_proto . inet_service : verdict ; comment \"NodePort traffic\" ; }}
add map {t} {NO_ENDPOINT_SERVICES} {{ type {address} . inet_proto . inet_service : verdict ; comment \"service ports without endpoints\" ; }}
add map {t} {NO_ENDPOINT_NODEPORTS} {{ type inet_proto . inet_service : verdict ; comment \"node ports without endpoints\" ; }}
add map {t} {FIREWALL_IPS} {{ type {address} . inet_proto . inet_service : verdict ; comment \"destinations that are limited to source ranges\" ; }}
add chain {t} {MARK}
add rule {t} {MARK} meta mark set meta mark | {mark:#x}
add chain {t} {REJECT}
add rule {t} {REJECT} meta l4proto tcp reject with tcp reset
add rule {t} {REJECT} reject with {icmp} type port-unreachable
add chain {t} services
add rule {t} services {service} vmap @{SERVICE_IPS}
add rule {t} services {node_port} vmap @{SERVICE_NODEPORTS}
add chain {t} service-endpoints-check
add rule {t} service-endpoints-check {service} vmap @{NO_ENDPOINT_SERVICES}
add chain {t} nodeport-endpoints-check
add rule {t} nodeport-endpoints-check {node_port} vmap @{NO_ENDPOINT_NODEPORTS}
add chain {t} cluster-ips-check
add rule {t} cluster-ips-check {family} daddr @{CLUSTER_IPS} goto {REJECT}
add chain {t} firewall-check
add rule {t} firewall-check {service} vmap @{FIREWALL_IPS}
add chain {t} masquerading
add rule {t} masquerading meta mark & {mark:#x} == 0 return
add rule {t} masquerading meta mark set meta mark & {unmark:#x}
add rule {t} masquerading masquerade fully-random
add chain {t} nat-prerouting {{ type nat hook prerouting priority dstnat ; }}
add rule {t} nat-prerouting jump services
add chain {t} nat-output {{ type nat hook output priority -100 ; }}
add rule {t} nat-output jump services
add chain {t} nat-postrouting {{ type nat hook postrouting priority srcnat ; }}
add rule {t} nat-postrouting jump masquerading
add chain {t} filter-prerouting {{ type filter hook prerouting priority -110 ; }}
add rule {t} filter-prerouting ct state new jump firewall-check
add chain {t} filter-input {{ type filter hook input priority -110 ; }}
add rule {t} filter-input ct state new jump nodeport-endpoints-check
add rule {t} filter-input ct state new jump service-endpoints-check
add chain {t} filter-forward {{ type filter hook forward priority -110 ; }}
add rule {t} filter-forward ct state new jump service-endpoints-check
add rule {t} filter-forward ct state new jump cluster-ips-check
add chain {t} filter-output {{ type filter hook output priority -110 ; }}
add rule {t} filter-output ct state new jump firewall-check
add rule {t} filter-output ct state new jump service-endpoints-check
add chain {t} filter-output-post-dnat {{ type filter hook output priority -90 ; }}
add rule {t} filter-output-post-dnat ct state new jump cluster-ips-check
"
    )
}

/// A script that makes `new` the addresses that take node port traffic.
pub fn node_port_ips(context: &Context, old: &BTreeSet<IpAddr>, new: &BTreeSet<IpAddr>) -> String {
    let t = table(context.ipv6);
    let line = |verb: &str, ip: &IpAddr| format!("{verb} element {t} nodeport-ips {{ {ip} }}\n");
    let mut script = String::new();
    script.extend(old.difference(new).filter(|ip| ip.is_ipv6() == context.ipv6).map(|ip| line("delete", ip)));
    script.extend(new.difference(old).filter(|ip| ip.is_ipv6() == context.ipv6).map(|ip| line("add", ip)));
    script
}

/// Applies a script: all of it, or nothing.
pub async fn apply(script: &str) -> anyhow::Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting nft; the package nftables must be installed")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).await.context("handing rules to nft")?;
    }
    let output = child.wait_with_output().await.context("waiting for nft")?;
    anyhow::ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Removes the tables.
pub async fn cleanup() -> anyhow::Result<()> {
    let script: String =
        [false, true].map(|ipv6| format!("add table {t}\ndelete table {t}\n", t = table(ipv6))).concat();
    apply(&script).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Endpoint, Protocol, ServicePort};
    use crate::ruleset::{Change, Piece};

    fn service(endpoints: usize) -> Piece {
        service_of(&context(), endpoints)
    }

    fn service_of(context: &Context, endpoints: usize) -> Piece {
        let port = ServicePort {
            service: "a/web".into(),
            port_name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30080),
            cluster_ips: vec!["10.96.0.5".parse().unwrap()],
            external_ips: vec!["192.0.2.7".parse().unwrap()],
            source_ranges: vec!["198.51.100.0/24".into()],
            load_balancer_ips: vec!["192.0.2.7".parse().unwrap()],
            affinity_seconds: Some(60),
            internal_local: false,
            external_local: true,
        };
        let endpoints: Vec<Endpoint> = (0..endpoints)
            .map(|i| Endpoint {
                ip: IpAddr::from([10, 244, 0, i as u8 + 2]),
                port: 8080,
                local: i % 2 == 0,
                ready: true,
                serving: true,
                terminating: false,
                zones: BTreeSet::new(),
            })
            .collect();
        let mut piece = Piece::default();
        port_rules(context, &port, &endpoints, &mut piece);
        piece
    }

    fn context() -> Context {
        with(Local::From("10.244.0.0/16".parse().unwrap()))
    }

    fn with(local: Local) -> Context {
        Context { ipv6: false, local, masquerade_all: false, zone: None }
    }

    /// Applies all scripts in one new network namespace, which goes away with the process.
    fn apply_in_namespace(scripts: &[String]) -> Option<Result<(), String>> {
        use std::io::Write;
        let mut child = std::process::Command::new("unshare")
            .args(["--net", "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        child.stdin.take()?.write_all(scripts.concat().as_bytes()).ok()?;
        let output = child.wait_with_output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if text.contains("Operation not permitted") || text.contains("not found") {
            return None; // no privileges, or no nft: nothing to test here
        }
        Some(if output.status.success() { Ok(()) } else { Err(text) })
    }

    #[test]
    fn the_kernel_takes_the_rules_and_their_changes() {
        let mut scripts = vec![base(&context(), 1 << 14)];
        let states = [Piece::default(), service(3), service(1), service(0), service(2), Piece::default()];
        for pair in states.windows(2) {
            let mut change = Change::default();
            change.replace(table(false), &pair[0], &pair[1]);
            scripts.push(change.script());
        }
        // In one transaction each step must still only name what exists.
        if let Some(result) = apply_in_namespace(&scripts) {
            assert_eq!(result, Ok(()));
        }
    }

    #[test]
    fn the_kernel_takes_every_way_to_tell_local_traffic() {
        for local in [Local::Unknown, Local::Interface("cni0".into()), Local::Interface("veth*".into())] {
            let context = with(local);
            let mut change = Change::default();
            change.replace(table(false), &Piece::default(), &service_of(&context, 2));
            if let Some(result) = apply_in_namespace(&[base(&context, 1 << 14), change.script()]) {
                assert_eq!(result, Ok(()), "{context:?}");
            }
        }
    }
}
