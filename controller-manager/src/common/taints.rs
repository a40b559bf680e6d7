//! Taints that controllers put on nodes.

use k8s_openapi::api::core::v1::{Node, Taint};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Doing, Result, meta};

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
pub const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
pub const PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
pub const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";

pub const NO_SCHEDULE: &str = "NoSchedule";
pub const NO_EXECUTE: &str = "NoExecute";

pub fn of(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// The taints of `node` after those of `managed` keys and this effect were made to be exactly `wanted`; `None` if they are.
pub fn adjusted(node: &Node, effect: &str, managed: &[&str], wanted: &[&str]) -> Option<Vec<Taint>> {
    let current = of(node);
    let ours = |taint: &Taint| taint.effect == effect && managed.contains(&taint.key.as_str());
    let mut taints: Vec<Taint> =
        current.iter().filter(|taint| !ours(taint) || wanted.contains(&taint.key.as_str())).cloned().collect();
    for key in wanted {
        if !taints.iter().any(|taint| taint.key == *key && taint.effect == effect) {
            taints.push(Taint {
                key: (*key).to_owned(),
                effect: effect.to_owned(),
                time_added: (effect == NO_EXECUTE).then(meta::now),
                value: None,
            });
        }
    }
    (taints.len() != current.len() || taints.iter().zip(current).any(|(new, old)| new != old)).then_some(taints)
}

/// Writes a node's taints, if the node is still as it was read.
pub async fn write(client: &Client, node: &Node, taints: Vec<Taint>) -> Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    let name = node.name_any();
    let patch = json!({
        "metadata": {"resourceVersion": node.resource_version()},
        "spec": {"taints": taints},
    });
    let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.or_gone(|| format!("change the taints of node {name}")).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_managed_taints_of_the_effect_change() {
        let taint = |key: &str, effect: &str| json!({"key": key, "effect": effect});
        let node = |taints: serde_json::Value| -> Node {
            serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"taints": taints}})).unwrap()
        };
        let managed = [NOT_READY, UNREACHABLE];
        for (current, wanted, expected) in [
            (json!([]), &[][..], None),
            (json!([]), &[NOT_READY][..], Some(vec![NOT_READY])),
            (json!([taint(NOT_READY, NO_SCHEDULE)]), &[NOT_READY][..], None),
            (json!([taint(NOT_READY, NO_SCHEDULE)]), &[][..], Some(vec![])),
            (json!([taint("own", NO_SCHEDULE)]), &[][..], None),
            (json!([taint(NOT_READY, NO_EXECUTE)]), &[][..], None),
            (json!([taint(NOT_READY, NO_SCHEDULE)]), &[UNREACHABLE][..], Some(vec![UNREACHABLE])),
        ] {
            let taints = adjusted(&node(current.clone()), NO_SCHEDULE, &managed, wanted);
            let keys = taints.map(|taints| taints.into_iter().map(|taint| taint.key).collect::<Vec<_>>());
            assert_eq!(
                keys,
                expected.map(|keys| keys.into_iter().map(str::to_owned).collect()),
                "{current} {wanted:?}"
            );
        }
    }
}
