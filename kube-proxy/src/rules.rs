//! The pure function from one service to its piece of the rules. No clock, no I/O: same input, same rules.

use crate::model::{Endpoint, ServicePort, choose};
use crate::ruleset::Piece;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use std::net::IpAddr;

/// How traffic of pods is told from other traffic: `--detect-local-mode`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Local {
    /// It is not: nothing is masqueraded on that account.
    #[default]
    Unknown,
    /// By its source: the range of the pods of the cluster or of this node.
    From(IpNet),
    /// By the interface that it comes from; one that ends in `*` is the start of a name.
    Interface(String),
}

impl Local {
    /// What a rule says to mean local traffic, or any other.
    fn matches(&self, family: &str, is: bool) -> Option<String> {
        let not = if is { "" } else { "!= " };
        match self {
            Self::Unknown => None,
            Self::From(range) => Some(format!("{family} saddr {not}{range}")),
            Self::Interface(name) => Some(format!("iifname {not}\"{name}\"")),
        }
    }
}

/// What the rules of all services share.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    pub ipv6: bool,
    /// Traffic of pods.
    pub local: Local,
    pub masquerade_all: bool,
    /// The zone of this node.
    pub zone: Option<String>,
}

impl Context {
    /// `ip` or `ip6`: the family's word in rules.
    pub fn family(&self) -> &'static str {
        if self.ipv6 { "ip6" } else { "ip" }
    }

    fn is_ours(&self, ip: &IpAddr) -> bool {
        ip.is_ipv6() == self.ipv6
    }
}

/// Shared maps and sets; [`crate::nft`] declares them.
pub const SERVICE_IPS: &str = "service-ips";
pub const SERVICE_NODEPORTS: &str = "service-nodeports";
pub const NO_ENDPOINT_SERVICES: &str = "no-endpoint-services";
pub const NO_ENDPOINT_NODEPORTS: &str = "no-endpoint-nodeports";
pub const CLUSTER_IPS: &str = "cluster-ips";
pub const FIREWALL_IPS: &str = "firewall-ips";
pub const MARK: &str = "mark-for-masquerade";
pub const REJECT: &str = "reject-chain";

/// The rules of one port of a service.
pub fn port_rules(context: &Context, port: &ServicePort, all: &[Endpoint], piece: &mut Piece) {
    let all: Vec<Endpoint> = all.iter().filter(|e| context.is_ours(&e.ip)).cloned().collect();
    let cluster_ips: Vec<&IpAddr> = port.cluster_ips.iter().filter(|ip| context.is_ours(ip)).collect();
    if cluster_ips.is_empty() {
        return;
    }
    let (family, protocol) = (context.family(), port.protocol.as_str());
    let id = format!("{}/{protocol}/{}", port.service, port.port_name);
    let id = format!("{}-{id}", hash(&id));
    let zone = context.zone.as_deref();
    let cluster = choose(&all, false, zone);
    let internal = choose(&all, port.internal_local, zone);
    let external = choose(&all, port.external_local, zone);

    let mut maker = Maker { context, port, id: &id, piece };
    // Chains for the endpoints of all kinds of traffic, once each.
    let mut needed: Vec<&Endpoint> =
        cluster.endpoints.iter().chain(&internal.endpoints).chain(&external.endpoints).copied().collect();
    needed.sort();
    needed.dedup();
    for endpoint in needed {
        maker.endpoint_chain(endpoint);
    }

    let key = |ip: &IpAddr| format!("{ip} . {protocol} . {}", port.port);
    // Inside the cluster.
    for ip in &cluster_ips {
        maker.piece.elements.insert((CLUSTER_IPS, ip.to_string()), String::new());
    }
    if internal.endpoints.is_empty() {
        let verdict = if internal.elsewhere { "drop".to_owned() } else { format!("goto {REJECT}") };
        for ip in &cluster_ips {
            maker.piece.elements.insert((NO_ENDPOINT_SERVICES, key(ip)), verdict.clone());
        }
    } else {
        let chain = if port.internal_local { format!("service-local-{id}") } else { format!("service-{id}") };
        let masquerade = maker.masquerade_rules(&cluster_ips);
        maker.balance(&chain, masquerade, &internal.endpoints);
        for ip in &cluster_ips {
            maker.piece.elements.insert((SERVICE_IPS, key(ip)), format!("goto {chain}"));
        }
    }

    // From outside: external addresses, load balancers, node ports.
    let external_ips: Vec<&IpAddr> = port.external_ips.iter().filter(|ip| context.is_ours(ip)).collect();
    if external_ips.is_empty() && port.node_port.is_none() {
        return;
    }
    if external.endpoints.is_empty() && !external.elsewhere {
        let verdict = format!("goto {REJECT}");
        for ip in &external_ips {
            maker.piece.elements.insert((NO_ENDPOINT_SERVICES, key(ip)), verdict.clone());
        }
        if let Some(node_port) = port.node_port {
            maker.piece.elements.insert((NO_ENDPOINT_NODEPORTS, format!("{protocol} . {node_port}")), verdict);
        }
        return;
    }
    let chain = format!("external-{id}");
    let mut rules = Vec::new();
    let everywhere = format!("service-all-{id}");
    if port.external_local {
        // Pods and this node itself are not outside: they get any endpoint.
        if !cluster.endpoints.is_empty() {
            maker.balance(&everywhere, vec![], &cluster.endpoints);
            if let Some(is_local) = context.local.matches(family, true) {
                rules.push(format!("{is_local} goto {everywhere}"));
            }
            rules.push(format!("fib saddr type local jump {MARK}"));
            rules.push(format!("fib saddr type local goto {everywhere}"));
        }
        if external.endpoints.is_empty() {
            for ip in &external_ips {
                maker.piece.elements.insert((NO_ENDPOINT_SERVICES, key(ip)), "drop".into());
            }
            if let Some(node_port) = port.node_port {
                maker
                    .piece
                    .elements
                    .insert((NO_ENDPOINT_NODEPORTS, format!("{protocol} . {node_port}")), "drop".into());
            }
        }
    } else {
        // An endpoint elsewhere must answer through this node.
        rules.push(format!("jump {MARK}"));
    }
    maker.balance(&chain, rules, &external.endpoints);
    for ip in &external_ips {
        maker.piece.elements.insert((SERVICE_IPS, key(ip)), format!("goto {chain}"));
    }
    if let Some(node_port) = port.node_port {
        maker.piece.elements.insert((SERVICE_NODEPORTS, format!("{protocol} . {node_port}")), format!("goto {chain}"));
    }
    let guarded: Vec<&IpAddr> = port.load_balancer_ips.iter().filter(|ip| context.is_ours(ip)).collect();
    let ranges: Vec<&String> = port.source_ranges.iter().filter(|r| r.contains(':') == context.ipv6).collect();
    if !port.source_ranges.is_empty() && !guarded.is_empty() {
        let firewall = format!("firewall-{id}");
        let allowed = ranges.iter().map(|r| r.trim()).collect::<Vec<_>>().join(", ");
        let rule =
            if ranges.is_empty() { "drop".to_owned() } else { format!("{family} saddr != {{ {allowed} }} drop") };
        maker.piece.chains.insert(firewall.clone(), vec![rule]);
        for ip in guarded {
            maker.piece.elements.insert((FIREWALL_IPS, key(ip)), format!("goto {firewall}"));
        }
    }
}

struct Maker<'a> {
    context: &'a Context,
    port: &'a ServicePort,
    id: &'a str,
    piece: &'a mut Piece,
}

impl Maker<'_> {
    /// Traffic to a cluster IP from outside the pods' range must come back through here.
    fn masquerade_rules(&self, cluster_ips: &[&IpAddr]) -> Vec<String> {
        let family = self.context.family();
        let to = |ip: &IpAddr| format!("{family} daddr {ip} {} dport {}", self.port.protocol.as_str(), self.port.port);
        match (self.context.local.matches(family, false), self.context.masquerade_all) {
            (_, true) => cluster_ips.iter().map(|ip| format!("{} jump {MARK}", to(ip))).collect(),
            (Some(not_local), false) => {
                cluster_ips.iter().map(|ip| format!("{} {not_local} jump {MARK}", to(ip))).collect()
            }
            (None, false) => vec![],
        }
    }

    fn endpoint_name(&self, endpoint: &Endpoint) -> String {
        let id = format!("{}__{}/{}", self.id, endpoint.ip.to_string().replace(':', "."), endpoint.port);
        format!("endpoint-{}-{id}", hash(&id))
    }

    fn affinity_name(&self, endpoint: &Endpoint) -> String {
        format!("affinity-{}", hash(&self.endpoint_name(endpoint)))
    }

    /// Rewrites the destination; a pod that reaches itself must see another source, or it would answer past the rules.
    fn endpoint_chain(&mut self, endpoint: &Endpoint) {
        let family = self.context.family();
        let mut rules = vec![format!("{family} saddr {} jump {MARK}", endpoint.ip)];
        if let Some(seconds) = self.port.affinity_seconds {
            let set = self.affinity_name(endpoint);
            let kind = if self.context.ipv6 { "ipv6_addr" } else { "ipv4_addr" };
            self.piece.sets.insert(set.clone(), format!("type {kind}; flags dynamic,timeout; timeout {seconds}s;"));
            rules.push(format!("update @{set} {{ {family} saddr }}"));
        }
        let address = if self.context.ipv6 { format!("[{}]", endpoint.ip) } else { endpoint.ip.to_string() };
        rules.push(format!("meta l4proto {} dnat to {address}:{}", self.port.protocol.as_str(), endpoint.port));
        let name = self.endpoint_name(endpoint);
        self.piece.chains.insert(name, rules);
    }

    /// A chain that sends each new connection to one of the endpoints.
    fn balance(&mut self, chain: &str, mut rules: Vec<String>, endpoints: &[&Endpoint]) {
        let family = self.context.family();
        if self.port.affinity_seconds.is_some() {
            for endpoint in endpoints {
                rules.push(format!(
                    "{family} saddr @{} goto {}",
                    self.affinity_name(endpoint),
                    self.endpoint_name(endpoint)
                ));
            }
        }
        match endpoints {
            [] => {}
            [one] => rules.push(format!("goto {}", self.endpoint_name(one))),
            many => {
                let targets: Vec<String> =
                    many.iter().enumerate().map(|(i, e)| format!("{i} : goto {}", self.endpoint_name(e))).collect();
                rules.push(format!("numgen random mod {} vmap {{ {} }}", many.len(), targets.join(", ")));
            }
        }
        self.piece.chains.insert(chain.to_owned(), rules);
    }
}

/// Eight letters that tell two long names apart.
fn hash(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    Sha256::digest(text).iter().take(8).map(|b| char::from(LETTERS[usize::from(b % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;
    use crate::model::tests::endpoint;

    fn port() -> ServicePort {
        ServicePort {
            service: "a/web".into(),
            port_name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30080),
            cluster_ips: vec!["10.96.0.5".parse().unwrap()],
            external_ips: vec![],
            source_ranges: vec![],
            load_balancer_ips: vec![],
            affinity_seconds: None,
            internal_local: false,
            external_local: false,
        }
    }

    fn context() -> Context {
        Context { ipv6: false, local: Local::From("10.244.0.0/16".parse().unwrap()), masquerade_all: false, zone: None }
    }

    fn rules(port: &ServicePort, endpoints: &[Endpoint]) -> Piece {
        let mut piece = Piece::default();
        port_rules(&context(), port, endpoints, &mut piece);
        piece
    }

    #[test]
    fn a_service_without_endpoints_refuses() {
        let piece = rules(&port(), &[]);
        assert!(piece.chains.is_empty());
        assert_eq!(piece.elements[&(NO_ENDPOINT_SERVICES, "10.96.0.5 . tcp . 80".into())], "goto reject-chain");
        assert_eq!(piece.elements[&(NO_ENDPOINT_NODEPORTS, "tcp . 30080".into())], "goto reject-chain");
    }

    #[test]
    fn connections_are_spread_over_all_endpoints() {
        let piece =
            rules(&port(), &[endpoint("10.244.0.2", true, true, false), endpoint("10.244.1.2", false, true, false)]);
        let (_, service) = piece.chains.iter().find(|(name, _)| name.starts_with("service-")).unwrap();
        assert!(service[0].contains("saddr != 10.244.0.0/16 jump mark-for-masquerade"), "{service:?}");
        assert!(service[1].starts_with("numgen random mod 2 vmap { 0 : goto endpoint-"), "{service:?}");
        assert_eq!(piece.chains.keys().filter(|name| name.starts_with("endpoint-")).count(), 2);
    }

    #[test]
    fn the_local_policy_drops_what_has_no_local_endpoint() {
        let local = ServicePort { external_local: true, ..port() };
        let piece = rules(&local, &[endpoint("10.244.1.2", false, true, false)]);
        assert_eq!(piece.elements[&(NO_ENDPOINT_NODEPORTS, "tcp . 30080".into())], "drop");
        let (_, external) = piece.chains.iter().find(|(name, _)| name.starts_with("external-")).unwrap();
        assert!(!external.iter().any(|r| r == "jump mark-for-masquerade"), "{external:?}");
    }

    #[test]
    fn affinity_remembers_clients_by_endpoint() {
        let sticky = ServicePort { affinity_seconds: Some(60), ..port() };
        let piece = rules(&sticky, &[endpoint("10.244.0.2", true, true, false)]);
        assert_eq!(piece.sets.len(), 1);
        assert!(piece.chains.values().flatten().any(|r| r.starts_with("update @affinity-")));
    }

    #[test]
    fn local_traffic_is_told_by_range_or_interface() {
        for (local, is, not) in [
            (Local::Unknown, None, None),
            (
                Local::From("10.244.0.0/16".parse().unwrap()),
                Some("ip saddr 10.244.0.0/16"),
                Some("ip saddr != 10.244.0.0/16"),
            ),
            (Local::Interface("cni0".into()), Some("iifname \"cni0\""), Some("iifname != \"cni0\"")),
            (Local::Interface("veth*".into()), Some("iifname \"veth*\""), Some("iifname != \"veth*\"")),
        ] {
            assert_eq!(local.matches("ip", true).as_deref(), is);
            assert_eq!(local.matches("ip", false).as_deref(), not);
        }
    }
}
