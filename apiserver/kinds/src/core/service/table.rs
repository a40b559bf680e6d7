//! How services are listed.

use apimachinery::Value;

use registry::edit::{get, items, number, text};
use registry::printing::{AGE, NAME, NONE, SELECTOR, column, created, labels, name, or_none};
use registry::strategy::Table;

pub const TABLE: Table = Table {
    columns: &[
        NAME,
        column("Type", ".spec.type"),
        column("Cluster-IP", ".spec.clusterIP"),
        column("External-IP", ".spec.externalIPs"),
        column("Port(s)", ".spec.ports"),
        AGE,
        SELECTOR,
    ],
    cells: |service, now| {
        let ip = items(service, "spec.clusterIPs")
            .first()
            .and_then(Value::as_str)
            .unwrap_or(text(service, "spec.clusterIP"));
        vec![
            name(service),
            text(service, "spec.type").into(),
            or_none(ip),
            external(service).into(),
            ports(service).into(),
            created(service, now),
            labels(get(service, "spec.selector")),
        ]
    },
};

fn external(service: &Value) -> String {
    let ips = items(service, "spec.externalIPs").iter().filter_map(Value::as_str);
    match text(service, "spec.type") {
        "ClusterIP" | "NodePort" => {
            let ips: Vec<_> = ips.collect();
            if ips.is_empty() { NONE.into() } else { ips.join(",") }
        }
        "LoadBalancer" => {
            let ingress = items(service, "status.loadBalancer.ingress").iter();
            let mut all: Vec<_> =
                ingress.map(|i| if text(i, "ip").is_empty() { text(i, "hostname") } else { text(i, "ip") }).collect();
            all.extend(ips);
            if all.is_empty() { "<pending>".into() } else { all.join(",") }
        }
        "ExternalName" => text(service, "spec.externalName").into(),
        _ => "<unknown>".into(),
    }
}

fn ports(service: &Value) -> String {
    let port = |port: &Value| {
        let (protocol, number_) = (text(port, "protocol"), number(port, "port"));
        match number(port, "nodePort") {
            0 => format!("{number_}/{protocol}"),
            node => format!("{number_}:{node}/{protocol}"),
        }
    };
    let ports: Vec<_> = items(service, "spec.ports").iter().map(port).collect();
    if ports.is_empty() { NONE.into() } else { ports.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_and_addresses() {
        let service = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "ports": [
            {"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}});
        let cells = (TABLE.cells)(&service, 0);
        assert_eq!(cells[1..5], ["NodePort", "10.0.0.1", "<none>", "80:30080/TCP,53/UDP"]);
    }
}
