//! An Ingress that names no class gets the default one.

use super::default_storage_class::default_class;
use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use request::status::Result;

pub struct DefaultIngressClass;

const MARK: &str = "ingressclass.kubernetes.io/is-default-class";
/// How classes were named before there was a kind for them.
const ANNOTATION: &str = "kubernetes.io/ingress.class";

impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("C", "")
    }

    fn admit<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let applies = attributes.is(Operation::Create, "networking.k8s.io", "ingresses");
            let Some(ingress) = attributes.object.as_mut().filter(|_| applies) else { return Ok(()) };
            let named = !ingress["spec"]["ingressClassName"].is_null()
                || !ingress["metadata"]["annotations"][ANNOTATION].is_null();
            if !named && let Some(class) = default_class(api, "networking.k8s.io", "ingressclasses", &[MARK])? {
                ingress["spec"]["ingressClassName"] = class;
            }
            Ok(())
        })
    }
}
