//! A pod of a RuntimeClass carries the class's overhead, and goes where nodes of the class are. (KEP-688)

use apimachinery::Value;
use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use request::status::{Result, Status};

pub struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("C", "C")
    }

    fn admit<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if !attributes.is(Operation::Create, "", "pods") {
                return Ok(());
            }
            let Some(mut pod) = attributes.object.take() else { return Ok(()) };
            let result = settle(api, &mut pod, attributes).await;
            attributes.object = Some(pod);
            result
        })
    }
}

async fn settle(api: &Api, pod: &mut Value, attributes: &Attributes<'_>) -> Result<()> {
    let Some(name) = pod["spec"]["runtimeClassName"].as_str().map(str::to_owned) else {
        let given = pod["spec"]["overhead"].as_object().is_some_and(|o| !o.is_empty());
        let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
        return if given { Err(attributes.forbidden(why)) } else { Ok(()) };
    };
    let classes = api.builtin("node.k8s.io", "v1", "runtimeclasses")?;
    let class = match api.cached(&classes, "", &name) {
        Ok(object) => object,
        Err(_) => api
            .fetch(&classes, "", &name)
            .await
            .map_err(|_| attributes.forbidden(&format!("pod rejected: RuntimeClass \"{name}\" not found")))?,
    };
    merge(pod, &class.tree()).map_err(|why| refused(attributes, &why))
}

fn refused(attributes: &Attributes<'_>, why: &str) -> Status {
    attributes.forbidden(&format!("pod rejected: {why}"))
}

fn merge(pod: &mut Value, class: &Value) -> std::result::Result<(), String> {
    let overhead = &class["overhead"]["podFixed"];
    let given = &pod["spec"]["overhead"];
    let is_set = |v: &Value| v.as_object().is_some_and(|o| !o.is_empty());
    if is_set(given) && given != overhead {
        return Err("Pod's Overhead doesn't match RuntimeClass's defined Overhead".into());
    }
    if is_set(overhead) {
        pod["spec"]["overhead"] = overhead.clone();
    }
    for (key, value) in class["scheduling"]["nodeSelector"].as_object().into_iter().flatten() {
        let there = &pod["spec"]["nodeSelector"][key];
        if !there.is_null() && there != value {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {there}"
            ));
        }
        pod["spec"]["nodeSelector"][key] = value.clone();
    }
    let wanted = class["scheduling"]["tolerations"].as_array().cloned().unwrap_or_default();
    if !wanted.is_empty() {
        let mut tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
        tolerations.extend(wanted.into_iter().filter(|t| !tolerations.contains(t)).collect::<Vec<_>>());
        pod["spec"]["tolerations"] = tolerations.into();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_class_adds_overhead_and_place_but_never_overrides() {
        let class = json!({"overhead": {"podFixed": {"cpu": "1"}}, "scheduling": {"nodeSelector": {"a": "b"}}});
        let mut pod = json!({"spec": {"containers": []}});
        merge(&mut pod, &class).unwrap();
        assert_eq!(pod["spec"], json!({"containers": [], "overhead": {"cpu": "1"}, "nodeSelector": {"a": "b"}}));
        assert!(merge(&mut json!({"spec": {"overhead": {"cpu": "2"}}}), &class).is_err());
        assert!(merge(&mut json!({"spec": {"nodeSelector": {"a": "c"}}}), &class).is_err());
    }
}
