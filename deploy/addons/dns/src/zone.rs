//! From a name to what it stands for. Pure: reads the stores, knows no wire format.

use component_base::informer::{ObjectKey, Store};
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Version of the specification.
const SPECIFICATION: &str = "1.1.0";

/// What there is to say about a name.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// Records, perhaps none of the type asked for: the name exists.
    Found(Vec<Record>),
    /// The name is ours and does not exist.
    Unknown,
    /// The name leads to one that others know; the record says which.
    Alias(Box<Record>, Name),
    /// Not ours: others may know.
    Foreign,
}

pub struct Zone {
    /// `cluster.local.`
    pub origin: Name,
    ttl: u32,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    namespaces: Store<Namespace>,
}

/// An address of a headless service, and the name it has in it.
struct Host {
    name: String,
    ip: IpAddr,
    ports: Vec<(String, String, u16)>,
}

impl Zone {
    pub fn new(
        domain: &str,
        ttl: u32,
        services: Store<Service>,
        slices: Store<EndpointSlice>,
        namespaces: Store<Namespace>,
    ) -> anyhow::Result<Zone> {
        slices.add_index("service", |s| service_of(s).into_iter().collect());
        slices.add_index("ip", |s| s.endpoints.iter().flat_map(|e| e.addresses.clone()).collect());
        services
            .add_index("ip", |s| s.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten().cloned()).collect());
        let origin = Name::from_str(&format!("{}.", domain.trim_end_matches('.')))?;
        Ok(Zone { origin, ttl, services, slices, namespaces })
    }

    fn record(&self, name: &Name, data: RData) -> Record {
        Record::from_rdata(name.clone(), self.ttl, data)
    }

    fn address(&self, name: &Name, ip: IpAddr) -> Record {
        let data = match ip {
            IpAddr::V4(ip) => RData::A(A(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
        };
        self.record(name, data)
    }

    /// The start of the zone, which goes with every answer that something is not there. (RFC 2308.)
    pub fn soa(&self) -> Record {
        let name = |prefix: &str| {
            Name::from_str(prefix).and_then(|n| n.append_domain(&self.origin)).unwrap_or_else(|_| self.origin.clone())
        };
        // The serial says nothing here: nobody transfers this zone.
        Record::from_rdata(
            self.origin.clone(),
            self.ttl,
            RData::SOA(SOA::new(name("ns.dns"), name("hostmaster"), 1, 7200, 1800, 86400, self.ttl)),
        )
    }

    pub fn lookup(&self, name: &Name, kind: RecordType) -> Answer {
        if let Some(answer) = self.reverse(name) {
            return answer;
        }
        if !self.origin.zone_of(name) {
            return Answer::Foreign;
        }
        let own = name.num_labels() - self.origin.num_labels();
        let labels: Vec<String> =
            name.iter().take(usize::from(own)).map(|l| String::from_utf8_lossy(l).to_ascii_lowercase()).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let records = match labels.as_slice() {
            [] => vec![self.soa()],
            ["dns-version"] => vec![self.record(name, RData::TXT(TXT::new(vec![SPECIFICATION.into()])))],
            ["svc" | "pod" | "dns"] => vec![],
            [namespace, "svc" | "pod"] if self.has_namespace(namespace) => vec![],
            [ip, namespace, "pod"] if self.has_namespace(namespace) => match dashed_ip(ip) {
                Some(ip) => vec![self.address(name, ip)],
                None => return Answer::Unknown,
            },
            [rest @ .., service, namespace, "svc"] => return self.service(name, kind, rest, service, namespace),
            _ => return Answer::Unknown,
        };
        Answer::Found(records)
    }

    fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.get(&ObjectKey::cluster(name)).is_some()
    }

    /// `[_port._proto.]service.namespace.svc` or `host.service.namespace.svc`.
    fn service(&self, name: &Name, kind: RecordType, rest: &[&str], service: &str, namespace: &str) -> Answer {
        let Some(object) = self.services.get(&ObjectKey::namespaced(namespace, service)) else {
            return Answer::Unknown;
        };
        let Some(spec) = &object.spec else { return Answer::Unknown };
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec
                .external_name
                .as_deref()
                .and_then(|n| Name::from_str(&format!("{}.", n.trim_end_matches('.'))).ok());
            return match (rest, target) {
                ([], Some(target)) => {
                    Answer::Alias(Box::new(self.record(name, RData::CNAME(CNAME(target.clone())))), target)
                }
                _ => Answer::Unknown,
            };
        }
        let ips: Vec<IpAddr> = spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect();
        let headless = ips.is_empty();
        let hosts = if headless { self.hosts(&object, namespace, service) } else { vec![] };
        let ports = || {
            spec.ports
                .iter()
                .flatten()
                .map(|p| (p.name.clone().unwrap_or_default(), p.protocol.clone().unwrap_or_default(), p.port as u16))
        };
        let base = || {
            Name::from_str(&format!("{service}.{namespace}.svc"))
                .and_then(|n| n.append_domain(&self.origin))
                .unwrap_or_else(|_| name.clone())
        };
        match rest {
            [] if kind == RecordType::SRV => {
                // Without a port all ports are told.
                let all = ports().map(|(port, protocol, _)| (port, protocol)).collect::<BTreeSet<_>>();
                let records = all
                    .iter()
                    .flat_map(|(port, protocol)| self.srv(name, &base(), &hosts, ports(), port, protocol))
                    .collect();
                Answer::Found(records)
            }
            [] if headless && hosts.is_empty() => Answer::Unknown,
            [] if headless => Answer::Found(
                hosts
                    .iter()
                    .map(|h| h.ip)
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .map(|ip| self.address(name, ip))
                    .collect(),
            ),
            [] => Answer::Found(ips.into_iter().map(|ip| self.address(name, ip)).collect()),
            [port, protocol] if port.starts_with('_') && protocol.starts_with('_') => {
                let records = self.srv(name, &base(), &hosts, ports(), &port[1..], &protocol[1..]);
                if records.is_empty() { Answer::Unknown } else { Answer::Found(records) }
            }
            [host] => {
                let records: Vec<Record> =
                    hosts.iter().filter(|h| h.name == *host).map(|h| self.address(name, h.ip)).collect();
                if records.is_empty() { Answer::Unknown } else { Answer::Found(records) }
            }
            _ => Answer::Unknown,
        }
    }

    fn srv(
        &self,
        name: &Name,
        base: &Name,
        hosts: &[Host],
        ports: impl Iterator<Item = (String, String, u16)>,
        port: &str,
        protocol: &str,
    ) -> Vec<Record> {
        let wanted = |p: &(String, String, u16)| p.0 == port && p.1.eq_ignore_ascii_case(protocol);
        let record = |number: u16, target: Name| self.record(name, RData::SRV(SRV::new(0, 100, number, target)));
        if hosts.is_empty() {
            return ports.filter(wanted).map(|p| record(p.2, base.clone())).collect();
        }
        let targets = hosts.iter().flat_map(|h| h.ports.iter().filter(|p| wanted(p)).map(move |p| (h, p.2)));
        targets
            .filter_map(|(h, number)| Some(record(number, Name::from_str(&h.name).ok()?.append_domain(base).ok()?)))
            .collect()
    }

    /// The endpoints of a headless service that are to be found.
    fn hosts(&self, service: &Service, namespace: &str, name: &str) -> Vec<Host> {
        let all = service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses).unwrap_or(false);
        let slices = self.slices.by_index("service", &format!("{namespace}/{name}"));
        let mut hosts = Vec::new();
        for slice in &slices {
            let ports: Vec<_> = slice
                .ports
                .iter()
                .flatten()
                .filter_map(|p| {
                    Some((
                        p.name.clone().unwrap_or_default(),
                        p.protocol.clone().unwrap_or_default(),
                        u16::try_from(p.port?).ok()?,
                    ))
                })
                .collect();
            for endpoint in slice.endpoints.iter().filter(|e| all || is_ready(e)) {
                for ip in endpoint.addresses.iter().filter_map(|a| a.parse().ok()) {
                    hosts.push(Host { name: host_name(endpoint, ip), ip, ports: ports.clone() });
                }
            }
        }
        hosts
    }

    /// `5.0.96.10.in-addr.arpa.`: whose address it is, if it is one of ours.
    fn reverse(&self, name: &Name) -> Option<Answer> {
        if !Name::from_str("arpa.").ok()?.zone_of(name) {
            return None;
        }
        let ip = name.parse_arpa_name().ok()?.addr();
        let ours = |labels: String| Name::from_str(&labels).and_then(|n| n.append_domain(&self.origin)).ok();
        let text = ip.to_string();
        let mut names: Vec<Name> = Vec::new();
        for service in self.services.by_index("ip", &text) {
            let meta = &service.metadata;
            names.extend(ours(format!("{}.{}.svc", meta.name.as_deref()?, meta.namespace.as_deref()?)));
        }
        for slice in self.slices.by_index("ip", &text) {
            let Some(service) = service_of(&slice) else { continue };
            let (namespace, service) = service.split_once('/')?;
            for endpoint in slice.endpoints.iter().filter(|e| e.addresses.contains(&text)) {
                names.extend(ours(format!("{}.{service}.{namespace}.svc", host_name(endpoint, ip))));
            }
        }
        if names.is_empty() {
            return Some(Answer::Foreign);
        }
        Some(Answer::Found(names.into_iter().map(|n| self.record(name, RData::PTR(PTR(n)))).collect()))
    }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
}

/// The endpoint's own host name, or its address with dashes.
fn host_name(endpoint: &Endpoint, ip: IpAddr) -> String {
    endpoint.hostname.clone().unwrap_or_else(|| ip.to_string().replace(['.', ':'], "-"))
}

/// `10-244-0-5` or an IPv6 address with dashes for colons.
fn dashed_ip(text: &str) -> Option<IpAddr> {
    text.replace('-', ".").parse().ok().or_else(|| text.replace('-', ":").parse().ok())
}

fn service_of(slice: &EndpointSlice) -> Option<String> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(format!("{}/{name}", slice.metadata.namespace.as_deref().unwrap_or("")))
}

/// Keeps what is of the type asked for.
pub fn of_type(records: Vec<Record>, kind: RecordType) -> Vec<Record> {
    records
        .into_iter()
        .filter(|r| kind == RecordType::ANY || r.record_type() == kind || r.record_type() == RecordType::CNAME)
        .collect()
}

/// A store that is filled by hand, for tests.
#[cfg(test)]
fn store<K: kube::Resource + Clone + Send + Sync + 'static>(objects: Vec<K>) -> Store<K> {
    use kube::runtime::watcher::Event;
    let store = Store::default();
    store.apply(Event::Init);
    for object in objects {
        store.apply(Event::InitApply(object));
    }
    store.apply(Event::InitDone);
    store
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::serde_json::{self, json};

    fn zone() -> Zone {
        let service = |v: serde_json::Value| serde_json::from_value::<Service>(v).unwrap();
        let services = vec![
            service(
                json!({"metadata": {"name": "web", "namespace": "a"}, "spec": {"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}}),
            ),
            service(
                json!({"metadata": {"name": "db", "namespace": "a"}, "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]}}),
            ),
            service(
                json!({"metadata": {"name": "ext", "namespace": "a"}, "spec": {"type": "ExternalName", "externalName": "example.org"}}),
            ),
        ];
        let slice = json!({"metadata": {"name": "db-1", "namespace": "a", "labels": {SERVICE_NAME: "db"}}, "addressType": "IPv4",
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.244.0.7"], "hostname": "db-0", "conditions": {"ready": true}}, {"addresses": ["10.244.0.8"], "conditions": {"ready": false}}]});
        let namespace = serde_json::from_value::<Namespace>(json!({"metadata": {"name": "a"}})).unwrap();
        Zone::new(
            "cluster.local",
            30,
            store(services),
            store(vec![serde_json::from_value(slice).unwrap()]),
            store(vec![namespace]),
        )
        .unwrap()
    }

    fn ask(name: &str, kind: RecordType) -> Result<Vec<String>, &'static str> {
        match zone().lookup(&Name::from_str(name).unwrap(), kind) {
            Answer::Found(records) => Ok(of_type(records, kind).iter().map(|r| r.data.to_string()).collect()),
            Answer::Unknown => Err("unknown"),
            Answer::Alias(_, target) => Ok(vec![target.to_string()]),
            Answer::Foreign => Err("foreign"),
        }
    }

    /// A name, a type, and the records or what is said instead.
    type Case<'a> = (&'a str, RecordType, Result<&'a [&'a str], &'a str>);

    #[test]
    fn names_resolve_as_the_specification_says() {
        let cases: &[Case] = &[
            ("web.a.svc.cluster.local.", RecordType::A, Ok(&["10.96.0.5"])),
            ("WEB.A.svc.cluster.local.", RecordType::A, Ok(&["10.96.0.5"])),
            ("web.a.svc.cluster.local.", RecordType::AAAA, Ok(&[])),
            ("nope.a.svc.cluster.local.", RecordType::A, Err("unknown")),
            ("db.a.svc.cluster.local.", RecordType::A, Ok(&["10.244.0.7"])),
            ("db-0.db.a.svc.cluster.local.", RecordType::A, Ok(&["10.244.0.7"])),
            ("_http._tcp.web.a.svc.cluster.local.", RecordType::SRV, Ok(&["0 100 80 web.a.svc.cluster.local."])),
            ("_sql._tcp.db.a.svc.cluster.local.", RecordType::SRV, Ok(&["0 100 5432 db-0.db.a.svc.cluster.local."])),
            ("_nope._tcp.web.a.svc.cluster.local.", RecordType::SRV, Err("unknown")),
            ("ext.a.svc.cluster.local.", RecordType::A, Ok(&["example.org."])),
            ("10-244-0-9.a.pod.cluster.local.", RecordType::A, Ok(&["10.244.0.9"])),
            ("a.svc.cluster.local.", RecordType::A, Ok(&[])),
            ("5.0.96.10.in-addr.arpa.", RecordType::PTR, Ok(&["web.a.svc.cluster.local."])),
            ("9.9.9.9.in-addr.arpa.", RecordType::PTR, Err("foreign")),
            ("example.org.", RecordType::A, Err("foreign")),
        ];
        for (name, kind, expected) in cases {
            let expected = expected.map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(ask(name, *kind), expected, "{name} {kind}");
        }
    }
}
