//! The downward API: what `fieldRef` and `resourceFieldRef` mean, for environment and volumes alike.

use std::collections::BTreeMap;

use configuration::quantity::{self, ResourceList};
use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};

use crate::spec;

/// What the node adds to the pod's own fields.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// The node's name.
    pub node_name: String,
    /// Addresses of the node, the primary one first.
    pub host_ips: Vec<String>,
    /// Addresses of the pod, the primary one first; empty before it has any.
    pub pod_ips: Vec<String>,
    /// Stands in for limits that a container does not set.
    pub allocatable: ResourceList,
}

/// The value of a `fieldRef`; `None` where the path is none that the API allows.
pub fn field(pod: &Pod, path: &str, facts: &NodeFacts) -> Option<String> {
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let map = match map {
            "metadata.labels" => &pod.metadata.labels,
            "metadata.annotations" => &pod.metadata.annotations,
            _ => return None,
        };
        return Some(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    Some(match path {
        "metadata.name" => spec::name(pod).to_owned(),
        "metadata.namespace" => spec::namespace(pod).to_owned(),
        "metadata.uid" => spec::uid(pod).to_owned(),
        "metadata.labels" => lines(pod.metadata.labels.as_ref()),
        "metadata.annotations" => lines(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => spec::spec(pod).service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return None,
    })
}

/// `key="value"` per line, sorted, values quoted: the form of label and annotation files.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// The value of a `resourceFieldRef`, of the container it names or else `own`, in units of its divisor, rounded up.
pub fn resource(pod: &Pod, own: &str, selector: &ResourceFieldSelector, facts: &NodeFacts) -> Option<String> {
    let wanted = selector.container_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(own);
    let spec = spec::spec(pod);
    let container = spec.containers.iter().chain(spec::init_containers(pod)).find(|c| c.name == wanted)?;
    let (side, name) = selector.resource.split_once('.')?;
    let amount = match side {
        "limits" => match spec::container_limit(container, name) {
            0 => quantity::of(Some(&facts.allocatable), name),
            limit => limit,
        },
        "requests" => spec::container_request(container, name),
        _ => return None,
    };
    let divisor = selector.divisor.as_ref().map_or(0, |divisor| quantity::amount(name, divisor));
    // An unset divisor is 1: one core (1000 of our thousandths), one byte.
    let divisor = if divisor > 0 { divisor } else { quantity::amount(name, &quantity::count(1)) };
    Some((amount / divisor + i64::from(amount % divisor != 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"b": "2", "a": "say \"1\""}},
            "spec": {"serviceAccountName": "sa", "containers": [
                {"name": "c", "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}}}]},
        }))
        .expect("a pod")
    }

    #[test]
    fn fields_resolve() {
        let facts = NodeFacts { pod_ips: vec!["10.0.0.1".into(), "fd00::1".into()], ..Default::default() };
        for (path, value) in [
            ("metadata.name", Some("p")),
            ("metadata.labels['b']", Some("2")),
            ("metadata.labels['x']", Some("")),
            ("metadata.labels", Some("a=\"say \\\"1\\\"\"\nb=\"2\"")),
            ("spec.serviceAccountName", Some("sa")),
            ("status.podIP", Some("10.0.0.1")),
            ("status.podIPs", Some("10.0.0.1,fd00::1")),
            ("spec.containers", None),
        ] {
            assert_eq!(field(&pod(), path, &facts).as_deref(), value, "{path}");
        }
    }

    #[test]
    fn resources_are_divided_rounding_up_and_unset_limits_are_the_nodes() {
        let facts = NodeFacts { allocatable: [("cpu".to_owned(), quantity::cpu(4000))].into(), ..Default::default() };
        for (name, divisor, value) in [
            ("requests.cpu", None, "1"),
            ("requests.cpu", Some("1m"), "250"),
            ("limits.memory", Some("1Mi"), "64"),
            ("limits.cpu", None, "4"),
        ] {
            let selector: ResourceFieldSelector =
                serde_json::from_value(serde_json::json!({"resource": name, "divisor": divisor})).expect("a selector");
            assert_eq!(resource(&pod(), "c", &selector, &facts).as_deref(), Some(value), "{name} / {divisor:?}");
        }
    }
}
