//! Nodes.

use apimachinery::Value;
use apimachinery::validation::{Cursor, FieldError, names};
use serde_json::json;

use super::pod_spec::affinity::taint_effect;
use super::pod_spec::defaults::round_to_milli;
use super::pod_spec::resources;
use registry::edit::{at, copy, default, items, text};
use registry::printing::{AGE, NAME, NONE, UNKNOWN, column, created, name, text_or, wide};
use registry::strategy::{SelectableField, Strategy, Subresource, Table};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

/// Labels of nodes that have been renamed, and what to use in their place.
const DEPRECATED_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

/// Why a label of nodes should no longer be selected by; none if it is fine.
pub fn deprecated_label(key: &str) -> Option<&'static str> {
    DEPRECATED_LABELS.iter().find(|(label, _)| *label == key).map(|(_, why)| *why)
}

pub const STRATEGY: Strategy = Strategy {
    status_on_create: true,
    default: defaulted,
    prepare_for_update: |node, old, _| copy(node, old, "status"),
    validate,
    validate_update,
    fields: &[SelectableField {
        name: "spec.unschedulable",
        value: |node| (node["spec"]["unschedulable"] == true).to_string(),
    }],
    subresources: &[Subresource {
        name: "status",
        prepare: |node, old, _| copy(node, old, "spec"),
        validate: |node, _| status(node),
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("Status", "Whether the node is ready and takes pods."),
            column("Roles", "Roles that its labels give it."),
            AGE,
            column("Version", ".status.nodeInfo.kubeletVersion"),
            wide("Internal-IP", ".status.addresses"),
            wide("External-IP", ".status.addresses"),
            wide("OS-Image", ".status.nodeInfo.osImage"),
            wide("Kernel-Version", ".status.nodeInfo.kernelVersion"),
            wide("Container-Runtime", ".status.nodeInfo.containerRuntimeVersion"),
        ],
        cells,
    }),
    ..Strategy::GENERIC
};

fn defaulted(node: &mut Value) {
    if let Some(spec) = at(node, "spec") {
        let first = items(spec, "podCIDRs").first().cloned();
        match first {
            None if !text(spec, "podCIDR").is_empty() => spec["podCIDRs"] = json!([spec["podCIDR"]]),
            Some(cidr) if text(spec, "podCIDR").is_empty() => spec["podCIDR"] = cidr,
            // Of two that differ the one that all clients know counts.
            Some(cidr) if cidr != spec["podCIDR"] => spec["podCIDRs"] = json!([spec["podCIDR"]]),
            _ => {}
        }
    }
    if let Some(status) = at(node, "status") {
        if let Some(capacity) = status.get("capacity").filter(|c| c.is_object()).cloned() {
            default(status, "allocatable", capacity);
        }
        for list in ["capacity", "allocatable"] {
            if let Some(list) = at(status, list) {
                round_to_milli(list);
            }
        }
    }
}

fn validate(node: &Cursor<'_>) {
    let spec = node.field("spec");
    // Upstream reports taints under metadata.
    taints(&node.dig("metadata.taints").with_value(spec.field("taints").value()));
    let cidrs = spec.field("podCIDRs");
    for cidr in cidrs.items() {
        cidr.shape(names::cidr);
    }
    let families: Vec<bool> = cidrs.items().map(|cidr| cidr.str().contains(':')).collect();
    if families.len() > 2 || families.len() == 2 && families[0] == families[1] {
        cidrs.invalid("may specify no more than one CIDR for each IP family");
    }
    status(node);
}

fn status(node: &Cursor<'_>) {
    for list in ["capacity", "allocatable"] {
        for (resource, amount) in node.field("status").field(list).entries() {
            resources::amount(&amount, resource);
        }
    }
}

fn taints(list: &Cursor<'_>) {
    let mut seen = Vec::new();
    for taint in list.items() {
        taint.field("key").shape(names::qualified_name);
        taint.field("value").shape(names::label_value);
        let effect = taint.field("effect");
        if effect.required() {
            taint_effect(&effect);
        }
        let key = (taint.field("key").str(), effect.str());
        if seen.contains(&key) {
            taint.push(FieldError::duplicate(taint.path(), taint.value().cloned().unwrap_or_default()));
        }
        seen.push(key);
    }
}

fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>) {
    let (spec, old_spec) = (new.field("spec"), old.field("spec"));
    validate(new);
    if !old_spec.field("podCIDRs").is_empty() && spec.field("podCIDRs").value() != old_spec.field("podCIDRs").value() {
        spec.field("podCIDRs").forbid("node updates may not change podCIDR except from \"\" to valid");
    }
    let provider = spec.field("providerID");
    if !old_spec.field("providerID").is_empty() && provider.str() != old_spec.field("providerID").str() {
        provider.forbid("node updates may not change providerID except from \"\" to valid");
    }
}

fn cells(node: &Value, now: i64) -> Vec<Value> {
    let address = |kind: &str| {
        let found = items(node, "status.addresses").iter().find(|a| a["type"] == kind);
        found.map_or(NONE.into(), |a| a["address"].clone())
    };
    let info = |name: &str| text_or(node, &format!("status.nodeInfo.{name}"), UNKNOWN);
    vec![
        name(node),
        readiness(node).into(),
        roles(node).into(),
        created(node, now),
        node["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default().into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn readiness(node: &Value) -> String {
    let ready = items(node, "status.conditions").iter().find(|c| c["type"] == "Ready");
    let mut status = match ready.map(|c| text(c, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        status += ",SchedulingDisabled";
    }
    status
}

fn roles(node: &Value) -> String {
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    let role = |(key, value): (&String, &Value)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) => Some(role.to_owned()),
        None if key == ROLE_LABEL => value.as_str().map(str::to_owned),
        None => None,
    };
    let mut roles: Vec<_> = labels.filter_map(role).filter(|role| !role.is_empty()).collect();
    roles.sort();
    roles.dedup();
    if roles.is_empty() { NONE.into() } else { roles.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_roles_come_from_conditions_and_labels() {
        let node = json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!((readiness(&node).as_str(), roles(&node).as_str()), ("Ready,SchedulingDisabled", "control-plane"));
        assert_eq!((readiness(&json!({})).as_str(), roles(&json!({})).as_str()), ("Unknown", "<none>"));
    }
}
