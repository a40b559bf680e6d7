//! Addresses and ports of services, set aside before a service is stored.
//!
//! A cluster IP is taken by creating an `IPAddress` object of that name, which etcd lets only one server do; a node port by
//! setting a bit in the one `RangeAllocation` of ports. Both live in etcd, so they survive restarts and are safe with several
//! servers. (KEP-1880.)

mod cluster_ip;
mod node_port;

use apimachinery::Value;
use apimachinery::validation::FieldError;
use cluster_ip::ClusterIps;
use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::allocator::{Allocation, Allocator};
use ipnet::IpNet;
use node_port::NodePorts;
use registry::resource::Resource;
use request::status::{Result, Status};
use std::collections::BTreeSet;

/// Sets aside what services need.
pub struct ServiceAllocator {
    ips: ClusterIps,
    ports: NodePorts,
}

impl ServiceAllocator {
    /// `ranges`: one address range per IP family, the first is the default; `ports`: `first-last`.
    pub fn new(ranges: Vec<IpNet>, ports: &str) -> anyhow::Result<ServiceAllocator> {
        Ok(ServiceAllocator { ips: ClusterIps::new(ranges)?, ports: NodePorts::new(ports)? })
    }
}

fn invalid(service: &Value, error: FieldError) -> Status {
    Status::invalid("", "Service", service["metadata"]["name"].as_str().unwrap_or(""), &[error])
}

/// Addresses and ports that a service holds, as allocations.
fn held(service: &Value) -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    for ip in service["spec"]["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if ip != "None" && !ip.is_empty() {
            held.insert(format!("ip:{ip}"));
        }
    }
    held.extend(node_port::ports(service).into_iter().map(|p| format!("port:{p}")));
    held
}

impl Allocator for ServiceAllocator {
    fn concerns(&self, row: &Resource) -> bool {
        row.kind.group.is_empty() && row.plural == "services"
    }

    fn allocate<'a>(
        &'a self,
        api: &'a Api,
        service: &'a mut Value,
        old: Option<&'a Value>,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Vec<Allocation>>> {
        Box::pin(async move {
            let mut taken = Vec::new();
            let result = async {
                self.ips.assign(api, service, old, dry_run, &mut taken).await?;
                self.ports.assign(api, service, old, dry_run, &mut taken).await
            };
            match result.await {
                Ok(()) => Ok(taken),
                Err(status) => {
                    self.release(api, taken).await;
                    Err(status)
                }
            }
        })
    }

    fn released(&self, old: &Value, new: Option<&Value>) -> Vec<Allocation> {
        let kept = new.map(held).unwrap_or_default();
        held(old).into_iter().filter(|h| !kept.contains(h)).map(|what| Allocation { what }).collect()
    }

    fn release<'a>(&'a self, api: &'a Api, allocations: Vec<Allocation>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for allocation in allocations {
                let result = match allocation.what.split_once(':') {
                    Some(("ip", ip)) => self.ips.release(api, ip).await,
                    Some((_, port)) => self.ports.release(api, port.parse().unwrap_or(0)).await,
                    None => Ok(()),
                };
                if let Err(status) = result {
                    tracing::warn!(
                        what = allocation.what,
                        error = status.message,
                        "could not give back; it stays taken until repaired"
                    );
                }
            }
        })
    }
}
