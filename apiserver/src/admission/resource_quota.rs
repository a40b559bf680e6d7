//! ResourceQuotas: what is asked for is charged to the quotas of its namespace before it is stored. The quota's status is
//! changed under its resourceVersion, so that of two requests that come at once only as many pass as there is room for.
//! What turns out not to be stored after all is given back by the quota controller, which counts.

use super::{Attributes, Operation, Plugin};
use crate::api::Api;
use crate::authn::User;
use crate::handlers::write::Write;
use crate::handlers::write::update::Preconditions;
use crate::registry::core::pod_totals::{Amounts, Side, amount, totals};
use crate::status::Result;
use apimachinery::Value;
use apimachinery::quantity::{Format, Quantity};
use futures::future::BoxFuture;

pub struct ResourceQuota;

/// Core resources that quotas also count by their bare name.
const COUNTED: [&str; 7] =
    ["configmaps", "persistentvolumeclaims", "pods", "replicationcontrollers", "resourcequotas", "secrets", "services"];
/// What containers must state where a quota limits it.
const MUST_STATE: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
            let resizes = attributes.subresource == "resize";
            if !writes || !attributes.endpoint.row.namespaced || !attributes.subresource.is_empty() && !resizes {
                return Ok(());
            }
            charge(api, attributes).await
        })
    }
}

async fn charge(api: &Api, attributes: &Attributes<'_>) -> Result<()> {
    let quotas = api.builtin("", "v1", "resourcequotas")?;
    let prefix = format!("{}/", attributes.namespace);
    let snapshot = quotas.cache()?.snapshot();
    let Some(object) = &attributes.object else { return Ok(()) };
    let mut asked: Option<Amounts> = None;
    for quota in snapshot.range(&prefix, "") {
        let name = quota.name();
        let quota = quota.tree();
        if !in_scope(&quota["spec"], attributes, object) {
            continue;
        }
        let hard = limits(&quota);
        if attributes.is(Operation::Create, "", "pods")
            && let Some(missing) = unstated(object, &hard)
        {
            return Err(attributes.forbidden(&format!("failed quota: {name}: must specify {missing}")));
        }
        let asked = asked.get_or_insert_with(|| increase(attributes, object));
        if !asked.keys().any(|resource| hard.contains_key(resource)) {
            continue;
        }
        let user = User::apiserver();
        let mut write = Write::internal(api, &quotas, &user, attributes.namespace, name);
        write.subresource = "status".into();
        write.options.dry_run = attributes.dry_run;
        let mut take = |quota: &Value| charged(quota, asked).map_err(|why| attributes.forbidden(&why));
        write.update(&Preconditions::default(), &mut Vec::new(), &mut take).await?;
    }
    Ok(())
}

fn limits(quota: &Value) -> Amounts {
    let entries = quota["status"]["hard"].as_object().into_iter().flatten();
    entries.filter_map(|(resource, value)| Some((resource.clone(), amount(value)?))).collect()
}

/// What the write adds to what there is.
fn increase(attributes: &Attributes<'_>, object: &Value) -> Amounts {
    let mut asked = usage(attributes, object);
    if let Some(old) = attributes.old {
        for (resource, had) in usage(attributes, old) {
            let now = asked.remove(&resource).unwrap_or(Quantity::ZERO);
            asked.insert(resource, now.sub(&had));
        }
    }
    asked.retain(|_, amount| amount.sign() > 0);
    asked
}

/// The quota with `asked` added to what is used, or why that is too much.
fn charged(quota: &Value, asked: &Amounts) -> std::result::Result<Value, String> {
    let (name, hard) = (quota["metadata"]["name"].as_str().unwrap_or(""), limits(quota));
    let used = |resource: &str| amount(&quota["status"]["used"][resource]);
    let unknown: Vec<&str> =
        asked.keys().filter(|r| hard.contains_key(*r) && used(r).is_none()).map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(format!("status unknown for quota: {name}, resources: {}", unknown.join(",")));
    }
    let mut new = quota.clone();
    let mut over: [Vec<String>; 3] = Default::default();
    for (resource, amount) in asked {
        let (Some(hard), Some(used)) = (hard.get(resource), used(resource)) else { continue };
        let sum = used.add(amount);
        if sum > *hard {
            for (list, value) in over.iter_mut().zip([amount, &used, hard]) {
                list.push(format!("{resource}={value}"));
            }
        }
        new["status"]["used"][resource] = sum.to_string().into();
    }
    let [requested, used, limited] = over.map(|list| list.join(","));
    if requested.is_empty() {
        return Ok(new);
    }
    Err(format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}"))
}

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSi)
}

/// What an object uses, by the names that quotas have for it.
fn usage(attributes: &Attributes<'_>, object: &Value) -> Amounts {
    let row = &attributes.endpoint.row;
    let core = row.kind.group.is_empty();
    let counted = if core { row.plural.clone() } else { format!("{}.{}", row.plural, row.kind.group) };
    let mut used = Amounts::from([(format!("count/{counted}"), one())]);
    if core && COUNTED.contains(&row.plural.as_str()) && row.plural != "pods" {
        used.insert(row.plural.clone(), one());
    }
    match row.plural.as_str() {
        "pods" if core => pod(object, &mut used),
        "services" if core => service(object, &mut used),
        "persistentvolumeclaims" if core => claim(object, &mut used),
        _ => {}
    }
    used
}

fn pod(pod: &Value, used: &mut Amounts) {
    // A pod that has ended uses nothing but its place in etcd.
    if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return;
    }
    used.insert("pods".into(), one());
    for (resource, amount) in totals(pod, Side::Requests) {
        match resource.as_str() {
            "cpu" | "memory" | "ephemeral-storage" => {
                used.insert(format!("requests.{resource}"), amount.clone());
                used.insert(resource, amount);
            }
            huge if huge.starts_with("hugepages-") => {
                used.insert(format!("requests.{resource}"), amount.clone());
                used.insert(resource, amount);
            }
            _ => drop(used.insert(format!("requests.{resource}"), amount)),
        }
    }
    for (resource, amount) in totals(pod, Side::Limits) {
        if matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            used.insert(format!("limits.{resource}"), amount);
        }
    }
}

fn service(service: &Value, used: &mut Amounts) {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map_or(0, Vec::len) as i64;
    match spec["type"].as_str() {
        Some("NodePort") => drop(used.insert("services.nodeports".into(), Quantity::new(ports, Format::DecimalSi))),
        Some("LoadBalancer") => {
            used.insert("services.loadbalancers".into(), one());
            if spec["allocateLoadBalancerNodePorts"] != false {
                used.insert("services.nodeports".into(), Quantity::new(ports, Format::DecimalSi));
            }
        }
        _ => {}
    }
}

fn claim(claim: &Value, used: &mut Amounts) {
    let storage = amount(&claim["spec"]["resources"]["requests"]["storage"]);
    if let Some(storage) = &storage {
        used.insert("requests.storage".into(), storage.clone());
    }
    if let Some(class) = claim["spec"]["storageClassName"].as_str().filter(|class| !class.is_empty()) {
        let of_class = format!("{class}.storageclass.storage.k8s.io");
        used.insert(format!("{of_class}/persistentvolumeclaims"), one());
        if let Some(storage) = storage {
            used.insert(format!("{of_class}/requests.storage"), storage);
        }
    }
}

/// What containers leave open that the quota limits: `requests.cpu for: a,b; limits.cpu for: a`.
fn unstated(pod: &Value, hard: &Amounts) -> Option<String> {
    let stated = |container: &Value, name: &str| {
        let (side, resource) = name.split_once('.').unwrap_or(("requests", name));
        !container["resources"][side][resource].is_null() || !pod["spec"]["resources"][side][resource].is_null()
    };
    let mut parts = Vec::new();
    for name in hard.keys().filter(|name| MUST_STATE.contains(&name.as_str())) {
        let containers = ["containers", "initContainers"].into_iter().filter_map(|list| pod["spec"][list].as_array());
        let mut silent: Vec<&str> =
            containers.flatten().filter(|c| !stated(c, name)).filter_map(|c| c["name"].as_str()).collect();
        silent.sort_unstable();
        if !silent.is_empty() {
            parts.push(format!("{name} for: {}", silent.join(",")));
        }
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Whether a quota's scopes, if it has any, are about the object. Only pods and claims have what scopes ask for.
fn in_scope(spec: &Value, attributes: &Attributes<'_>, object: &Value) -> bool {
    let scopes = spec["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let expressions = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    let null = Value::Null;
    let mut wanted =
        scopes.map(|scope| (scope, &null)).chain(expressions.map(|e| (e["scopeName"].as_str().unwrap_or(""), e)));
    let is_pod = attributes.is_resource("", "pods");
    let is_claim = attributes.is_resource("", "persistentvolumeclaims");
    wanted.all(|(scope, expression)| match scope {
        "VolumeAttributesClass" => {
            is_claim && selects(expression, object["spec"]["volumeAttributesClassName"].as_str())
        }
        _ => is_pod && pod_in_scope(scope, expression, object),
    })
}

fn pod_in_scope(scope: &str, expression: &Value, pod: &Value) -> bool {
    let spec = &pod["spec"];
    let best_effort = || totals(pod, Side::Requests).is_empty() && totals(pod, Side::Limits).is_empty();
    match scope {
        "Terminating" => spec["activeDeadlineSeconds"].as_i64().is_some(),
        "NotTerminating" => spec["activeDeadlineSeconds"].as_i64().is_none(),
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => selects(expression, spec["priorityClassName"].as_str()),
        "CrossNamespacePodAffinity" => ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
            let affinity = spec["affinity"][*kind].to_string();
            affinity.contains("\"namespaces\":[\"") || affinity.contains("\"namespaceSelector\":{")
        }),
        _ => false,
    }
}

fn selects(expression: &Value, value: Option<&str>) -> bool {
    let value = value.filter(|v| !v.is_empty());
    let listed = || expression["values"].as_array().is_some_and(|list| list.iter().any(|v| v.as_str() == value));
    match expression["operator"].as_str().unwrap_or("Exists") {
        "In" => value.is_some() && listed(),
        "NotIn" => !listed(),
        "DoesNotExist" => value.is_none(),
        _ => value.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_fits_is_charged_and_what_does_not_is_told() {
        let quota =
            json!({"metadata": {"name": "q"}, "status": {"hard": {"pods": "2", "x": "1"}, "used": {"pods": "1"}}});
        let asked = Amounts::from([("pods".to_owned(), one()), ("unlimited".to_owned(), one())]);
        let once = charged(&quota, &asked).unwrap();
        assert_eq!(once["status"]["used"], json!({"pods": "2"}));
        let why = charged(&once, &asked).unwrap_err();
        assert_eq!(why, "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2");
        let unknown = Amounts::from([("x".to_owned(), one())]);
        assert_eq!(charged(&quota, &unknown).unwrap_err(), "status unknown for quota: q, resources: x");
    }

    #[test]
    fn containers_must_state_what_is_limited() {
        let pod =
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "resources": {"requests": {"cpu": "1"}}}]}});
        let hard = Amounts::from([("requests.cpu".to_owned(), one()), ("pods".to_owned(), one())]);
        assert_eq!(unstated(&pod, &hard).as_deref(), Some("requests.cpu for: a"));
    }
}
