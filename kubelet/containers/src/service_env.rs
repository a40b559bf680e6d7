//! Docker-links style variables of the Services a pod can see (`enableServiceLinks`).

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use k8s_openapi::api::core::v1::{Service, ServicePort};

/// Variables for a pod in `namespace`: of all its Services where `links`, and always of `default/kubernetes`.
pub fn variables<'a>(
    services: impl Iterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for service in services {
        let own = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let master = own == "default" && name == "kubernetes";
        // The master Service stands in where the pod's namespace has no Service of that name.
        let wanted = (links && own == namespace) || (master && !(links && variables.contains_key("KUBERNETES_PORT")));
        let Some(spec) = service.spec.as_ref().filter(|_| wanted) else { continue };
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { continue };
        add(&mut variables, name, ip, spec.ports.as_deref().unwrap_or_default());
    }
    variables
}

fn add(variables: &mut BTreeMap<String, String>, name: &str, ip: &str, ports: &[ServicePort]) {
    let prefix = variable(name);
    let Some(first) = ports.first() else { return };
    variables.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    variables.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    let host = if ip.parse::<Ipv6Addr>().is_ok() { format!("[{ip}]") } else { ip.to_owned() };
    for (index, port) in ports.iter().enumerate() {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            variables.insert(format!("{prefix}_SERVICE_PORT_{}", variable(name)), port.port.to_string());
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            variables.insert(format!("{prefix}_PORT"), url.clone());
        }
        let prefix = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        variables.insert(format!("{prefix}_PROTO"), protocol.to_lowercase());
        variables.insert(format!("{prefix}_PORT"), port.port.to_string());
        variables.insert(format!("{prefix}_ADDR"), ip.to_owned());
        variables.insert(prefix, url);
    }
}

fn variable(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, name: &str, ip: &str) -> Service {
        serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "ports": [{"name": "http-web", "port": 80}]},
        }))
        .expect("a Service")
    }

    #[test]
    fn a_pod_sees_its_namespaces_services_and_the_api_server() {
        let services = [
            service("default", "kubernetes", "10.0.0.1"),
            service("ns", "my-db", "10.0.0.2"),
            service("ns", "head", "None"),
        ];
        let linked = variables(services.iter(), "ns", true);
        assert_eq!(linked["KUBERNETES_SERVICE_HOST"], "10.0.0.1");
        assert_eq!(linked["MY_DB_SERVICE_PORT_HTTP_WEB"], "80");
        assert_eq!(linked["MY_DB_PORT_80_TCP"], "tcp://10.0.0.2:80");
        assert!(!linked.contains_key("HEAD_SERVICE_HOST"));
        let unlinked = variables(services.iter(), "ns", false);
        assert!(unlinked.contains_key("KUBERNETES_PORT_80_TCP_ADDR") && !unlinked.contains_key("MY_DB_PORT"));
    }
}
