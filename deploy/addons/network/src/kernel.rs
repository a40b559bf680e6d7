//! The kernel's links, routes and neighbours, over netlink.

use crate::state::{Device, Link, Mac, Route, State, Step, Tunnel};
use anyhow::Context;
use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{
    Handle, LinkUnspec, LinkVxlan, MulticastGroup, RouteMessageBuilder, new_connection, new_multicast_connection,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tokio_util::task::AbortOnDropHandle;

/// Written on every route of ours, so that they are known again after a restart. No routing program that iproute2 names has it.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(102);
/// Name and number of the tunnel.
const DEVICE: &str = "ferrokube.vx";
const VNI: u32 = 1;

/// What the kernel said when it was asked.
pub struct Observed {
    /// Links of this machine without the tunnel.
    pub links: Vec<Link>,
    pub state: State,
    /// Index of the tunnel, while there is one.
    device: Option<u32>,
}

/// A connection to the kernel. It ends with this value.
pub struct Kernel {
    handle: Handle,
    _task: AbortOnDropHandle<()>,
}

impl Kernel {
    pub fn connect() -> anyhow::Result<Kernel> {
        let (connection, handle, _) = new_connection().context("opening a netlink socket")?;
        Ok(Kernel { handle, _task: AbortOnDropHandle::new(tokio::spawn(connection)) })
    }

    /// What there is of ours.
    pub async fn observe(&self) -> anyhow::Result<Observed> {
        let mut links: BTreeMap<u32, Link> = BTreeMap::new();
        let mut device = None;
        let mut messages = self.handle.link().get().execute();
        while let Some(message) = messages.try_next().await.context("listing links")? {
            let index = message.header.index;
            let attribute = |a: &LinkAttribute| if let LinkAttribute::Mtu(mtu) = a { Some(*mtu) } else { None };
            let mtu = message.attributes.iter().find_map(attribute).unwrap_or_default();
            if message.attributes.contains(&LinkAttribute::IfName(DEVICE.into())) {
                device = Some((index, vxlan(&message, mtu)));
            } else {
                let up = message.header.flags.contains(LinkFlags::Up);
                links.insert(index, Link { index, mtu, up, addresses: Vec::new() });
            }
        }
        let mut in_tunnel = BTreeSet::new();
        let mut messages = self.handle.address().get().execute();
        while let Some(message) = messages.try_next().await.context("listing addresses")? {
            let Some(network) = network(&message) else { continue };
            if let Some(link) = links.get_mut(&message.header.index) {
                link.addresses.push(network);
            } else if device.as_ref().is_some_and(|(index, _)| *index == message.header.index)
                && network.prefix_len() == network.max_prefix_len()
            {
                in_tunnel.insert(network.addr());
            }
        }
        let index = device.as_ref().map(|(index, _)| *index);
        let routes = self.routes(index).await?;
        let tunnel = match device {
            Some((index, device)) => {
                let (forwarding, neighbours) = self.far_ends(index).await?;
                Some(Tunnel { device, addresses: in_tunnel, forwarding, neighbours })
            }
            None => None,
        };
        Ok(Observed { links: links.into_values().collect(), state: State { routes, tunnel }, device: index })
    }

    /// Routes of our protocol.
    async fn routes(&self, device: Option<u32>) -> anyhow::Result<BTreeMap<IpNet, Route>> {
        let mut routes = BTreeMap::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut query = RouteMessage::default();
            query.header.address_family = family;
            let mut messages = self.handle.route().get(query).execute();
            while let Some(message) = messages.try_next().await.context("listing routes")? {
                if message.header.protocol == PROTOCOL
                    && let Some((range, route)) = route(&message, device)
                {
                    routes.insert(range, route);
                }
            }
        }
        Ok(routes)
    }

    /// What is in the tunnel: link-layer addresses of far ends, and addresses in it.
    async fn far_ends(&self, index: u32) -> anyhow::Result<(BTreeMap<Mac, IpAddr>, BTreeMap<IpAddr, Mac>)> {
        let (mut forwarding, mut neighbours) = (BTreeMap::new(), BTreeMap::new());
        for family in [AddressFamily::Bridge, AddressFamily::Inet, AddressFamily::Inet6] {
            let mut messages = self.handle.neighbours().get().set_address_family(family).execute();
            while let Some(message) = messages.try_next().await.context("listing neighbours")? {
                if message.header.ifindex != index || message.header.state != NeighbourState::Permanent {
                    continue;
                }
                let Some((address, mac)) = neighbour(&message) else { continue };
                match family {
                    AddressFamily::Bridge => forwarding.insert(mac, address).map(|_| ()),
                    _ => neighbours.insert(address, mac).map(|_| ()),
                };
            }
        }
        Ok((forwarding, neighbours))
    }

    /// Does the steps in their order, up to the first that fails.
    pub async fn apply(&self, steps: &[Step], observed: &Observed) -> anyhow::Result<()> {
        let mut device = observed.device;
        for step in steps {
            if let Step::AddDevice(wanted) = step {
                device = Some(self.add_device(wanted).await.with_context(|| format!("adding the device {DEVICE}"))?);
                continue;
            }
            match self.apply_one(step, device.unwrap_or_default()).await {
                Ok(()) => {}
                Err(error) if is_gone(&error) && step.removes() => {}
                Err(error) => return Err(error).with_context(|| format!("telling the kernel to {}", step.describe())),
            }
        }
        Ok(())
    }

    async fn apply_one(&self, step: &Step, device: u32) -> Result<(), rtnetlink::Error> {
        match step {
            Step::AddDevice(_) => Ok(()), // Done by the caller, who needs its index.
            Step::RemoveDevice => self.handle.link().del(device).execute().await,
            Step::SetMtu(mtu) => {
                let message = LinkUnspec::new_with_index(device).mtu(*mtu).build();
                self.handle.link().change(message).execute().await
            }
            Step::AddAddress(address) => {
                let mut request = self.handle.address().add(device, *address, full_length(address)).replace();
                // Nobody else can have it, and asking takes a second in which it is of no use.
                request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
                request.execute().await
            }
            Step::RemoveAddress(address) => {
                let mut message = AddressMessage::default();
                message.header.index = device;
                message.header.family = family(address);
                message.header.prefix_len = full_length(address);
                message.attributes.push(AddressAttribute::Local(*address));
                self.handle.address().del(message).execute().await
            }
            Step::SetForwarding(mac, remote) => {
                let request = self.handle.neighbours().add_bridge(device, &mac.0).destination(*remote);
                request.flags(NeighbourFlags::Own).replace().execute().await
            }
            Step::RemoveForwarding(mac, remote) => {
                let mut message = neighbour_message(device, AddressFamily::Bridge, *remote, *mac);
                message.header.flags = NeighbourFlags::Own;
                self.handle.neighbours().del(message).execute().await
            }
            Step::SetNeighbour(address, mac) => {
                let request = self.handle.neighbours().add(device, *address).link_layer_address(&mac.0);
                request.replace().execute().await
            }
            Step::RemoveNeighbour(address, mac) => {
                let message = neighbour_message(device, family(address), *address, *mac);
                self.handle.neighbours().del(message).execute().await
            }
            Step::SetRoute(range, route) => {
                self.handle.route().add(route_message(range, route, device)).replace().execute().await
            }
            Step::RemoveRoute(range, route) => {
                self.handle.route().del(route_message(range, route, device)).execute().await
            }
        }
    }

    async fn add_device(&self, wanted: &Device) -> anyhow::Result<u32> {
        let builder = LinkVxlan::new(DEVICE, VNI).dev(wanted.link).port(wanted.port).learning(false);
        let builder = match wanted.local {
            IpAddr::V4(local) => builder.local(local),
            IpAddr::V6(local) => builder.local6(local),
        };
        let message = builder.mtu(wanted.mtu).address(wanted.mac.0.to_vec()).up().build();
        let added = self.handle.link().add(message).execute().await;
        added.context("the kernel must have vxlan, and no other device may have its port and number")?;
        let mut found = self.handle.link().get().match_name(DEVICE).execute();
        let link = found.try_next().await?.context("it went away at once")?;
        Ok(link.header.index)
    }
}

impl Step {
    fn removes(&self) -> bool {
        matches!(
            self,
            Step::RemoveDevice
                | Step::RemoveAddress(_)
                | Step::RemoveForwarding(..)
                | Step::RemoveNeighbour(..)
                | Step::RemoveRoute(..)
        )
    }

    fn describe(&self) -> String {
        match self {
            Step::RemoveDevice => format!("remove the device {DEVICE}"),
            Step::AddDevice(device) => format!("add {DEVICE} over link {}", device.link),
            Step::SetMtu(mtu) => format!("set the MTU of {DEVICE} to {mtu}"),
            Step::AddAddress(address) => format!("add the address {address} to {DEVICE}"),
            Step::RemoveAddress(address) => format!("remove the address {address} of {DEVICE}"),
            Step::SetForwarding(mac, remote) => format!("forward {mac} to {remote}"),
            Step::RemoveForwarding(mac, remote) => format!("forward {mac} no longer to {remote}"),
            Step::SetNeighbour(address, mac) => format!("take {mac} for {address} in {DEVICE}"),
            Step::RemoveNeighbour(address, _) => format!("forget {address} in {DEVICE}"),
            Step::SetRoute(range, route) => format!("set the route to {range} to {route:?}"),
            Step::RemoveRoute(range, _) => format!("remove the route to {range}"),
        }
    }
}

/// Whether what should be removed was not there any more.
fn is_gone(error: &rtnetlink::Error) -> bool {
    let rtnetlink::Error::NetlinkError(message) = error else { return false };
    let errors = [libc::ESRCH, libc::ENOENT, libc::ENODEV, libc::EADDRNOTAVAIL];
    errors.contains(&-message.raw_code())
}

/// Calls `changed` whenever somebody changes a link, an address, or removes a route of ours, until the task is dropped.
pub fn watch(changed: impl Fn() + Send + 'static) -> anyhow::Result<AbortOnDropHandle<()>> {
    use futures::StreamExt;
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, _, mut messages) =
        new_multicast_connection(&groups).context("opening a netlink socket for the kernel's messages")?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        let _connection = connection;
        while let Some((message, _)) = messages.next().await {
            let NetlinkPayload::InnerMessage(message) = message.payload else { continue };
            match message {
                RouteNetlinkMessage::NewRoute(_) => {}
                RouteNetlinkMessage::DelRoute(route) if route.header.protocol != PROTOCOL => {}
                _ => changed(),
            }
        }
    })))
}

/// The device as it is. One that is down, learns, or has another number is said to have no port, so that it is made anew.
fn vxlan(message: &LinkMessage, mtu: u32) -> Device {
    let mut device = Device { link: 0, local: IpAddr::from([0; 4]), port: 0, mac: Mac([0; 6]), mtu };
    let (mut number, mut learns) = (None, true);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => device.mac = mac(bytes).unwrap_or(device.mac),
            LinkAttribute::LinkInfo(infos) => {
                let data = infos.iter().find_map(|info| match info {
                    LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
                    _ => None,
                });
                for info in data.into_iter().flatten() {
                    match info {
                        InfoVxlan::Id(id) => number = Some(*id),
                        InfoVxlan::Link(link) => device.link = *link,
                        InfoVxlan::Local(local) => device.local = IpAddr::V4(*local),
                        InfoVxlan::Local6(local) => device.local = IpAddr::V6(*local),
                        InfoVxlan::Port(port) => device.port = *port,
                        InfoVxlan::Learning(learning) => learns = *learning,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if number != Some(VNI) || learns || !message.header.flags.contains(LinkFlags::Up) {
        device.port = 0;
    }
    device
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    Some(Mac(bytes.try_into().ok()?))
}

/// An address of a link with the network that it connects.
fn network(message: &AddressMessage) -> Option<IpNet> {
    let local =
        message.attributes.iter().find_map(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None });
    let address =
        message.attributes.iter().find_map(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None });
    IpNet::new(local.or(address)?, message.header.prefix_len).ok()
}

fn route(message: &RouteMessage, device: Option<u32>) -> Option<(IpNet, Route)> {
    let (mut destination, mut gateway, mut link) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let range = IpNet::new(destination?, message.header.destination_prefix_length).ok()?;
    let route = match (message.header.kind, gateway, link) {
        (RouteType::Unreachable, ..) => Route::Unreachable,
        (RouteType::Unicast, Some(gateway), Some(link)) if Some(link) == device => Route::Tunnel { gateway },
        // One without a gateway is not ours to make; it is seen as what it can't be, and so set right.
        (_, gateway, link) => Route::Direct { link: link.unwrap_or(0), gateway: gateway.unwrap_or(range.network()) },
    };
    Some((range, route))
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

fn neighbour(message: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    let (mut address, mut link_layer) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::V4(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::V6(*ip)),
            // An entry of a forwarding table does not say of which family its remote is.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
                address = v4.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from)).ok();
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => link_layer = mac(bytes),
            _ => {}
        }
    }
    Some((address?, link_layer?))
}

fn neighbour_message(device: u32, family: AddressFamily, address: IpAddr, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = device;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    // A neighbour is named by its address alone.
    if family == AddressFamily::Bridge {
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    }
    message
}

fn route_message(range: &IpNet, route: &Route, device: u32) -> RouteMessage {
    let (kind, way, onlink) = match route {
        Route::Unreachable => (RouteType::Unreachable, None, false),
        Route::Direct { link, gateway } => (RouteType::Unicast, Some((*link, *gateway)), false),
        // The far end's address is in no network of the device.
        Route::Tunnel { gateway } => (RouteType::Unicast, Some((device, *gateway)), true),
    };
    macro_rules! build {
        ($range:expr, $Ip:ty, $Variant:path) => {{
            let mut builder = RouteMessageBuilder::<$Ip>::new().protocol(PROTOCOL).kind(kind);
            builder = builder.destination_prefix($range.network(), $range.prefix_len());
            if let Some((link, gateway)) = way {
                builder = builder.output_interface(link);
                if let $Variant(gateway) = gateway {
                    builder = builder.gateway(gateway);
                }
            }
            if onlink { builder.onlink().build() } else { builder.build() }
        }};
    }
    match range {
        IpNet::V4(range) => build!(range, std::net::Ipv4Addr, IpAddr::V4),
        IpNet::V6(range) => build!(range, std::net::Ipv6Addr, IpAddr::V6),
    }
}

fn family(address: &IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn full_length(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Peer, desired, steps};
    use crate::testing::Machine;

    /// Runs a test on a machine of its own.
    fn on_a_machine<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
        let Some(machine) = Machine::start() else { return };
        machine.block_on(test);
    }

    fn ip(arguments: &str) {
        let output = std::process::Command::new("ip").args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn peer(name: &str, ranges: &[&str], addresses: &[&str]) -> Peer {
        Peer {
            name: name.into(),
            ranges: ranges.iter().map(|r| r.parse().unwrap()).collect(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn the_kernel_has_what_was_asked_for_and_nothing_stale() {
        on_a_machine(|| async {
            ip("link add uplink type bridge");
            ip("address add 192.168.1.10/24 dev uplink");
            ip("address add fd10::10/64 dev uplink nodad");
            ip("link set uplink up");
            // What another program made stays; what an earlier run of ours made goes.
            ip("route add 10.9.0.0/24 via 192.168.1.99");
            ip("route add 10.244.9.0/24 via 192.168.1.99 proto 102");
            let own = peer("a", &["10.244.0.0/24", "fd00:0:0:1::/64"], &["192.168.1.10", "fd10::10"]);
            let near = peer("b", &["10.244.1.0/24", "fd00:0:0:2::/64"], &["192.168.1.11", "fd10::11"]);
            let far = peer("c", &["10.244.2.0/24", "fd00:0:0:3::/64"], &["203.0.113.5"]);
            let moved = peer("c", &["10.244.2.0/24", "fd00:0:0:3::/64"], &["203.0.113.6"]);
            let near_as_far = peer("b", &["10.244.1.0/24", "fd00:0:0:2::/64"], &["198.51.100.7"]);
            let kernel = Kernel::connect().unwrap();
            for (what, others, port) in [
                ("near and far", vec![near.clone(), far.clone()], 8472),
                ("a far node moves", vec![near.clone(), moved.clone()], 8472),
                ("a near node goes far", vec![near_as_far, moved.clone()], 8472),
                ("and back", vec![near.clone(), moved], 8472),
                ("another port", vec![near.clone(), far], 4789),
                ("only near", vec![near], 4789),
                ("alone", vec![], 4789),
            ] {
                let observed = kernel.observe().await.unwrap();
                let wanted = desired(&own, &others, &observed.links, port);
                assert_eq!(wanted.unreachable, [], "{what}");
                kernel.apply(&steps(&observed.state, &wanted.state), &observed).await.unwrap();
                let observed = kernel.observe().await.unwrap();
                assert_eq!(observed.state, wanted.state, "{what}");
                assert_eq!(steps(&observed.state, &wanted.state), [], "{what}");
            }
            let output = std::process::Command::new("ip").args(["route", "show", "10.9.0.0/24"]).output().unwrap();
            assert!(!output.stdout.is_empty(), "a route of somebody else was removed");
        });
    }

    #[test]
    fn losing_a_route_of_ours_is_told() {
        on_a_machine(|| async {
            let woken = std::sync::Arc::new(tokio::sync::Notify::new());
            let wake = woken.clone();
            let _watch = watch(move || wake.notify_one()).unwrap();
            ip("route add unreachable 10.244.0.0/24 proto 102");
            ip("route del unreachable 10.244.0.0/24 proto 102");
            tokio::time::timeout(std::time::Duration::from_secs(5), woken.notified()).await.expect("nothing was told");
        });
    }

    /// Two nodes, each on a network of its own with a router between them. Pods are addresses of the nodes here: what they send
    /// takes the same way.
    #[test]
    fn packets_go_through_the_tunnel_and_back() {
        let Some(router) = Machine::start() else { return };
        router.forward();
        let names = ["a", "b"];
        let peers = [
            peer("a", &["10.244.0.0/24", "fd00:0:0:1::/64"], &["192.0.2.2"]),
            peer("b", &["10.244.1.0/24", "fd00:0:0:2::/64"], &["198.51.100.2"]),
        ];
        let nodes = [("192.0.2", "10.244.0.5", "fd00:0:0:1::5"), ("198.51.100", "10.244.1.5", "fd00:0:0:2::5")];
        let machines: Vec<Machine> = names
            .iter()
            .zip(nodes)
            .map(|(name, (network, v4, v6))| {
                let machine = Machine::start().unwrap();
                router.ip(format!("link add to-{name} type veth peer name eth0 netns {}", machine.thread_id));
                router.ip(format!("address add {network}.1/24 dev to-{name}"));
                router.ip(format!("link set to-{name} up"));
                for command in [
                    format!("address add {network}.2/24 dev eth0"),
                    "link set eth0 up".into(),
                    format!("route add default via {network}.1"),
                    format!("address add {v4}/32 dev lo"),
                    format!("address add {v6}/128 dev lo"),
                ] {
                    machine.ip(command);
                }
                let (own, all) = (peers.iter().find(|peer| peer.name == **name).unwrap().clone(), peers.clone());
                machine.block_on(move || async move {
                    let kernel = Kernel::connect().unwrap();
                    let observed = kernel.observe().await.unwrap();
                    let wanted = desired(&own, &all, &observed.links, 8472);
                    assert_eq!(wanted.pod_mtu, Some(1450));
                    kernel.apply(&steps(&observed.state, &wanted.state), &observed).await.unwrap();
                });
                machine.listen(80);
                machine
            })
            .collect();
        for address in ["10.244.1.5", "fd00:0:0:2::5"] {
            assert!(machines[0].connect(address, 80).is_some(), "{address}");
        }
        for address in ["10.244.0.5", "fd00:0:0:1::5"] {
            assert!(machines[1].connect(address, 80).is_some(), "{address}");
        }
        assert!(machines[0].connect("10.244.1.6", 80).is_none(), "nobody has this address");
    }
}
