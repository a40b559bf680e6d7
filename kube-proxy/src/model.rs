//! What of a Service and its EndpointSlices matters to packets.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Transport protocols that services use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub fn parse(text: Option<&str>) -> Protocol {
        match text {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            _ => Protocol::Tcp,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// One port of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePort {
    /// `namespace/name`.
    pub service: String,
    pub port_name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
    pub cluster_ips: Vec<IpAddr>,
    /// External addresses and those of load balancers that packets arrive with.
    pub external_ips: Vec<IpAddr>,
    /// Who may use the load balancer's addresses; empty: everybody.
    pub source_ranges: Vec<String>,
    /// Addresses that `source_ranges` guards.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Seconds that a client sticks to an endpoint.
    pub affinity_seconds: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
}

/// Where packets can end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub port: u16,
    /// On this node.
    pub local: bool,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// Zones that should use it; empty: all.
    pub zones: BTreeSet<String>,
}

/// The ports of a service; none for services that have no rules (headless, external names, other proxies').
pub fn service_ports(service: &Service) -> Vec<ServicePort> {
    let labels = service.metadata.labels.as_ref();
    let Some(spec) = &service.spec else { return vec![] };
    let foreign = labels.is_some_and(|l| l.contains_key("service.kubernetes.io/service-proxy-name"));
    let cluster_ips: Vec<IpAddr> = spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect();
    if foreign || cluster_ips.is_empty() || spec.type_.as_deref() == Some("ExternalName") {
        return vec![];
    }
    let balancers = service.status.as_ref().and_then(|s| s.load_balancer.as_ref()).and_then(|l| l.ingress.as_ref());
    let load_balancer_ips: Vec<IpAddr> = balancers
        .into_iter()
        .flatten()
        .filter(|i| i.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|i| i.ip.as_ref()?.parse().ok())
        .collect();
    let mut external_ips: Vec<IpAddr> = spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect();
    external_ips.extend(&load_balancer_ips);
    let timeout = || {
        let config = spec.session_affinity_config.as_ref()?.client_ip.as_ref()?.timeout_seconds?;
        u32::try_from(config).ok()
    };
    let affinity_seconds = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| timeout().unwrap_or(10800));
    let meta = &service.metadata;
    let name = format!("{}/{}", meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or(""));
    let port = |n: i32| u16::try_from(n).ok().filter(|p| *p != 0);
    spec.ports
        .iter()
        .flatten()
        .filter_map(|p| {
            Some(ServicePort {
                service: name.clone(),
                port_name: p.name.clone().unwrap_or_default(),
                protocol: Protocol::parse(p.protocol.as_deref()),
                port: port(p.port)?,
                node_port: p.node_port.and_then(port),
                cluster_ips: cluster_ips.clone(),
                external_ips: external_ips.clone(),
                source_ranges: spec.load_balancer_source_ranges.clone().unwrap_or_default(),
                load_balancer_ips: load_balancer_ips.clone(),
                affinity_seconds,
                internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
                external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            })
        })
        .collect()
}

/// The endpoints of a port, each once, in order.
pub fn endpoints(port: &ServicePort, slices: &[Arc<EndpointSlice>], node: &str) -> Vec<Endpoint> {
    let mut all = BTreeSet::new();
    for slice in slices {
        let matching = slice.ports.iter().flatten().find(|p| {
            p.name.as_deref().unwrap_or("") == port.port_name && Protocol::parse(p.protocol.as_deref()) == port.protocol
        });
        let Some(number) = matching.and_then(|p| p.port).and_then(|p| u16::try_from(p).ok()) else { continue };
        for endpoint in slice.endpoints.iter() {
            let conditions = endpoint.conditions.as_ref();
            let is = |value: Option<bool>, default: bool| value.unwrap_or(default);
            let ready = is(conditions.and_then(|c| c.ready), true);
            // The first address stands for the endpoint; more are not defined.
            let Some(ip) = endpoint.addresses.first().and_then(|a| a.parse().ok()) else { continue };
            all.insert(Endpoint {
                ip,
                port: number,
                local: endpoint.node_name.as_deref() == Some(node),
                ready,
                serving: is(conditions.and_then(|c| c.serving), ready),
                terminating: is(conditions.and_then(|c| c.terminating), false),
                zones: endpoint
                    .hints
                    .iter()
                    .filter_map(|h| h.for_zones.as_ref())
                    .flatten()
                    .map(|z| z.name.clone())
                    .collect(),
            });
        }
    }
    all.into_iter().collect()
}

/// The endpoints that packets of one kind of traffic may go to.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    pub endpoints: Vec<&'a Endpoint>,
    /// There are none here, but the service has some elsewhere: packets are dropped, not refused.
    pub elsewhere: bool,
}

/// Who gets traffic under a policy: ready endpoints; where there are none, those that still serve while they end. (KEP-1669.)
pub fn choose<'a>(all: &'a [Endpoint], local_only: bool, zone: Option<&str>) -> Choice<'a> {
    let candidates: Vec<&Endpoint> = all.iter().filter(|e| !local_only || e.local).collect();
    let usable = |list: &[&'a Endpoint]| {
        let ready: Vec<&Endpoint> = list.iter().copied().filter(|e| e.ready).collect();
        if ready.is_empty() { list.iter().copied().filter(|e| e.serving && e.terminating).collect() } else { ready }
    };
    let mut endpoints = usable(&candidates);
    if !local_only && let Some(zone) = zone {
        // Hints count only if every endpoint has some and one is for our zone. (KEP-2433.)
        let hinted = !endpoints.is_empty() && endpoints.iter().all(|e| !e.zones.is_empty());
        let near: Vec<&Endpoint> = endpoints.iter().copied().filter(|e| e.zones.contains(zone)).collect();
        if hinted && !near.is_empty() {
            endpoints = near;
        }
    }
    let everywhere = || !usable(&all.iter().collect::<Vec<_>>()).is_empty();
    Choice { elsewhere: endpoints.is_empty() && local_only && everywhere(), endpoints }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn endpoint(ip: &str, local: bool, ready: bool, terminating: bool) -> Endpoint {
        Endpoint { ip: ip.parse().unwrap(), port: 80, local, ready, serving: true, terminating, zones: BTreeSet::new() }
    }

    #[test]
    fn ready_endpoints_go_before_terminating_ones_and_policies_choose() {
        let all = [
            endpoint("10.0.0.1", true, true, false),
            endpoint("10.0.0.2", false, true, false),
            endpoint("10.0.0.3", true, false, true),
        ];
        let ips = |c: Choice| c.endpoints.iter().map(|e| e.ip.to_string()).collect::<Vec<_>>();
        assert_eq!(ips(choose(&all, false, None)), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(ips(choose(&all, true, None)), ["10.0.0.1"]);
        assert_eq!(ips(choose(&all[2..], true, None)), ["10.0.0.3"]);
        let far = [endpoint("10.0.0.2", false, true, false)];
        assert_eq!(choose(&far, true, None), Choice { endpoints: vec![], elsewhere: true });
        assert_eq!(choose(&[], true, None), Choice { endpoints: vec![], elsewhere: false });
    }

    #[test]
    fn zone_hints_count_only_when_all_endpoints_have_them() {
        let mut all = [endpoint("10.0.0.1", true, true, false), endpoint("10.0.0.2", false, true, false)];
        all[0].zones.insert("a".into());
        assert_eq!(choose(&all, false, Some("a")).endpoints.len(), 2);
        all[1].zones.insert("b".into());
        assert_eq!(choose(&all, false, Some("a")).endpoints.len(), 1);
        assert_eq!(choose(&all, false, Some("c")).endpoints.len(), 2);
    }
}
