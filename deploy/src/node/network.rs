//! The network that the nodes of this machine are on: a bridge, and a link from it into each node's namespace.

use super::{LocalNode, namespaces};
use crate::runtime::run;
use anyhow::Context;
use std::net::Ipv4Addr;
use std::path::Path;

/// The bridge, and the machine's own end of the network.
const BRIDGE: &str = "ferrokube0";
const BITS: u8 = 24;
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 245, 0, 0);
/// What the nodes send to the outside leaves under the machine's address.
const TABLE: &str = "ferrokube-nodes";
/// The link's name inside.
const INSIDE: &str = "eth0";

/// The address of the machine itself, which is its first node.
pub fn first_address() -> Ipv4Addr {
    address(0)
}

/// The address of the node at a place.
pub fn address(index: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(NETWORK) + 1 + u32::from(index))
}

/// The end of the node's link on this machine.
fn link(node: &LocalNode) -> String {
    format!("ferrokube-n{}", node.index)
}

/// Makes the bridge, gives the machine an address on it, and lets the nodes out.
pub fn ensure_bridge() -> anyhow::Result<()> {
    if !Path::new("/sys/class/net").join(BRIDGE).exists() {
        run("ip", &["link", "add", BRIDGE, "type", "bridge"])?;
    }
    run("ip", &["address", "replace", &format!("{}/{BITS}", first_address()), "dev", BRIDGE])?;
    run("ip", &["link", "set", BRIDGE, "up"])?;
    let nodes = format!("{NETWORK}/{BITS}");
    // Only what leaves the machine: between nodes and towards pods everybody keeps the address that others know.
    run(
        "nft",
        &[&format!(
            "add table ip {TABLE}; delete table ip {TABLE}; add table ip {TABLE}; \
             add set ip {TABLE} outside {{ type iface_index; }}; \
             add chain ip {TABLE} postrouting {{ type nat hook postrouting priority srcnat; }}; \
             add rule ip {TABLE} postrouting ip saddr {nodes} oif @outside masquerade"
        )],
    )?;
    for link in outside()? {
        run("nft", &[&format!("add element ip {TABLE} outside {{ {link} }}")])?;
    }
    Ok(())
}

/// The links that default routes go through.
fn outside() -> anyhow::Result<Vec<String>> {
    let text = run("ip", &["-json", "route", "show", "default"])?;
    let routes: serde_json::Value = serde_json::from_str(&text).context("reading the routes")?;
    Ok(routes.as_array().into_iter().flatten().filter_map(|r| Some(r["dev"].as_str()?.to_owned())).collect())
}

/// Makes the node's network namespace with its link, address and way out, if they are not there.
pub fn connect(node: &LocalNode) -> anyhow::Result<()> {
    namespaces::create_network(node)?;
    let inside = |arguments: &[&str]| namespaces::in_network(node, "ip", arguments);
    let link = link(node);
    if !Path::new("/sys/class/net").join(&link).exists() {
        // Made from inside, with the other end here: `ip` takes a namespace by name or by a process in it, and this is one.
        let here = std::process::id().to_string();
        inside(&["link", "add", INSIDE, "type", "veth", "peer", "name", &link, "netns", &here])?;
    }
    run("ip", &["link", "set", &link, "master", BRIDGE, "up"])?;
    inside(&["address", "replace", &format!("{}/{BITS}", node.address()), "dev", INSIDE])?;
    inside(&["link", "set", "lo", "up"])?;
    inside(&["link", "set", INSIDE, "up"])?;
    inside(&["route", "replace", "default", "via", &first_address().to_string()])
}

/// Pulls the cable, or plugs it in.
pub fn set_link(node: &LocalNode, up: bool) -> anyhow::Result<()> {
    run("ip", &["link", "set", &link(node), if up { "up" } else { "down" }]).map(|_| ())
}

pub fn is_up(node: &LocalNode) -> bool {
    std::fs::read_to_string(format!("/sys/class/net/{}/operstate", link(node))).is_ok_and(|s| s.trim() == "up")
}

/// Takes the node's link and its namespace away.
pub fn disconnect(node: &LocalNode) -> anyhow::Result<()> {
    let _ = run("ip", &["link", "delete", &link(node)]); // gone already is as good
    namespaces::drop_network(node)
}

/// Takes the bridge and the rules away.
pub fn remove() -> anyhow::Result<()> {
    let _ = run("nft", &["delete", "table", "ip", TABLE]);
    if Path::new("/sys/class/net").join(BRIDGE).exists() {
        run("ip", &["link", "delete", BRIDGE])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_comes_first_and_its_nodes_after_it() {
        assert_eq!(first_address(), Ipv4Addr::new(10, 245, 0, 1));
        assert_eq!(address(1), Ipv4Addr::new(10, 245, 0, 2));
        assert_eq!(address(250), Ipv4Addr::new(10, 245, 0, 251));
        assert!(link(&LocalNode { name: "long-name-of-a-node".into(), index: 250 }).len() < 16, "the kernel's limit");
    }
}
