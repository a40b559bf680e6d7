//! Pods' packets to the outside get the node's address: nobody outside knows the way back to a pod.
//!
//! Packets within the cluster keep theirs, so that policies and logs see who sent them. What a Service sends back to the pod
//! that asked is masqueraded by the service proxy in a table of its own; nothing here accepts or marks a packet, so the two
//! don't meet.

use ipnet::IpNet;

/// The table of the masquerading, as scripts name it.
pub const TABLE: &str = "inet ferrokube-network";

/// A script that puts the table in the place of the one that was there. `own` are this node's pod ranges, `cluster` those of
/// all nodes.
pub fn script(own: &[IpNet], cluster: &[IpNet]) -> String {
    let mut script = format!(
        "add table {TABLE}\ndelete table {TABLE}\nadd table {TABLE} {{ comment \"pod network: masquerading\" ; }}\n\
         add chain {TABLE} postrouting {{ type nat hook postrouting priority srcnat ; }}\n"
    );
    for (family, v6) in [("ip", false), ("ip6", true)] {
        let of_family = |ranges: &[IpNet]| {
            let texts = ranges.iter().filter(|range| matches!(range, IpNet::V6(_)) == v6).map(ToString::to_string);
            texts.collect::<Vec<_>>().join(", ")
        };
        let sources = of_family(own);
        if sources.is_empty() {
            continue;
        }
        let inside = of_family(&[cluster, own].concat());
        let set = |name: &str, elements: &str| {
            format!(
                "add set {TABLE} {name}-{family} {{ type {}_addr ; flags interval ; auto-merge ; }}\n\
                 add element {TABLE} {name}-{family} {{ {elements} }}\n",
                if v6 { "ipv6" } else { "ipv4" }
            )
        };
        script.push_str(&set("node-pods", &sources));
        script.push_str(&set("cluster-pods", &inside));
        script.push_str(&format!(
            "add rule {TABLE} postrouting {family} saddr @node-pods-{family} {family} daddr != @cluster-pods-{family} \
             fib daddr type != {{ local, broadcast, multicast }} masquerade fully-random\n"
        ));
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_that_pods_have_is_masqueraded() {
        let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        for (own, cluster, rules) in [
            (&["10.244.1.0/24"][..], &["10.244.0.0/16"][..], 1),
            (&["10.244.1.0/24", "fd00::/64"], &["10.244.0.0/16", "fd00::/56"], 2),
            (&["fd00::/64"], &[], 1),
            (&[], &["10.244.0.0/16"], 0),
        ] {
            let script = script(&ranges(own), &ranges(cluster));
            assert_eq!(script.matches("masquerade fully-random").count(), rules, "{script}");
        }
    }

    #[test]
    fn nft_takes_the_script_also_a_second_time() {
        use std::io::Write;
        let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let text = script(&ranges(&["10.244.1.0/24", "fd00::/64"]), &ranges(&["10.244.0.0/16", "fd00::/56"]));
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--net", "nft", "-f", "-"])
            .stdin(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let Ok(mut child) = command.spawn() else { return eprintln!("skipped: there is no unshare") };
        child.stdin.take().unwrap().write_all(text.repeat(2).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        if error.contains("Operation not permitted") || error.contains("No such file") {
            return eprintln!("skipped: this needs root and nft ({error})");
        }
        assert!(output.status.success(), "{error}");
    }

    /// Who has no way back to pods is reached all the same; who has one only to pods is reached too, and so sees the pod's address.
    #[test]
    fn packets_to_the_outside_come_from_the_node_and_others_from_the_pod() {
        use crate::testing::Machine;
        let Some(node) = Machine::start() else { return };
        node.forward();
        let attach = |name: &str, node_has: &str, has: &str, way_back: &[&str]| {
            let machine = Machine::start().unwrap();
            node.ip(format!("link add {name} type veth peer name eth0 netns {}", machine.thread_id));
            node.ip(format!("address add {node_has} dev {name}"));
            node.ip(format!("link set {name} up"));
            machine.ip(format!("address add {has} dev eth0"));
            machine.ip("link set eth0 up".into());
            for route in way_back {
                machine.ip(format!("route add {route}"));
            }
            machine
        };
        let pod = attach("to-pod", "10.244.0.1/24", "10.244.0.2/24", &["default via 10.244.0.1"]);
        let outside = attach("to-outside", "192.0.2.1/24", "192.0.2.5/24", &[]);
        let far_pod = attach(
            "to-far",
            "172.16.0.1/24",
            "10.244.1.2/32",
            &["172.16.0.1 dev eth0", "10.244.0.0/24 via 172.16.0.1"],
        );
        node.ip("route add 10.244.1.2 dev to-far".into());
        // A service that a pod reaches itself through, as a proxy makes it.
        node.apply(
            "add table ip service
add chain ip service in { type nat hook prerouting priority dstnat ; }
add rule ip service in ip daddr 10.96.0.1 tcp dport 80 dnat to 10.244.0.2:80
add chain ip service out { type nat hook postrouting priority srcnat ; }
add rule ip service out ip saddr 10.244.0.2 ip daddr 10.244.0.2 masquerade
"
            .into(),
        );
        for machine in [&pod, &outside, &far_pod] {
            machine.listen(80);
        }
        assert!(pod.connect("192.0.2.5", 80).is_none(), "the outside knows the way to pods: this test shows nothing");
        node.apply(script(&["10.244.0.0/24".parse().unwrap()], &["10.244.0.0/16".parse().unwrap()]));
        assert!(pod.connect("192.0.2.5", 80).is_some(), "to the outside");
        assert!(pod.connect("10.244.1.2", 80).is_some(), "to a pod of another node");
        assert!(pod.connect("10.96.0.1", 80).is_some(), "to itself through a service");
        node.listen(80);
        assert!(pod.connect("192.0.2.1", 80).is_some(), "to the node");
    }
}
