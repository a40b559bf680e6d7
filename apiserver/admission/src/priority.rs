//! A pod's priority is the number of its PriorityClass; and only one class may be the default.

use apimachinery::Value;
use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use request::status::{About, Result, Status};

pub struct Priority;

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("CUD", "CUD")
    }

    fn admit<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if !attributes.is_resource("", "pods") || !attributes.subresource.is_empty() {
                return Ok(());
            }
            match (attributes.operation, attributes.object.take()) {
                (Operation::Create, Some(mut pod)) => {
                    resolve(api, &mut pod, attributes.name).await?;
                    attributes.object = Some(pod);
                }
                (Operation::Update, Some(mut pod)) => {
                    // A client that does not know the fields must not lose them.
                    for name in ["priority", "preemptionPolicy"] {
                        if pod["spec"][name].is_null()
                            && let Some(old) = attributes.old.filter(|old| !old["spec"][name].is_null())
                        {
                            pod["spec"][name] = old["spec"][name].clone();
                        }
                    }
                    attributes.object = Some(pod);
                }
                (_, object) => attributes.object = object,
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
            let is_default = attributes.object.as_ref().is_some_and(|class| class["globalDefault"] == true);
            if !writes || !is_default || !attributes.is_resource("scheduling.k8s.io", "priorityclasses") {
                return Ok(());
            }
            match default_class(api)? {
                Some(other) if other["metadata"]["name"] != attributes.name => {
                    let why = format!(
                        "PriorityClass {} is already marked as default. Only one default can exist",
                        other["metadata"]["name"]
                    );
                    Err(Status::forbidden(
                        About { group: "scheduling.k8s.io", resource: "priorityclasses", name: attributes.name },
                        &why,
                    ))
                }
                _ => Ok(()),
            }
        })
    }
}

/// The class that pods without one get: of several, the one with the lowest value.
fn default_class(api: &Api) -> Result<Option<Value>> {
    let classes = api.builtin("scheduling.k8s.io", "v1", "priorityclasses")?;
    let snapshot = classes.cache()?.snapshot();
    // Most classes are not it, and every pod asks: look before parsing.
    let may_be = |json: &[u8]| memchr::memmem::find(json, b"\"globalDefault\":true").is_some();
    let candidates = snapshot.objects.iter().filter(|e| may_be(&e.0.json)).map(|e| e.0.tree());
    let defaults = candidates.filter(|class| class["globalDefault"] == true);
    Ok(defaults.min_by_key(|c| c["value"].as_i64().unwrap_or(0)))
}

async fn resolve(api: &Api, pod: &mut Value, pod_name: &str) -> Result<()> {
    let name = pod["spec"]["priorityClassName"].as_str().unwrap_or("").to_owned();
    let forbidden = |why: String| Status::forbidden(About { group: "", resource: "pods", name: pod_name }, &why);
    let (mut priority, mut preemption) = (0, "PreemptLowerPriority".to_owned());
    let class = if name.is_empty() {
        let class = default_class(api)?;
        if let Some(class) = &class {
            pod["spec"]["priorityClassName"] = class["metadata"]["name"].clone();
        }
        class
    } else {
        let classes = api.builtin("scheduling.k8s.io", "v1", "priorityclasses")?;
        let object = match api.cached(&classes, "", &name) {
            Ok(object) => object,
            Err(_) => api
                .fetch(&classes, "", &name)
                .await
                .map_err(|_| forbidden(format!("no PriorityClass with name {name} was found")))?,
        };
        Some(object.tree())
    };
    if let Some(class) = class {
        priority = class["value"].as_i64().unwrap_or(0);
        preemption = class["preemptionPolicy"].as_str().unwrap_or(&preemption).to_owned();
    }
    let given = pod["spec"]["priority"].as_i64();
    if given.is_some_and(|given| given != priority) {
        return Err(forbidden("the integer value of priority must not be provided in pod spec; priority admission controller computed a different one from the class".into()));
    }
    pod["spec"]["priority"] = priority.into();
    if pod["spec"]["preemptionPolicy"].as_str().is_some_and(|given| given != preemption) {
        return Err(forbidden(
            "the string value of PreemptionPolicy must not be provided in pod spec; it comes from the class".into(),
        ));
    }
    pod["spec"]["preemptionPolicy"] = preemption.into();
    Ok(())
}
