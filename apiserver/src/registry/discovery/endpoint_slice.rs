//! EndpointSlices.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};

use crate::registry::core::endpoints::special_ip;
use crate::registry::edit::{default, default_text, each, get, items, number, remove};
use crate::registry::printing::{AGE, NAME, UNSET, column, created, name};
use crate::registry::strategy::{Strategy, Table};

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
/// Ports and addresses that are listed; of the others only the number is.
const SHOWN_MAX: usize = 3;

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    default: |slice| {
        each(slice, "ports", |port| {
            default(port, "name", "");
            default_text(port, "protocol", "TCP");
        });
    },
    prepare_for_create: |slice, _| each(slice, "endpoints", |endpoint| drop(remove(endpoint, "deprecatedTopology"))),
    prepare_for_update: |slice, old, _| {
        // What a client sends counts as a change, also of the field that is then dropped, and so do labels.
        let differs = |path: &str| get(slice, path) != get(old, path);
        if ["endpoints", "ports", "addressType", "metadata.labels"].into_iter().any(differs) {
            slice["metadata"]["generation"] = (number(old, "metadata.generation") + 1).into();
        }
        // The field is of the beta API: an object that has it keeps it until its endpoints change.
        if slice["endpoints"] != old["endpoints"] {
            each(slice, "endpoints", |endpoint| drop(remove(endpoint, "deprecatedTopology")));
        }
    },
    validate,
    validate_update: |new, old| {
        validate(new);
        new.field("addressType").immutable(&old.field("addressType"));
    },
    table: Some(Table {
        columns: &[
            NAME,
            column("AddressType", ".addressType"),
            column("Ports", ".ports"),
            column("Endpoints", ".endpoints"),
            AGE,
        ],
        cells: |slice, now| {
            let port = |p: &Value| get(p, "port").and_then(Value::as_i64).map_or("*".into(), |n| n.to_string());
            let addresses = items(slice, "endpoints").iter().flat_map(|e| items(e, "addresses"));
            vec![
                name(slice),
                slice["addressType"].clone(),
                shortened(items(slice, "ports").iter().map(port).collect()).into(),
                shortened(addresses.filter_map(Value::as_str).map(str::to_owned).collect()).into(),
                created(slice, now),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn shortened(list: Vec<String>) -> String {
    match list.len() {
        0 => UNSET.into(),
        n if n > SHOWN_MAX => format!("{} + {} more...", list[..SHOWN_MAX].join(","), n - SHOWN_MAX),
        _ => list.join(","),
    }
}

fn validate(slice: &Cursor<'_>) {
    let kind = slice.field("addressType");
    kind.required_one_of(&["FQDN", "IPv4", "IPv6"]);
    let endpoints = slice.field("endpoints");
    endpoints.items_max(ENDPOINTS_MAX);
    for endpoint in endpoints.items().take(ENDPOINTS_MAX) {
        let addresses = endpoint.field("addresses");
        addresses.required_because("must contain at least 1 address");
        addresses.items_max(ADDRESSES_MAX);
        for address in addresses.items() {
            self::address(&address, kind.str());
        }
        endpoint.field("nodeName").optional_shape(names::dns1123_subdomain);
        endpoint.field("hostname").optional_shape(names::dns1123_label);
        endpoint.field("zone").optional_shape(names::label_value);
        for (key, value) in endpoint.field("deprecatedTopology").entries() {
            names::qualified_name(key).into_iter().for_each(|p| value.invalid_value(key, p));
        }
        let hints = endpoint.field("hints");
        for list in ["forZones", "forNodes"] {
            hints.field(list).items_max(8);
            for hint in hints.field(list).items() {
                hint.field("name").shape(names::label_value);
            }
        }
    }
    let ports = slice.field("ports");
    ports.items_max(PORTS_MAX);
    let mut seen = Vec::new();
    for port in ports.items() {
        let name = port.field("name");
        name.optional_shape(names::dns1123_label);
        if seen.contains(&name.str()) {
            name.duplicate();
        }
        seen.push(name.str());
        port.field("protocol").required_one_of(&["SCTP", "TCP", "UDP"]);
        if port.field("appProtocol").exists() {
            port.field("appProtocol").shape(names::qualified_name);
        }
    }
}

fn address(address: &Cursor<'_>, kind: &str) {
    let is_v6 = address.str().contains(':');
    match kind {
        "FQDN" => {
            address.shape(names::dns1123_subdomain);
        }
        "IPv4" | "IPv6" => {
            address.shape(names::ip);
            special_ip(address);
            if is_v6 != (kind == "IPv6") {
                address.invalid(format!("must be a valid {kind} address"));
            }
        }
        _ => {}
    }
}
