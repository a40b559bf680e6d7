//! What a pod asks for as a whole: its containers together, or its greediest init container, and its overhead.

use crate::Value;
use crate::quantity::Quantity;
use std::collections::BTreeMap;

/// Which half of `resources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Requests,
    Limits,
}

/// Whether what a pod has now counts beside what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    Spec,
    /// While a pod is resized, the larger of what it has and what it is to get. (KEP-1287)
    WithStatus,
}

/// Amounts by resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// A quantity as it stands in an object.
pub fn amount(value: &Value) -> Option<Quantity> {
    Quantity::parse(value.as_str()?).ok()
}

fn amounts(resources: &Value, side: Side) -> Amounts {
    let name = if side == Side::Requests { "requests" } else { "limits" };
    entries(&resources[name])
}

fn entries(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
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

/// What a container counts as.
fn of_container(pod: &Value, container: &Value, side: Side, basis: Basis) -> Amounts {
    let asked = amounts(&container["resources"], side);
    if basis == Basis::Spec {
        return asked;
    }
    let statuses = ["containerStatuses", "initContainerStatuses"].into_iter();
    let mut statuses = statuses.filter_map(|list| pod["status"][list].as_array()).flatten();
    let Some(status) = statuses.find(|status| status["name"] == container["name"]) else { return asked };
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let infeasible = conditions
        .filter(|condition| condition["type"] == "PodResizePending")
        .any(|condition| condition["reason"] == "Infeasible");
    let has = amounts(&status["resources"], side);
    // Only a resize makes the two differ; before the first status there is nothing to compare.
    let mut sum = if infeasible && !has.is_empty() { Amounts::new() } else { asked };
    raise(&mut sum, has);
    if side == Side::Requests {
        raise(&mut sum, entries(&status["allocatedResources"]));
    }
    sum
}

/// The sum over a pod. Init containers run one by one before the others, except sidecars, which stay. (KEP-753)
pub fn totals(pod: &Value, side: Side, basis: Basis) -> Amounts {
    let spec = &pod["spec"];
    let mut sum = Amounts::new();
    for container in spec["containers"].as_array().into_iter().flatten() {
        add(&mut sum, &of_container(pod, container, side, basis));
    }
    let (mut sidecars, mut greediest) = (Amounts::new(), Amounts::new());
    for container in spec["initContainers"].as_array().into_iter().flatten() {
        let sidecar = container["restartPolicy"] == "Always";
        let own = of_container(pod, container, side, if sidecar { basis } else { Basis::Spec });
        if sidecar {
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
        let cpu = |pod: &Value| totals(pod, Side::Requests, Basis::Spec)["cpu"].to_string();
        assert_eq!(cpu(&pod(json!([]))), "2");
        assert_eq!(cpu(&pod(json!([asks("3"), asks("1")]))), "3");
        assert_eq!(cpu(&pod(json!([sidecar, asks("3")]))), "4");
        assert_eq!(cpu(&pod(json!([asks("2"), sidecar]))), "3");
        let mut heavy = pod(json!([]));
        heavy["spec"]["overhead"] = json!({"cpu": "500m"});
        assert_eq!(cpu(&heavy), "2500m");
    }

    #[test]
    fn a_resized_pod_counts_by_the_larger() {
        let pod = |asked: &str, has: &str, conditions: Value| {
            json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": asked}}}]},
                "status": {"conditions": conditions,
                    "containerStatuses": [{"name": "a", "resources": {"requests": {"cpu": has}}}]}})
        };
        let infeasible = json!([{"type": "PodResizePending", "reason": "Infeasible"}]);
        for (asked, has, conditions, counted) in
            [("2", "1", json!([]), "2"), ("1", "2", json!([]), "2"), ("9", "2", infeasible, "2")]
        {
            let pod = pod(asked, has, conditions);
            assert_eq!(totals(&pod, Side::Requests, Basis::WithStatus)["cpu"].to_string(), counted);
            assert_eq!(totals(&pod, Side::Requests, Basis::Spec)["cpu"].to_string(), asked);
        }
    }
}
