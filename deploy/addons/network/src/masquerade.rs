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
}
