//! Where a Service is: its cluster IP, through which kube-proxy leads, or (`--enable-aggregator-routing`) one of its ready
//! endpoints. Read from the caches on every call: a connection follows the Service when that moves.

use apimachinery::Value;
use std::sync::Arc;
use storage::cache::Cache;

/// Why a Service cannot be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("service {0:?} not found")]
    NotFound(String),
    #[error("no service port {port} found for service {name:?}")]
    NoPort { name: String, port: u16 },
    #[error("cannot route to service with ClusterIP \"None\"")]
    Headless,
    #[error("unsupported service type {0:?}")]
    Unsupported(String),
    #[error("no endpoints available for service {0:?}")]
    NoEndpoints(String),
}

/// Finds Services.
#[derive(Default)]
pub struct Resolver {
    services: Option<Arc<Cache>>,
    slices: Option<Arc<Cache>>,
    /// Go to endpoints, not to the cluster IP.
    to_endpoints: bool,
    /// This server's own port: the Service `kubernetes` is here, whatever its address.
    own_port: u16,
}

impl Resolver {
    /// Reads Services and EndpointSlices from these caches.
    pub fn new(
        services: Option<Arc<Cache>>,
        slices: Option<Arc<Cache>>,
        to_endpoints: bool,
        own_port: u16,
    ) -> Resolver {
        Resolver { services, slices, to_endpoints, own_port }
    }

    /// Host and port to connect to.
    ///
    /// # Errors
    /// When there is no such Service, port or endpoint.
    pub fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<(String, u16), ResolveError> {
        if (namespace, name) == ("default", "kubernetes") {
            return Ok(("127.0.0.1".into(), self.own_port));
        }
        let service = self.service(namespace, name).ok_or_else(|| ResolveError::NotFound(name.to_owned()))?;
        let spec = &service["spec"];
        match spec["type"].as_str().unwrap_or("ClusterIP") {
            "ExternalName" => Ok((spec["externalName"].as_str().unwrap_or("").to_owned(), port)),
            "ClusterIP" | "NodePort" | "LoadBalancer" => {
                let chosen =
                    port_of(&service, port).ok_or_else(|| ResolveError::NoPort { name: name.to_owned(), port })?;
                if self.to_endpoints {
                    let found = self.endpoints(namespace, name, chosen["name"].as_str().unwrap_or(""));
                    return match found.len() {
                        0 => Err(ResolveError::NoEndpoints(name.to_owned())),
                        n => Ok(found[rand::random_range(0..n)].clone()),
                    };
                }
                match spec["clusterIP"].as_str().unwrap_or("") {
                    "" | "None" => Err(ResolveError::Headless),
                    ip => Ok((ip.to_owned(), port)),
                }
            }
            other => Err(ResolveError::Unsupported(other.to_owned())),
        }
    }

    /// The Service as the cache has it.
    pub fn service(&self, namespace: &str, name: &str) -> Option<Value> {
        Some(self.services.as_ref()?.get(&format!("{namespace}/{name}"))?.tree())
    }

    /// Whether there are any slices of a Service.
    pub fn has_slices(&self, namespace: &str, service: &str) -> bool {
        let Some(slices) = &self.slices else { return false };
        let (snapshot, prefix) = (slices.snapshot(), format!("{namespace}/"));
        snapshot.range(&prefix, "").any(|s| s.label("kubernetes.io/service-name") == Some(service))
    }

    /// Addresses of the ready endpoints of a port.
    pub fn endpoints(&self, namespace: &str, service: &str, port_name: &str) -> Vec<(String, u16)> {
        let Some(slices) = &self.slices else { return Vec::new() };
        let (snapshot, prefix) = (slices.snapshot(), format!("{namespace}/"));
        let of_service = snapshot.range(&prefix, "").filter(|s| s.label("kubernetes.io/service-name") == Some(service));
        of_service.flat_map(|slice| ready(&slice.tree(), port_name)).collect()
    }
}

/// The port of a Service with that number.
pub fn port_of(service: &Value, port: u16) -> Option<&Value> {
    service["spec"]["ports"].as_array()?.iter().find(|p| p["port"] == port)
}

fn ready(slice: &Value, port_name: &str) -> Vec<(String, u16)> {
    let mut ports = slice["ports"].as_array().into_iter().flatten();
    let port = ports.find(|p| p["name"].as_str().unwrap_or("") == port_name);
    let Some(port) = port.and_then(|p| u16::try_from(p["port"].as_u64()?).ok()) else { return Vec::new() };
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let addresses = endpoints
        .filter(|e| e["conditions"]["ready"] != false)
        .filter_map(|e| e["addresses"][0].as_str().map(|address| (address.to_owned(), port)));
    addresses.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use storage::freshness::Progress;
    use storage::object::Layout;

    fn cache(prefix: &str, objects: &[(&str, Value)]) -> Option<Arc<Cache>> {
        let cache = Cache::new(prefix.into(), Layout::default(), None, Arc::<Progress>::default());
        let made: Vec<_> = objects.iter().map(|(key, value)| cache.object(key, 1, value.clone())).collect();
        cache.load(made.into_iter(), 1);
        Some(Arc::new(cache))
    }

    fn resolver(to_endpoints: bool) -> Resolver {
        let service = |spec: Value| json!({"metadata": {}, "spec": spec});
        let services = [
            (
                "n/plain",
                service(json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": [{"port": 443, "name": "p"}]})),
            ),
            ("n/headless", service(json!({"type": "ClusterIP", "clusterIP": "None", "ports": [{"port": 443}]}))),
            ("n/outside", service(json!({"type": "ExternalName", "externalName": "e.example"}))),
        ];
        let slice = json!({"metadata": {"labels": {"kubernetes.io/service-name": "plain"}},
            "ports": [{"name": "p", "port": 8443}],
            "endpoints": [{"addresses": ["1.1.1.1"], "conditions": {"ready": false}}, {"addresses": ["2.2.2.2"]}]});
        Resolver {
            services: cache("/s/", &services),
            slices: cache("/e/", &[("n/plain-1", slice)]),
            to_endpoints,
            own_port: 6443,
        }
    }

    #[test]
    fn services_are_found() {
        let at = |host: &str, port| Ok((host.to_owned(), port));
        for (to_endpoints, namespace, name, port, want) in [
            (false, "n", "plain", 443, at("10.0.0.1", 443)),
            (true, "n", "plain", 443, at("2.2.2.2", 8443)),
            (false, "n", "plain", 80, Err(ResolveError::NoPort { name: "plain".into(), port: 80 })),
            (false, "n", "headless", 443, Err(ResolveError::Headless)),
            (true, "n", "headless", 443, Err(ResolveError::NoEndpoints("headless".into()))),
            (false, "n", "outside", 443, at("e.example", 443)),
            (false, "n", "none", 443, Err(ResolveError::NotFound("none".into()))),
            (false, "default", "kubernetes", 443, at("127.0.0.1", 6443)),
        ] {
            assert_eq!(resolver(to_endpoints).resolve(namespace, name, port), want, "{name} {port} {to_endpoints}");
        }
    }
}
