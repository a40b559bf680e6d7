//! What a pod asks for as a whole: its containers together, or its greediest init container, and its overhead.

use apimachinery::Value;
use apimachinery::quantity::Quantity;
use std::collections::BTreeMap;

/// Which half of `resources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Requests,
    Limits,
}

/// Amounts by resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// A quantity as it stands in an object.
pub fn amount(value: &Value) -> Option<Quantity> {
    Quantity::parse(value.as_str()?).ok()
}

fn amounts(resources: &Value, side: Side) -> Amounts {
    let name = if side == Side::Requests { "requests" } else { "limits" };
    let entries = resources[name].as_object().into_iter().flatten();
    entries.filter_map(|(resource, value)| Some((resource.clone(), amount(value)?))).collect()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (resource, amount) in more {
        let total = sum.get(resource).map_or_else(|| amount.clone(), |had| had.add(amount));
        sum.insert(resource.clone(), total);
    }
}

fn raise(to: &mut Amounts, at_least: Amounts) {
    for (resource, amount) in at_least {
        if to.get(&resource).is_none_or(|had| *had < amount) {
            to.insert(resource, amount);
        }
    }
}

/// The sum over a pod. Init containers run one by one before the others, except sidecars, which stay. (KEP-753)
pub fn totals(pod: &Value, side: Side) -> Amounts {
    let spec = &pod["spec"];
    let mut sum = Amounts::new();
    for container in spec["containers"].as_array().into_iter().flatten() {
        add(&mut sum, &amounts(&container["resources"], side));
    }
    let (mut sidecars, mut greediest) = (Amounts::new(), Amounts::new());
    for container in spec["initContainers"].as_array().into_iter().flatten() {
        let own = amounts(&container["resources"], side);
        if container["restartPolicy"] == "Always" {
            add(&mut sidecars, &own);
            raise(&mut greediest, sidecars.clone());
        } else {
            let mut beside = sidecars.clone();
            add(&mut beside, &own);
            raise(&mut greediest, beside);
        }
    }
    add(&mut sum, &sidecars);
    raise(&mut sum, greediest);
    // What the pod says of itself counts instead of its containers' sum. (KEP-2837)
    sum.extend(amounts(&spec["resources"], side));
    for (resource, overhead) in spec["overhead"].as_object().into_iter().flatten() {
        if let Some(overhead) = amount(overhead)
            && (side == Side::Requests || sum.contains_key(resource))
        {
            add(&mut sum, &Amounts::from([(resource.clone(), overhead)]));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn init_containers_count_by_the_greediest_and_sidecars_always() {
        let asks = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = asks("1");
        sidecar["restartPolicy"] = "Always".into();
        let pod = |init: Value| json!({"spec": {"containers": [asks("1"), asks("1")], "initContainers": init}});
        let cpu = |pod: &Value| totals(pod, Side::Requests)["cpu"].to_string();
        assert_eq!(cpu(&pod(json!([]))), "2");
        assert_eq!(cpu(&pod(json!([asks("3"), asks("1")]))), "3");
        assert_eq!(cpu(&pod(json!([sidecar, asks("3")]))), "4");
        assert_eq!(cpu(&pod(json!([asks("2"), sidecar]))), "3");
        let mut heavy = pod(json!([]));
        heavy["spec"]["overhead"] = json!({"cpu": "500m"});
        assert_eq!(cpu(&heavy), "2500m");
    }
}
