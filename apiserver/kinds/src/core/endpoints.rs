//! Endpoints, the old form of EndpointSlices.

use apimachinery::Value;
use apimachinery::validation::{Cursor, addresses, names};

use registry::edit::{default_text, each, get, items, number, text};
use registry::printing::{AGE, NAME, NONE, column, created, name};
use registry::strategy::{Strategy, Table};

/// Addresses that are listed by name; of the others only the number is.
const SHOWN_MAX: usize = 3;

/// Who writes the endpoints, in a label of them.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";

pub const STRATEGY: Strategy = Strategy {
    create_on_update: true,
    default: |endpoints| {
        each(endpoints, "subsets", |subset| each(subset, "ports", |port| default_text(port, "protocol", "TCP")));
    },
    validate,
    // What is wrong with addresses that were always there is no reason to refuse another change.
    validate_update: |new, old| {
        if new.field("subsets").value() != old.field("subsets").value() {
            validate(new);
        }
    },
    warnings: |endpoints, _| warnings(endpoints),
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
            addresses::legacy_ip(&address.field("ip"));
            special_ip(&address.field("ip"));
            address.field("hostname").optional_shape(names::dns1123_label);
            if address.field("nodeName").exists() {
                address.field("nodeName").shape(names::dns1123_subdomain);
            }
        }
        let ports = subset.field("ports");
        for port in ports.items() {
            let port_name = port.field("name");
            if ports.len() > 1 {
                port_name.required();
            }
            port_name.optional_shape(names::dns1123_label);
            let number = port.field("port").i64().unwrap_or_default();
            names::port_number(number).into_iter().for_each(|p| port.field("port").invalid_value(number, p));
            port.field("protocol").required_one_of(&["SCTP", "TCP", "UDP"]);
            if port.field("appProtocol").exists() {
                port.field("appProtocol").shape(names::qualified_name);
            }
        }
    }
}

/// Warnings of addresses that are not written as they should be; the controller writes them well.
fn warnings(endpoints: &Value) -> Vec<String> {
    let by_controller = get(endpoints, "metadata.labels").is_some_and(|l| l[MANAGED_BY] == CONTROLLER);
    let mut warnings = Vec::new();
    for (i, subset) in items(endpoints, "subsets").iter().enumerate().filter(|_| !by_controller) {
        for list in ["addresses", "notReadyAddresses"] {
            for (j, address) in items(subset, list).iter().enumerate() {
                warnings.extend(addresses::ip_warning(&format!("subsets[{i}].{list}[{j}].ip"), text(address, "ip")));
            }
        }
    }
    warnings
}

/// Addresses that never are another machine's.
pub fn special_ip(ip: &Cursor<'_>) {
    let Some(address) = addresses::parse_ip(ip.str()) else { return };
    let link_local = match address {
        std::net::IpAddr::V4(v4) => v4.is_link_local() || v4.octets()[..3] == [224, 0, 0],
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.segments()[0] & 0xff0f == 0xff02,
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
