//! The endpoints a Service should have. Pure functions of the Service, its pods and their nodes.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Node, ObjectReference, Pod, Service},
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort},
};
use kube::ResourceExt;

use crate::common::{meta, pod, service, slices};

const ZONE: &str = "topology.kubernetes.io/zone";

/// Endpoints that can share slices: one address family, the same ports.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub address_type: &'static str,
    pub ports: Vec<EndpointPort>,
    pub endpoints: Vec<Endpoint>,
}

/// The address families a Service's slices are made for. A headless one without families is served in both.
fn address_types(service: &Service) -> Vec<&'static str> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let mut types: Vec<_> =
        families.into_iter().flatten().map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" }).collect();
    if types.is_empty() {
        let ip: Option<IpAddr> = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_ref()?.parse().ok());
        types = match ip {
            Some(IpAddr::V6(_)) => vec!["IPv6"],
            Some(IpAddr::V4(_)) => vec!["IPv4"],
            None => vec!["IPv4", "IPv6"],
        };
    }
    types
}

/// One group per family and set of ports. A family without any endpoint has one empty group without ports.
pub(super) fn groups(service: &Service, pods: &[Arc<Pod>], node: impl Fn(&str) -> Option<Arc<Node>>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for address_type in address_types(service) {
        let before = groups.len();
        for pod in pods.iter().filter(|pod| service::is_endpoint(pod, true)) {
            let addresses: Vec<String> =
                service::addresses(pod).filter(|ip| is_of(ip, address_type)).map(str::to_owned).collect();
            if addresses.is_empty() {
                continue;
            }
            let ports = ports(service, pod);
            let endpoint = endpoint(service, pod, addresses, &node);
            match groups[before..].iter_mut().find(|group| group.ports == ports) {
                Some(group) => group.endpoints.push(endpoint),
                None => groups.push(Group { address_type, ports, endpoints: vec![endpoint] }),
            }
        }
        if groups.len() == before {
            groups.push(Group { address_type, ports: Vec::new(), endpoints: Vec::new() });
        }
    }
    groups
}

fn is_of(ip: &str, address_type: &str) -> bool {
    matches!((ip.parse(), address_type), (Ok(IpAddr::V4(_)), "IPv4") | (Ok(IpAddr::V6(_)), "IPv6"))
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let found = ports.filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(service::target_port(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    found.collect()
}

fn endpoint(
    service: &Service,
    pod: &Pod,
    addresses: Vec<String>,
    node: &impl Fn(&str) -> Option<Arc<Node>>,
) -> Endpoint {
    let (serving, terminating) = (pod::is_ready(pod), meta::is_deleting(pod));
    let node_name = Some(pod::node_name(pod)).filter(|name| !name.is_empty());
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(service::publishes_not_ready(service) || serving && !terminating),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: service::hostname(pod, service).map(str::to_owned),
        node_name: node_name.map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.namespace(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone: node_name.and_then(node).and_then(|node| node.labels().get(ZONE).cloned()),
        ..Endpoint::default()
    }
}

/// The labels of a Service's slices: the Service's own, and ours.
pub(super) fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.labels().clone();
    labels.remove(service::HEADLESS);
    labels.insert(slices::SERVICE_NAME.into(), meta::name(service).into());
    labels.insert(slices::MANAGED_BY.into(), super::MANAGER.into());
    if service::is_headless(service) {
        labels.insert(service::HEADLESS.into(), String::new());
    }
    labels
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: serde_json::Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec})).unwrap()
    }

    fn pod(name: &str, ip: &str, port: i32, ready: bool, deleting: bool) -> Arc<Pod> {
        let mut metadata = json!({"name": name, "namespace": "default"});
        if deleting {
            metadata["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
        }
        let ready = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": metadata,
                "spec": {"nodeName": "n1",
                    "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
                "status": {"phase": "Running", "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn conditions_of_endpoints() {
        for (publish, ready, deleting, expected) in [
            (false, true, false, (true, true, false)),
            (false, false, false, (false, false, false)),
            (false, true, true, (false, true, true)),
            (true, false, true, (true, false, true)),
        ] {
            let service = service(json!({"ports": [{"port": 80}], "ipFamilies": ["IPv4"],
                "publishNotReadyAddresses": publish}));
            let groups = groups(&service, &[pod("a", "10.0.0.1", 80, ready, deleting)], |_| None);
            let conditions = groups[0].endpoints[0].conditions.clone().unwrap();
            let found = (conditions.ready.unwrap(), conditions.serving.unwrap(), conditions.terminating.unwrap());
            assert_eq!(found, expected, "publish {publish} ready {ready} deleting {deleting}");
        }
    }

    #[test]
    fn pods_with_other_ports_get_other_slices() {
        let service = service(json!({"ports": [{"port": 80, "targetPort": "http"}], "ipFamilies": ["IPv4"]}));
        let pods = [
            pod("a", "10.0.0.1", 80, true, false),
            pod("b", "10.0.0.2", 81, true, false),
            pod("c", "10.0.0.3", 80, true, false),
        ];
        let sizes: Vec<_> = groups(&service, &pods, |_| None)
            .iter()
            .map(|group| (group.ports[0].port.unwrap(), group.endpoints.len()))
            .collect();
        assert_eq!(sizes, [(80, 2), (81, 1)]);
    }

    #[test]
    fn each_family_has_a_group_even_if_empty() {
        let service = service(json!({"ports": [{"port": 80}], "ipFamilies": ["IPv4", "IPv6"]}));
        let groups = groups(&service, &[pod("a", "fd00::1", 80, true, false)], |_| None);
        let found: Vec<_> = groups.iter().map(|group| (group.address_type, group.endpoints.len())).collect();
        assert_eq!(found, [("IPv4", 0), ("IPv6", 1)]);
    }
}
