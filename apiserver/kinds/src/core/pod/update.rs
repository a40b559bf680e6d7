//! What of a pod may change once it is there.

use apimachinery::Value;
use apimachinery::validation::{Cursor, Errors, Path};

use super::qos;
use crate::core::pod_spec::{container, volume};
use registry::edit::{copy, each, get, items, number, text};
use registry::strategy::Context;

/// Annotation of pods that stand for static pods of a kubelet: nobody else changes them.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Checks an update of the pod itself.
pub fn validate(new: &Cursor<'_>, old: &Cursor<'_>) {
    let (spec, old_spec) = (new.field("spec"), old.field("spec"));
    super::of_a_pod(new);
    for (list, what) in [("containers", "containers"), ("initContainers", "initContainers")] {
        if spec.field(list).len() != old_spec.field(list).len() {
            spec.field(list).forbid(format!("pod updates may not add or remove {what}"));
            return;
        }
    }
    deadline(&spec.field("activeDeadlineSeconds"), &old_spec.field("activeDeadlineSeconds"));
    tolerations(&spec.field("tolerations"), &old_spec.field("tolerations"));
    gates(&spec.field("schedulingGates"), &old_spec.field("schedulingGates"));
    let gated = !old_spec.field("schedulingGates").is_empty();
    if gated {
        node_selector_tightened(&spec.field("nodeSelector"), &old_spec.field("nodeSelector"));
        node_affinity_tightened(&spec.dig("affinity.nodeAffinity"), &old_spec.dig("affinity.nodeAffinity"));
    }
    let (Some(spec_value), Some(old_value)) = (spec.value(), old_spec.value()) else { return };
    if with_old_where_mutable(spec_value, old_value, gated) != *old_value {
        spec.forbid(
            "only images, `activeDeadlineSeconds`, additions to `tolerations`, and `terminationGracePeriodSeconds` (to 1, where it \
             was negative) can be changed in a pod's spec; delete the pod and create it anew to change anything else",
        );
    }
}

/// The new spec with the old values of all that may change: what is left over may not.
fn with_old_where_mutable(spec: &Value, old: &Value, gated: bool) -> Value {
    let mut spec = spec.clone();
    for list in ["containers", "initContainers"] {
        let mut old_containers = items(old, list).iter();
        each(&mut spec, list, |container| {
            if let Some(old) = old_containers.next() {
                copy(container, old, "image");
            }
        });
    }
    for name in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        copy(&mut spec, old, name);
    }
    if number(old, "terminationGracePeriodSeconds") < 0 && number(&spec, "terminationGracePeriodSeconds") == 1 {
        copy(&mut spec, old, "terminationGracePeriodSeconds");
    }
    if gated {
        copy(&mut spec, old, "nodeSelector");
        let empty = |affinity: &Value| affinity.as_object().is_some_and(|a| a.is_empty());
        if let Some(affinity) = spec.get_mut("affinity") {
            copy(affinity, &old["affinity"], "nodeAffinity");
        } else if get(old, "affinity.nodeAffinity").is_none() {
            copy(&mut spec, old, "affinity");
        }
        if spec.get("affinity").is_some_and(empty) && old.get("affinity").is_none() {
            copy(&mut spec, old, "affinity");
        }
    }
    spec
}

/// May be set, and shortened.
fn deadline(new: &Cursor<'_>, old: &Cursor<'_>) {
    match (new.i64(), old.i64()) {
        (Some(new_seconds), Some(old_seconds)) if new_seconds > old_seconds => {
            new.invalid("must be less than or equal to previous value");
        }
        (None, Some(_)) => new.invalid_value(Value::Null, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

/// May be added to; of one that is there, only the seconds may change.
fn tolerations(new: &Cursor<'_>, old: &Cursor<'_>) {
    let same = |a: &Value, b: &Value| ["key", "operator", "value", "effect"].iter().all(|n| text(a, n) == text(b, n));
    if old.array().iter().any(|o| !new.array().iter().any(|n| same(n, o))) {
        new.forbid("existing toleration can not be modified except its tolerationSeconds");
    }
}

/// May only be taken away.
fn gates(new: &Cursor<'_>, old: &Cursor<'_>) {
    for gate in new.items() {
        if !old.array().iter().any(|o| o["name"] == gate.field("name").str()) {
            new.forbid(format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                gate.field("name").str()
            ));
        }
    }
}

fn node_selector_tightened(new: &Cursor<'_>, old: &Cursor<'_>) {
    for (key, value) in old.entries() {
        if new.field(key).value() != value.value() {
            new.invalid("only additions are allowed (no mutations or deletions)");
            return;
        }
    }
}

/// Requirements may be added to terms, which are alternatives: neither may a term come or go, nor a requirement go.
fn node_affinity_tightened(new: &Cursor<'_>, old: &Cursor<'_>) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let [new, old] = [new, old].map(|affinity| affinity.field(REQUIRED).field("nodeSelectorTerms"));
    if !old.is_empty() && old.len() != new.len() {
        new.invalid("no additions/deletions to non-empty NodeSelectorTerms list are allowed");
        return;
    }
    for (new, old) in new.items().zip(old.items()) {
        let lists = ["matchExpressions", "matchFields"].map(|list| (new.field(list).array(), old.field(list).array()));
        let matched_nothing = lists.iter().all(|(_, old)| old.is_empty());
        let kept = lists.iter().all(|(new, old)| new.starts_with(old));
        if !kept || matched_nothing && lists.iter().any(|(new, _)| !new.is_empty()) {
            new.invalid("only additions are allowed (no mutations or deletions)");
        }
    }
}

/// Of a write to `/ephemeralcontainers`, everything else stays.
pub fn only_ephemeral_containers(pod: &mut Value, old: &Value, _: &Context<'_>) {
    let written = get(pod, "spec.ephemeralContainers").cloned();
    restore(pod, old);
    match written {
        Some(containers) => pod["spec"]["ephemeralContainers"] = containers,
        None => drop(pod["spec"].as_object_mut().map(|s| s.remove("ephemeralContainers"))),
    }
}

fn restore(pod: &mut Value, old: &Value) {
    for name in ["spec", "status"] {
        copy(pod, old, name);
    }
    for name in ["labels", "annotations", "finalizers", "ownerReferences"] {
        copy(&mut pod["metadata"], &old["metadata"], name);
    }
}

fn is_mirror(pod: &Cursor<'_>) -> bool {
    pod.dig("metadata.annotations").field(MIRROR).exists()
}

pub fn validate_ephemeral_containers(new: &Cursor<'_>, old: &Cursor<'_>) {
    if is_mirror(old) {
        new.forbid("static pods do not support ephemeral containers");
        return;
    }
    let spec = new.field("spec");
    // What is wrong with the volumes was said when the pod was made.
    let unsaid = Errors::new();
    let volumes = volume::volumes(&Cursor::at(spec.field("volumes").value(), Path::root(), &unsaid), None);
    container::ephemeral(&container::Scope::of(&spec, &volumes));
    let (list, old_list) = (spec.field("ephemeralContainers"), old.dig("spec.ephemeralContainers"));
    for old in old_list.array() {
        match list.array().iter().find(|c| c["name"] == old["name"]) {
            None => list.forbid(format!("existing ephemeral containers {} may not be removed\n", old["name"])),
            Some(new) if new != old => {
                list.forbid(format!("existing ephemeral containers {} may not be changed\n", old["name"]));
            }
            Some(_) => {}
        }
    }
}

/// Of a write to `/resize`, only the resources of containers and of the pod are taken.
pub fn only_resources(pod: &mut Value, old: &Value, _: &Context<'_>) {
    let written = pod["spec"].take();
    restore(pod, old);
    for list in ["containers", "initContainers"] {
        each(&mut pod["spec"], list, |container| {
            if let Some(new) = items(&written, list).iter().find(|c| c["name"] == container["name"]) {
                copy(container, new, "resources");
                copy(container, new, "resizePolicy");
            }
        });
    }
    if written.get("resources").is_some() {
        copy(&mut pod["spec"], &written, "resources");
    }
}

pub fn validate_resize(new: &Cursor<'_>, old: &Cursor<'_>) {
    if is_mirror(old) {
        new.forbid("static pods cannot be resized");
        return;
    }
    let (spec, old_spec) = (new.field("spec"), old.field("spec"));
    super::of_a_pod(new);
    let class = |spec: &Cursor<'_>| spec.value().map_or("", qos::class);
    if class(&spec) != class(&old_spec) {
        spec.invalid_value(class(&spec), "Pod QOS Class may not change as a result of resizing");
    }
    for (list, required_policy) in [("containers", false), ("initContainers", true)] {
        for (new, old) in spec.field(list).items().zip(old_spec.field(list).items()) {
            if required_policy
                && old.field("restartPolicy").str() != "Always"
                && new.field("resources").value() != old.field("resources").value()
            {
                new.field("resources").forbid("only sidecar init containers can be resized");
            }
            for part in ["requests", "limits"] {
                only_cpu_and_memory(&new.field("resources").field(part), &old.field("resources").field(part));
            }
        }
    }
}

fn only_cpu_and_memory(new: &Cursor<'_>, old: &Cursor<'_>) {
    for (resource, amount) in new.entries() {
        if !matches!(resource, "cpu" | "memory") && amount.value() != old.field(resource).value() {
            new.forbid("only cpu and memory resources are mutable");
            return;
        }
    }
    for (resource, _) in old.entries() {
        if !new.field(resource).exists() {
            new.forbid("resource limits and requests cannot be removed");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::validation::Errors;
    use serde_json::json;

    fn pod(change: impl Fn(&mut Value)) -> Value {
        let mut pod = json!({"spec": {"containers": [{"name": "c", "image": "i:1", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}],
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "tolerations": [{"key": "a", "operator": "Exists"}]}});
        change(&mut pod);
        pod
    }

    fn errors(new: &Value, old: &Value) -> Vec<String> {
        let errors = Errors::new();
        validate(&Cursor::root(new, &errors), &Cursor::root(old, &Errors::new()));
        errors.into_vec().iter().map(|e| e.field.to_string()).collect()
    }

    #[test]
    fn few_fields_may_change() {
        let old = pod(|_| {});
        let none: [&str; 0] = [];
        assert_eq!(errors(&pod(|p| p["spec"]["containers"][0]["image"] = "i:2".into()), &old), none);
        assert_eq!(errors(&pod(|p| p["spec"]["activeDeadlineSeconds"] = 5.into()), &old), none);
        let more = json!([{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}]);
        assert_eq!(errors(&pod(|p| p["spec"]["tolerations"] = more.clone()), &old), none);
        assert_eq!(errors(&pod(|p| p["spec"]["tolerations"] = json!([])), &old), ["spec.tolerations"]);
        assert_eq!(errors(&pod(|p| p["spec"]["containers"][0]["command"] = json!(["x"])), &old), ["spec"]);
        assert_eq!(errors(&pod(|p| p["spec"]["nodeName"] = "n".into()), &old), ["spec"]);
    }

    #[test]
    fn gated_pods_may_be_steered() {
        let gated = |p: &mut Value| p["spec"]["schedulingGates"] = json!([{"name": "g"}]);
        let old = pod(gated);
        let steered = pod(|p| {
            p["spec"]["nodeSelector"] = json!({"zone": "a"});
        });
        assert!(errors(&steered, &old).is_empty());
        assert_eq!(errors(&pod(gated), &pod(|_| {})), ["spec.schedulingGates"]);
    }

    #[test]
    fn resizing_takes_nothing_but_resources() {
        let context = Context { user: &request::user::NOBODY, now: "", labelled: false };
        let old = pod(|p| p["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}}));
        let mut new = pod(|p| {
            p["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "2"}});
            p["spec"]["containers"][0]["image"] = "other".into();
        });
        only_resources(&mut new, &old, &context);
        assert_eq!(new["spec"]["containers"][0]["image"], "i:1");
        assert_eq!(new["spec"]["containers"][0]["resources"], json!({"requests": {"cpu": "2"}}));
    }
}
