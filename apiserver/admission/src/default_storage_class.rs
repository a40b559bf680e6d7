//! A claim that names no storage class gets the default one, the newest if there are several.

use apimachinery::Value;
use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use request::status::Result;

pub struct DefaultStorageClass;

const MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("C", "")
    }

    fn admit<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let applies = attributes.is_resource("", "persistentvolumeclaims")
                && attributes.subresource.is_empty()
                && attributes.operation == Operation::Create;
            let Some(claim) = attributes.object.as_mut().filter(|_| applies) else { return Ok(()) };
            let named = !claim["spec"]["storageClassName"].is_null()
                || !claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].is_null();
            if !named && let Some(class) = default_class(api, "storage.k8s.io", "storageclasses", &MARKS)? {
                claim["spec"]["storageClassName"] = class;
            }
            Ok(())
        })
    }
}

/// The name of the class that one of the annotations `marks` says is the default.
pub(super) fn default_class(api: &Api, group: &str, plural: &str, marks: &[&str]) -> Result<Option<Value>> {
    let classes = api.builtin(group, "v1", plural)?;
    let snapshot = classes.cache()?.snapshot();
    let is_default = |c: &Value| marks.iter().any(|m| c["metadata"]["annotations"][*m] == "true");
    let created = |c: &Value| c["metadata"]["creationTimestamp"].as_str().unwrap_or("").to_owned();
    let mut defaults: Vec<Value> = snapshot.objects.iter().map(|e| e.0.tree()).filter(is_default).collect();
    // Newest first, then by name.
    defaults.sort_by(|a, b| {
        created(b).cmp(&created(a)).then_with(|| a["metadata"]["name"].as_str().cmp(&b["metadata"]["name"].as_str()))
    });
    Ok(defaults.first().map(|c| c["metadata"]["name"].clone()))
}
