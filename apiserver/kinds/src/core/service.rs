//! Services. Addresses and node ports that the user leaves open are given by the allocators, not here.

mod table;
mod validation;

use apimachinery::Value;
use serde_json::json;

use registry::edit::{copy, default, default_text, each, get, items, number, object, remove, text};
use registry::strategy::{Context, NameRule, SelectableField, Strategy, Subresource};

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    name: NameRule::Label1035,
    create_on_update: true,
    default: defaulted,
    prepare_for_create,
    prepare_for_update,
    validate: validation::validate,
    validate_update: validation::validate_update,
    warnings,
    fields: &[
        SelectableField { name: "spec.clusterIP", value: |service| text(service, "spec.clusterIP").into() },
        SelectableField { name: "spec.type", value: |service| text(service, "spec.type").into() },
    ],
    subresources: &[Subresource {
        name: "status",
        prepare: |service, old, _| copy(service, old, "spec"),
        validate: validation::validate_status,
        reset_fields: &["spec"],
    }],
    table: Some(table::TABLE),
    ..Strategy::GENERIC
};

/// How long a client stays with one backend under `ClientIP` affinity, in seconds.
const AFFINITY_TIMEOUT: i64 = 10800;

/// Whether a service can be reached from outside the cluster.
pub fn is_external(spec: &Value) -> bool {
    match text(spec, "type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !items(spec, "externalIPs").is_empty(),
        _ => false,
    }
}

fn needs_cluster_ip(spec: &Value) -> bool {
    text(spec, "type") != "ExternalName"
}

fn needs_node_port(spec: &Value) -> bool {
    match text(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

fn needs_health_check_port(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

fn defaulted(service: &mut Value) {
    let spec = object(service, "spec");
    if !spec.is_object() {
        return;
    }
    default_text(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => drop(remove(spec, "sessionAffinityConfig")),
        "ClientIP" => {
            let client = object(object(spec, "sessionAffinityConfig"), "clientIP");
            default(client, "timeoutSeconds", AFFINITY_TIMEOUT);
        }
        _ => {}
    }
    default_text(spec, "type", "ClusterIP");
    each(spec, "ports", |port| {
        default_text(port, "protocol", "TCP");
        if matches!(port.get("targetPort"), None | Some(Value::Null))
            || port["targetPort"] == 0
            || port["targetPort"] == ""
        {
            port["targetPort"] = port["port"].clone();
        }
    });
    if is_external(spec) {
        default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if needs_cluster_ip(spec) {
        default(spec, "internalTrafficPolicy", "Cluster");
    }
    if text(spec, "type") == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
}

fn prepare_for_create(service: &mut Value, _: &Context<'_>) {
    service["status"] = json!({"loadBalancer": {}});
    let spec = object(service, "spec");
    let ip = text(spec, "clusterIP").to_owned();
    if !ip.is_empty() && items(spec, "clusterIPs").is_empty() {
        spec["clusterIPs"] = json!([ip]);
    }
    ip_families(spec);
}

/// Which families of addresses a service gets, where it does not say: the cluster's first one, IPv4.
fn ip_families(spec: &mut Value) {
    if !needs_cluster_ip(spec) {
        return;
    }
    let headless = text(spec, "clusterIP") == "None";
    let selects = get(spec, "selector").and_then(Value::as_object).is_some_and(|s| !s.is_empty());
    let v6 = items(spec, "clusterIPs").first().and_then(Value::as_str).is_some_and(|ip| ip.contains(':'));
    let (first, second) = if v6 { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
    if headless && !selects {
        // Whoever writes the endpoints decides: both are possible.
        default(spec, "ipFamilyPolicy", "RequireDualStack");
        if text(spec, "ipFamilyPolicy") != "SingleStack" {
            default(spec, "ipFamilies", json!([first, second]));
        }
    }
    let given = items(spec, "ipFamilies").len().max(items(spec, "clusterIPs").len());
    default(spec, "ipFamilyPolicy", if given > 1 { "RequireDualStack" } else { "SingleStack" });
    default(spec, "ipFamilies", json!([first]));
}

fn prepare_for_update(service: &mut Value, old: &Value, _: &Context<'_>) {
    copy(service, old, "status");
    let (spec, old) = (object(service, "spec"), &old["spec"]);
    follow_cluster_ip(spec, old);
    keep_allocated(spec, old);
    drop_node_ports(spec, old);
    drop_unused(spec, old);
    ip_families(spec);
}

/// Clients that know only `clusterIP` change that alone: `clusterIPs` follows.
fn follow_cluster_ip(spec: &mut Value, old: &Value) {
    let (ip, old_ip) = (text(spec, "clusterIP").to_owned(), text(old, "clusterIP"));
    let same_list = items(spec, "clusterIPs") == items(old, "clusterIPs");
    if ip != old_ip && same_list {
        if ip.is_empty() {
            remove(spec, "clusterIPs");
        } else {
            spec["clusterIPs"] = json!([ip]);
        }
    } else if ip == old_ip && items(spec, "clusterIPs").is_empty() && items(old, "clusterIPs").len() == 1 {
        remove(spec, "clusterIP");
    }
}

/// What was allocated stays, where the update says nothing of it.
fn keep_allocated(spec: &mut Value, old: &Value) {
    if needs_cluster_ip(spec) && needs_cluster_ip(old) {
        if text(spec, "clusterIP").is_empty() {
            copy(spec, old, "clusterIP");
        }
        if items(spec, "clusterIPs").is_empty() && text(spec, "clusterIP") == text(old, "clusterIP") {
            copy(spec, old, "clusterIPs");
        }
        for name in ["ipFamilies", "ipFamilyPolicy"] {
            if spec.get(name).is_none() {
                copy(spec, old, name);
            }
        }
    }
    if needs_node_port(spec) && needs_node_port(old) {
        let key = |port: &Value| (text(port, "protocol").to_owned(), number(port, "port"));
        each(spec, "ports", |port| {
            let before = items(old, "ports").iter().find(|p| key(p) == key(port));
            if let Some(before) = before.filter(|_| number(port, "nodePort") == 0) {
                copy(port, before, "nodePort");
            }
        });
    }
    if needs_health_check_port(spec) && needs_health_check_port(old) && number(spec, "healthCheckNodePort") == 0 {
        copy(spec, old, "healthCheckNodePort");
    }
}

/// What only the old type of service had is dropped when the type changes and the client left it as it was. What a client sets
/// that the type can't have is an error of its own.
fn drop_unused(spec: &mut Value, old: &Value) {
    const OF_CLUSTER_IP: &[&str] = &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"];
    let balanced = |spec: &Value| text(spec, "type") == "LoadBalancer";
    type Has = fn(&Value) -> bool;
    let rules: [(Has, &[&str]); 4] = [
        (needs_cluster_ip, OF_CLUSTER_IP),
        (needs_health_check_port, &["healthCheckNodePort"]),
        (balanced, &["allocateLoadBalancerNodePorts", "loadBalancerClass"]),
        (is_external, &["externalTrafficPolicy"]),
    ];
    for (has, members) in rules {
        if !has(old) || has(spec) {
            continue;
        }
        for name in members {
            if spec.get(name) == old.get(name) {
                remove(spec, name);
            }
        }
    }
}

/// A service that stops being reachable on nodes gives back the ports it had there, unless the update names others.
fn drop_node_ports(spec: &mut Value, old: &Value) {
    if !needs_node_port(old) || needs_node_port(spec) || text(spec, "type") == "LoadBalancer" {
        return;
    }
    let had: Vec<i64> = items(old, "ports").iter().map(|p| number(p, "nodePort")).collect();
    each(spec, "ports", |port| {
        if had.contains(&number(port, "nodePort")) {
            remove(port, "nodePort");
        }
    });
}

fn warnings(service: &Value, _: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    let set = |name: &str| service["spec"].get(name).is_some_and(|value| *value != "" && *value != json!([]));
    let hints = "service.kubernetes.io/topology-aware-hints";
    if service["metadata"]["annotations"].get(hints).is_some() {
        warnings
            .push(format!("annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"));
    }
    if text(service, "spec.clusterIP") == "None" {
        for name in ["loadBalancerIP", "externalIPs"].into_iter().filter(|name| set(name)) {
            warnings.push(format!("spec.{name} is ignored for headless services"));
        }
        if text(service, "spec.sessionAffinity") != "None" {
            warnings.push("spec.SessionAffinity is ignored for headless services".into());
        }
    }
    let named = text(service, "spec.type") == "ExternalName";
    if named && set("externalIPs") {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if !named && set("externalName") {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    static CONTEXT: Context<'static> = Context { user: &request::user::NOBODY, now: "", labelled: false };

    fn created(spec: Value) -> Value {
        let mut service = json!({ "spec": spec });
        defaulted(&mut service);
        prepare_for_create(&mut service, &CONTEXT);
        service["spec"].take()
    }

    #[test]
    fn families_and_addresses_of_new_services() {
        let headless = created(json!({"clusterIP": "None", "selector": {"a": "b"}}));
        assert_eq!((&headless["clusterIPs"], &headless["ipFamilies"]), (&json!(["None"]), &json!(["IPv4"])));
        assert_eq!(created(json!({"clusterIP": "None"}))["ipFamilyPolicy"], "RequireDualStack");
        let name = created(json!({"type": "ExternalName", "externalName": "a.b"}));
        assert!(name.get("ipFamilies").is_none() && name.get("internalTrafficPolicy").is_none());
        assert_eq!(created(json!({"type": "NodePort"}))["externalTrafficPolicy"], "Cluster");
    }

    #[test]
    fn updates_keep_what_was_allocated() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}]}});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP"}]}});
        prepare_for_update(&mut new, &old, &CONTEXT);
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.1"]));
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30000);
        assert!(new["spec"]["ports"][1].get("nodePort").is_none());
    }

    #[test]
    fn the_list_of_addresses_follows_the_one() {
        let old = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}});
        let mut new = old.clone();
        new["spec"]["clusterIP"] = "10.0.0.2".into();
        prepare_for_update(&mut new, &old, &CONTEXT);
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.2"]));
    }
}
