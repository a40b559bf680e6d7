//! The node's addresses.

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::NodeAddress;

/// Addresses as `--node-ip` gives them, or that of the interface with the default route, or the first that is not local.
pub fn node_ips(flag: Option<&str>) -> Vec<String> {
    let given: Vec<String> = flag
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|ip| ip.parse::<IpAddr>().is_ok_and(|ip| !ip.is_unspecified()))
        .map(str::to_owned)
        .collect();
    if !given.is_empty() {
        return given;
    }
    let route = default_interface(&std::fs::read_to_string("/proc/net/route").unwrap_or_default());
    let addresses = interface_addresses();
    let by_route = addresses.iter().find(|(name, _)| Some(name) == route.as_ref());
    let any = addresses.iter().find(|(_, ip)| !ip.is_loopback() && !ip.is_link_local());
    by_route.or(any).map(|(_, ip)| ip.to_string()).into_iter().collect()
}

/// The interface of the default route in the text of /proc/net/route.
fn default_interface(routes: &str) -> Option<String> {
    routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        (fields.next()? == "00000000").then(|| name.to_owned())
    })
}

fn interface_addresses() -> Vec<(String, Ipv4Addr)> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            Some((interface.interface_name, address.as_sockaddr_in()?.ip()))
        })
        .collect()
}

/// The addresses of the status.
pub fn addresses(node_name: &str, ips: &[String]) -> Vec<NodeAddress> {
    let internal = ips.iter().map(|ip| NodeAddress { type_: "InternalIP".into(), address: ip.clone() });
    internal.chain([NodeAddress { type_: "Hostname".into(), address: node_name.to_owned() }]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_and_the_default_route_names_the_interface() {
        assert_eq!(node_ips(Some("192.0.2.1,2001:db8::1")), ["192.0.2.1", "2001:db8::1"]);
        let routes = "Iface\tDestination\tGateway\neth1\t0000A8C0\t0\neth0\t00000000\t0101A8C0\n";
        assert_eq!(default_interface(routes).as_deref(), Some("eth0"));
    }
}
