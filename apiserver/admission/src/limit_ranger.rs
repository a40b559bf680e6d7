//! LimitRanges: defaults for what containers ask for, and bounds on what they, pods and claims may.

use apimachinery::Value;
use apimachinery::quantity::Quantity;
use apimachinery::quota::{Basis, Side, amount, totals};
use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use registry::edit::each;
use request::status::Result;

pub struct LimitRanger;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn is_pod(attributes: &Attributes<'_>) -> bool {
    attributes.is(Operation::Create, "", "pods")
}

fn is_claim(attributes: &Attributes<'_>) -> bool {
    let claims = |operation| attributes.is(operation, "", "persistentvolumeclaims");
    claims(Operation::Create) || claims(Operation::Update)
}

/// The items of all LimitRanges of a namespace, with the type they are about.
fn limits(api: &Api, namespace: &str) -> Result<Vec<Value>> {
    let ranges = api.builtin("", "v1", "limitranges")?;
    let prefix = format!("{namespace}/");
    let snapshot = ranges.cache()?.snapshot();
    let items = |range: Value| range["spec"]["limits"].as_array().cloned().unwrap_or_default();
    Ok(snapshot.range(&prefix, "").flat_map(|range| items(range.tree())).collect())
}

impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("CU", "CU")
    }

    fn admit<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if is_pod(attributes) {
                let limits = limits(api, attributes.namespace)?;
                if let Some(pod) = attributes.object.as_mut() {
                    fill_in(pod, &limits);
                }
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut problems = Vec::new();
            if let Some(object) = attributes.object.as_ref().filter(|_| is_pod(attributes) || is_claim(attributes)) {
                for item in limits(api, attributes.namespace)? {
                    if is_pod(attributes) {
                        judge_pod(object, &item, &mut problems);
                    } else if item["type"] == "PersistentVolumeClaim" {
                        check_limits(&item, &object["spec"]["resources"], true, &mut problems);
                    }
                }
            }
            match problems.as_slice() {
                [] => Ok(()),
                [one] => Err(attributes.forbidden(one)),
                many => Err(attributes.forbidden(&format!("[{}]", many.join(", ")))),
            }
        })
    }
}

/// Gives containers the default requests and limits that they do not state, and says so in an annotation.
fn fill_in(pod: &mut Value, limits: &[Value]) {
    let mut said = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        each(&mut pod["spec"], list, |container| {
            let name = container["name"].as_str().unwrap_or("").to_owned();
            for (from, side, word) in [("defaultRequest", "requests", "request"), ("default", "limits", "limit")] {
                let set = fill_side(container, limits, from, side);
                if !set.is_empty() {
                    said.push(format!("{} {word} for {what} {name}", set.join(", ")));
                }
            }
        });
    }
    if !said.is_empty() {
        pod["metadata"]["annotations"][ANNOTATION] = format!("LimitRanger plugin set: {}", said.join("; ")).into();
    }
}

fn fill_side(container: &mut Value, limits: &[Value], from: &str, side: &str) -> Vec<String> {
    let mut set = Vec::new();
    for item in limits.iter().filter(|item| item["type"] == "Container") {
        for (resource, amount) in item[from].as_object().into_iter().flatten() {
            if container["resources"][side][resource].is_null() {
                container["resources"][side][resource] = amount.clone();
                set.push(resource.clone());
            }
        }
    }
    set.sort();
    set
}

fn judge_pod(pod: &Value, item: &Value, problems: &mut Vec<String>) {
    match item["type"].as_str() {
        Some("Container") => {
            for list in ["containers", "initContainers"] {
                for container in pod["spec"][list].as_array().into_iter().flatten() {
                    check_limits(item, &container["resources"], false, problems);
                }
            }
        }
        Some("Pod") => {
            let shown = |side| -> Value {
                totals(pod, side, Basis::Spec)
                    .iter()
                    .map(|(resource, amount)| (resource.clone(), Value::from(amount.to_string())))
                    .collect()
            };
            let sums = serde_json::json!({"requests": shown(Side::Requests), "limits": shown(Side::Limits)});
            check_limits(item, &sums, false, problems);
        }
        _ => {}
    }
}

/// Bounds of one item. Claims have requests only, and are bound by them on both sides.
fn check_limits(item: &Value, resources: &Value, requests_only: bool, problems: &mut Vec<String>) {
    let kind = item["type"].as_str().unwrap_or("");
    let get = |side: &str, resource: &str| amount(&resources[side][resource]);
    let bounds = |name: &str| {
        let entries = item[name].as_object().into_iter().flatten();
        entries.filter_map(|(resource, bound)| Some((resource.clone(), amount(bound)?))).collect::<Vec<_>>()
    };
    for (resource, min) in bounds("min") {
        let told = format!("minimum {resource} usage per {kind} is {min}");
        match (get("requests", &resource), get("limits", &resource)) {
            (None, _) => problems.push(format!("{told}. No request is specified")),
            (Some(request), _) if request < min => problems.push(format!("{told}, but request is {request}")),
            (_, Some(limit)) if limit < min => problems.push(format!("{told}, but limit is {limit}")),
            _ => {}
        }
    }
    for (resource, max) in bounds("max") {
        let told = format!("maximum {resource} usage per {kind} is {max}");
        match (get("limits", &resource), get("requests", &resource)) {
            (None, None) if requests_only => problems.push(format!("{told}. No request is specified")),
            (None, _) if !requests_only => problems.push(format!("{told}. No limit is specified")),
            (Some(limit), _) if limit > max => problems.push(format!("{told}, but limit is {limit}")),
            (_, Some(request)) if request > max => problems.push(format!("{told}, but request is {request}")),
            _ => {}
        }
    }
    for (resource, max) in bounds("maxLimitRequestRatio") {
        let told = format!("{resource} max limit to request ratio per {kind} is {max}");
        let given = |side: &str| get(side, &resource).filter(|q: &Quantity| !q.is_zero()).map(|q| q.as_f64());
        match (given("requests"), given("limits")) {
            (None, _) => problems.push(format!("{told}, but no request is specified or request is 0")),
            (_, None) => problems.push(format!("{told}, but no limit is specified or limit is 0")),
            (Some(request), Some(limit)) if limit / request > max.as_f64() => {
                problems.push(format!("{told}, but provided ratio is {:.6}", limit / request));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_container_states_stays_and_the_rest_is_filled_in() {
        let limits = [json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "500m"}})];
        let mut pod =
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "2"}}}]}});
        fill_in(&mut pod, &limits);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1"}})
        );
        assert_eq!(pod["spec"]["containers"][1]["resources"]["limits"]["cpu"], "2");
        let said = "LimitRanger plugin set: cpu request for container a; cpu limit for container a; cpu request for container b";
        assert_eq!(pod["metadata"]["annotations"][ANNOTATION], said);
    }

    #[test]
    fn bounds_hold_for_containers_and_for_their_sum() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}});
        let pod = json!({"spec": {"containers": [container("1"), container("2")]}});
        let problems = |item: Value| {
            let mut problems = Vec::new();
            judge_pod(&pod, &item, &mut problems);
            problems
        };
        assert_eq!(problems(json!({"type": "Container", "max": {"cpu": "2"}})), [""; 0]);
        let told = "maximum cpu usage per Container is 1500m, but limit is 2";
        assert_eq!(problems(json!({"type": "Container", "max": {"cpu": "1500m"}})), [told]);
        assert_eq!(
            problems(json!({"type": "Pod", "max": {"cpu": "2"}})),
            ["maximum cpu usage per Pod is 2, but limit is 3"]
        );
        assert_eq!(
            problems(json!({"type": "Pod", "min": {"memory": "1"}})),
            ["minimum memory usage per Pod is 1. No request is specified"]
        );
    }
}
