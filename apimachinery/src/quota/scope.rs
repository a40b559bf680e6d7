//! Scopes: which pods and claims a quota is about.

use super::amount;
use crate::Value;

/// One scope, with what its selector demands.
pub struct Requirement<'a> {
    scope: &'a str,
    operator: &'a str,
    values: &'a Value,
}

/// What `spec.scopes` and `spec.scopeSelector` of a quota demand.
pub fn of(spec: &Value) -> impl Iterator<Item = Requirement<'_>> {
    let scopes = spec["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let plain = scopes.map(|scope| Requirement { scope, operator: "Exists", values: &Value::Null });
    let expressions = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    plain.chain(expressions.map(|e| Requirement {
        scope: e["scopeName"].as_str().unwrap_or_default(),
        operator: e["operator"].as_str().unwrap_or_default(),
        values: &e["values"],
    }))
}

impl Requirement<'_> {
    pub fn pod(&self, pod: &Value) -> bool {
        let spec = &pod["spec"];
        let terminating = || spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0);
        match self.scope {
            "Terminating" => terminating(),
            "NotTerminating" => !terminating(),
            "BestEffort" => is_best_effort(spec),
            "NotBestEffort" => !is_best_effort(spec),
            "PriorityClass" => self.selects(spec["priorityClassName"].as_str()),
            "CrossNamespacePodAffinity" => looks_into_other_namespaces(&spec["affinity"]),
            _ => false,
        }
    }

    /// A claim belongs to the class it has, to the one it had, and to the one it is on its way to. (KEP-3751)
    pub fn claim(&self, claim: &Value) -> bool {
        let status = &claim["status"];
        let classes = [
            &claim["spec"]["volumeAttributesClassName"],
            &status["currentVolumeAttributesClassName"],
            &status["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
        ];
        let mut classes = classes.into_iter().filter_map(Value::as_str).filter(|c| !c.is_empty()).peekable();
        self.scope == "VolumeAttributesClass"
            && if classes.peek().is_none() { self.selects(None) } else { classes.any(|c| self.selects(Some(c))) }
    }

    fn selects(&self, value: Option<&str>) -> bool {
        let value = value.filter(|v| !v.is_empty());
        let listed = || self.values.as_array().is_some_and(|list| list.iter().any(|v| v.as_str() == value));
        match self.operator {
            "In" => value.is_some() && listed(),
            "NotIn" => !listed(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    }
}

/// As the QoS class: nothing in the pod asks for CPU or memory.
fn is_best_effort(spec: &Value) -> bool {
    let asks = |resources: &Value| {
        ["requests", "limits"]
            .iter()
            .any(|side| ["cpu", "memory"].iter().any(|r| amount(&resources[*side][*r]).is_some_and(|a| !a.is_zero())))
    };
    let containers = ["containers", "initContainers"].into_iter().filter_map(|list| spec[list].as_array()).flatten();
    !asks(&spec["resources"]) && !containers.into_iter().any(|c| asks(&c["resources"]))
}

fn looks_into_other_namespaces(affinity: &Value) -> bool {
    let crosses = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|list| !list.is_empty()) || term["namespaceSelector"].is_object()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let terms = |list: &str| affinity[*kind][list].as_array().into_iter().flatten();
        terms("requiredDuringSchedulingIgnoredDuringExecution").any(crosses)
            || terms("preferredDuringSchedulingIgnoredDuringExecution").any(|t| crosses(&t["podAffinityTerm"]))
    })
}

#[cfg(test)]
mod tests {
    use crate::quota::{CLAIMS, Kind, PODS};
    use serde_json::{Value, json};

    #[test]
    fn scopes_tell_pods_apart() {
        let asks = |resource: &str| json!({"containers": [{"resources": {"requests": {resource: "1"}}}]});
        let affinity = |term: Value| json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": term}]}}});
        for (scope, pod, in_scope) in [
            ("BestEffort", json!({}), true),
            ("BestEffort", asks("ephemeral-storage"), true),
            ("BestEffort", asks("cpu"), false),
            ("NotBestEffort", asks("memory"), true),
            ("NotBestEffort", json!({}), false),
            ("Terminating", json!({"activeDeadlineSeconds": 1}), true),
            ("Terminating", json!({}), false),
            ("NotTerminating", json!({}), true),
            ("PriorityClass", json!({"priorityClassName": "high"}), true),
            ("PriorityClass", json!({}), false),
            ("CrossNamespacePodAffinity", affinity(json!({"namespaces": ["a"]})), true),
            ("CrossNamespacePodAffinity", affinity(json!({"namespaceSelector": {}})), true),
            ("CrossNamespacePodAffinity", affinity(json!({})), false),
            ("VolumeAttributesClass", json!({}), false),
        ] {
            let pod = json!({"spec": pod});
            assert_eq!(PODS.in_scope(&json!({"scopes": [scope]}), &pod), in_scope, "{scope} {pod}");
        }
        assert!(PODS.in_scope(&json!({}), &json!({})));
        assert!(!Kind { group: "", plural: "secrets" }.in_scope(&json!({"scopes": ["NotTerminating"]}), &json!({})));
    }

    #[test]
    fn selectors_choose_classes() {
        for (operator, values, class, in_scope) in [
            ("In", json!(["high"]), "high", true),
            ("In", json!(["high"]), "low", false),
            ("In", json!(["high"]), "", false),
            ("NotIn", json!(["high"]), "low", true),
            ("NotIn", json!(["high"]), "", true),
            ("Exists", json!(null), "low", true),
            ("DoesNotExist", json!(null), "low", false),
            ("DoesNotExist", json!(null), "", true),
        ] {
            let spec = |scope: &str| json!({"scopeSelector": {"matchExpressions": [{"scopeName": scope, "operator": operator, "values": values}]}});
            let pod = json!({"spec": {"priorityClassName": class}});
            assert_eq!(PODS.in_scope(&spec("PriorityClass"), &pod), in_scope, "{operator} {class}");
            let claim = json!({"status": {"currentVolumeAttributesClassName": class}});
            assert_eq!(CLAIMS.in_scope(&spec("VolumeAttributesClass"), &claim), in_scope, "{operator} {class}");
        }
    }
}
