//! Endpoints, the old form of EndpointSlices.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};

use crate::registry::edit::{default_text, each, items, number, text};
use crate::registry::printing::{AGE, NAME, NONE, column, created, name};
use crate::registry::strategy::{Strategy, Table};

/// Addresses that are listed by name; of the others only the number is.
const SHOWN_MAX: usize = 3;

pub const STRATEGY: Strategy = Strategy {
    create_on_update: true,
    default: |endpoints| {
        each(endpoints, "subsets", |subset| each(subset, "ports", |port| default_text(port, "protocol", "TCP")));
    },
    validate,
    validate_update: |new, _| validate(new),
    table: Some(Table {
        columns: &[NAME, column("Endpoints", ".subsets"), AGE],
        cells: |endpoints, now| vec![name(endpoints), shown(endpoints).into(), created(endpoints, now)],
    }),
    ..Strategy::GENERIC
};

fn validate(endpoints: &Cursor<'_>) {
    for subset in endpoints.field("subsets").items() {
        let lists = [subset.field("addresses"), subset.field("notReadyAddresses")];
        if lists.iter().all(Cursor::is_empty) {
            subset.missing("must specify `addresses` or `notReadyAddresses`");
        }
        for address in lists.iter().flat_map(|l| l.items()) {
            let ip = address.field("ip");
            ip.shape(names::ip);
            special_ip(&ip);
            address.field("hostname").optional_shape(names::dns1123_label);
            address.field("nodeName").optional_shape(names::dns1123_subdomain);
        }
        let ports = subset.field("ports");
        for port in ports.items() {
            let port_name = port.field("name");
            if ports.len() > 1 {
                port_name.required();
            }
            port_name.optional_shape(names::dns1123_label);
            names::port_number(port.field("port").i64().unwrap_or_default())
                .into_iter()
                .for_each(|p| port.field("port").invalid_value(port.field("port").i64().unwrap_or_default(), p));
            port.field("protocol").required_one_of(&["SCTP", "TCP", "UDP"]);
        }
    }
}

/// Addresses that never are another machine's.
pub fn special_ip(ip: &Cursor<'_>) {
    let Ok(address) = ip.str().parse::<std::net::IpAddr>() else { return };
    let link_local = match address {
        std::net::IpAddr::V4(v4) => v4.is_link_local() || v4.octets()[..3] == [224, 0, 0],
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.segments()[0] == 0xff02,
    };
    if address.is_unspecified() {
        ip.invalid(format!("may not be unspecified ({address})"));
    } else if address.is_loopback() {
        ip.invalid("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    } else if link_local {
        ip.invalid("may not be in the link-local range (169.254.0.0/16, fe80::/10, 224.0.0.0/24, ff02::/10)");
    }
}

fn shown(endpoints: &Value) -> String {
    let mut all = Vec::new();
    for subset in items(endpoints, "subsets") {
        let (addresses, ports) = (items(subset, "addresses"), items(subset, "ports"));
        if ports.is_empty() {
            all.extend(addresses.iter().map(|a| text(a, "ip").to_owned()));
        }
        for port in ports {
            all.extend(addresses.iter().map(|a| join(text(a, "ip"), number(port, "port"))));
        }
    }
    let count = all.len();
    all.truncate(SHOWN_MAX);
    match count {
        0 => NONE.into(),
        n if n > SHOWN_MAX => format!("{} + {} more...", all.join(","), n - SHOWN_MAX),
        _ => all.join(","),
    }
}

fn join(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}
