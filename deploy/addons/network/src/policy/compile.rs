//! From a policy to the rules of its chains and the sets they need. Pure, and knows no pods: what pods there are is in sets.
//!
//! Rules are about a connection, not about a packet: who opened it (the source of its first packet), and who it reached after
//! all translation (whom replies come from). So they say the same of both directions, and a connection that was there before
//! a policy follows it too.

use super::model::{Key, Labels, Namespaces, PodFacts, PodSet, Protocol, Selector};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::IpAddr;

/// Which way connections are looked at: those to a pod, or those that it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub const ALL: [Direction; 2] = [Direction::Ingress, Direction::Egress];

    pub fn name(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
    }
}

/// The families as rules name them.
pub const FAMILIES: [&str; 2] = ["ip", "ip6"];

/// The family of an address as rules name it.
pub fn family(address: &IpAddr) -> &'static str {
    FAMILIES[usize::from(address.is_ipv6())]
}

/// What a set has of each of its pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Member {
    Address,
    /// The address with the number that a port of this name has.
    Port {
        name: String,
        protocol: Protocol,
    },
}

/// A set that rules name. Rules that mean the same pods share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetKey {
    pub pods: PodSet,
    pub member: Member,
}

impl SetKey {
    /// The name of the set of a family.
    pub fn name(&self, family: &str) -> String {
        let kind = match self.member {
            Member::Address => "pods",
            Member::Port { .. } => "ports",
        };
        format!("{kind}-{}-{family}", digest(self))
    }

    /// The type of the set of a family.
    pub fn type_of(&self, family: &str) -> &'static str {
        match (&self.member, family) {
            (Member::Address, "ip") => "ipv4_addr",
            (Member::Address, _) => "ipv6_addr",
            (Member::Port { .. }, "ip") => "ipv4_addr . inet_service",
            (Member::Port { .. }, _) => "ipv6_addr . inet_service",
        }
    }

    /// What a pod has in the set: family and element.
    pub fn elements(&self, namespace: &str, labels: Option<&Labels>, pod: &PodFacts) -> Vec<(&'static str, String)> {
        if !self.pods.contains(namespace, labels, pod) {
            return Vec::new();
        }
        let addresses = pod.addresses.iter();
        match &self.member {
            Member::Address => addresses.map(|address| (family(address), address.to_string())).collect(),
            Member::Port { name, protocol } => {
                let numbers =
                    pod.ports.iter().filter(|(n, p, _)| n == name && p == protocol).map(|(_, _, number)| number);
                let numbers: BTreeSet<u16> = numbers.copied().collect();
                addresses
                    .flat_map(|address| numbers.iter().map(move |n| (family(address), format!("{address} . {n}"))))
                    .collect()
            }
        }
    }
}

/// A short name for anything. It is a cryptographic hash, because what it is of is written by users, who must not be able to
/// have one name for two things.
pub fn digest(of: &impl Debug) -> String {
    let hash = Sha256::digest(format!("{of:?}"));
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The rules of a policy for one direction. They accept; what none of them accepts comes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    pub rules: Vec<String>,
    pub sets: BTreeSet<SetKey>,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// Of the pods in its namespace.
    pub selector: Selector,
    /// A direction without chain is none that it isolates.
    pub chains: BTreeMap<Direction, Chain>,
}

/// Characters of a policy's name and namespace each that its chain's name shows to who reads the rules. nftables allows 255 in all.
const SHOWN_MAX: usize = 60;

/// The name of a policy's chain.
pub fn chain_name(direction: Direction, policy: &Key) -> String {
    let shown = |text: &str| -> String {
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        text.chars().filter(is_plain).take(SHOWN_MAX).collect()
    };
    format!("policy-{}-{}-{}-{}", shown(&policy.0), shown(&policy.1), direction.name(), digest(policy))
}

/// Compiles a policy. What is wrong in it is told, and leaves it stricter than it was meant: nothing is let through by mistake.
pub fn compile(namespace: &str, policy: &NetworkPolicy) -> (Option<Compiled>, Vec<String>) {
    let mut wrong = Vec::new();
    let Some(spec) = &policy.spec else { return (None, wrong) };
    let selector = match spec.pod_selector.as_ref().map_or(Ok(Selector::default()), Selector::of) {
        Ok(selector) => selector,
        Err(error) => return (None, vec![error]),
    };
    let own = PodSet { namespaces: Namespaces::One(namespace.to_owned()), pods: selector.clone() };
    let given = spec.policy_types.as_deref().filter(|types| !types.is_empty());
    let isolates = |direction: Direction| match (given, direction) {
        (Some(types), Direction::Ingress) => types.iter().any(|t| t == "Ingress"),
        (Some(types), Direction::Egress) => types.iter().any(|t| t == "Egress"),
        // As the API server fills it in.
        (None, Direction::Ingress) => true,
        (None, Direction::Egress) => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
    };
    let mut chains = BTreeMap::new();
    for direction in Direction::ALL.into_iter().filter(|direction| isolates(*direction)) {
        let mut builder = Builder { namespace, own: &own, direction, chain: Chain::default(), wrong: &mut wrong };
        match direction {
            Direction::Ingress => {
                for rule in spec.ingress.iter().flatten() {
                    builder.rule(rule.from.as_deref().unwrap_or_default(), rule.ports.as_deref().unwrap_or_default());
                }
            }
            Direction::Egress => {
                for rule in spec.egress.iter().flatten() {
                    builder.rule(rule.to.as_deref().unwrap_or_default(), rule.ports.as_deref().unwrap_or_default());
                }
            }
        }
        chains.insert(direction, builder.chain);
    }
    (Some(Compiled { selector, chains }), wrong)
}

/// Builds one chain.
struct Builder<'a> {
    namespace: &'a str,
    /// The pods that the policy selects.
    own: &'a PodSet,
    direction: Direction,
    chain: Chain,
    wrong: &'a mut Vec<String>,
}

/// A condition of a rule for each family that it can hold in; `any` stands for both in one rule.
type Matches = Vec<(&'static str, String)>;
const ANY: &str = "any";

impl Builder<'_> {
    /// One rule of the policy: every peer on every port. No peers means all of them, and so with ports.
    fn rule(&mut self, peers: &[NetworkPolicyPeer], ports: &[NetworkPolicyPort]) {
        let mut from: Matches = peers.iter().flat_map(|peer| self.peer(peer)).collect();
        if peers.is_empty() {
            from.push((ANY, String::new()));
        }
        let mut on = self.ports(ports);
        if ports.is_empty() {
            on.push((ANY, String::new()));
        }
        for (peer_family, peer) in &from {
            for (port_family, port) in &on {
                if *peer_family == ANY || *port_family == ANY || peer_family == port_family {
                    let words = [port.as_str(), peer.as_str(), "accept"];
                    let rule: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
                    self.chain.rules.push(rule.join(" "));
                }
            }
        }
    }

    /// The address of the other end.
    fn remote(&self, family: &str) -> String {
        match self.direction {
            Direction::Ingress => format!("ct original {family} saddr"),
            Direction::Egress => format!("ct reply {family} saddr"),
        }
    }

    fn set(&mut self, key: SetKey, family: &str) -> String {
        let name = key.name(family);
        self.chain.sets.insert(key);
        name
    }

    fn peer(&mut self, peer: &NetworkPolicyPeer) -> Matches {
        if let Some(block) = &peer.ip_block {
            return self.block(block).map_or_else(
                |error| {
                    self.wrong.push(error);
                    Matches::new()
                },
                |found| vec![found],
            );
        }
        let selector = |given: &Option<_>| given.as_ref().map(Selector::of).transpose();
        let (namespaces, pods) = match (selector(&peer.namespace_selector), selector(&peer.pod_selector)) {
            (Ok(namespaces), Ok(pods)) => (namespaces, pods),
            (Err(error), _) | (_, Err(error)) => {
                self.wrong.push(error);
                return Matches::new();
            }
        };
        if namespaces.is_none() && pods.is_none() {
            self.wrong.push("a peer without selector and ipBlock".into());
            return Matches::new();
        }
        let namespaces = namespaces.map_or_else(|| Namespaces::One(self.namespace.to_owned()), Namespaces::Matching);
        let pods = PodSet { namespaces, pods: pods.unwrap_or_default() };
        let key = SetKey { pods, member: Member::Address };
        FAMILIES
            .into_iter()
            .map(|family| (family, format!("{} @{}", self.remote(family), self.set(key.clone(), family))))
            .collect()
    }

    fn block(&self, block: &IPBlock) -> Result<(&'static str, String), String> {
        let parse =
            |text: &str| text.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| format!("{text:?} is no CIDR"));
        let cidr = parse(&block.cidr)?;
        let except = block.except.iter().flatten().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
        let family = family(&cidr.addr());
        let remote = self.remote(family);
        let mut rule = format!("{remote} {cidr}");
        // Those of another family except nothing.
        let of_family =
            |net: &IpNet| matches!((net, &cidr), (IpNet::V4(_), IpNet::V4(_)) | (IpNet::V6(_), IpNet::V6(_)));
        let except: Vec<IpNet> = except.into_iter().filter(of_family).collect();
        if !except.is_empty() {
            let except: Vec<String> = IpNet::aggregate(&except).iter().map(ToString::to_string).collect();
            rule.push_str(&format!(" {remote} != {{ {} }}", except.join(", ")));
        }
        Ok((family, rule))
    }

    fn ports(&mut self, ports: &[NetworkPolicyPort]) -> Matches {
        let mut numbers: BTreeMap<Protocol, Vec<(u16, u16)>> = BTreeMap::new();
        let mut matches = Matches::new();
        for port in ports {
            let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else {
                self.wrong.push(format!("the protocol {:?}", port.protocol));
                continue;
            };
            match &port.port {
                None => numbers.entry(protocol).or_default().push((0, u16::MAX)),
                Some(IntOrString::Int(first)) => {
                    let last = port.end_port.unwrap_or(*first);
                    match (u16::try_from(*first), u16::try_from(last)) {
                        (Ok(first), Ok(last)) if first <= last => {
                            numbers.entry(protocol).or_default().push((first, last))
                        }
                        _ => self.wrong.push(format!("the ports {first} to {last}")),
                    }
                }
                Some(IntOrString::String(name)) => {
                    // A name means what the pod that is reached has under it.
                    let pods = match self.direction {
                        Direction::Ingress => self.own.clone(),
                        Direction::Egress => PodSet::everything(),
                    };
                    let key = SetKey { pods, member: Member::Port { name: name.clone(), protocol } };
                    for family in FAMILIES {
                        let set = self.set(key.clone(), family);
                        let protocol = protocol.name();
                        let rule =
                            format!("meta l4proto {protocol} ct reply {family} saddr . ct reply proto-src @{set}");
                        matches.push((family, rule));
                    }
                }
            }
        }
        for (protocol, ranges) in numbers {
            let protocol = format!("meta l4proto {}", protocol.name());
            let rule = match merged(ranges).as_slice() {
                [(0, u16::MAX)] => protocol,
                ranges => {
                    let texts = ranges.iter().map(|(first, last)| match first == last {
                        true => first.to_string(),
                        false => format!("{first}-{last}"),
                    });
                    format!("{protocol} ct reply proto-src {{ {} }}", texts.collect::<Vec<_>>().join(", "))
                }
            };
            matches.push((ANY, rule));
        }
        matches
    }
}

/// Ranges that do not overlap, in order: nft refuses others.
fn merged(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn compiled(spec: Value) -> Compiled {
        let policy: NetworkPolicy = serde_json::from_value(json!({"spec": spec})).unwrap();
        let (compiled, wrong) = compile("shop", &policy);
        assert_eq!(wrong, Vec::<String>::new());
        compiled.unwrap()
    }

    /// The rules of one direction, with sets named S0, S1 and so on, in the order of their names in the rules.
    fn rules(compiled: &Compiled, direction: Direction) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let mut short = |word: &str| match word.strip_prefix('@') {
            Some(name) => {
                let at = names.iter().position(|n| n == name).unwrap_or_else(|| {
                    names.push(name.to_owned());
                    names.len() - 1
                });
                format!("@S{at}")
            }
            None => word.to_owned(),
        };
        let chain = &compiled.chains[&direction];
        chain.rules.iter().map(|rule| rule.split(' ').map(&mut short).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn policy_types_say_which_directions_are_isolated() {
        for (spec, ingress, egress) in [
            (json!({}), true, false),
            (json!({"egress": [{}]}), true, true),
            (json!({"egress": []}), true, false),
            (json!({"policyTypes": ["Ingress"], "egress": [{}]}), true, false),
            (json!({"policyTypes": ["Egress"]}), false, true),
            (json!({"policyTypes": ["Ingress", "Egress"]}), true, true),
        ] {
            let compiled = compiled(spec.clone());
            assert_eq!(compiled.chains.contains_key(&Direction::Ingress), ingress, "{spec}");
            assert_eq!(compiled.chains.contains_key(&Direction::Egress), egress, "{spec}");
        }
    }

    #[test]
    fn rules_say_what_the_policy_says() {
        let web = json!({"podSelector": {"matchLabels": {"app": "web"}}});
        for (what, rule, want) in [
            ("everything", json!({}), vec!["accept"]),
            (
                "one port of everybody",
                json!({"ports": [{"port": 80}]}),
                vec!["meta l4proto tcp ct reply proto-src { 80 } accept"],
            ),
            (
                "ports of one protocol are one rule, and overlaps one range",
                json!({"ports": [{"port": 90}, {"port": 80, "endPort": 85}, {"port": 84, "endPort": 90}, {"port": 443},
                    {"port": 53, "protocol": "UDP"}, {"port": 7, "protocol": "SCTP"}]}),
                vec![
                    "meta l4proto tcp ct reply proto-src { 80-90, 443 } accept",
                    "meta l4proto udp ct reply proto-src { 53 } accept",
                    "meta l4proto sctp ct reply proto-src { 7 } accept",
                ],
            ),
            ("a protocol", json!({"ports": [{"protocol": "UDP"}]}), vec!["meta l4proto udp accept"]),
            (
                "a selector is a set per family",
                json!({"from": [web]}),
                vec!["ct original ip saddr @S0 accept", "ct original ip6 saddr @S1 accept"],
            ),
            (
                "peers times ports",
                json!({"from": [web, {"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}),
                vec![
                    "meta l4proto tcp ct reply proto-src { 80 } ct original ip saddr @S0 accept",
                    "meta l4proto udp ct reply proto-src { 53 } ct original ip saddr @S0 accept",
                    "meta l4proto tcp ct reply proto-src { 80 } ct original ip6 saddr @S1 accept",
                    "meta l4proto udp ct reply proto-src { 53 } ct original ip6 saddr @S1 accept",
                    "meta l4proto tcp ct reply proto-src { 80 } ct original ip saddr 192.0.2.0/24 accept",
                    "meta l4proto udp ct reply proto-src { 53 } ct original ip saddr 192.0.2.0/24 accept",
                ],
            ),
            (
                "a block with exceptions, of which one is in another",
                json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.1.2.0/24", "10.3.0.0/16"]}}]}),
                vec!["ct original ip saddr 10.0.0.0/8 ct original ip saddr != { 10.1.0.0/16, 10.3.0.0/16 } accept"],
            ),
            (
                "a block of IPv6",
                json!({"from": [{"ipBlock": {"cidr": "2001:db8::/32"}}]}),
                vec!["ct original ip6 saddr 2001:db8::/32 accept"],
            ),
            (
                "a named port is an address with a number",
                json!({"ports": [{"port": "http"}]}),
                vec![
                    "meta l4proto tcp ct reply ip saddr . ct reply proto-src @S0 accept",
                    "meta l4proto tcp ct reply ip6 saddr . ct reply proto-src @S1 accept",
                ],
            ),
            (
                "a named port and a block meet in one family",
                json!({"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": "http"}]}),
                vec![
                    "meta l4proto tcp ct reply ip saddr . ct reply proto-src @S0 ct original ip saddr 192.0.2.0/24 accept",
                ],
            ),
        ] {
            assert_eq!(rules(&compiled(json!({"ingress": [rule]})), Direction::Ingress), want, "{what}");
        }
        let out = compiled(json!({"policyTypes": ["Egress"], "egress": [{"to": [web], "ports": [{"port": 80}]}]}));
        assert_eq!(
            rules(&out, Direction::Egress)[0],
            "meta l4proto tcp ct reply proto-src { 80 } ct reply ip saddr @S0 accept"
        );
        assert_eq!(rules(&compiled(json!({})), Direction::Ingress), Vec::<String>::new());
    }

    #[test]
    fn equal_selectors_share_a_set_and_a_namespace_is_part_of_it() {
        let sets = |spec| compiled(spec).chains[&Direction::Ingress].sets.clone();
        let one = sets(json!({"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]}));
        let same = sets(json!({"ingress": [{"from": [{"podSelector":
            {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}}]}]}));
        let all = sets(
            json!({"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {}}]}]}),
        );
        assert_eq!(one, same);
        assert_ne!(one, all);
    }

    #[test]
    fn a_set_has_the_pods_that_it_means() {
        let pod = PodFacts {
            labels: [("app".to_owned(), "web".to_owned())].into(),
            addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            ports: vec![("http".into(), Protocol::Tcp, 8080), ("http".into(), Protocol::Udp, 9)],
            local: false,
        };
        let labels: Labels = [("team".to_owned(), "a".to_owned())].into();
        let key = |peer: Value| {
            let compiled = compiled(json!({"ingress": [{"from": [peer]}]}));
            compiled.chains[&Direction::Ingress].sets.first().unwrap().clone()
        };
        let web = json!({"matchLabels": {"app": "web"}});
        let team = json!({"matchLabels": {"team": "a"}});
        for (peer, namespace, labels, count) in [
            (json!({"podSelector": web}), "shop", Some(&labels), 2),
            (json!({"podSelector": web}), "other", Some(&labels), 0),
            (json!({"podSelector": {"matchLabels": {"app": "db"}}}), "shop", Some(&labels), 0),
            (json!({"namespaceSelector": team}), "other", Some(&labels), 2),
            (json!({"namespaceSelector": team}), "other", Some(&Labels::new()), 0),
            (
                json!({"namespaceSelector": team, "podSelector": {"matchLabels": {"app": "db"}}}),
                "other",
                Some(&labels),
                0,
            ),
            // A namespace that is not known yet.
            (json!({"namespaceSelector": {}}), "other", None, 0),
        ] {
            assert_eq!(key(peer.clone()).elements(namespace, labels, &pod).len(), count, "{peer}");
        }
        let named = SetKey {
            pods: PodSet::everything(),
            member: Member::Port { name: "http".into(), protocol: Protocol::Tcp },
        };
        let elements = named.elements("shop", Some(&labels), &pod);
        assert_eq!(elements, [("ip", "10.0.0.1 . 8080".to_owned()), ("ip6", "fd00::1 . 8080".to_owned())]);
    }

    #[test]
    fn what_is_wrong_lets_nothing_through() {
        for spec in [
            json!({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["x"]}}]}]}),
            json!({"ingress": [{"from": [{}]}]}),
            json!({"ingress": [{"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}]}]}),
            json!({"ingress": [{"ports": [{"port": 90, "endPort": 80}]}]}),
            json!({"ingress": [{"ports": [{"port": 80, "protocol": "ICMP"}]}]}),
        ] {
            let policy: NetworkPolicy = serde_json::from_value(json!({"spec": spec})).unwrap();
            let (compiled, wrong) = compile("shop", &policy);
            assert_eq!(wrong.len(), 1, "{spec}");
            assert_eq!(compiled.unwrap().chains[&Direction::Ingress].rules, Vec::<String>::new(), "{spec}");
        }
    }
}
