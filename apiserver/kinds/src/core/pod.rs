//! Pods.

pub mod qos;
mod table;
mod update;

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};
use serde_json::json;

use super::pod_spec::{self, defaults, resources};
use registry::edit::{at, copy, default, items, number, object, text};
use registry::strategy::{Context, SelectableField, Strategy, Subresource};

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    default: defaulted,
    prepare_for_create,
    prepare_for_update,
    validate,
    validate_update: update::validate,
    warnings: pod_spec::warnings::pod,
    canonicalize,
    fields: FIELDS,
    subresources: &[
        Subresource {
            name: "status",
            prepare: prepare_status,
            validate: validate_status,
            reset_fields: &["spec", "metadata.deletionTimestamp", "metadata.ownerReferences"],
        },
        Subresource {
            name: "ephemeralcontainers",
            prepare: update::only_ephemeral_containers,
            validate: update::validate_ephemeral_containers,
            reset_fields: &["spec.resizePolicy"],
        },
        Subresource {
            name: "resize",
            prepare: update::only_resources,
            validate: update::validate_resize,
            reset_fields: &["status"],
        },
    ],
    table: Some(table::TABLE),
    return_deleted: true,
    grace: Some(grace),
    ..Strategy::GENERIC
};

const FIELDS: &[SelectableField] = &[
    SelectableField { name: "spec.nodeName", value: |pod| text(pod, "spec.nodeName").into() },
    SelectableField { name: "spec.restartPolicy", value: |pod| text(pod, "spec.restartPolicy").into() },
    SelectableField { name: "spec.schedulerName", value: |pod| text(pod, "spec.schedulerName").into() },
    SelectableField { name: "spec.serviceAccountName", value: |pod| text(pod, "spec.serviceAccountName").into() },
    SelectableField { name: "spec.hostNetwork", value: |pod| (pod["spec"]["hostNetwork"] == true).to_string() },
    SelectableField { name: "status.phase", value: |pod| text(pod, "status.phase").into() },
    SelectableField { name: "status.podIP", value: |pod| text(pod, "status.podIP").into() },
    SelectableField { name: "status.nominatedNodeName", value: |pod| text(pod, "status.nominatedNodeName").into() },
];

fn defaulted(pod: &mut Value) {
    if let Some(spec) = at(pod, "spec") {
        defaults::pod(spec);
    }
    mirror_ips(pod);
}

/// `podIP` is the first of `podIPs` (and the same for the host): whoever sets one has set the other.
fn mirror_ips(pod: &mut Value) {
    let Some(status) = at(pod, "status") else { return };
    for (one, all) in [("podIP", "podIPs"), ("hostIP", "hostIPs")] {
        let first = items(status, all).first().map(|ip| text(ip, "ip").to_owned());
        match first {
            None if !text(status, one).is_empty() => status[all] = json!([{"ip": status[one]}]),
            Some(ip) if text(status, one).is_empty() && !ip.is_empty() => status[one] = ip.into(),
            _ => {}
        }
    }
}

fn canonicalize(pod: &mut Value) {
    if let Some(spec) = at(pod, "spec") {
        defaults::canonicalize(spec);
    }
}

fn prepare_for_create(pod: &mut Value, context: &Context<'_>) {
    // A negative time once meant none at all; 1 is the shortest that still lets a container end by itself.
    if number(pod, "spec.terminationGracePeriodSeconds") < 0 {
        pod["spec"]["terminationGracePeriodSeconds"] = 1.into();
    }
    let gated = !items(pod, "spec.schedulingGates").is_empty();
    let mut status = json!({"phase": "Pending", "qosClass": qos::class(&pod["spec"])});
    if gated {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastProbeTime": null,
            "lastTransitionTime": context.now, "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    pod["status"] = status;
}

fn prepare_for_update(pod: &mut Value, old: &Value, _: &Context<'_>) {
    copy(pod, old, "status");
}

fn prepare_status(pod: &mut Value, old: &Value, _: &Context<'_>) {
    copy(pod, old, "spec");
    for name in ["deletionTimestamp", "ownerReferences"] {
        copy(&mut pod["metadata"], &old["metadata"], name);
    }
    let class = text(old, "status.qosClass").to_owned();
    if !class.is_empty() {
        default(object(pod, "status"), "qosClass", class);
    }
    mirror_ips(pod);
}

fn validate(pod: &Cursor<'_>) {
    pod_spec::annotations::validate(&pod.dig("metadata.annotations"), &pod.field("spec"));
    of_a_pod(pod);
    if !pod.dig("spec.ephemeralContainers").is_empty() {
        pod.dig("spec.ephemeralContainers").forbid("cannot be set on create");
    }
    let gates = pod.dig("spec.schedulingGates");
    if !gates.is_empty() && !pod.dig("spec.nodeName").is_empty() {
        pod.dig("spec.nodeName").forbid("cannot be set until all schedulingGates have been cleared");
    }
}

/// Checks the spec of a pod: as in a template, and what only holds for pods.
fn of_a_pod(pod: &Cursor<'_>) {
    let spec = pod.field("spec");
    let name = pod.dig("metadata.name");
    pod_spec::validate(&spec, (!name.is_empty()).then_some(name.str()));
    if spec.field("serviceAccountName").is_empty() {
        let projected = spec.field("volumes").items().map(|volume| volume.field("projected"));
        for source in projected.flat_map(|projected| projected.field("sources").items()) {
            source.field("serviceAccountToken").absent("must not be specified when serviceAccountName is not set");
        }
    }
    for image in spec.field("volumes").items().map(|volume| volume.field("image")).filter(Cursor::exists) {
        image.field("reference").required();
    }
    pod_spec::container::of_pods(&spec);
}

fn validate_status(pod: &Cursor<'_>, old: &Cursor<'_>) {
    for condition in pod.dig("status.conditions").items() {
        condition.field("type").shape(names::qualified_name);
    }
    pod.dig("status.nominatedNodeName").optional_shape(names::dns1123_subdomain);
    for list in ["podIPs", "hostIPs"] {
        for ip in pod.field("status").field(list).items() {
            ip.field("ip").shape(names::ip);
        }
    }
    if !old.dig("status.qosClass").is_empty() {
        pod.dig("status.qosClass").immutable(&old.dig("status.qosClass"));
    }
    pod.dig("status.observedGeneration").non_negative();
    for (_, amount) in pod.dig("status.allocatedResources").entries() {
        resources::non_negative(&amount);
    }
}

/// How long a pod gets to end: nothing runs of one that is not scheduled or has ended.
fn grace(pod: &Value, asked: Option<i64>) -> i64 {
    let ended = matches!(text(pod, "status.phase"), "Failed" | "Succeeded");
    if ended || text(pod, "spec.nodeName").is_empty() {
        return 0;
    }
    match asked.unwrap_or_else(|| number(pod, "spec.terminationGracePeriodSeconds")) {
        seconds if seconds < 0 => 1,
        seconds => seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scheduled_pods_end_gracefully() {
        let mut pod = json!({"spec": {"terminationGracePeriodSeconds": 30}});
        assert_eq!(grace(&pod, None), 0);
        pod["spec"]["nodeName"] = "n".into();
        assert_eq!([grace(&pod, None), grace(&pod, Some(5)), grace(&pod, Some(-1))], [30, 5, 1]);
        pod["status"] = json!({"phase": "Succeeded"});
        assert_eq!(grace(&pod, None), 0);
    }

    #[test]
    fn gated_pods_say_why_they_wait() {
        let context = Context { user: &request::user::NOBODY, now: "2024-01-01T00:00:00Z", labelled: false };
        let mut pod = json!({"spec": {"schedulingGates": [{"name": "a"}]}, "status": {"phase": "Running"}});
        prepare_for_create(&mut pod, &context);
        assert_eq!(text(&pod, "status.phase"), "Pending");
        assert_eq!(pod["status"]["conditions"][0]["reason"], "SchedulingGated");
    }
}
