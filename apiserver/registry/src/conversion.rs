//! Kinds that are served in more than one version: how an object gets from one to the other. Most pairs differ in the name of
//! the version only; what differs more is a table or a function here.

use apimachinery::codec::{Report, normalize};
use apimachinery::schema::{GroupVersionKind, Schema};
use apimachinery::{Map, Value};
use serde_json::json;

use crate::edit::{each, get, items, object, remove, text};

/// Members of an event in the core group and in `events.k8s.io`.
const EVENT_MEMBERS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Parts of a `v2` autoscaler that `v1` has no member for: (path, annotation that carries it as JSON).
const AUTOSCALER_EXTRAS: [(&str, &str, &str); 4] = [
    ("spec", "metrics", "autoscaling.alpha.kubernetes.io/metrics"),
    ("spec", "behavior", "autoscaling.alpha.kubernetes.io/behavior"),
    ("status", "currentMetrics", "autoscaling.alpha.kubernetes.io/current-metrics"),
    ("status", "conditions", "autoscaling.alpha.kubernetes.io/conditions"),
];

/// Turns an object in the normal form of `from` into the normal form of `to`.
pub fn convert(from: &GroupVersionKind, to: &GroupVersionKind, value: &mut Value) {
    if from == to {
        return;
    }
    match (from.kind.as_str(), from.group.as_str(), from.version.as_str(), to.version.as_str()) {
        ("Event", "", ..) => rename(value, EVENT_MEMBERS),
        ("Event", ..) => rename(value, EVENT_MEMBERS.map(|(core, events)| (events, core))),
        ("HorizontalPodAutoscaler", _, "v2", "v1") => autoscaler_to_v1(value),
        ("HorizontalPodAutoscaler", _, "v1", "v2") => autoscaler_to_v2(value),
        ("ResourceClaim", _, from, to) => flatten_requests(&mut value["spec"], from, to),
        ("ResourceClaimTemplate", _, from, to) => flatten_requests(&mut value["spec"]["spec"], from, to),
        ("ResourceSlice", _, from, to) => flatten_devices(&mut value["spec"], from, to),
        // The same members under another version.
        _ => return,
    }
    let schema = Schema::builtin();
    if let Some(ty) = schema.kind(&to.group, &to.version, &to.kind) {
        // Both forms were checked when they came in; what one does not know is dropped.
        let _ = normalize(schema, ty, value, &mut Report::default());
    }
}

/// Members that a request of `resource.k8s.io/v1beta1` has itself, and that later versions keep under `exactly`.
const EXACTLY: [&str; 7] =
    ["deviceClassName", "selectors", "allocationMode", "count", "adminAccess", "tolerations", "capacity"];

/// `v1beta1` of a claim's specification against all later versions.
fn flatten_requests(spec: &mut Value, from: &str, to: &str) {
    let Some(devices) = spec.get_mut("devices") else { return };
    each(devices, "requests", |request| {
        if to == "v1beta1" {
            for (name, member) in
                remove(request, "exactly").as_mut().and_then(Value::as_object_mut).into_iter().flatten()
            {
                request[name] = member.take();
            }
        } else if from == "v1beta1" {
            let exactly: Map<_, _> = EXACTLY
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), remove(request, name).filter(|v| !is_unset(v))?)))
                .collect();
            if !exactly.is_empty() {
                request["exactly"] = exactly.into();
            }
        }
    });
}

/// `v1beta1` of a slice's specification, whose devices keep nearly everything under `basic`, against all later versions.
fn flatten_devices(spec: &mut Value, from: &str, to: &str) {
    for name in ["nodeName", "allNodes"].iter().filter(|_| from == "v1beta1") {
        if spec.get(name).is_some_and(|v| is_unset(v) || *v == false) {
            remove(spec, name); // values there, references here
        }
    }
    each(spec, "devices", |device| {
        if to == "v1beta1" {
            let name = remove(device, "name");
            *device = json!({"name": name, "basic": device.take()});
        } else if from == "v1beta1" {
            for (name, member) in remove(device, "basic").as_mut().and_then(Value::as_object_mut).into_iter().flatten()
            {
                device[name] = member.take();
            }
        }
    });
}

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn rename(value: &mut Value, names: [(&str, &str); 7]) {
    for (old, new) in names {
        if let Some(member) = remove(value, old) {
            value[new] = member;
        }
    }
}

/// The utilization of CPU, which is all that `v1` can measure.
fn is_cpu(metric: &Value, value: &str) -> bool {
    text(metric, "type") == "Resource"
        && text(metric, "resource.name") == "cpu"
        && get(metric, &format!("resource.{value}.averageUtilization")).is_some()
}

fn autoscaler_to_v1(scaler: &mut Value) {
    for (part, list, value, member) in [
        ("spec", "metrics", "target", "targetCPUUtilizationPercentage"),
        ("status", "currentMetrics", "current", "currentCPUUtilizationPercentage"),
    ] {
        let metrics = items(&scaler[part], list);
        let Some(at) = metrics.iter().position(|m| is_cpu(m, value)) else { continue };
        let percent = metrics[at]["resource"][value]["averageUtilization"].clone();
        // Only a single target has a place of its own; with others beside it, all stay together in the annotation.
        if metrics.len() == 1 {
            remove(&mut scaler[part], list);
        }
        scaler[part][member] = percent;
    }
    for (part, name, annotation) in AUTOSCALER_EXTRAS {
        let extra = remove(object(scaler, part), name).filter(|v| !v.is_null());
        if let Some(extra) = extra {
            object(object(scaler, "metadata"), "annotations")[annotation] = extra.to_string().into();
        }
    }
}

fn autoscaler_to_v2(scaler: &mut Value) {
    for (part, name, annotation) in AUTOSCALER_EXTRAS {
        let Some(annotations) = scaler["metadata"].get_mut("annotations") else { break };
        let kept = remove(annotations, annotation).and_then(|json| serde_json::from_str(json.as_str()?).ok());
        if let Some(kept) = kept {
            let kept: Value = kept;
            object(scaler, part)[name] = kept;
        }
    }
    for (part, list, value, member) in [
        ("spec", "metrics", "target", "targetCPUUtilizationPercentage"),
        ("status", "currentMetrics", "current", "currentCPUUtilizationPercentage"),
    ] {
        let Some(percent) = remove(object(scaler, part), member).filter(|p| !p.is_null()) else { continue };
        let mut metrics = items(&scaler[part], list).to_vec();
        match metrics.iter_mut().find(|m| is_cpu(m, value)) {
            Some(metric) => metric["resource"][value]["averageUtilization"] = percent,
            None => {
                let mut measured = json!({"averageUtilization": percent});
                if value == "target" {
                    measured["type"] = "Utilization".into();
                }
                metrics.insert(0, json!({"type": "Resource", "resource": {"name": "cpu", value: measured}}));
            }
        }
        scaler[part][list] = metrics.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(from: GroupVersionKind, to: GroupVersionKind, value: &Value) -> (Value, Value) {
        let schema = Schema::builtin();
        let mut start = value.clone();
        let ty = schema.kind(&from.group, &from.version, &from.kind).unwrap();
        normalize(schema, ty, &mut start, &mut Report::default()).unwrap();
        let mut there = start.clone();
        convert(&from, &to, &mut there);
        let mut back = there.clone();
        convert(&to, &from, &mut back);
        assert_eq!(back, start);
        (start, there)
    }

    #[test]
    fn events_change_their_names() {
        let core = GroupVersionKind::new("", "v1", "Event");
        let events = GroupVersionKind::new("events.k8s.io", "v1", "Event");
        let event = json!({"metadata": {"name": "e"}, "involvedObject": {"name": "p"}, "message": "m", "count": 2,
            "firstTimestamp": "2024-01-01T00:00:00Z", "source": {"component": "c"}, "reportingComponent": "r"});
        let (_, there) = there_and_back(core, events, &event);
        assert_eq!(
            (&there["regarding"]["name"], &there["note"], &there["deprecatedCount"]),
            (&json!("p"), &json!("m"), &json!(2))
        );
        assert_eq!(there["reportingController"], "r");
    }

    #[test]
    fn autoscalers_lose_nothing_on_the_way() {
        let v1 = GroupVersionKind::new("autoscaling", "v1", "HorizontalPodAutoscaler");
        let v2 = GroupVersionKind::new("autoscaling", "v2", "HorizontalPodAutoscaler");
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
        let pods = json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "5"}}});
        let scaler = |metrics: Value| {
            json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "metrics": metrics,
            "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}})
        };
        let (_, there) = there_and_back(v2.clone(), v1.clone(), &scaler(json!([cpu])));
        assert_eq!(there["spec"]["targetCPUUtilizationPercentage"], 50);
        there_and_back(v2, v1, &scaler(json!([pods, cpu])));
    }
}
