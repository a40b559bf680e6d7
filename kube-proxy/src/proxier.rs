//! Follows Services, EndpointSlices and this node, and applies what changed.
//!
//! A change marks the services it touches; a round takes what is marked, computes those services' pieces anew and applies the
//! difference. After a failure everything is applied from an empty table, in one transaction, so no packet sees a gap.

use crate::config::Settings;
use crate::conntrack::{self, Stale};
use crate::health::{Health, ServiceHealth};
use crate::model::{self, Endpoint, ServicePort};
use crate::nft;
use crate::rules::{Context, port_rules};
use crate::ruleset::{Change, Piece};
use component_base::informer::{Factory, ObjectKey, Scope, Store};
use component_base::metrics;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Services and their slices that are neither headless nor another proxy's. The API server leaves the others out.
const OURS: &str = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Services whose rules must be looked at again. Bounded by the number of services.
#[derive(Default)]
struct Marked {
    services: Mutex<BTreeSet<String>>,
    node: Mutex<bool>,
    wake: Notify,
}

impl Marked {
    fn service(&self, name: String) {
        self.services.lock().insert(name);
        self.wake.notify_one();
    }
}

/// What is applied for one service.
#[derive(Default)]
struct Applied {
    /// By family: IPv4, IPv6.
    pieces: [Piece; 2],
    ports: Vec<(ServicePort, Vec<Endpoint>)>,
}

pub struct Proxier {
    settings: Settings,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    nodes: Store<Node>,
    marked: Arc<Marked>,
    applied: HashMap<String, Applied>,
    contexts: [Context; 2],
    node_ips: BTreeSet<IpAddr>,
    health: Arc<Health>,
    service_health: ServiceHealth,
    /// The tables are not known to be what `applied` says.
    dirty: bool,
}

impl Proxier {
    pub fn new(settings: Settings, factory: &Factory, health: Arc<Health>) -> Proxier {
        let ours = || Scope::labels(OURS);
        let services = factory.store_with::<Service>(ours(), |s| s.metadata.annotations = None);
        let slices = factory.store_with::<EndpointSlice>(ours(), |s| s.metadata.owner_references = None);
        let nodes = factory.store_with::<Node>(Scope::fields(format!("metadata.name={}", settings.node)), |n| {
            // A node's status is most of it, and little of that matters here.
            if let Some(status) = &mut n.status {
                status.images = None;
                status.conditions = None;
            }
        });
        slices.add_index("service", |s| service_of(s).into_iter().collect());
        let marked = Arc::new(Marked::default());
        let mark = marked.clone();
        services.on_change(move |change| mark.service(change.key().to_string()));
        let mark = marked.clone();
        slices.on_change(move |change| {
            // A slice may move from one service to another: both change.
            for slice in change.object().into_iter().chain(change.old()) {
                if let Some(service) = service_of(slice) {
                    mark.service(service);
                }
            }
        });
        let mark = marked.clone();
        nodes.on_change(move |_| {
            *mark.node.lock() = true;
            mark.wake.notify_one();
        });
        let context = |ipv6: bool| Context {
            ipv6,
            local: settings.detect_local.local(ipv6, &[]),
            masquerade_all: settings.masquerade_all,
            zone: None,
        };
        Proxier {
            contexts: [context(false), context(true)],
            services,
            slices,
            nodes,
            marked,
            applied: HashMap::new(),
            node_ips: BTreeSet::new(),
            health,
            service_health: ServiceHealth::default(),
            dirty: true,
            settings,
        }
    }

    /// Works until `shutdown`. The rules stay when it ends: what runs keeps running.
    pub async fn run(mut self, factory: Factory, shutdown: CancellationToken) -> anyhow::Result<()> {
        tokio::select! { () = factory.synced() => {}, () = shutdown.cancelled() => return Ok(()) }
        let rounds = metrics::histogram(
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "Time of a round of rules.",
            &[0.001, 0.01, 0.1, 1.0, 10.0],
        );
        let mut full_at = Instant::now() + self.settings.sync_period;
        loop {
            let started = Instant::now();
            self.health.waiting_since.lock().get_or_insert(started);
            match self.round(&shutdown).await {
                Ok(()) => {
                    *self.health.waiting_since.lock() = None;
                    *self.health.applied.lock() = Some(SystemTime::now());
                }
                Err(e) => {
                    tracing::error!(
                        error = format!("{e:#}"),
                        "Rules could not be applied; all of them will be, from scratch"
                    );
                    self.dirty = true;
                    self.marked.wake.notify_one();
                }
            }
            rounds.observe(started.elapsed().as_secs_f64());
            // At most one round in this time; a change after a quiet time is applied at once.
            let rest = self.settings.min_sync_period.saturating_sub(started.elapsed());
            tokio::select! { () = tokio::time::sleep(rest) => {}, () = shutdown.cancelled() => return Ok(()) }
            tokio::select! {
                result = timeout(full_at.saturating_duration_since(Instant::now()), self.marked.wake.notified()) => if result.is_err() {
                    // Somebody else may have touched our table.
                    self.dirty = true;
                    full_at = Instant::now() + self.settings.sync_period;
                },
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }

    async fn round(&mut self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        if std::mem::take(&mut *self.marked.node.lock()) {
            self.look_at_node();
        }
        let mut names = std::mem::take(&mut *self.marked.services.lock());
        if self.dirty {
            names.extend(self.services.keys().iter().map(ToString::to_string));
            names.extend(self.applied.keys().cloned());
        }
        let node_ips = self.node_port_ips();
        let empty = BTreeSet::new();
        let mut script = String::new();
        let mut changes = [Change::default(), Change::default()];
        let mut next: BTreeMap<String, Applied> = BTreeMap::new();
        let mut stale: BTreeSet<Stale> = BTreeSet::new();
        if self.dirty {
            script.extend(self.contexts.iter().map(|c| nft::base(c, self.settings.masquerade_mark)));
        }
        let old_ips = if self.dirty { &empty } else { &self.node_ips };
        script.extend(self.contexts.iter().map(|c| nft::node_port_ips(c, old_ips, &node_ips)));
        let nothing = Applied::default();
        for name in &names {
            let new = self.compute(name);
            let old = self.applied.get(name).unwrap_or(&nothing);
            for (i, context) in self.contexts.iter().enumerate() {
                let before = if self.dirty { &nothing.pieces[i] } else { &old.pieces[i] };
                changes[i].replace(nft::table(context.ipv6), before, &new.pieces[i]);
            }
            stale.extend(stale_flows(old, &new));
            next.insert(name.clone(), new);
        }
        script.extend(changes.iter().map(Change::script));
        if !script.is_empty() {
            if let Err(e) = nft::apply(&script).await {
                // Nothing was applied: what was taken off the list goes back on it.
                self.marked.services.lock().extend(names);
                return Err(e);
            }
            tracing::debug!(services = names.len(), bytes = script.len(), "rules applied");
        }
        self.dirty = false;
        self.node_ips = node_ips;
        for (name, new) in next {
            self.update_service_health(&name, &new, shutdown);
            if new.ports.is_empty() {
                self.applied.remove(&name);
            } else {
                self.applied.insert(name, new);
            }
        }
        conntrack::delete(&stale).await;
        Ok(())
    }

    /// The rules of a service as it is now.
    fn compute(&self, name: &str) -> Applied {
        let (namespace, service) = name.split_once('/').unwrap_or(("", name));
        let Some(service) = self.services.get(&ObjectKey::namespaced(namespace, service)) else {
            return Applied::default();
        };
        let slices = self.slices.by_index("service", name);
        let mut applied = Applied::default();
        for port in model::service_ports(&service) {
            let endpoints = model::endpoints(&port, &slices, &self.settings.node);
            for (context, piece) in self.contexts.iter().zip(&mut applied.pieces) {
                port_rules(context, &port, &endpoints, piece);
            }
            applied.ports.push((port, endpoints));
        }
        applied
    }

    fn update_service_health(&mut self, name: &str, new: &Applied, shutdown: &CancellationToken) {
        let (namespace, service) = name.split_once('/').unwrap_or(("", name));
        let service = self.services.get(&ObjectKey::namespaced(namespace, service));
        let port = service
            .and_then(|s| s.spec.as_ref()?.health_check_node_port)
            .and_then(|p| u16::try_from(p).ok())
            .filter(|p| *p != 0);
        let local: BTreeSet<IpAddr> =
            new.ports.iter().flat_map(|(_, e)| e).filter(|e| e.local && e.ready).map(|e| e.ip).collect();
        self.service_health.set(name, port, local.len(), &self.health, shutdown);
    }

    /// The node's zone decides which endpoints are near, and its range which traffic is local, if that is how it is told.
    fn look_at_node(&mut self) {
        let node = self.node();
        let zone = node.as_ref().and_then(|n| n.metadata.labels.as_ref()?.get(ZONE).cloned());
        let ranges = node.as_ref().and_then(|n| n.spec.as_ref()?.pod_cidrs.clone()).unwrap_or_default();
        let ranges: Vec<_> = ranges.iter().filter_map(|range| range.parse().ok()).collect();
        let mut changed = false;
        for context in &mut self.contexts {
            let local = self.settings.detect_local.local(context.ipv6, &ranges);
            changed |= context.zone != zone || context.local != local;
            context.zone.clone_from(&zone);
            context.local = local;
        }
        if changed {
            self.marked.services.lock().extend(self.services.keys().iter().map(ToString::to_string));
        }
    }

    fn node(&self) -> Option<Arc<Node>> {
        self.nodes.list().into_iter().next()
    }

    fn node_port_ips(&self) -> BTreeSet<IpAddr> {
        let node = self.node();
        let addresses = node.as_ref().and_then(|n| n.status.as_ref()?.addresses.as_ref());
        let ips = addresses.into_iter().flatten().filter(|a| matches!(a.type_.as_str(), "InternalIP" | "ExternalIP"));
        let ips = ips.filter_map(|a| a.address.parse::<IpAddr>().ok());
        let ranges = &self.settings.node_port_addresses;
        ips.filter(|ip| ranges.is_empty() || ranges.iter().any(|r| r.contains(ip))).collect()
    }
}

/// `namespace/name` of a slice's service.
fn service_of(slice: &EndpointSlice) -> Option<String> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(format!("{}/{name}", slice.metadata.namespace.as_deref().unwrap_or("")))
}

fn stale_flows(old: &Applied, new: &Applied) -> BTreeSet<Stale> {
    let mut stale = BTreeSet::new();
    for (port, before) in &old.ports {
        let after = new.ports.iter().find(|(p, _)| p.port_name == port.port_name && p.protocol == port.protocol);
        stale.extend(conntrack::stale(port, before, after.map_or(&[], |(_, e)| e)));
    }
    for (port, after) in &new.ports {
        if !old.ports.iter().any(|(p, _)| p.port_name == port.port_name && p.protocol == port.protocol) {
            stale.extend(conntrack::stale(port, &[], after));
        }
    }
    stale
}
