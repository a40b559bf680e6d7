//! Nodes with extended resources are tainted by the resource's name; who asks for the resource tolerates the taint.

use apimachinery::Value;
use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use request::status::Result;
use serde_json::json;

pub struct ExtendedResourceToleration;

impl Plugin for ExtendedResourceToleration {
    fn name(&self) -> &'static str {
        "ExtendedResourceToleration"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("CU", "")
    }

    fn admit<'a>(&'a self, _: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        let applies = attributes.is(Operation::Create, "", "pods");
        if let (true, Some(pod)) = (applies, attributes.object.as_mut()) {
            tolerate(pod);
        }
        Box::pin(async { Ok(()) })
    }
}

/// Neither one of Kubernetes' own nor a quota's name for another.
fn is_extended(resource: &str) -> bool {
    resource.contains('/') && !resource.contains("kubernetes.io/") && !resource.starts_with("requests.")
}

fn tolerate(pod: &mut Value) {
    let mut wanted: Vec<String> = Vec::new();
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            let requests = container["resources"]["requests"].as_object();
            wanted.extend(requests.into_iter().flat_map(|r| r.keys()).filter(|name| is_extended(name)).cloned());
        }
    }
    wanted.sort();
    wanted.dedup();
    if wanted.is_empty() {
        return;
    }
    let mut tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    for resource in wanted {
        let toleration = json!({"key": resource, "operator": "Exists"});
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    pod["spec"]["tolerations"] = tolerations.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_an_extended_resource_tolerates_its_taint_once() {
        let requests = json!({"cpu": "1", "example.com/gpu": "1", "hugepages-2Mi": "1"});
        let container = json!({"resources": {"requests": requests}});
        let mut pod = json!({"spec": {"containers": [container, container]}});
        tolerate(&mut pod);
        tolerate(&mut pod);
        assert_eq!(pod["spec"]["tolerations"], json!([{"key": "example.com/gpu", "operator": "Exists"}]));
    }
}
