//! Node ports: bits in one `RangeAllocation`, changed by compare-and-swap.

use super::invalid;
use anyhow::Context;
use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use apimachinery::validation::{FieldError, Path};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use handlers::api::Api;
use handlers::api::allocator::Allocation;
use request::status::{Result, Status};
use serde_json::json;
use std::collections::BTreeSet;
use storage::codec;
use storage::etcd::Outcome;

/// Rounds of the compare-and-swap.
const ROUNDS_MAX: usize = 64;

pub struct NodePorts {
    first: u16,
    last: u16,
}

/// The ports that a service holds on nodes.
pub fn ports(service: &Value) -> BTreeSet<u16> {
    let number = |v: &Value| v.as_u64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
    let mut ports: BTreeSet<u16> =
        service["spec"]["ports"].as_array().into_iter().flatten().filter_map(|p| number(&p["nodePort"])).collect();
    ports.extend(number(&service["spec"]["healthCheckNodePort"]));
    ports
}

fn wants(service: &Value) -> bool {
    let spec = &service["spec"];
    spec["type"] == "NodePort" || spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false
}

impl NodePorts {
    pub fn new(range: &str) -> anyhow::Result<NodePorts> {
        let (first, last) =
            range.split_once('-').context("--service-node-port-range must be first-last, such as 30000-32767")?;
        let (first, last) = (first.trim().parse()?, last.trim().parse()?);
        anyhow::ensure!(first <= last, "--service-node-port-range ends before it starts");
        Ok(NodePorts { first, last })
    }

    /// Fills in the ports that are not given.
    pub async fn assign(
        &self,
        api: &Api,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
        taken: &mut Vec<Allocation>,
    ) -> Result<()> {
        let had = old.map(ports).unwrap_or_default();
        let mut wanted = ports(service);
        if wants(service) {
            let count = service["spec"]["ports"].as_array().map_or(0, Vec::len);
            for i in 0..count {
                let port = &service["spec"]["ports"][i];
                if port["nodePort"].as_u64().unwrap_or(0) != 0 {
                    continue;
                }
                // The same port number for another protocol shares the node port.
                let number = port["port"].clone();
                let shared = (0..i)
                    .map(|j| &service["spec"]["ports"][j])
                    .find(|p| p["port"] == number && p["protocol"] != port["protocol"]);
                let node_port = match shared.and_then(|p| p["nodePort"].as_u64()).filter(|p| *p != 0) {
                    Some(port) => port as u16,
                    None => self.take(api, service, None, &wanted, dry_run, taken).await?,
                };
                wanted.insert(node_port);
                service["spec"]["ports"][i]["nodePort"] = node_port.into();
            }
            let spec = &service["spec"];
            let needs_check = spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local";
            if needs_check && spec["healthCheckNodePort"].as_u64().unwrap_or(0) == 0 {
                let port = self.take(api, service, None, &wanted, dry_run, taken).await?;
                service["spec"]["healthCheckNodePort"] = port.into();
            }
        }
        let new: Vec<u16> = ports(service).into_iter().filter(|p| !had.contains(p)).collect();
        for port in new {
            if !taken.iter().any(|t| t.what == format!("port:{port}")) {
                self.take(api, service, Some(port), &BTreeSet::new(), dry_run, taken).await?;
            }
        }
        Ok(())
    }

    /// Takes `port`, or any that is free and not in `not`.
    async fn take(
        &self,
        api: &Api,
        service: &Value,
        port: Option<u16>,
        not: &BTreeSet<u16>,
        dry_run: bool,
        taken: &mut Vec<Allocation>,
    ) -> Result<u16> {
        let refused = |port: u16, why: String| {
            let at = service["spec"]["ports"]
                .as_array()
                .and_then(|p| p.iter().position(|p| p["nodePort"] == port))
                .unwrap_or(0);
            invalid(service, FieldError::invalid(Path::new("spec.ports").index(at).child("nodePort"), port, why))
        };
        if let Some(port) = port.filter(|p| !(self.first..=self.last).contains(p)) {
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                self.first, self.last
            );
            return Err(refused(port, why));
        }
        for _ in 0..ROUNDS_MAX {
            let (mut bits, revision) = self.read(api).await?;
            let port = match port {
                Some(port) if bits.has(self.offset(port)) => {
                    return Err(refused(port, "provided port is already allocated".into()));
                }
                Some(port) => port,
                None => self
                    .free(&bits, not)
                    .ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))?,
            };
            if dry_run {
                return Ok(port);
            }
            bits.set(self.offset(port), true);
            if self.write(api, bits, revision).await? {
                taken.push(Allocation { what: format!("port:{port}") });
                return Ok(port);
            }
        }
        Err(Status::unavailable("too many servers allocate node ports at once"))
    }

    fn free(&self, bits: &Bits, not: &BTreeSet<u16>) -> Option<u16> {
        let span = u32::from(self.last - self.first) + 1;
        let start = rand::random_range(0..span);
        (0..span)
            .map(|i| self.first + ((start + i) % span) as u16)
            .find(|p| !bits.has(self.offset(*p)) && !not.contains(p))
    }

    pub async fn release(&self, api: &Api, port: u16) -> Result<()> {
        if !(self.first..=self.last).contains(&port) {
            return Ok(());
        }
        for _ in 0..ROUNDS_MAX {
            let (mut bits, revision) = self.read(api).await?;
            if !bits.has(self.offset(port)) {
                return Ok(());
            }
            bits.set(self.offset(port), false);
            if self.write(api, bits, revision).await? {
                return Ok(());
            }
        }
        Err(Status::unavailable("too many servers release node ports at once"))
    }

    fn offset(&self, port: u16) -> usize {
        usize::from(port - self.first)
    }

    fn key(api: &Api) -> String {
        format!("{}/ranges/servicenodeports", api.etcd.prefix)
    }

    async fn read(&self, api: &Api) -> Result<(Bits, u64)> {
        let key = NodePorts::key(api);
        let Some(stored) = api.etcd.get(&key).await? else { return Ok((Bits::default(), 0)) };
        let tree = codec::decode(&key, &stored.value)?;
        if tree["range"] != self.range() {
            return Ok((self.used(api)?, stored.revision)); // the flag changed: what is used counts
        }
        let bytes = STANDARD.decode(tree["data"].as_str().unwrap_or("")).unwrap_or_default();
        Ok((Bits(bytes), stored.revision))
    }

    /// The ports of the services there are.
    fn used(&self, api: &Api) -> Result<Bits> {
        let services = api.builtin("", "v1", "services")?;
        let mut bits = Bits::default();
        for entry in &services.cache()?.snapshot().objects {
            for port in ports(&entry.0.tree()).into_iter().filter(|p| (self.first..=self.last).contains(p)) {
                bits.set(self.offset(port), true);
            }
        }
        Ok(bits)
    }

    fn range(&self) -> String {
        format!("{}-{}", self.first, self.last)
    }

    async fn write(&self, api: &Api, bits: Bits, revision: u64) -> Result<bool> {
        let kind = GroupVersionKind::new("", "v1", "RangeAllocation");
        let mut object = json!({"metadata": {}, "range": self.range(), "data": STANDARD.encode(bits.0)});
        let bytes = codec::encode(api.media, &kind, &mut object);
        Ok(matches!(api.etcd.put_if(&NodePorts::key(api), revision, bytes, 0).await?, Outcome::Done(_)))
    }
}

/// A set of small numbers as upstream writes it: the bytes of one big number, highest first.
#[derive(Default)]
struct Bits(Vec<u8>);

impl Bits {
    fn place(&self, bit: usize) -> Option<usize> {
        self.0.len().checked_sub(1 + bit / 8)
    }

    fn has(&self, bit: usize) -> bool {
        self.place(bit).is_some_and(|at| self.0[at] & (1 << (bit % 8)) != 0)
    }

    fn set(&mut self, bit: usize, on: bool) {
        let missing = (bit / 8 + 1).saturating_sub(self.0.len());
        self.0.splice(0..0, std::iter::repeat_n(0, missing));
        if let Some(at) = self.place(bit) {
            if on { self.0[at] |= 1 << (bit % 8) } else { self.0[at] &= !(1 << (bit % 8)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_the_bytes_of_one_big_number() {
        let mut bits = Bits::default();
        bits.set(9, true);
        bits.set(0, true);
        assert_eq!(bits.0, [0b10, 0b1]);
        assert!(bits.has(9) && bits.has(0) && !bits.has(8) && !bits.has(1000));
        bits.set(9, false);
        assert!(!bits.has(9));
    }
}
