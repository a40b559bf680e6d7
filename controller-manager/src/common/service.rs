//! Which pods stand behind a Service, and on which ports. EndpointSlices and Endpoints ask the same.

use std::{sync::Arc, time::Duration};

use component_base::{
    informer::{Change, ObjectKey, Store},
    queue::WorkQueue,
};
use k8s_openapi::{
    api::core::v1::{Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{
    ResourceExt,
    core::{Selector, SelectorExt},
};

use super::{meta, pod, slices};

/// On what describes a headless Service's endpoints.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// The pods a Service means; `None` if it has no selector and its endpoints are kept by hand.
pub fn selector(service: &Service) -> Option<Selector> {
    let labels = service.spec.as_ref()?.selector.clone().filter(|labels| !labels.is_empty())?;
    Some(labels.into_iter().collect())
}

pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
}

/// The pods of the namespace that the Service selects.
pub fn pods(service: &Service, pods: &Store<Pod>) -> Vec<Arc<Pod>> {
    let Some(selector) = selector(service) else { return Vec::new() };
    let all = pods.by_index(pod::index::NAMESPACE, meta::namespace(service));
    all.into_iter().filter(|pod| selector.matches(pod.labels())).collect()
}

/// Whether a pod can be an endpoint: it has an address and is not finished.
pub fn is_endpoint(pod: &Pod, include_terminating: bool) -> bool {
    !pod::is_terminal(pod) && addresses(pod).next().is_some() && (include_terminating || !meta::is_deleting(pod))
}

/// The pod's addresses, the first one primary.
pub fn addresses(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        let many = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
        let one = status.pod_ip.iter().filter(|_| status.pod_ips.as_ref().is_none_or(Vec::is_empty));
        many.chain(one.map(String::as_str)).filter(|ip| !ip.is_empty())
    })
}

/// The host name that DNS gives this endpoint: only of pods that name this Service as their subdomain.
pub fn hostname<'a>(pod: &'a Pod, service: &Service) -> Option<&'a str> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_deref().filter(|name| !name.is_empty())?;
    (spec.subdomain.as_deref() == Some(meta::name(service))).then_some(hostname)
}

/// The pod's port for a Service's; `None` if it names a port that the pod does not have.
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let spec = pod.spec.as_ref()?;
    let sidecars =
        spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let mut named = ports.filter(|own| own.name.as_ref() == Some(name));
    named.find(|own| own.protocol.as_deref().unwrap_or("TCP") == protocol).map(|own| own.container_port)
}

/// What of a pod its endpoints show. If it stays, no Service need look.
fn shown(pod: &Pod) -> impl PartialEq {
    let addresses: Vec<String> = addresses(pod).map(str::to_owned).collect();
    let spec = pod.spec.as_ref();
    let names = spec.map(|spec| (spec.hostname.clone(), spec.subdomain.clone(), spec.node_name.clone()));
    (addresses, names, pod::is_ready(pod), pod::is_terminal(pod), meta::is_deleting(pod), pod.labels().clone())
}

/// Feeds `queue` with the Services that a change of a Service concerns, and after `period` with those that a change of a pod does: what
/// comes in the meantime is worked on together.
pub fn watch(services: &Store<Service>, pods: &Store<Pod>, queue: &WorkQueue<ObjectKey>, period: Duration) {
    let feed = queue.clone();
    services.on_change(move |change| feed.add(change.key()));

    services.add_index(pod::index::NAMESPACE, |service| vec![meta::namespace(service).to_owned()]);
    let (services, feed) = (services.clone(), slices::batched(queue, period));
    pods.on_change(move |change| {
        let (new, old) = match change {
            Change::Added(pod) | Change::Deleted(pod) => (pod, None),
            Change::Updated { old, new } if shown(old) == shown(new) => return,
            Change::Updated { old, new } => (new, Some(old)),
            Change::Resync => return,
        };
        for service in services.by_index(pod::index::NAMESPACE, meta::namespace(new.as_ref())) {
            let Some(selector) = selector(&service) else { continue };
            if selector.matches(new.labels()) || old.is_some_and(|old| selector.matches(old.labels())) {
                feed(meta::key(service.as_ref()));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "a"},
            "spec": {"hostname": "h", "subdomain": "web", "containers": [{"name": "c", "ports": [
                {"name": "http", "containerPort": 8080},
                {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            ]}]},
            "status": {"phase": phase, "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
        }))
        .unwrap()
    }

    #[test]
    fn target_ports_by_number_and_name() {
        let port = |target: serde_json::Value, protocol: &str| -> ServicePort {
            serde_json::from_value(json!({"port": 80, "targetPort": target, "protocol": protocol})).unwrap()
        };
        for (target, protocol, expected) in [
            (json!(null), "TCP", Some(80)),
            (json!(9090), "TCP", Some(9090)),
            (json!("http"), "TCP", Some(8080)),
            (json!("dns"), "UDP", Some(53)),
            (json!("dns"), "TCP", None),
            (json!("none"), "TCP", None),
        ] {
            assert_eq!(target_port(&pod("Running"), &port(target.clone(), protocol)), expected, "{target} {protocol}");
        }
    }

    #[test]
    fn finished_pods_are_no_endpoints() {
        for (phase, is) in [("Running", true), ("Pending", true), ("Succeeded", false), ("Failed", false)] {
            assert_eq!(is_endpoint(&pod(phase), true), is, "{phase}");
        }
        assert_eq!(addresses(&pod("Running")).collect::<Vec<_>>(), ["10.0.0.1", "fd00::1"]);
    }

    #[test]
    fn host_names_belong_to_the_subdomains_service() {
        let service = |name: &str| -> Service { serde_json::from_value(json!({"metadata": {"name": name}})).unwrap() };
        assert_eq!(hostname(&pod("Running"), &service("web")), Some("h"));
        assert_eq!(hostname(&pod("Running"), &service("db")), None);
    }
}
