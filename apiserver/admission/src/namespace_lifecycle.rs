//! Nothing is created in a namespace that is not there or is going away, and the namespaces Kubernetes lives in stay.

use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use request::status::{About, Result, Status};
use std::sync::Arc;
use storage::object::Object;

pub struct NamespaceLifecycle;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("CUD", "")
    }

    fn admit<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(check(api, attributes))
    }
}

/// A namespace, also one that is younger than the cache.
pub async fn namespace(api: &Api, name: &str) -> Result<Arc<Object>> {
    let namespaces = api.builtin("", "v1", "namespaces")?;
    match api.cached(&namespaces, "", name) {
        Ok(object) => Ok(object),
        Err(_) => api.fetch(&namespaces, "", name).await,
    }
}

async fn check(api: &Api, attributes: &Attributes<'_>) -> Result<()> {
    if attributes.is_resource("", "namespaces") {
        let immortal = attributes.operation == Operation::Delete && IMMORTAL.contains(&attributes.name);
        let about = About { group: "", resource: "namespaces", name: attributes.name };
        return if immortal { Err(Status::forbidden(about, "this namespace may not be deleted")) } else { Ok(()) };
    }
    let row = &attributes.endpoint.row;
    if !row.namespaced || attributes.operation != Operation::Create {
        return Ok(());
    }
    // Reviews about a namespace are answered whether it exists or not.
    if row.kind.group == "authorization.k8s.io" {
        return Ok(());
    }
    let object = namespace(api, attributes.namespace).await?;
    // Cheap look before a parse: nearly every namespace is alive.
    let terminating = b"\"deletionTimestamp\"";
    if object.json.windows(terminating.len()).any(|w| w == terminating)
        && !object.tree()["metadata"]["deletionTimestamp"].is_null()
    {
        let namespace = attributes.namespace;
        let about = About { group: &row.kind.group, resource: &row.plural, name: attributes.name };
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let cause = format!("namespace {namespace} is being terminated");
        return Err(Status::forbidden(about, &why).with_cause("NamespaceTerminating", &cause, "metadata.namespace"));
    }
    Ok(())
}
