//! What an Endpoints object says, as endpoints that can share a slice. Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use k8s_openapi::api::{
    core::v1::{EndpointAddress, Endpoints},
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort},
};

/// Endpoints of one address family with the same ports: the content of one slice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub address_type: &'static str,
    pub ports: Vec<EndpointPort>,
    pub endpoints: Vec<Endpoint>,
}

/// The groups of an Endpoints object, and which addresses are in none of them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Desired {
    pub groups: Vec<Group>,
    /// Addresses that are no IP addresses.
    pub invalid: usize,
    /// Addresses beyond the limit of their subset.
    pub surplus: usize,
}

/// A port by everything that tells it apart: name, number, protocol, application protocol.
type Port = (String, i32, String, Option<String>);

/// An address by the text it was given in and by whom it points to, as upstream tells addresses apart.
type AddressKey = (String, Option<String>);

/// Reads `endpoints`, mirroring at most `max` addresses of a set of ports.
///
/// Subsets are taken apart into pairs of address and port and put together again by equal sets of ports, so that an address in two
/// subsets appears once, with the ports of both. Where a pair is both ready and not ready, it is not ready.
pub(super) fn desired(endpoints: &Endpoints, max: usize) -> Desired {
    let mut addresses: BTreeMap<AddressKey, &EndpointAddress> = BTreeMap::new();
    // `None` stands for a subset without ports.
    let mut ready: BTreeMap<AddressKey, BTreeMap<Option<Port>, bool>> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<Option<Port>> = match subset.ports.as_deref().unwrap_or_default() {
            [] => vec![None],
            ports => ports.iter().map(|port| Some(identity(port))).collect(),
        };
        for (list, is_ready) in [(&subset.addresses, true), (&subset.not_ready_addresses, false)] {
            for address in list.iter().flatten() {
                let uid = address.target_ref.as_ref().and_then(|target| target.uid.clone());
                let key = (address.ip.clone(), uid);
                addresses.entry(key.clone()).or_insert(address);
                let own = ready.entry(key).or_default();
                for port in &ports {
                    own.entry(port.clone()).and_modify(|known| *known &= is_ready).or_insert(is_ready);
                }
            }
        }
    }

    // Ready ones first within a set of ports: they are what must not be left out.
    let mut by_ports: BTreeMap<Vec<Option<Port>>, [Vec<&EndpointAddress>; 2]> = BTreeMap::new();
    for (key, ports) in &ready {
        for (slot, wanted) in [true, false].into_iter().enumerate() {
            let own: Vec<_> = ports.iter().filter(|(_, is)| **is == wanted).map(|(port, _)| port.clone()).collect();
            if !own.is_empty() {
                by_ports.entry(own).or_default()[slot].push(addresses[key]);
            }
        }
    }

    let mut found = Desired::default();
    for (ports, [ready, not_ready]) in by_ports {
        let ports: Vec<EndpointPort> = ports.into_iter().flatten().map(port).collect();
        let mut families = [("IPv4", Vec::new()), ("IPv6", Vec::new())];
        let members = ready.into_iter().map(|own| (own, true)).chain(not_ready.into_iter().map(|own| (own, false)));
        let mut taken = 0;
        for (address, is_ready) in members {
            if taken == max {
                found.surplus += 1;
                continue;
            }
            let Some(ip) = parse_sloppy(&address.ip) else {
                found.invalid += 1;
                continue;
            };
            taken += 1;
            families[usize::from(ip.is_ipv6())].1.push(endpoint(address, ip, is_ready));
        }
        let filled = families.into_iter().filter(|(_, endpoints)| !endpoints.is_empty());
        found.groups.extend(filled.map(|(address_type, endpoints)| Group {
            address_type,
            ports: ports.clone(),
            endpoints,
        }));
    }
    found
}

fn identity(port: &k8s_openapi::api::core::v1::EndpointPort) -> Port {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
    (port.name.clone().unwrap_or_default(), port.port, protocol, port.app_protocol.clone())
}

fn port((name, number, protocol, app_protocol): Port) -> EndpointPort {
    EndpointPort { name: Some(name), port: Some(number), protocol: Some(protocol), app_protocol }
}

fn endpoint(address: &EndpointAddress, ip: IpAddr, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

/// An address as older clients may have stored it, with zeros in front of its parts; one that maps IPv4 is IPv4.
fn parse_sloppy(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(|ip| ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4));
    }
    let parts: Vec<u8> = text
        .split('.')
        .map(|part| if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None })
        .collect::<Option<_>>()?;
    Some(IpAddr::from(<[u8; 4]>::try_from(parts).ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoints(subsets: Value) -> Endpoints {
        serde_json::from_value(json!({"metadata": {"name": "e", "namespace": "n"}, "subsets": subsets})).unwrap()
    }

    /// `IPv4 80,81: 10.0.0.1 !10.0.0.2`: ports and addresses, those not ready behind a mark.
    fn told(desired: &Desired) -> Vec<String> {
        let lines = desired.groups.iter().map(|group| {
            let ports: Vec<String> = group.ports.iter().map(|port| port.port.unwrap().to_string()).collect();
            let endpoints = group.endpoints.iter().map(|endpoint| {
                let ready = endpoint.conditions.as_ref().unwrap().ready.unwrap();
                format!("{}{}", if ready { "" } else { "!" }, endpoint.addresses[0])
            });
            format!("{} {}: {}", group.address_type, ports.join(","), endpoints.collect::<Vec<_>>().join(" "))
        });
        lines.collect()
    }

    #[test]
    fn subsets_become_groups_of_one_family_and_one_set_of_ports() {
        let (a, b, six) = (json!({"ip": "10.0.0.1"}), json!({"ip": "10.0.0.2"}), json!({"ip": "fd00::1"}));
        let p = |port: i32| json!({"name": format!("p{port}"), "port": port, "protocol": "TCP"});
        for (name, subsets, groups) in [
            ("nothing", json!([]), vec![]),
            ("one", json!([{"addresses": [a], "ports": [p(80)]}]), vec!["IPv4 80: 10.0.0.1"]),
            ("no ports", json!([{"addresses": [a]}]), vec!["IPv4 : 10.0.0.1"]),
            (
                "both families",
                json!([{"addresses": [a, six], "ports": [p(80)]}]),
                vec!["IPv4 80: 10.0.0.1", "IPv6 80: fd00::1"],
            ),
            (
                "not ready",
                json!([{"addresses": [b], "notReadyAddresses": [a], "ports": [p(80)]}]),
                vec!["IPv4 80: 10.0.0.2 !10.0.0.1"],
            ),
            (
                "the same ports twice",
                json!([{"addresses": [a], "ports": [p(80), p(80)]}, {"addresses": [b], "ports": [p(80)]}]),
                vec!["IPv4 80: 10.0.0.1 10.0.0.2"],
            ),
            (
                "an address in two subsets",
                json!([{"addresses": [a], "ports": [p(80)]}, {"addresses": [a, b], "ports": [p(81)]}]),
                vec!["IPv4 80,81: 10.0.0.1", "IPv4 81: 10.0.0.2"],
            ),
            (
                "ready and not",
                json!([{"addresses": [a], "ports": [p(80)]}, {"notReadyAddresses": [a], "ports": [p(80)]}]),
                vec!["IPv4 80: !10.0.0.1"],
            ),
            (
                "zeros in front",
                json!([{"addresses": [{"ip": "010.000.000.001"}], "ports": [p(80)]}]),
                vec!["IPv4 80: 10.0.0.1"],
            ),
        ] {
            let desired = desired(&endpoints(subsets), 1000);
            assert_eq!(told(&desired), groups, "{name}");
            assert_eq!((desired.invalid, desired.surplus), (0, 0), "{name}");
        }
    }

    #[test]
    fn addresses_that_are_none_and_those_beyond_the_limit_are_left_out() {
        let many: Vec<Value> = (1..=5).map(|n| json!({"ip": format!("10.0.0.{n}")})).collect();
        let subsets = json!([
            {"addresses": [{"ip": "x"}, {"ip": "10.1.0.1"}], "ports": [{"port": 79}]},
            {"notReadyAddresses": many, "ports": [{"port": 80}]},
        ]);
        let desired = desired(&endpoints(subsets), 3);
        assert_eq!(told(&desired), ["IPv4 79: 10.1.0.1", "IPv4 80: !10.0.0.1 !10.0.0.2 !10.0.0.3"]);
        assert_eq!((desired.invalid, desired.surplus), (1, 2));
    }
}
