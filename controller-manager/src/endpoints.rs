//! endpoints-controller: the older form of what EndpointSlices say, one Endpoints object per Service.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use component_base::{
    controller::{self, Action},
    events::{Recorder, Type},
    informer::{Change, ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams},
};

use crate::{
    common::{Doing, Result, meta, pod, pod_control, service},
    context::Context,
};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
/// Set where addresses were left out.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in one object.
const CAPACITY: usize = 1000;

pub async fn run(context: Context) {
    let controller = Controller {
        services: context.factory.store(Scope::all()),
        pods: context.pods(),
        endpoints: context.factory.store(Scope::all()),
        client: context.client.clone(),
        recorder: context.recorder("endpoint-controller"),
    };
    let queue = WorkQueue::new("endpoint");
    let period = context.options.network.endpoint_updates_batch_period.get();
    service::watch(&controller.services, &controller.pods, &queue, period);
    let feed = queue.clone();
    controller.endpoints.on_change(move |change| {
        if matches!(change, Change::Deleted(_)) {
            feed.add(change.key());
        }
    });
    tokio::join!(controller.services.synced(), controller.pods.synced(), controller.endpoints.synced());
    // What was left behind by Services that went while nobody looked.
    controller.endpoints.keys().into_iter().for_each(|key| queue.add(key));
    let controller = &controller;
    let workers = context.options.workers.concurrent_endpoint_syncs;
    controller::run(
        context.name,
        queue,
        workers,
        context.shutdown,
        |key| async move { controller.reconcile(&key).await },
    )
    .await;
}

struct Controller {
    services: Store<Service>,
    pods: Store<Pod>,
    endpoints: Store<Endpoints>,
    client: Client,
    recorder: Recorder,
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        let current = self.endpoints.get(key);
        let Some(service) = self.services.get(key) else {
            // Not what somebody keeps by hand, or uses as a lock.
            if current.is_some_and(|current| current.labels().get(MANAGED_BY).is_some_and(|own| own == MANAGER)) {
                let deleted = api.delete(&key.name, &DeleteParams::default()).await;
                deleted.or_gone(|| format!("delete Endpoints {key}"))?;
            }
            return Ok(Action::Done);
        };
        if service::selector(&service).is_none() || meta::is_deleting(service.as_ref()) {
            return Ok(Action::Done);
        }
        let (subsets, truncated) = subsets(&service, &service::pods(&service, &self.pods));
        let wanted = describe(&service, current.as_deref(), subsets, truncated);
        let what = || format!("write Endpoints {key}");
        let written = match &current {
            Some(current) if same(current, &wanted) => return Ok(Action::Done),
            Some(_) => api.replace(&key.name, &PostParams::default(), &wanted).await.doing(what),
            None => api.create(&PostParams::default(), &wanted).await.doing(what),
        };
        match written {
            Ok(_) => Ok(Action::Done),
            Err(error) if pod_control::is_namespace_terminating(&error) => Ok(Action::Done),
            Err(error) if error.code() == Some(409) => Err(error),
            Err(error) => {
                let (verb, reason) = if current.is_some() { ("update", "Update") } else { ("create", "Create") };
                let message = format!("Failed to {verb} endpoint {key}: {}", error.reason());
                let reason = format!("FailedTo{reason}Endpoint");
                self.recorder.event(service.as_ref(), Type::Warning, &reason, message);
                Err(error)
            }
        }
    }
}

fn same(current: &Endpoints, wanted: &Endpoints) -> bool {
    let subsets = |endpoints: &Endpoints| endpoints.subsets.clone().unwrap_or_default();
    subsets(current) == subsets(wanted)
        && current.labels() == wanted.labels()
        && current.annotations().get(OVER_CAPACITY) == wanted.annotations().get(OVER_CAPACITY)
}

fn describe(
    service: &Service,
    current: Option<&Endpoints>,
    subsets: Vec<EndpointSubset>,
    truncated: bool,
) -> Endpoints {
    let mut labels = service.labels().clone();
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels.remove(service::HEADLESS);
    if service::is_headless(service) {
        labels.insert(service::HEADLESS.into(), String::new());
    }
    let mut metadata = current.map(|current| current.metadata.clone()).unwrap_or_else(|| ObjectMeta {
        name: service.metadata.name.clone(),
        namespace: service.metadata.namespace.clone(),
        ..ObjectMeta::default()
    });
    metadata.labels = Some(labels);
    let annotations = metadata.annotations.get_or_insert_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    Endpoints { metadata, subsets: Some(subsets) }
}

/// The subsets, and whether addresses were left out.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let v6 = is_v6(service);
    let publish = service::publishes_not_ready(service);
    // Ready ones first: they are what must not be left out.
    let mut members: Vec<_> = pods
        .iter()
        .filter(|pod| service::is_endpoint(pod, publish))
        .filter_map(|pod| Some((publish || pod::is_ready(pod), address(service, pod, v6)?, ports(service, pod))))
        .collect();
    members.sort_by(|left, right| (!left.0, &left.1.ip).cmp(&(!right.0, &right.1.ip)));
    let truncated = members.len() > CAPACITY;
    members.truncate(CAPACITY);

    let mut by_ports: BTreeMap<Vec<PortKey>, EndpointSubset> = BTreeMap::new();
    for (ready, address, ports) in members {
        if ports.is_empty() && !service::is_headless(service) {
            continue;
        }
        let subset = by_ports.entry(ports.iter().map(port_key).collect()).or_insert_with(|| EndpointSubset {
            ports: (!ports.is_empty()).then_some(ports),
            ..EndpointSubset::default()
        });
        let list = if ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    (by_ports.into_values().collect(), truncated)
}

type PortKey = (String, i32, String);

fn port_key(port: &EndpointPort) -> PortKey {
    (port.name.clone().unwrap_or_default(), port.port, port.protocol.clone().unwrap_or_default())
}

/// The one family that Endpoints show: the Service's first.
fn is_v6(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    match spec.and_then(|spec| spec.ip_families.as_ref()?.first()) {
        Some(family) => family == "IPv6",
        None => matches!(spec.and_then(|spec| spec.cluster_ip.as_ref()?.parse().ok()), Some(IpAddr::V6(_))),
    }
}

fn address(service: &Service, pod: &Pod, v6: bool) -> Option<EndpointAddress> {
    let ip = service::addresses(pod).find(|ip| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == v6))?;
    let node = pod::node_name(pod);
    Some(EndpointAddress {
        ip: ip.to_owned(),
        hostname: service::hostname(pod, service).map(str::to_owned),
        node_name: (!node.is_empty()).then(|| node.to_owned()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.namespace(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    })
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let mut ports: Vec<_> = ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: port.name.clone().filter(|name| !name.is_empty()),
                port: service::target_port(pod, port)?,
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    ports.sort_by_key(port_key);
    ports
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, ip: &str, ready: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"containers": [], "nodeName": "n1"},
                "status": {"phase": "Running", "podIPs": [{"ip": ip}],
                    "conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap(),
        )
    }

    fn service(spec: serde_json::Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec})).unwrap()
    }

    #[test]
    fn ready_and_not_ready_addresses_share_a_subset() {
        let service = service(json!({"ports": [{"port": 80}], "ipFamilies": ["IPv4"]}));
        let pods = [pod("b", "10.0.0.2", "True"), pod("a", "10.0.0.1", "True"), pod("c", "10.0.0.3", "False")];
        let (subsets, truncated) = subsets(&service, &pods);
        assert!(!truncated);
        assert_eq!(subsets.len(), 1);
        let ips = |list: &Option<Vec<EndpointAddress>>| -> Vec<String> {
            list.iter().flatten().map(|address| address.ip.clone()).collect()
        };
        assert_eq!(ips(&subsets[0].addresses), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(ips(&subsets[0].not_ready_addresses), ["10.0.0.3"]);
    }

    #[test]
    fn too_many_addresses_are_cut_off_and_said_so() {
        let service = service(json!({"ports": [{"port": 80}], "ipFamilies": ["IPv4"]}));
        let pods: Vec<_> =
            (0..CAPACITY + 5).map(|n| pod(&n.to_string(), &format!("10.0.{}.{}", n / 250, n % 250), "True")).collect();
        let (subsets, truncated) = subsets(&service, &pods);
        assert!(truncated);
        assert_eq!(subsets[0].addresses.as_ref().unwrap().len(), CAPACITY);
        let endpoints = describe(&service, None, subsets, truncated);
        assert_eq!(endpoints.annotations()[OVER_CAPACITY], "truncated");
    }

    #[test]
    fn a_headless_service_without_ports_has_addresses() {
        let headless = service(json!({"clusterIP": "None", "ipFamilies": ["IPv4"]}));
        let (subsets, _) = subsets(&headless, &[pod("a", "10.0.0.1", "True")]);
        assert_eq!(subsets[0].ports, None);
        assert!(describe(&headless, None, subsets, false).labels().contains_key(service::HEADLESS));
    }
}
