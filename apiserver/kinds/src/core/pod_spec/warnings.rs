//! What is allowed in a pod, or in a template of pods, but most likely not meant.

use std::collections::{HashMap, HashSet};

use apimachinery::Value;
use apimachinery::quantity::Quantity;
use apimachinery::validation::names;

use crate::core::node::deprecated_label;
use registry::edit::{get, items, number, text};

/// Members of volumes whose plugins are gone or going, and what upstream calls them in warnings.
const OLD_VOLUMES: [(&str, &str, &str); 9] = [
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
];

/// Annotations that have become fields.
const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR_CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Warnings for a pod. Updates of pods come from machines, which read no warnings.
pub fn pod(pod: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some() {
        return Vec::new();
    }
    let mut warnings = name(pod, "the Pod's hostname");
    collect(pod, "", &mut warnings);
    warnings
}

/// Warnings for an object with a template of pods at `path`; on updates only if what is under the path's first member changed.
pub fn template(object: &Value, old: Option<&Value>, path: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let first = path.split('.').next().unwrap_or_default();
    if old.is_none_or(|old| old[first] != object[first])
        && let Some(template) = get(object, path)
    {
        collect(template, &format!("{path}."), &mut warnings);
    }
    warnings
}

/// A new object's name becomes part of `what`, where dots are trouble.
pub fn name(object: &Value, what: &str) -> Vec<String> {
    let problems = names::dns1123_label(text(object, "metadata.name"));
    if problems.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: this is used in {what}, which can result in surprising behavior; a DNS label is recommended: {problems:?}"
    )]
}

/// The same for kinds that make pods.
pub fn name_and_template(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = if old.is_none() { name(object, "Pod names and hostnames") } else { Vec::new() };
    warnings.extend(template(object, old, "spec.template"));
    warnings
}

/// Amounts that are no whole number of bytes.
pub fn fractional_bytes(amount: Option<&Value>, path: &str, warnings: &mut Vec<String>) {
    let Some(amount) = amount.and_then(Value::as_str) else { return };
    if Quantity::parse(amount).is_ok_and(|q| q.milli_value() % 1000 != 0) {
        warnings.push(format!("{path}: fractional byte value {amount:?} is invalid, must be an integer"));
    }
}

/// Old labels in the terms of a node selector, and values that are no labels where `check_values`.
pub fn node_selector_term(term: &Value, check_values: bool, path: &str, warnings: &mut Vec<String>) {
    for (i, expression) in items(term, "matchExpressions").iter().enumerate() {
        let key = text(expression, "key");
        if let Some(why) = deprecated_label(key) {
            warnings.push(format!("{path}.matchExpressions[{i}].key: {key} is {why}"));
        }
        for (j, value) in items(expression, "values").iter().enumerate().filter(|_| check_values) {
            let value = value.as_str().unwrap_or_default();
            for problem in names::label_value(value) {
                warnings.push(format!("{path}.matchExpressions[{i}].values[{j}]: {value} is invalid, {problem}"));
            }
        }
    }
}

/// Everything about the pod or template `owner`; `path` is its own, ending in a dot if it has one.
fn collect(owner: &Value, path: &str, warnings: &mut Vec<String>) {
    let spec = &owner["spec"];
    placement(spec, path, warnings);
    annotations(owner, path, warnings);
    for (i, volume) in items(spec, "volumes").iter().enumerate() {
        let at = format!("{path}spec.volumes[{i}]");
        for (_, name, state) in OLD_VOLUMES.iter().filter(|(source, ..)| volume.get(source).is_some()) {
            warnings.push(format!("{at}.{name}: {state}"));
        }
        for part in ["requests", "limits"] {
            let amount = get(volume, "ephemeral.volumeClaimTemplate.spec.resources").and_then(|r| get(r, part));
            let at = format!("{at}.ephemeral.volumeClaimTemplate.spec.resources.{part}[storage]");
            fractional_bytes(amount.and_then(|part| part.get("storage")), &at, warnings);
        }
    }
    items(spec, "volumes").iter().for_each(|volume| overlapping_paths(volume, warnings));
    repeated(spec, "hostAliases", "ip", path, warnings);
    repeated(spec, "imagePullSecrets", "name", path, warnings);
    for (i, secret) in items(spec, "imagePullSecrets").iter().enumerate() {
        if text(secret, "name").is_empty() {
            warnings.push(format!("{path}spec.imagePullSecrets[{i}].name: invalid empty name \"\""));
        }
    }
    for resource in ["memory", "ephemeral-storage"] {
        fractional_bytes(spec["overhead"].get(resource), &format!("{path}spec.overhead[{resource}]"), warnings);
    }
    for (container, at) in containers(spec, path) {
        resources_and_variables(container, &at, warnings);
    }
    ports(spec, path, warnings);
    if number(spec, "terminationGracePeriodSeconds") < 0 {
        warnings.push(format!(
            "{path}spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
}

fn containers<'a>(spec: &'a Value, path: &str) -> Vec<(&'a Value, String)> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| items(spec, list).iter().enumerate().map(move |(i, container)| (list, i, container)))
        .map(|(list, i, container)| (container, format!("{path}spec.{list}[{i}]")))
        .collect()
}

/// Where the pod may run.
fn placement(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    for key in spec["nodeSelector"].as_object().into_iter().flat_map(|selector| selector.keys()) {
        if let Some(why) = deprecated_label(key) {
            warnings.push(format!("{path}spec.nodeSelector[{key}]: {why}"));
        }
    }
    let affinity = "affinity.nodeAffinity";
    let required = format!("{affinity}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
    for (i, term) in items(spec, &required).iter().enumerate() {
        node_selector_term(term, false, &format!("{path}spec.{required}[{i}]"), warnings);
    }
    let preferred = format!("{affinity}.preferredDuringSchedulingIgnoredDuringExecution");
    for (i, term) in items(spec, &preferred).iter().enumerate() {
        node_selector_term(&term["preference"], true, &format!("{path}spec.{preferred}[{i}].preference"), warnings);
    }
    for (i, constraint) in items(spec, "topologySpreadConstraints").iter().enumerate() {
        let at = format!("{path}spec.topologySpreadConstraints[{i}]");
        let key = text(constraint, "topologyKey");
        if let Some(why) = deprecated_label(key) {
            warnings.push(format!("{at}.topologyKey: {key} is {why}"));
        }
        if get(constraint, "labelSelector").is_none_or(Value::is_null) {
            warnings.push(format!("{at}.labelSelector: a null labelSelector results in matching no pod"));
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        for (list, inner) in [("required", ""), ("preferred", ".podAffinityTerm")] {
            let list = format!("affinity.{kind}.{list}DuringSchedulingIgnoredDuringExecution");
            for (i, term) in items(spec, &list).iter().enumerate() {
                let term = if inner.is_empty() { term } else { &term["podAffinityTerm"] };
                if get(term, "labelSelector").is_none_or(Value::is_null) {
                    warnings.push(format!(
                        "{path}spec.{list}[{i}]{inner}.labelSelector: a null labelSelector results in matching no pod"
                    ));
                }
            }
        }
    }
}

fn annotations(owner: &Value, path: &str, warnings: &mut Vec<String>) {
    let Some(annotations) = get(owner, "metadata.annotations").filter(|a| a.is_object()) else { return };
    let mut warn = |key: &str, why: &str| warnings.push(format!("{path}metadata.annotations[{key}]: {why}"));
    for (key, why) in OLD_ANNOTATIONS.iter().filter(|(key, _)| annotations.get(key).is_some()) {
        warn(key, why);
    }
    let seccomp = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    if annotations.get(SECCOMP_POD).is_some() && get(owner, "spec.securityContext.seccompProfile").is_none() {
        warn(SECCOMP_POD, seccomp);
    }
    for (container, _) in containers(&owner["spec"], path) {
        let key = format!("{SECCOMP_CONTAINER}{}", text(container, "name"));
        if annotations.get(&key).is_some() && get(container, "securityContext.seccompProfile").is_none() {
            warn(&key, seccomp);
        }
        let key = format!("{APPARMOR_CONTAINER}{}", text(container, "name"));
        if annotations.get(&key).is_some() && get(container, "securityContext.appArmorProfile").is_none() {
            warn(&key, "deprecated since v1.30; use the \"appArmorProfile\" field instead");
        }
    }
}

/// Files of a volume that hide each other.
fn overlapping_paths(volume: &Value, warnings: &mut Vec<String>) {
    let name = text(volume, "name");
    let sources: Vec<&Value> = match volume.get("projected") {
        Some(projected) => items(projected, "sources").iter().collect(),
        None => vec![volume],
    };
    let mut seen: Vec<&str> = Vec::new();
    for source in sources {
        let members =
            ["configMap", "secret", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
        let given: Vec<&Value> = members.iter().filter_map(|member| source.get(member)).collect();
        if given.is_empty() && volume.get("projected").is_some() {
            warnings.push(format!("volume {name:?} (Projected) has no sources provided"));
        }
        for given in given {
            let own = ["path", "certificateChainPath", "keyPath", "credentialBundlePath"].map(|path| text(given, path));
            let mapped = items(given, "items").iter().map(|item| text(item, "path"));
            for path in mapped.chain(own).map(|path| path.trim_end_matches('/')).filter(|path| !path.is_empty()) {
                let under = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|r| r.is_empty() || r.starts_with('/'));
                for other in seen.iter().filter(|other| under(other, path) || under(path, other)) {
                    warnings.push(format!("volume {name:?}: overlapping paths: {path:?} with {other:?}"));
                }
                seen.push(path);
            }
        }
    }
}

fn repeated(spec: &Value, list: &str, member: &str, path: &str, warnings: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for (i, item) in items(spec, list).iter().enumerate() {
        if !seen.insert(text(item, member)) {
            warnings.push(format!("{path}spec.{list}[{i}].{member}: duplicate {member} {:?}", text(item, member)));
        }
    }
}

fn resources_and_variables(container: &Value, path: &str, warnings: &mut Vec<String>) {
    for resource in ["memory", "ephemeral-storage"] {
        for part in ["limits", "requests"] {
            let amount = get(container, "resources").and_then(|r| r.get(part)).and_then(|part| part.get(resource));
            fractional_bytes(amount, &format!("{path}.resources.{part}[{resource}]"), warnings);
        }
    }
    let mut seen = HashSet::new();
    for (i, variable) in items(container, "env").iter().enumerate() {
        let name = text(variable, "name");
        let (value, reference) = (text(variable, "value"), format!("$({name})"));
        let hides = variable.get("valueFrom").is_some() || value == reference || !value.contains(&reference);
        if !seen.insert(name) && hides {
            warnings.push(format!(
                "{path}.env[{i}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

/// Ports are the pod's: those of all its containers are compared.
fn ports(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    let mut by_number: HashMap<(i64, &str), Vec<(String, &Value)>> = HashMap::new();
    let mut by_name: HashMap<&str, String> = HashMap::new();
    let containers = containers(spec, path);
    let all = containers.iter().flat_map(|(container, at)| {
        items(container, "ports").iter().enumerate().map(move |(i, port)| (format!("{at}.ports[{i}]"), port))
    });
    for (at, port) in all {
        let (host_ip, host_port) = (text(port, "hostIP"), number(port, "hostPort"));
        if !host_ip.is_empty() && host_port == 0 {
            warnings.push(format!("{at}: hostIP set without hostPort: {host_ip}"));
        }
        let others = by_number.entry((number(port, "containerPort"), text(port, "protocol"))).or_default();
        for (other_at, other) in others.iter() {
            let (other_ip, other_port) = (text(other, "hostIP"), number(other, "hostPort"));
            if host_ip == other_ip && host_port == other_port {
                warnings.push(format!("{at}: duplicate port definition with {other_at}"));
            } else if host_port == 0 || other_port == 0 {
                warnings.push(format!("{at}: overlapping port definition with {other_at}"));
            } else if host_port == other_port && host_ip.is_empty() != other_ip.is_empty() {
                warnings.push(format!("{at}: dangerously ambiguous port definition with {other_at}"));
            }
        }
        others.push((at.clone(), port));
        let name = text(port, "name");
        match by_name.get(name).filter(|_| !name.is_empty()) {
            Some(first) => warnings.push(format!(
                "{at}: duplicate port name {name:?} with {first}, services and probes that select ports by name will use {first}"
            )),
            None => drop(by_name.insert(name, at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_likely_a_mistake_is_told() {
        let container = json!({"env": [{"name": "A"}, {"name": "A"}], "resources": {"limits": {"memory": "100m"}}});
        let object = json!({"metadata": {"name": "a.b"}, "spec": {"containers": [container], "terminationGracePeriodSeconds": -1}});
        assert_eq!(pod(&object, None).len(), 4);
        assert!(pod(&object, Some(&json!({}))).is_empty());
    }

    #[test]
    fn a_variable_that_builds_on_its_old_value_hides_nothing() {
        let container = json!({"env": [{"name": "A", "value": "x"}, {"name": "A", "value": "$(A)y"}]});
        let object = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
        assert!(template(&object, None, "spec.template").is_empty());
    }

    #[test]
    fn ports_are_compared_across_containers() {
        let port = |host: i64| json!({"name": "p", "containerPort": 80, "hostPort": host, "protocol": "TCP"});
        let object =
            json!({"spec": {"template": {"spec": {"containers": [{"ports": [port(0)]}, {"ports": [port(5)]}]}}}});
        let found = template(&object, None, "spec.template");
        assert_eq!(
            found[0],
            "spec.template.spec.containers[1].ports[0]: overlapping port definition with spec.template.spec.containers[0].ports[0]"
        );
        assert_eq!(found.len(), 2);
        assert!(template(&object, Some(&object), "spec.template").is_empty());
    }
}
