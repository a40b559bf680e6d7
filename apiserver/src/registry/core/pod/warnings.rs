//! What is allowed in a pod but most likely not meant.

use std::collections::HashSet;

use apimachinery::Value;

use crate::registry::edit::{get, items, number, text};

/// Members of volumes whose plugins are gone or going.
const OLD_VOLUMES: [(&str, &str); 9] = [
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ("photonPersistentDisk", "non-functional in v1.16+"),
];

/// Warnings for a pod; on updates only for pods whose spec changes.
pub fn warnings(pod: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some_and(|old| old["spec"] == pod["spec"]) {
        return Vec::new();
    }
    spec_warnings(&pod["spec"], "spec")
}

/// Warnings for the spec of a pod or of a template, at `path`.
pub fn spec_warnings(spec: &Value, path: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if number(spec, "terminationGracePeriodSeconds") < 0 {
        warnings.push(format!(
            "{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    for (i, volume) in items(spec, "volumes").iter().enumerate() {
        for (source, state) in OLD_VOLUMES.iter().filter(|(source, _)| volume.get(source).is_some()) {
            warnings.push(format!("{path}.volumes[{i}].{source}: {state}"));
        }
    }
    for list in ["initContainers", "containers"] {
        for (i, container) in items(spec, list).iter().enumerate() {
            container_warnings(container, &format!("{path}.{list}[{i}]"), &mut warnings);
        }
    }
    for (i, alias) in items(spec, "imagePullSecrets").iter().enumerate() {
        if text(alias, "name").is_empty() {
            warnings.push(format!("{path}.imagePullSecrets[{i}].name: invalid empty name \"\""));
        }
    }
    warnings
}

fn container_warnings(container: &Value, path: &str, warnings: &mut Vec<String>) {
    let mut names = HashSet::new();
    for (i, env) in items(container, "env").iter().enumerate() {
        if !names.insert(text(env, "name")) {
            warnings.push(format!(
                "{path}.env[{i}]: hides previous definition of {:?}, which may be unintended",
                text(env, "name")
            ));
        }
    }
    let mut ports = HashSet::new();
    for (i, port) in items(container, "ports").iter().enumerate() {
        if !ports.insert((number(port, "containerPort"), text(port, "protocol"))) {
            warnings.push(format!("{path}.ports[{i}]: duplicate port definition with the same number and protocol"));
        }
    }
    for part in ["limits", "requests"] {
        let memory = get(container, &format!("resources.{part}.memory")).and_then(Value::as_str).unwrap_or_default();
        if memory.ends_with('m') {
            warnings.push(format!(
                "{path}.resources.{part}[memory]: fractional byte value {memory:?} is invalid, must be an integer"
            ));
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
        let pod = json!({"spec": {"containers": [container], "terminationGracePeriodSeconds": -1}});
        assert_eq!(warnings(&pod, None).len(), 3);
        assert!(warnings(&pod, Some(&pod)).is_empty());
    }
}
