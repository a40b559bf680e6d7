//! EndpointSlices.

use apimachinery::Value;
use apimachinery::validation::{Cursor, addresses, names, object_meta};

use crate::core::endpoints::special_ip;
use registry::edit::{default, each, get, items, number, remove, text};
use registry::printing::{AGE, NAME, UNSET, column, created, name};
use registry::strategy::{Strategy, Table};

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const HINTS_MAX: usize = 8;
const TOPOLOGY_LABELS_MAX: usize = 16;
/// Who writes slices, in a label of them; these write addresses well.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLERS: [&str; 2] = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
/// Ports and addresses that are listed; of the others only the number is.
const SHOWN_MAX: usize = 3;

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    default: |slice| {
        each(slice, "ports", |port| {
            default(port, "name", "");
            default(port, "protocol", "TCP");
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
    validate: |slice| validate(slice, None),
    warnings: |slice, old| warnings(slice, old.is_none()),
    validate_update: |new, old| {
        validate(new, Some(old));
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

fn validate(slice: &Cursor<'_>, old: Option<&Cursor<'_>>) {
    let kind = slice.field("addressType");
    kind.required_one_of(&["FQDN", "IPv4", "IPv6"]);
    ports(&slice.field("ports"));
    // What is wrong with endpoints that were always there is no reason to refuse another change.
    let endpoints = slice.field("endpoints");
    if old.is_some_and(|old| old.field("endpoints").value() == endpoints.value()) {
        return;
    }
    endpoints.items_max(ENDPOINTS_MAX);
    for endpoint in endpoints.items().filter(|_| endpoints.len() <= ENDPOINTS_MAX) {
        self::endpoint(&endpoint, kind.str());
    }
}

fn endpoint(endpoint: &Cursor<'_>, kind: &str) {
    let addresses = endpoint.field("addresses");
    addresses.required_because("must contain at least 1 address");
    addresses.items_max(ADDRESSES_MAX);
    for address in addresses.items() {
        self::address(&address, &addresses, kind);
    }
    for (name, shape) in
        [("nodeName", names::dns1123_subdomain as fn(&str) -> names::Problems), ("hostname", names::dns1123_label)]
    {
        if endpoint.field(name).exists() {
            endpoint.field(name).shape(shape);
        }
    }
    let topology = endpoint.field("deprecatedTopology");
    topology.items_max(TOPOLOGY_LABELS_MAX);
    object_meta::labels(&topology);
    let hints = endpoint.field("hints");
    for (list, shape) in
        [("forZones", names::label_value as fn(&str) -> names::Problems), ("forNodes", names::dns1123_subdomain)]
    {
        let list = hints.field(list);
        if list.items_max(HINTS_MAX).len() > HINTS_MAX {
            return;
        }
        let mut seen = Vec::new();
        for name in list.items().map(|hint| hint.field("name")) {
            if seen.contains(&name.str()) {
                name.duplicate();
            }
            seen.push(name.str());
            name.shape(shape);
        }
    }
}

fn ports(ports: &Cursor<'_>) {
    if ports.items_max(PORTS_MAX).len() > PORTS_MAX {
        return;
    }
    let mut seen = Vec::new();
    for port in ports.items() {
        let name = port.field("name");
        name.optional_shape(names::dns1123_label);
        if seen.contains(&name.str()) {
            name.duplicate();
        }
        seen.push(name.str());
        if !port.field("protocol").exists() {
            port.field("protocol").missing("");
        }
        port.field("protocol").one_of(&["SCTP", "TCP", "UDP"]);
        if port.field("appProtocol").exists() {
            port.field("appProtocol").shape(names::qualified_name);
        }
    }
}

/// One address of the list; that it is of the wrong family is said of the list.
fn address(address: &Cursor<'_>, list: &Cursor<'_>, kind: &str) {
    let text = address.str();
    let problems = match kind {
        "FQDN" => domain(text),
        "IPv6" => addresses::ip(text),
        "IPv4" => {
            addresses::legacy_ip(address);
            Vec::new()
        }
        _ => return,
    };
    let valid = problems.is_empty();
    problems.into_iter().for_each(|problem| address.invalid(problem));
    let Some(ip) = addresses::parse_ip(text).filter(|_| valid && kind != "FQDN") else { return };
    if ip.is_ipv6() != (kind == "IPv6") {
        list.invalid_value(text, format!("must be an {kind} address"));
    }
    special_ip(address);
}

/// A domain of two labels or more; a dot may stand at its end.
fn domain(text: &str) -> names::Problems {
    let name = text.strip_suffix('.').unwrap_or(text);
    let problems = names::dns1123_subdomain(name);
    if !problems.is_empty() {
        return problems;
    }
    if !name.contains('.') {
        return vec!["should be a domain with at least two segments separated by dots".into()];
    }
    name.split('.').flat_map(names::dns1123_label).collect()
}

/// Warnings of addresses that are not written as they should be, and of a type that nobody reads.
fn warnings(slice: &Value, is_new: bool) -> Vec<String> {
    let kind = text(slice, "addressType");
    let mut warnings = Vec::new();
    if is_new && kind == "FQDN" {
        warnings.push("spec.addressType: FQDN endpoints are deprecated".into());
    }
    let by_controller = get(slice, "metadata.labels").is_some_and(|l| CONTROLLERS.iter().any(|c| l[MANAGED_BY] == *c));
    for (i, endpoint) in items(slice, "endpoints").iter().enumerate().filter(|_| !by_controller) {
        for (j, address) in items(endpoint, "addresses").iter().enumerate() {
            let address = address.as_str().unwrap_or_default();
            warnings.extend(addresses::ip_warning(&format!("endpoints[{i}].addresses[{j}]"), address));
        }
    }
    warnings
}
