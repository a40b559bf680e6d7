//! The quality of service class of a pod: what the kubelet evicts first.

use std::collections::BTreeMap;

use apimachinery::Value;
use apimachinery::quantity::Quantity;

use registry::edit::{get, items};

const RESOURCES: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed` where every container's requests of CPU and memory are its limits, `BestEffort` where nothing is asked for,
/// otherwise `Burstable`. Resources of the whole pod stand before those of its containers.
pub fn class(spec: &Value) -> &'static str {
    let pod_level =
        get(spec, "resources").filter(|r| !amounts(r, "requests").is_empty() || !amounts(r, "limits").is_empty());
    let of_containers =
        || items(spec, "containers").iter().chain(items(spec, "initContainers")).map(|c| &c["resources"]);
    let lists: Vec<&Value> = pod_level.map_or_else(|| of_containers().collect(), |r| vec![r]);

    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    let mut all_limited = true;
    for resources in lists {
        add(&mut requests, amounts(resources, "requests"));
        let own = amounts(resources, "limits");
        all_limited &= own.len() == RESOURCES.len();
        add(&mut limits, own);
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if all_limited && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// CPU and memory of a list, where there is any.
fn amounts(resources: &Value, list: &str) -> Vec<(&'static str, Quantity)> {
    let amount = |name: &'static str| Quantity::parse(resources[list][name].as_str()?).ok().map(|q| (name, q));
    RESOURCES.into_iter().filter_map(amount).filter(|(_, q)| q.sign() > 0).collect()
}

fn add(sums: &mut BTreeMap<&'static str, Quantity>, amounts: Vec<(&'static str, Quantity)>) {
    for (name, amount) in amounts {
        let sum = sums.get(name).map_or_else(|| amount.clone(), |sum| sum.add(&amount));
        sums.insert(name, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        for (resources, expected) in [
            (json!([{}]), "BestEffort"),
            (json!([full]), "Guaranteed"),
            (json!([full, {}]), "Burstable"),
            (json!([{"requests": {"cpu": "1"}}]), "Burstable"),
            (json!([{"limits": {"example.com/gpu": "1"}}]), "BestEffort"),
        ] {
            let containers: Vec<_> = resources.as_array().unwrap().iter().map(|r| json!({"resources": r})).collect();
            assert_eq!(class(&json!({"containers": containers})), expected, "{resources}");
        }
        assert_eq!(class(&json!({"resources": full, "containers": [{}]})), "Guaranteed");
    }
}
