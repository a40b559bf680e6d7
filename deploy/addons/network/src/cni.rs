//! The CNI configuration of this node. That the file is there is what makes a node's network ready, so it is written last.

use anyhow::Context;
use ipnet::IpNet;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Sorts before most others, so that it is the one a runtime takes.
pub const FILE: &str = "10-ferrokube.conflist";

/// A point-to-point link for each pod, so that all traffic passes the host's rules, also between two pods of the node.
pub fn conflist(ranges: &[IpNet], mtu: Option<u32>, bandwidth: bool) -> Value {
    let subnets: Vec<Value> = ranges.iter().map(|range| json!([{"subnet": range.to_string()}])).collect();
    let default = |v6| if v6 { "::/0" } else { "0.0.0.0/0" };
    let routes: Vec<Value> = [false, true]
        .into_iter()
        .filter(|v6| ranges.iter().any(|range| matches!(range, IpNet::V6(_)) == *v6))
        .map(|v6| json!({"dst": default(v6)}))
        .collect();
    let mut link = json!({
        "type": "ptp",
        // Which packets are masqueraded depends on the whole cluster's range, which the plugin does not know.
        "ipMasq": false,
        "ipam": {"type": "host-local", "dataDir": "/var/lib/cni/networks", "ranges": subnets, "routes": routes},
    });
    if let Some(mtu) = mtu {
        link["mtu"] = mtu.into();
    }
    let mut plugins = vec![link, json!({"type": "portmap", "capabilities": {"portMappings": true}})];
    if bandwidth {
        plugins.push(json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}));
    }
    json!({"cniVersion": "0.4.0", "name": "ferrokube", "plugins": plugins})
}

/// Writes the configuration so that a reader sees the old file or the new one, never half of one. False if it was there
/// already.
pub fn write(folder: &Path, conflist: &Value) -> anyhow::Result<bool> {
    let path = folder.join(FILE);
    let text = serde_json::to_string_pretty(conflist)?;
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(false);
    }
    // Runtimes read only names that end in .conf, .conflist or .json.
    let partial = folder.join(format!(".{FILE}.partial"));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&partial, &text))
        .and_then(|()| fs::rename(&partial, &path))
        .with_context(|| {
            format!("writing {}; --cni-conf-dir must be a folder this process may write", path.display())
        })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn every_range_and_a_default_route_per_family() {
        for (texts, routes) in [
            (&["10.244.1.0/24"][..], json!([{"dst": "0.0.0.0/0"}])),
            (&["fd00::/64"], json!([{"dst": "::/0"}])),
            (&["10.244.1.0/24", "fd00::/64"], json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}])),
        ] {
            let list = conflist(&ranges(texts), None, false);
            assert_eq!(list.pointer("/plugins/0/ipam/routes").unwrap(), &routes);
            for (i, text) in texts.iter().enumerate() {
                assert_eq!(list.pointer(&format!("/plugins/0/ipam/ranges/{i}/0/subnet")).unwrap(), text);
            }
            assert!(list.pointer("/plugins/0/mtu").is_none());
        }
    }

    #[test]
    fn plugins_are_those_that_are_there() {
        let types = |bandwidth| {
            let list = conflist(&ranges(&["10.244.1.0/24"]), Some(1450), bandwidth);
            assert_eq!(list.pointer("/plugins/0/mtu").unwrap(), 1450);
            let plugins = list["plugins"].as_array().unwrap().clone();
            plugins.iter().map(|plugin| plugin["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(types(false), ["ptp", "portmap"]);
        assert_eq!(types(true), ["ptp", "portmap", "bandwidth"]);
    }

    #[test]
    fn is_written_once_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let list = conflist(&ranges(&["10.244.1.0/24"]), None, false);
        assert!(write(folder.path(), &list).unwrap());
        assert!(!write(folder.path(), &list).unwrap());
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [FILE]);
    }
}
