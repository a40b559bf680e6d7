//! Cluster IPs, and the IP families of a service.

use super::invalid;
use apimachinery::Value;
use apimachinery::validation::{FieldError, Path};
use handlers::api::Api;
use handlers::api::allocator::Allocation;
use handlers::write::Write;
use ipnet::IpNet;
use request::User;
use request::options::DeleteOptions;
use request::status::{Result, Status};
use serde_json::json;
use std::net::IpAddr;

/// Addresses that are tried before a range counts as full.
const TRIES: usize = 64;

pub struct ClusterIps {
    ranges: Vec<IpNet>,
}

impl ClusterIps {
    pub fn new(ranges: Vec<IpNet>) -> anyhow::Result<ClusterIps> {
        anyhow::ensure!(
            !ranges.is_empty() && ranges.len() <= 2,
            "--service-cluster-ip-range takes one range or one of each IP family"
        );
        Ok(ClusterIps { ranges })
    }

    fn range(&self, family: &str) -> Option<&IpNet> {
        self.ranges.iter().find(|r| family_of(r.addr()) == family)
    }

    /// Fills in families and addresses.
    pub async fn assign(
        &self,
        api: &Api,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
        taken: &mut Vec<Allocation>,
    ) -> Result<()> {
        let spec = &service["spec"];
        if spec["type"] == "ExternalName" {
            if let Some(spec) = service["spec"].as_object_mut() {
                for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                    spec.remove(name);
                }
            }
            return Ok(());
        }
        let first = spec["clusterIP"].as_str().unwrap_or("").to_owned();
        let mut ips: Vec<String> = spec["clusterIPs"]
            .as_array()
            .map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default();
        if ips.is_empty() && !first.is_empty() {
            ips.push(first.clone());
        }
        let headless = ips.first().is_some_and(|ip| ip == "None");
        let families = self.families(service, &ips, headless)?;
        if headless {
            service["spec"]["clusterIP"] = "None".into();
            service["spec"]["clusterIPs"] = json!(["None"]);
            return Ok(());
        }
        let had: Vec<&str> = old
            .and_then(|o| o["spec"]["clusterIPs"].as_array())
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (i, family) in families.iter().enumerate() {
            match ips.get(i) {
                Some(ip) if had.contains(&ip.as_str()) => {}
                Some(ip) => self.take_this(api, service, ip, dry_run, taken).await?,
                None => {
                    let ip = self.take_any(api, service, family, dry_run, taken).await?;
                    ips.push(ip);
                }
            }
        }
        ips.truncate(families.len());
        service["spec"]["clusterIP"] = ips.first().cloned().unwrap_or_default().into();
        service["spec"]["clusterIPs"] = ips.into();
        Ok(())
    }

    /// The families of a service: those it names, those of its addresses, else the cluster's.
    fn families(&self, service: &mut Value, ips: &[String], headless: bool) -> Result<Vec<String>> {
        let default = family_of(self.ranges[0].addr());
        let spec = &service["spec"];
        let mut families: Vec<String> = spec["ipFamilies"]
            .as_array()
            .map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default();
        let mut policy = spec["ipFamilyPolicy"].as_str().unwrap_or("").to_owned();
        let selectorless = headless && spec["selector"].as_object().is_none_or(|s| s.is_empty());
        if families.is_empty() {
            families.extend(ips.iter().filter_map(|ip| ip.parse().ok()).map(|ip: IpAddr| family_of(ip).to_owned()));
        }
        if families.is_empty() {
            families.push(default.to_owned());
        }
        if policy.is_empty() {
            policy = match families.len() > 1 || ips.len() > 1 {
                true => "RequireDualStack".into(),
                false if selectorless => "RequireDualStack".into(),
                false => "SingleStack".into(),
            };
        }
        for (i, family) in families.iter().enumerate() {
            if self.range(family).is_none() && !selectorless {
                let path = Path::new("spec.ipFamilies").index(i);
                return Err(invalid(
                    service,
                    FieldError::invalid(&path, family.as_str(), "not configured on this cluster"),
                ));
            }
        }
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        let both = self.ranges.len() == 2 || selectorless;
        match policy.as_str() {
            "RequireDualStack" if !both => {
                let path = Path::new("spec.ipFamilyPolicy");
                let why = "this cluster is not configured for dual-stack services";
                return Err(invalid(service, FieldError::invalid(&path, policy.as_str(), why)));
            }
            "RequireDualStack" | "PreferDualStack" if both && families.len() < 2 => families.push(other.to_owned()),
            "SingleStack" => families.truncate(1),
            _ => {}
        }
        service["spec"]["ipFamilies"] = families.clone().into();
        service["spec"]["ipFamilyPolicy"] = policy.into();
        Ok(families)
    }

    async fn take_this(
        &self,
        api: &Api,
        service: &Value,
        ip: &str,
        dry_run: bool,
        taken: &mut Vec<Allocation>,
    ) -> Result<()> {
        let path = Path::new("spec.clusterIPs");
        let refused = |why: &str| {
            let why = format!("failed to allocate IP {ip}: {why}");
            invalid(service, FieldError::invalid(&path, service["spec"]["clusterIPs"].clone(), why))
        };
        let Ok(address) = ip.parse::<IpAddr>() else { return Ok(()) }; // validation has said so
        let range = self.ranges.iter().find(|r| r.contains(&address));
        let Some(range) = range else {
            let all: Vec<String> = self.ranges.iter().map(ToString::to_string).collect();
            return Err(refused(&format!(
                "the provided network does not contain the address; valid IPs are in {}",
                all.join(", ")
            )));
        };
        if address == range.network() || address == range.broadcast() && address.is_ipv4() {
            return Err(refused("the first and last address of a range are not given out"));
        }
        if !dry_run && !self.create(api, service, address, taken).await? {
            return Err(refused("provided IP is already allocated"));
        }
        Ok(())
    }

    async fn take_any(
        &self,
        api: &Api,
        service: &Value,
        family: &str,
        dry_run: bool,
        taken: &mut Vec<Allocation>,
    ) -> Result<String> {
        let range = self.range(family).ok_or_else(|| Status::internal(format!("no service range for {family}")))?;
        for attempt in 0..TRIES {
            let ip = random_address(range, attempt);
            if dry_run || self.create(api, service, ip, taken).await? {
                return Ok(ip.to_string());
            }
        }
        Err(Status::internal(format!("failed to allocate a serviceIP: range {range} is full")))
    }

    /// Creates the IPAddress; false if somebody has it.
    async fn create(&self, api: &Api, service: &Value, ip: IpAddr, taken: &mut Vec<Allocation>) -> Result<bool> {
        let endpoint = api.builtin("networking.k8s.io", "v1", "ipaddresses")?;
        let user = User::apiserver();
        let mut write = Write::internal(api, &endpoint, &user, "", &name_of(ip));
        let object = json!({
            "metadata": {
                "name": name_of(ip),
                "labels": {
                    "ipaddress.kubernetes.io/ip-family": family_of(ip),
                    "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
                },
            },
            "spec": {"parentRef": {
                "group": "", "resource": "services",
                "namespace": service["metadata"]["namespace"], "name": service["metadata"]["name"],
            }},
        });
        match Box::pin(write.create(object, Vec::new())).await {
            Ok(_) => {
                taken.push(Allocation { what: format!("ip:{ip}") });
                Ok(true)
            }
            Err(status) if status.reason == "AlreadyExists" => Ok(false),
            Err(status) => Err(status),
        }
    }

    pub async fn release(&self, api: &Api, ip: &str) -> Result<()> {
        let Ok(ip) = ip.parse::<IpAddr>() else { return Ok(()) };
        let endpoint = api.builtin("networking.k8s.io", "v1", "ipaddresses")?;
        let user = User::apiserver();
        let write = Write::internal(api, &endpoint, &user, "", &name_of(ip));
        match Box::pin(write.delete(&DeleteOptions::default(), &mut Vec::new())).await {
            Err(status) if status.reason != "NotFound" => Err(status),
            _ => Ok(()),
        }
    }
}

pub fn family_of(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The name of an address's object: the address itself, IPv6 in full with dashes is not needed, colons are not allowed in names.
fn name_of(ip: IpAddr) -> String {
    ip.to_string()
}

/// An address of a range: random, from the upper part first, since people choose fixed addresses from the lower one. (KEP-3070.)
fn random_address(range: &IpNet, attempt: usize) -> IpAddr {
    match range {
        IpNet::V4(net) => {
            let size = 1u64 << (32 - u32::from(net.prefix_len()));
            let offset = pick(size.saturating_sub(1), attempt);
            IpAddr::V4((u32::from(net.network()) + offset as u32).into())
        }
        IpNet::V6(net) => {
            let bits = (128 - u32::from(net.prefix_len())).min(32);
            let offset = pick(1u64 << bits, attempt);
            IpAddr::V6((u128::from(net.network()) + u128::from(offset)).into())
        }
    }
}

/// An offset in 1..end; the first tries keep out of the band at the bottom.
fn pick(end: u64, attempt: usize) -> u64 {
    let band = (end / 16).clamp(16, 256);
    let start = if attempt < TRIES / 2 && end > band + 1 { band } else { 1 };
    rand::random_range(start..end.max(start + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lie_in_the_range_and_are_neither_its_first_nor_its_last() {
        let range: IpNet = "10.96.0.0/28".parse().unwrap();
        for attempt in 0..TRIES {
            for _ in 0..20 {
                let ip = random_address(&range, attempt);
                assert!(range.contains(&ip) && ip != range.network() && ip != range.broadcast(), "{ip}");
            }
        }
    }
}
