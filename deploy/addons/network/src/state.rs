//! What the kernel of this node should have, as a pure function of the nodes and of this machine's links, and the steps
//! that lead there from what it has.

use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// What of a Node matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    /// `spec.podCIDRs`.
    pub ranges: Vec<IpNet>,
    /// Its addresses of the type InternalIP, in the order of its status.
    pub addresses: Vec<IpAddr>,
}

/// A network interface of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub mtu: u32,
    pub up: bool,
    /// Addresses with the length of the network that is directly connected.
    pub addresses: Vec<IpNet>,
}

/// A link-layer address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of a node's end of the tunnel. Every node can compute every other's, so none has to be published. It
    /// follows from the name (FNV-1a), because names are unique and never change; 40 bits keep thousands of nodes apart.
    pub fn of_node(name: &str) -> Mac {
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        // The first byte says unicast and locally administered.
        let [_, _, _, a, b, c, d, e] = (hash ^ (hash >> 40)).to_be_bytes();
        Mac([0x02, a, b, c, d, e])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Where packets to a pod range go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// This node's own range: pods have routes of their own, and what is for none of them must not leave the node.
    Unreachable,
    /// To the node's address on a network that both are connected to.
    Direct { link: u32, gateway: IpAddr },
    /// Into the tunnel, to the far end's address in it.
    Tunnel { gateway: IpAddr },
}

/// The properties of the VXLAN device that can't be changed while it exists, and its MTU, which can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Link that the outer packets leave by.
    pub link: u32,
    /// This node's address in the outer packets.
    pub local: IpAddr,
    pub port: u16,
    pub mac: Mac,
    pub mtu: u32,
}

/// The VXLAN device with everything that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    pub device: Device,
    pub addresses: BTreeSet<IpAddr>,
    /// Far ends: link-layer address to the node's address.
    pub forwarding: BTreeMap<Mac, IpAddr>,
    /// Addresses in the tunnel to link-layer addresses.
    pub neighbours: BTreeMap<IpAddr, Mac>,
}

/// What the kernel has, or should have, of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub routes: BTreeMap<IpNet, Route>,
    pub tunnel: Option<Tunnel>,
}

/// The state that is wanted, and what else follows from the same input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    pub state: State,
    /// The largest packet that pods may send without it being cut on the way to other nodes.
    pub pod_mtu: Option<u32>,
    /// Nodes that there is no way to, with the reason.
    pub unreachable: Vec<(String, &'static str)>,
}

/// What VXLAN, UDP and IP put in front of a packet, in bytes.
fn overhead(outer: &IpAddr) -> u32 {
    if outer.is_ipv4() { 50 } else { 70 }
}

fn same_family(range: &IpNet, address: &IpAddr) -> bool {
    matches!((range, address), (IpNet::V4(_), IpAddr::V4(_)) | (IpNet::V6(_), IpAddr::V6(_)))
}

/// The link with a network that has this address in it; the longest network wins, as in the kernel.
fn connected(links: &[Link], address: &IpAddr) -> Option<u32> {
    let networks = links.iter().filter(|link| link.up).flat_map(|link| link.addresses.iter().map(move |n| (link, n)));
    let shared = networks.filter(|(_, network)| {
        network.prefix_len() < network.max_prefix_len() && network.contains(address) && network.addr() != *address
    });
    shared.max_by_key(|(_, network)| network.prefix_len()).map(|(link, _)| link.index)
}

/// What `own` should have so that its pods reach those of all `peers`, given the links of this machine without the tunnel.
pub fn desired<'a>(own: &Peer, peers: impl IntoIterator<Item = &'a Peer>, links: &[Link], port: u16) -> Desired {
    let mut routes: BTreeMap<IpNet, Route> = own.ranges.iter().map(|range| (*range, Route::Unreachable)).collect();
    // Outer packets have one family: that of this node's first address, found on one of its links.
    let holds = |link: &&Link, address: &IpAddr| link.addresses.iter().any(|network| network.addr() == *address);
    let underlay = own.addresses.iter().find_map(|address| {
        let link = links.iter().find(|link| holds(link, address))?;
        Some((*address, link))
    });
    let device = underlay.map(|(local, link)| Device {
        link: link.index,
        local,
        port,
        mac: Mac::of_node(&own.name),
        mtu: link.mtu.saturating_sub(overhead(&local)),
    });
    let (mut forwarding, mut neighbours) = (BTreeMap::new(), BTreeMap::new());
    let mut unreachable = Vec::new();
    for peer in peers.into_iter().filter(|peer| peer.name != own.name) {
        for range in &peer.ranges {
            if routes.contains_key(range) {
                unreachable.push((peer.name.clone(), "another node has the same pod range"));
                continue;
            }
            let of_family = peer.addresses.iter().filter(|address| same_family(range, address));
            let direct = of_family.filter_map(|address| Some((connected(links, address)?, *address))).next();
            if let Some((link, gateway)) = direct {
                routes.insert(*range, Route::Direct { link, gateway });
                continue;
            }
            let Some(device) = &device else {
                unreachable.push((peer.name.clone(), "no link of this machine has this node's InternalIP"));
                continue;
            };
            let outer = peer.addresses.iter().find(|address| address.is_ipv4() == device.local.is_ipv4());
            let Some(outer) = outer else {
                unreachable.push((peer.name.clone(), "it has no InternalIP of this node's family"));
                continue;
            };
            let (mac, gateway) = (Mac::of_node(&peer.name), range.network());
            forwarding.insert(mac, *outer);
            neighbours.insert(gateway, mac);
            routes.insert(*range, Route::Tunnel { gateway });
        }
    }
    let tunnel = device.filter(|_| !forwarding.is_empty()).map(|device| Tunnel {
        device,
        // The range's first address is no pod's. With it in the tunnel, what this node itself sends to pods of other nodes
        // has a source that they answer through the tunnel too.
        addresses: own.ranges.iter().map(IpNet::network).collect(),
        forwarding,
        neighbours,
    });
    let pod_mtu = tunnel.as_ref().map(|tunnel| tunnel.device.mtu).or(underlay.map(|(_, link)| link.mtu));
    Desired { state: State { routes, tunnel }, pod_mtu, unreachable }
}

/// One thing to tell the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    RemoveDevice,
    AddDevice(Device),
    SetMtu(u32),
    AddAddress(IpAddr),
    RemoveAddress(IpAddr),
    SetForwarding(Mac, IpAddr),
    RemoveForwarding(Mac, IpAddr),
    SetNeighbour(IpAddr, Mac),
    RemoveNeighbour(IpAddr, Mac),
    SetRoute(IpNet, Route),
    RemoveRoute(IpNet, Route),
}

/// The steps from what is there to what should be, in an order in which each can be done: a route into the tunnel comes after
/// what it leads to, and goes before it.
pub fn steps(there: &State, wanted: &State) -> Vec<Step> {
    let mut steps = Vec::new();
    let fixed = |device: &Device| Device { mtu: 0, ..device.clone() };
    let mut tunnel_there = there.tunnel.as_ref();
    if let Some(old) = tunnel_there
        && wanted.tunnel.as_ref().is_none_or(|new| fixed(&new.device) != fixed(&old.device))
    {
        steps.push(Step::RemoveDevice);
        tunnel_there = None;
    }
    // Routes into a device go with it.
    let is_there = |route: &Route| tunnel_there.is_some() || !matches!(route, Route::Tunnel { .. });
    let mut ends = Vec::new();
    if let Some(new) = &wanted.tunnel {
        let nothing = Tunnel {
            device: new.device.clone(),
            addresses: BTreeSet::new(),
            forwarding: BTreeMap::new(),
            neighbours: BTreeMap::new(),
        };
        let old = tunnel_there.unwrap_or(&nothing);
        if tunnel_there.is_none() {
            steps.push(Step::AddDevice(new.device.clone()));
        } else if old.device.mtu != new.device.mtu {
            steps.push(Step::SetMtu(new.device.mtu));
        }
        steps.extend(new.addresses.difference(&old.addresses).map(|address| Step::AddAddress(*address)));
        ends.extend(old.addresses.difference(&new.addresses).map(|address| Step::RemoveAddress(*address)));
        for (mac, address) in &new.forwarding {
            match old.forwarding.get(mac) {
                Some(before) if before == address => continue,
                // An entry may have several remotes: a second one is added to the first, not put in its place.
                Some(before) => steps.push(Step::RemoveForwarding(*mac, *before)),
                None => {}
            }
            steps.push(Step::SetForwarding(*mac, *address));
        }
        let gone = old.forwarding.iter().filter(|(mac, _)| !new.forwarding.contains_key(mac));
        ends.extend(gone.map(|(mac, address)| Step::RemoveForwarding(*mac, *address)));
        let changed = new.neighbours.iter().filter(|(address, mac)| old.neighbours.get(address) != Some(mac));
        steps.extend(changed.map(|(address, mac)| Step::SetNeighbour(*address, *mac)));
        let gone = old.neighbours.iter().filter(|(address, _)| !new.neighbours.contains_key(address));
        ends.extend(gone.map(|(address, mac)| Step::RemoveNeighbour(*address, *mac)));
    }
    let routes_there = || there.routes.iter().filter(|(_, route)| is_there(route));
    let gone = routes_there().filter(|(range, _)| !wanted.routes.contains_key(range));
    steps.extend(gone.map(|(range, route)| Step::RemoveRoute(*range, route.clone())));
    for (range, route) in &wanted.routes {
        match there.routes.get(range).filter(|old| is_there(old)) {
            Some(old) if old == route => continue,
            // The kernel replaces an IPv6 route only by one of the same kind, and adds any other beside it.
            Some(old) if matches!(range, IpNet::V6(_)) => steps.push(Step::RemoveRoute(*range, old.clone())),
            _ => {}
        }
        steps.push(Step::SetRoute(*range, route.clone()));
    }
    steps.extend(ends);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, ranges: &[&str], addresses: &[&str]) -> Peer {
        Peer {
            name: name.into(),
            ranges: ranges.iter().map(|r| r.parse().unwrap()).collect(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        }
    }

    fn link(index: u32, addresses: &[&str]) -> Link {
        Link { index, mtu: 1500, up: true, addresses: addresses.iter().map(|a| a.parse().unwrap()).collect() }
    }

    /// A route as a word, for tables.
    fn word(route: &Route) -> String {
        match route {
            Route::Unreachable => "unreachable".into(),
            Route::Direct { link, gateway } => format!("{gateway} on {link}"),
            Route::Tunnel { gateway } => format!("tunnel {gateway}"),
        }
    }

    fn own() -> Peer {
        peer("a", &["10.244.0.0/24", "fd00:0:0:1::/64"], &["192.168.1.10", "fd10::10"])
    }

    #[test]
    fn each_pair_goes_the_shortest_way() {
        let links =
            [link(1, &["127.0.0.1/8"]), link(2, &["192.168.1.10/24", "192.168.0.9/16"]), link(3, &["fd10::10/64"])];
        for (other, want) in [
            (peer("b", &["10.244.1.0/24"], &["192.168.1.11"]), vec![("10.244.1.0/24", "192.168.1.11 on 2")]),
            (peer("b", &["10.244.1.0/24"], &["192.168.7.11"]), vec![("10.244.1.0/24", "192.168.7.11 on 2")]),
            (peer("b", &["10.244.1.0/24"], &["203.0.113.5"]), vec![("10.244.1.0/24", "tunnel 10.244.1.0")]),
            (
                peer("b", &["10.244.1.0/24", "fd00:0:0:2::/64"], &["192.168.1.11", "fd10::11"]),
                vec![("10.244.1.0/24", "192.168.1.11 on 2"), ("fd00:0:0:2::/64", "fd10::11 on 3")],
            ),
            // Only one family of the pair is on a common network.
            (
                peer("b", &["10.244.1.0/24", "fd00:0:0:2::/64"], &["192.168.1.11"]),
                vec![("10.244.1.0/24", "192.168.1.11 on 2"), ("fd00:0:0:2::/64", "tunnel fd00:0:0:2::")],
            ),
            // A node without a range, and one without an address in this node's family.
            (peer("b", &[], &["192.168.1.11"]), vec![]),
            (peer("b", &["10.244.1.0/24"], &["2001:db8::5"]), vec![]),
            // Two nodes with one range: it stays this node's.
            (peer("b", &["10.244.0.0/24"], &["192.168.1.11"]), vec![]),
        ] {
            let got = desired(&own(), [&own(), &other], &links, 8472);
            let mut routes: BTreeMap<String, String> =
                got.state.routes.iter().map(|(range, route)| (range.to_string(), word(route))).collect();
            for range in own().ranges {
                assert_eq!(routes.remove(&range.to_string()).as_deref(), Some("unreachable"));
            }
            let want: BTreeMap<String, String> = want.into_iter().map(|(r, w)| (r.into(), w.into())).collect();
            assert_eq!(routes, want, "{other:?}");
            let tunnelled = want.values().any(|w| w.starts_with("tunnel"));
            assert_eq!(got.state.tunnel.is_some(), tunnelled, "{other:?}");
            assert_eq!(got.pod_mtu, Some(if tunnelled { 1450 } else { 1500 }));
            assert_eq!(got.unreachable.is_empty(), want.len() == other.ranges.len(), "{other:?}");
        }
    }

    #[test]
    fn a_link_that_is_down_or_a_network_of_one_address_connects_nobody() {
        let other = peer("b", &["10.244.1.0/24"], &["192.168.1.11"]);
        let down = Link { up: false, ..link(2, &["192.168.1.10/24"]) };
        for links in [vec![down], vec![link(2, &["192.168.1.10/32"])]] {
            let got = desired(&own(), [&other], &links, 8472);
            assert_eq!(word(&got.state.routes[&other.ranges[0]]), "tunnel 10.244.1.0");
        }
        let got = desired(&own(), [&other], &[], 8472);
        assert_eq!(got.unreachable, [("b".to_owned(), "no link of this machine has this node's InternalIP")]);
    }

    #[test]
    fn the_tunnel_has_an_entry_for_each_far_end() {
        let others = [peer("b", &["10.244.1.0/24"], &["203.0.113.5"]), peer("c", &["10.244.2.0/24"], &["203.0.113.6"])];
        let got = desired(&own(), &others, &[link(2, &["192.168.1.10/24"])], 4789);
        let tunnel = got.state.tunnel.unwrap();
        let device = &tunnel.device;
        assert_eq!((device.link, device.port, device.mtu, device.mac), (2, 4789, 1450, Mac::of_node("a")));
        assert_eq!(tunnel.forwarding[&Mac::of_node("b")].to_string(), "203.0.113.5");
        assert_eq!(tunnel.neighbours[&"10.244.2.0".parse::<IpAddr>().unwrap()], Mac::of_node("c"));
        assert!(tunnel.addresses.contains(&"10.244.0.0".parse().unwrap()));
        let outer_v6 = peer("a", &["10.244.0.0/24"], &["2001:db8::1"]);
        let far = peer("b", &["10.244.1.0/24"], &["2001:db8:1::5"]);
        let got = desired(&outer_v6, [&far], &[link(2, &["2001:db8::1/64"])], 8472);
        assert_eq!(got.state.tunnel.unwrap().device.mtu, 1430);
    }

    #[test]
    fn addresses_of_far_ends_differ_and_are_local_unicast() {
        let all: BTreeSet<Mac> = (0..5000).map(|i| Mac::of_node(&format!("node-{i}"))).collect();
        assert_eq!(all.len(), 5000);
        assert!(all.iter().all(|mac| mac.0[0] & 3 == 2));
    }

    #[test]
    fn steps_lead_from_one_state_to_the_other_and_touch_only_what_changed() {
        let links = [link(2, &["192.168.1.10/24"])];
        let state = |others: &[Peer]| desired(&own(), others, &links, 8472).state;
        let b = peer("b", &["10.244.1.0/24"], &["192.168.1.11"]);
        let c = peer("c", &["10.244.2.0/24"], &["203.0.113.5"]);
        let moved = peer("c", &["10.244.2.0/24"], &["203.0.113.6"]);
        let nobody = state(&[]);
        for (what, from, to, count) in [
            ("a start: the two unreachable ranges", State::default(), nobody.clone(), 2),
            ("nothing changed", state(&[b.clone(), c.clone()]), state(&[b.clone(), c.clone()]), 0),
            ("a direct node comes: its route", nobody.clone(), state(std::slice::from_ref(&b)), 1),
            ("a direct node goes: its route", state(std::slice::from_ref(&b)), nobody.clone(), 1),
            // Device, two addresses, forwarding, neighbour, route.
            ("the first far node comes", nobody.clone(), state(std::slice::from_ref(&c)), 6),
            (
                "the last far node goes, and its route with the device",
                state(std::slice::from_ref(&c)),
                nobody.clone(),
                1,
            ),
            ("a far node moves: old and new forwarding", state(std::slice::from_ref(&c)), state(&[moved]), 2),
        ] {
            let steps = steps(&from, &to);
            assert_eq!(steps.len(), count, "{what}: {steps:#?}");
        }
    }

    #[test]
    fn a_device_that_can_not_be_changed_is_made_anew_with_its_routes() {
        let c = peer("c", &["10.244.2.0/24"], &["203.0.113.5"]);
        let state = |port| desired(&own(), [&c], &[link(2, &["192.168.1.10/24"])], port).state;
        let steps = steps(&state(8472), &state(4789));
        assert_eq!(steps[0], Step::RemoveDevice);
        assert!(matches!(&steps[1], Step::AddDevice(device) if device.port == 4789));
        assert!(
            matches!(steps.last(), Some(Step::SetRoute(range, Route::Tunnel { .. })) if range.to_string() == "10.244.2.0/24")
        );
    }

    #[test]
    fn an_ipv6_route_is_removed_before_another_takes_its_place() {
        let range: IpNet = "fd00:0:0:2::/64".parse().unwrap();
        let state = |route| State { routes: [(range, route)].into(), tunnel: None };
        let direct = Route::Direct { link: 2, gateway: "fd10::11".parse().unwrap() };
        let steps = steps(&state(Route::Unreachable), &state(direct.clone()));
        assert_eq!(steps, [Step::RemoveRoute(range, Route::Unreachable), Step::SetRoute(range, direct)]);
    }
}
