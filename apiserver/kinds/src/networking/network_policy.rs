//! NetworkPolicies.

use apimachinery::Value;
use apimachinery::validation::selector::label_selector;
use apimachinery::validation::{Cursor, addresses};
use serde_json::json;

use crate::core::pod_spec::probe::int_or_port_name;
use registry::edit::{default, each, get, items, object, text};
use registry::printing::{AGE, NAME, column, created, name, selector};
use registry::strategy::{Strategy, Table};

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    empty_is_not_absent: true,
    default: defaulted,
    validate: |policy| spec(&policy.field("spec")),
    validate_update: |new, _| spec(&new.field("spec")),
    warnings: |policy, _| warnings(policy),
    table: Some(Table {
        columns: &[NAME, column("Pod-Selector", ".spec.podSelector"), AGE],
        cells: |policy, now| vec![name(policy), selector(get(policy, "spec.podSelector")), created(policy, now)],
    }),
    ..Strategy::GENERIC
};

fn defaulted(policy: &mut Value) {
    let spec = object(policy, "spec");
    for direction in ["ingress", "egress"] {
        each(spec, direction, |rule| each(rule, "ports", |port| default(port, "protocol", "TCP")));
    }
    let types = if items(spec, "egress").is_empty() { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
    default(spec, "policyTypes", types);
}

fn spec(spec: &Cursor<'_>) {
    label_selector(&spec.field("podSelector"));
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.field(direction).items() {
            for item in rule.field("ports").items() {
                port(&item);
            }
            for item in rule.field(peers).items() {
                peer(&item);
            }
        }
    }
    let types = spec.field("policyTypes");
    if types.len() > 2 {
        types.invalid("may not specify more than two policyTypes");
        return;
    }
    for item in types.items() {
        item.one_of(&["Egress", "Ingress"]);
    }
}

/// Warnings of ranges that are not written as they should be.
fn warnings(policy: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in items(policy, &format!("spec.{direction}")).iter().enumerate() {
            for (j, peer) in items(rule, peers).iter().enumerate() {
                let at = format!("spec.{direction}[{i}].{peers}[{j}].ipBlock");
                warnings.extend(addresses::cidr_warnings(&format!("{at}.cidr"), text(peer, "ipBlock.cidr")));
                for (k, except) in items(peer, "ipBlock.except").iter().enumerate() {
                    let except = except.as_str().unwrap_or_default();
                    warnings.extend(addresses::cidr_warnings(&format!("{at}.except[{k}]"), except));
                }
            }
        }
    }
    warnings
}

fn port(item: &Cursor<'_>) {
    item.field("protocol").one_of(&["SCTP", "TCP", "UDP"]);
    let (port, end) = (item.field("port"), item.field("endPort"));
    if port.exists() {
        int_or_port_name(&port);
    }
    match (end.i64(), port.i64(), port.exists()) {
        (None, ..) => {}
        (Some(_), _, false) => end.invalid("may not be specified when `port` is not specified"),
        (Some(_), None, true) => end.invalid("may not be specified when `port` is non-numeric"),
        (Some(end_number), Some(number), _) => {
            if end_number < number {
                end.invalid("must be greater than or equal to `port`");
            }
            end.port();
        }
    }
}

fn peer(peer: &Cursor<'_>) {
    let block = peer.field("ipBlock");
    let selectors = [peer.field("podSelector"), peer.field("namespaceSelector")];
    for selector in &selectors {
        label_selector(selector);
    }
    let any_selector = selectors.iter().any(Cursor::exists);
    if !any_selector && !block.exists() {
        peer.missing("must specify a peer");
    } else if any_selector && block.exists() {
        peer.forbid("may not specify both ipBlock and another peer");
    }
    if !block.exists() {
        return;
    }
    let cidr = block.field("cidr");
    if !cidr.required() {
        return;
    }
    addresses::legacy_cidr(&cidr);
    let Some((network, length)) = addresses::parse_cidr(cidr.str()) else { return };
    for except in block.field("except").items() {
        addresses::legacy_cidr(&except);
        if let Some((inner, inner_length)) = addresses::parse_cidr(except.str())
            && (inner_length <= length || !contains(network, length, inner))
        {
            except.invalid(format!("must be a strict subset of `cidr` {:?}", cidr.str()));
        }
    }
}

fn contains(network: std::net::IpAddr, length: u8, address: std::net::IpAddr) -> bool {
    use std::net::IpAddr::{V4, V6};
    let same = |a: u128, b: u128, bits: u32| {
        let shift = bits - u32::from(length);
        a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
    };
    match (network, address) {
        (V4(a), V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
        (V6(a), V6(b)) => same(a.into(), b.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        for (network, length, address, inside) in [
            ("10.0.0.0", 8, "10.1.2.3", true),
            ("10.0.0.0", 8, "11.0.0.0", false),
            ("::", 0, "fe80::1", true),
            ("10.0.0.0", 8, "::1", false),
        ] {
            assert_eq!(contains(network.parse().unwrap(), length, address.parse().unwrap()), inside);
        }
    }
}
