//! A claim may only grow when it is bound and its class knows how to expand volumes.

use apimachinery::Value;
use apimachinery::quantity::Quantity;
use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use request::status::Result;

pub struct PersistentVolumeClaimResize;

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

fn requested(claim: &Value) -> Quantity {
    let text = claim["spec"]["resources"]["requests"]["storage"].as_str().unwrap_or("0");
    Quantity::parse(text).unwrap_or(Quantity::ZERO)
}

impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("", "U")
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if !attributes.is(Operation::Update, "", "persistentvolumeclaims") {
                return Ok(());
            }
            let (Some(claim), Some(old)) = (&attributes.object, attributes.old) else { return Ok(()) };
            if requested(claim) <= requested(old) {
                return Ok(());
            }
            if old["status"]["phase"] != "Bound" {
                return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
            }
            let annotated = claim["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
            let class = annotated.or(claim["spec"]["storageClassName"].as_str()).unwrap_or("");
            let classes = api.builtin("storage.k8s.io", "v1", "storageclasses")?;
            let expands = !class.is_empty()
                && api.cached(&classes, "", class).is_ok_and(|class| class.tree()["allowVolumeExpansion"] == true);
            if expands {
                return Ok(());
            }
            Err(attributes.forbidden(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            ))
        })
    }
}
