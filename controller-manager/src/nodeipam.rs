//! node-ipam-controller: gives every node its share of the pod network (`--allocate-node-cidrs`).

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use component_base::{
    controller::{self, Action},
    events::{Recorder, Type},
    informer::{ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    common::{Doing, Error, Result, meta},
    context::Context,
    options::NetworkOptions,
};

const MASK_V4: u8 = 24;
const MASK_V6: u8 = 64;
/// Shares of one cluster network that are tracked, as upstream limits them.
const MASK_DIFFERENCE_MAX: u8 = 16;

pub async fn run(context: Context) {
    let network = &context.options.network;
    if !network.allocate_node_cidrs {
        return;
    }
    let pools = match pools(network) {
        Ok(pools) => pools,
        Err(error) => {
            tracing::error!(%error, "Cannot give nodes their pod networks");
            return;
        }
    };
    let allocator = Allocator {
        nodes: context.factory.store(Scope::all()),
        pools: Mutex::new(pools),
        client: context.client.clone(),
        recorder: context.recorder("cidrAllocator"),
    };
    let queue = WorkQueue::new("node_cidr_allocator");
    allocator.nodes.synced().await;
    // What nodes have already comes before anybody is given something new.
    allocator.nodes.list().iter().for_each(|node| allocator.occupy(node));
    let feed = queue.clone();
    allocator.nodes.on_change(move |change| feed.add(change.key()));
    let shared = &allocator;
    controller::run(
        context.name,
        queue,
        1,
        context.shutdown.clone(),
        |key| async move { shared.reconcile(&key).await },
    )
    .await;
}

struct Allocator {
    nodes: Store<Node>,
    pools: Mutex<Vec<Pool>>,
    client: Client,
    recorder: Recorder,
}

impl Allocator {
    fn occupy(&self, node: &Node) {
        let mut pools = self.pools.lock();
        for cidr in cidrs(node) {
            if let Some(pool) = pools.iter_mut().find(|pool| pool.network.contains(&cidr)) {
                pool.occupy(cidr, meta::name(node));
            }
        }
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let Some(node) = self.nodes.get(key) else {
            self.pools.lock().iter_mut().for_each(|pool| pool.release(&key.name));
            return Ok(Action::Done);
        };
        if !cidrs(&node).is_empty() {
            self.occupy(&node);
            return Ok(Action::Done);
        }
        let shares: Option<Vec<IpNet>> = self.pools.lock().iter_mut().map(|pool| pool.allocate(&key.name)).collect();
        let Some(shares) = shares else {
            self.pools.lock().iter_mut().for_each(|pool| pool.release(&key.name));
            let message = format!("Node {key} status is now: CIDRNotAvailable");
            self.recorder.event(node.as_ref(), Type::Normal, "CIDRNotAvailable", message);
            return Err(Error::Invalid("--cluster-cidr is used up: no pod network is left for the node".into()));
        };
        let texts: Vec<String> = shares.iter().map(IpNet::to_string).collect();
        let patch = Patch::Strategic(json!({"spec": {"podCIDR": texts[0], "podCIDRs": texts}}));
        let api: Api<Node> = Api::all(self.client.clone());
        let patched = api.patch(&key.name, &PatchParams::default(), &patch).await;
        patched.or_gone(|| format!("set the pod network of node {key}"))?;
        tracing::info!(node = %key, cidrs = texts.join(","), "Set node PodCIDR");
        Ok(Action::Done)
    }
}

fn cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    all.filter_map(|cidr| cidr.parse().ok()).collect()
}

/// One cluster network, divided into equal shares.
#[derive(Debug)]
struct Pool {
    network: IpNet,
    mask: u8,
    /// Not to be given away: the Services' network.
    reserved: Vec<IpNet>,
    owners: HashMap<u32, String>,
    next: u32,
}

impl Pool {
    fn new(network: IpNet, mask: u8, reserved: Vec<IpNet>) -> Result<Self> {
        let own = network.prefix_len();
        if mask < own || mask > network.max_prefix_len() || mask - own > MASK_DIFFERENCE_MAX {
            return Err(Error::Invalid(format!(
                "nodes cannot get /{mask} networks of {network}: change --node-cidr-mask-size to between {own} and {}",
                own + MASK_DIFFERENCE_MAX
            )));
        }
        Ok(Self { network: network.trunc(), mask, reserved, owners: HashMap::new(), next: 0 })
    }

    fn len(&self) -> u32 {
        1 << (self.mask - self.network.prefix_len())
    }

    fn share(&self, index: u32) -> IpNet {
        // `mask` was checked against the family, so the networks are valid.
        match self.network.network() {
            IpAddr::V4(base) => {
                let address =
                    Ipv4Addr::from(u32::from(base) | index.checked_shl(u32::from(32 - self.mask)).unwrap_or(0));
                IpNet::V4(Ipv4Net::new_assert(address, self.mask))
            }
            IpAddr::V6(base) => {
                let offset = u128::from(index).checked_shl(u32::from(128 - self.mask)).unwrap_or(0);
                IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(u128::from(base) | offset), self.mask))
            }
        }
    }

    fn index(&self, cidr: IpNet) -> u32 {
        match (self.network.network(), cidr.network()) {
            (IpAddr::V4(base), IpAddr::V4(own)) => {
                (u32::from(own) - u32::from(base)).checked_shr(u32::from(32 - self.mask)).unwrap_or(0)
            }
            (IpAddr::V6(base), IpAddr::V6(own)) => {
                let offset = (u128::from(own) - u128::from(base)).checked_shr(u32::from(128 - self.mask));
                u32::try_from(offset.unwrap_or(0)).unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// A network that a node has: it may span several shares if the mask was another one before.
    fn occupy(&mut self, cidr: IpNet, node: &str) {
        let span = 1u32.checked_shl(u32::from(self.mask.saturating_sub(cidr.prefix_len()))).unwrap_or(u32::MAX);
        let first = self.index(cidr);
        for index in first..first.saturating_add(span).min(self.len()) {
            self.owners.entry(index).or_insert_with(|| node.to_owned());
        }
    }

    /// The next free share; those given back last are used last.
    fn allocate(&mut self, node: &str) -> Option<IpNet> {
        for step in 0..self.len() {
            let index = (self.next + step) % self.len();
            let share = self.share(index);
            let overlaps = |other: &IpNet| other.contains(&share) || share.contains(other);
            if !self.owners.contains_key(&index) && !self.reserved.iter().any(overlaps) {
                self.owners.insert(index, node.to_owned());
                self.next = (index + 1) % self.len();
                return Some(share);
            }
        }
        None
    }

    fn release(&mut self, node: &str) {
        self.owners.retain(|_, owner| owner != node);
    }
}

fn pools(options: &NetworkOptions) -> Result<Vec<Pool>> {
    if options.cluster_cidr.is_empty() {
        return Err(Error::Invalid("--allocate-node-cidrs needs --cluster-cidr".into()));
    }
    let dual = options.cluster_cidr.len() > 1;
    let pool = |network: &IpNet| {
        let single = options.node_cidr_mask_size.filter(|_| !dual);
        let mask = match network {
            IpNet::V4(_) => options.node_cidr_mask_size_ipv4.or(single).unwrap_or(MASK_V4),
            IpNet::V6(_) => options.node_cidr_mask_size_ipv6.or(single).unwrap_or(MASK_V6),
        };
        Pool::new(*network, mask, options.service_cluster_ip_range.clone())
    };
    options.cluster_cidr.iter().map(pool).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(network: &str, mask: u8, reserved: &[&str]) -> Pool {
        let reserved = reserved.iter().map(|cidr| cidr.parse().unwrap()).collect();
        Pool::new(network.parse().unwrap(), mask, reserved).unwrap()
    }

    #[test]
    fn shares_are_distinct_until_used_up() {
        for (network, mask, first, last) in [
            ("10.244.0.0/16", 24, "10.244.0.0/24", "10.244.255.0/24"),
            ("10.0.0.0/22", 24, "10.0.0.0/24", "10.0.3.0/24"),
            ("fd00:10:244::/56", 64, "fd00:10:244::/64", "fd00:10:244:ff::/64"),
        ] {
            let mut pool = pool(network, mask, &[]);
            let shares: Vec<_> = std::iter::from_fn(|| pool.allocate("n").map(|share| share.to_string())).collect();
            assert_eq!(shares.first().map(String::as_str), Some(first));
            assert_eq!(shares.last().map(String::as_str), Some(last));
            pool.release("n");
            assert!(pool.allocate("m").is_some());
        }
    }

    #[test]
    fn what_is_taken_or_reserved_is_not_given() {
        let mut pool = pool("10.0.0.0/22", 24, &["10.0.1.0/25"]);
        pool.occupy("10.0.2.0/23".parse().unwrap(), "old");
        assert_eq!(pool.allocate("a").unwrap().to_string(), "10.0.0.0/24");
        assert_eq!(pool.allocate("b"), None);
        pool.release("old");
        assert_eq!(pool.allocate("b").unwrap().to_string(), "10.0.2.0/24");
    }

    #[test]
    fn masks_that_do_not_fit_are_refused() {
        for (network, mask) in [("10.0.0.0/16", 8), ("10.0.0.0/8", 28), ("10.0.0.0/16", 33)] {
            assert!(Pool::new(network.parse().unwrap(), mask, Vec::new()).is_err(), "{network} /{mask}");
        }
    }
}
