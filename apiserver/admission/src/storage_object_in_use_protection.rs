//! Volumes and claims carry a finalizer from the start, so that they are not deleted while somebody uses them.

use apimachinery::Value;
use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use handlers::write::metadata;
use request::status::Result;

pub struct StorageObjectInUseProtection;

impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("C", "")
    }

    fn admit<'a>(&'a self, _: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        let finalizer = match attributes.endpoint.row.plural.as_str() {
            "persistentvolumes" if attributes.is_resource("", "persistentvolumes") => "kubernetes.io/pv-protection",
            "persistentvolumeclaims" if attributes.is_resource("", "persistentvolumeclaims") => {
                "kubernetes.io/pvc-protection"
            }
            _ => "",
        };
        let creates = attributes.operation == Operation::Create && attributes.subresource.is_empty();
        if let (true, false, Some(object)) = (creates, finalizer.is_empty(), attributes.object.as_mut()) {
            let mut finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
            if !finalizers.iter().any(|f| f == finalizer) {
                finalizers.push(Value::from(finalizer));
                metadata(object).insert("finalizers".into(), finalizers.into());
            }
        }
        Box::pin(async { Ok(()) })
    }
}
