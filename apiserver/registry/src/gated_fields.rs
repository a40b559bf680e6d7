//! Fields behind feature gates that are off: dropped on write, as upstream's strategies do, unless they are in use already.
//! (Kubernetes' API change policy: a gate that goes off must not take away what is stored.)
//!
//! `gated_fields.txt` says which fields are behind which gate.

use apimachinery::Value;
use component_base::feature_gates::FeatureGates;
use std::collections::HashMap;

/// What is to be dropped, by `plural.group`.
#[derive(Default)]
pub struct GatedFields(HashMap<String, Vec<Vec<Field>>>);

/// One field: where it is, and what goes with it.
#[derive(Clone, Debug)]
struct Field {
    path: Vec<Step>,
    with: With,
}

/// What goes with a field that is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum With {
    Nothing,
    /// The object it is in, if that is left empty.
    EmptyParent,
    /// The object it is in.
    Parent,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    /// Every item of a list, or every value of a map.
    Each,
}

/// Resources that hold the spec of a pod, and where.
const POD_SPECS: [(&str, &str); 9] = [
    ("pods", "spec"),
    ("podtemplates", "template.spec"),
    ("replicationcontrollers", "spec.template.spec"),
    ("daemonsets.apps", "spec.template.spec"),
    ("deployments.apps", "spec.template.spec"),
    ("replicasets.apps", "spec.template.spec"),
    ("statefulsets.apps", "spec.template.spec"),
    ("cronjobs.batch", "spec.jobTemplate.spec.template.spec"),
    ("jobs.batch", "spec.template.spec"),
];

/// The same for the spec of a resource claim.
const CLAIM_SPECS: [(&str, &str); 2] =
    [("resourceclaims.resource.k8s.io", "spec"), ("resourceclaimtemplates.resource.k8s.io", "spec.spec")];

impl GatedFields {
    /// The fields whose gates are off.
    pub fn new(gates: &FeatureGates) -> GatedFields {
        let mut fields = GatedFields::default();
        let mut places: Vec<(&str, &str)> = Vec::new();
        for line in include_str!("gated_fields.txt").lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match (line.starts_with(' '), words.as_slice()) {
                (true, [gate, paths @ ..]) if !gates.enabled(gate) => {
                    for (resource, prefix) in &places {
                        let group = paths.iter().map(|path| field(prefix, path)).collect();
                        fields.0.entry((*resource).to_owned()).or_default().push(group);
                    }
                }
                (false, ["pod-spec"]) => places = POD_SPECS.to_vec(),
                (false, ["claim-spec"]) => places = CLAIM_SPECS.to_vec(),
                (false, resources) => places = resources.iter().map(|resource| (*resource, "")).collect(),
                _ => {}
            }
        }
        fields
    }

    /// Drops from an object to be written what is behind a gate that is off. Fields of one gate stay together: if the old object
    /// uses one of them, all may be written.
    pub fn drop_disabled(&self, group: &str, plural: &str, object: &mut Value, old: Option<&Value>) {
        if self.0.is_empty() {
            return;
        }
        let resource = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
        for fields in self.0.get(&resource).into_iter().flatten() {
            if old.is_some_and(|old| fields.iter().any(|field| uses(old, &field.path))) {
                continue;
            }
            for field in fields {
                drop_field(object, &field.path, field.with);
            }
        }
    }
}

fn field(prefix: &str, path: &str) -> Field {
    let (path, with) = match (path.strip_suffix("!!"), path.strip_suffix('!')) {
        (Some(path), _) => (path, With::Parent),
        (None, Some(path)) => (path, With::EmptyParent),
        (None, None) => (path, With::Nothing),
    };
    let mut steps = Vec::new();
    for part in prefix.split('.').chain(path.split('.')).filter(|part| !part.is_empty()) {
        let name = part.trim_end_matches("[]").trim_end_matches("{}");
        steps.push(Step::Member(name.to_owned()));
        if name != part {
            steps.push(Step::Each);
        }
    }
    Field { path: steps, with }
}

/// Whether an object has something at a path.
fn uses(value: &Value, path: &[Step]) -> bool {
    let Some((step, rest)) = path.split_first() else {
        return match value {
            Value::Null => false,
            Value::Array(items) => !items.is_empty(),
            Value::String(text) => !text.is_empty(),
            _ => true,
        };
    };
    match (step, value) {
        (Step::Member(name), Value::Object(members)) => members.get(name).is_some_and(|value| uses(value, rest)),
        (Step::Each, Value::Array(items)) => items.iter().any(|item| uses(item, rest)),
        (Step::Each, Value::Object(members)) => members.values().any(|value| uses(value, rest)),
        _ => false,
    }
}

/// Removes what is at a path. True if `value` is to go too.
fn drop_field(value: &mut Value, path: &[Step], with: With) -> bool {
    match (path, value) {
        ([Step::Member(name)], Value::Object(members)) => {
            members.remove(name).is_some() && (with == With::Parent || with == With::EmptyParent && members.is_empty())
        }
        ([Step::Member(name), rest @ ..], Value::Object(members)) => {
            if members.get_mut(name).is_some_and(|value| drop_field(value, rest, with)) {
                members.remove(name);
            }
            false
        }
        ([Step::Each, rest @ ..], Value::Array(items)) => {
            items.retain_mut(|item| !drop_field(item, rest, with));
            false
        }
        ([Step::Each, rest @ ..], Value::Object(members)) => {
            members.retain(|_, value| !drop_field(value, rest, with));
            false
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::schema::{GroupVersionKind, Schema, Shape};
    use serde_json::json;

    fn gates(text: &str) -> GatedFields {
        GatedFields::new(&text.parse().unwrap())
    }

    #[test]
    fn fields_are_dropped_where_their_gate_is_off_and_nobody_uses_them() {
        let with = |signal: &str| json!({"spec": {"containers": [{"name": "c", "lifecycle": {"stopSignal": signal}}]}});
        let without = json!({"spec": {"containers": [{"name": "c"}]}});
        for (set, old, want) in [
            ("", None, without.clone()),
            ("", Some(without.clone()), without.clone()),
            ("", Some(with("SIGINT")), with("SIGTERM")),
            ("ContainerStopSignals=true", None, with("SIGTERM")),
        ] {
            let mut object = with("SIGTERM");
            gates(set).drop_disabled("", "pods", &mut object, old.as_ref());
            assert_eq!(object, want, "{set} {old:?}");
        }
        let mut hooks = json!({"spec": {"template": {"spec": {"containers": [{"lifecycle": {"stopSignal": "SIGINT", "preStop": {}}}]}}}});
        gates("").drop_disabled("apps", "deployments", &mut hooks, None);
        assert_eq!(hooks["spec"]["template"]["spec"]["containers"][0]["lifecycle"], json!({"preStop": {}}));
        let mut slice = json!({"spec": {"devices": [{"capacity": {"memory": {"value": "1", "requestPolicy": {"default": "1"}}},
            "taints": [{"key": "a"}]}]}});
        gates("DRADeviceTaints=true").drop_disabled("resource.k8s.io", "resourceslices", &mut slice, None);
        assert_eq!(
            slice,
            json!({"spec": {"devices": [{"capacity": {"memory": {"value": "1"}}, "taints": [{"key": "a"}]}]}})
        );
    }

    #[test]
    fn gates_that_are_on_by_default_can_go_off() {
        let pod = json!({"spec": {"hostnameOverride": "h", "resources": {"limits": {"cpu": "1"}}}});
        let mut object = pod.clone();
        gates("").drop_disabled("", "pods", &mut object, None);
        assert_eq!(object, pod);
        gates("HostnameOverride=false,PodLevelResources=false").drop_disabled("", "pods", &mut object, None);
        assert_eq!(object, json!({"spec": {}}));
    }

    /// A gate or a field that is spelled wrong would never act.
    #[test]
    fn the_table_names_gates_and_fields_that_exist() {
        let known: Vec<&str> = component_base::feature_gates::all().map(|gate| gate.name).collect();
        let rows = ::kinds::rows::builtin();
        let schema = Schema::builtin();
        for line in include_str!("gated_fields.txt").lines().filter(|line| line.starts_with(' ')) {
            let gate = line.split_ascii_whitespace().next().unwrap();
            assert!(known.contains(&gate), "{gate}");
        }
        let exists = |kind: &GroupVersionKind, path: &[Step]| {
            let mut shape = Shape::Struct(schema.kind(&kind.group, &kind.version, &kind.kind).unwrap().id);
            for step in path {
                shape = match (step, &shape) {
                    (Step::Member(name), Shape::Struct(id)) => {
                        let Some(field) = schema.member(schema.get(*id), name) else { return false };
                        field.shape.clone()
                    }
                    (Step::Each, Shape::List(item) | Shape::Map(item)) => Shape::clone(item),
                    _ => return false,
                };
            }
            true
        };
        let everything: Vec<String> = known.iter().filter(|g| !g.starts_with("All")).map(|g| g.to_string()).collect();
        let off = FeatureGates(everything.into_iter().map(|gate| (gate, false)).collect());
        for (resource, groups) in GatedFields::new(&off).0 {
            let (plural, group) = resource.split_once('.').unwrap_or((&resource, ""));
            let versions: Vec<_> = rows.iter().filter(|r| r.plural == plural && r.kind.group == group).collect();
            assert!(!versions.is_empty(), "{resource}");
            for field in groups.iter().flatten() {
                assert!(versions.iter().any(|r| exists(&r.kind, &field.path)), "{resource} {field:?}");
            }
        }
    }
}
