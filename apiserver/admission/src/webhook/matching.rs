//! Whether a webhook is to be asked about a request.

use super::hook::Hook;
use crate::policy::environment::{Access, Input};
use crate::rules::{self, Gvr, NamespaceLabels, Target, namespace_labels, selects_object};
use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use handlers::api::admission::Attributes;
use handlers::api::{Api, Endpoint};
use request::status::{About, Result, Status};
use std::sync::Arc;

/// Kinds that no webhook is asked about.
const EXEMPT: [&str; 6] = [
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
];

/// In which version a webhook is asked: that of the request, or another of the same resource that its rules name.
#[derive(Clone)]
pub struct Invocation {
    pub endpoint: Arc<Endpoint>,
    /// Of the object that is sent.
    pub kind: GroupVersionKind,
}

/// Nobody is asked about these.
pub fn is_exempt(attributes: &Attributes<'_>) -> bool {
    let row = &attributes.endpoint.row;
    row.kind.group == "admissionregistration.k8s.io" && EXEMPT.contains(&&*row.plural)
}

/// A request as rules see it.
pub fn target<'a>(attributes: &'a Attributes<'_>) -> Target<'a> {
    Target {
        operation: attributes.operation.as_str(),
        resource: gvr(attributes.endpoint),
        subresource: attributes.subresource,
        namespace: attributes.namespace,
        name: attributes.name,
    }
}

fn gvr(endpoint: &Endpoint) -> Gvr<'_> {
    let row = &endpoint.row;
    Gvr { group: &row.kind.group, version: &row.kind.version, resource: &row.plural }
}

/// How a webhook is to be asked about a request; none if it is not.
///
/// # Errors
/// When the labels of the request's namespace are needed and there is no such namespace; when its conditions cannot be told and
/// the webhook is not to be ignored.
pub async fn invocation(api: &Api, hook: &Hook, attributes: &Attributes<'_>) -> Result<Option<Invocation>> {
    // Upstream tells of a namespace that is not there only when everything else matches.
    let in_namespace = selects_namespace(api, hook, attributes).await;
    if matches!(in_namespace, Ok(false)) {
        return Ok(None);
    }
    if !selects_object(&hook.object_selector, attributes.object.as_ref(), attributes.old) {
        return Ok(None);
    }
    let Some(endpoint) = named(api, hook, attributes) else { return Ok(None) };
    in_namespace?;
    let kind = endpoint.row.kind_of(attributes.subresource).clone();
    let conditions = &hook.match_conditions;
    let told = if conditions.is_empty() {
        Ok(true)
    } else {
        let (object, old) = attributes.in_version(api, &endpoint).await?;
        let input = Input::of(attributes, &endpoint, object.as_deref(), old.as_deref(), Value::Null);
        conditions.matches(&input, &Value::Null, &Access { api, user: attributes.user })
    };
    match told {
        Ok(true) => Ok(Some(Invocation { endpoint, kind })),
        Ok(false) => Ok(None),
        Err(why) if hook.ignores_failure => {
            tracing::warn!(webhook = hook.name, why, "match conditions cannot be told; the webhook is ignored");
            Ok(None)
        }
        Err(why) => Err(attributes.forbidden(&why)),
    }
}

/// The resource that the rules name: that of the request or an equivalent.
fn named(api: &Api, hook: &Hook, attributes: &Attributes<'_>) -> Option<Arc<Endpoint>> {
    let target = target(attributes);
    if rules::find(&hook.rules, &target, false, []).is_some() {
        return Some(attributes.endpoint.clone());
    }
    if !hook.equivalent {
        return None;
    }
    let others = api.equivalents(attributes.endpoint);
    let found = rules::find(&hook.rules, &target, true, others.iter().map(|e| gvr(e)))?;
    others.iter().find(|e| gvr(e) == found).cloned()
}

async fn selects_namespace(api: &Api, hook: &Hook, attributes: &Attributes<'_>) -> Result<bool> {
    let selector = &hook.namespace_selector;
    if selector.is_everything() {
        return Ok(true);
    }
    let name = match namespace_labels(&target(attributes)) {
        NamespaceLabels::None => return Ok(true),
        NamespaceLabels::Own => {
            let object = attributes.object.as_ref();
            return Ok(selector.matches_object(object.and_then(|o| o["metadata"].get("labels"))));
        }
        NamespaceLabels::Of(name) => name.to_owned(),
    };
    let namespaces = api.builtin("", "v1", "namespaces")?;
    let namespace = match api.cached(&namespaces, "", &name) {
        Ok(namespace) => namespace,
        // It may be younger than the cache.
        Err(_) => api.fetch(&namespaces, "", &name).await.map_err(|e| match &*e.reason {
            "NotFound" => Status::not_found(About { group: "", resource: "namespaces", name: &name }),
            _ => Status::internal(format!("Internal error occurred: {}", e.message)),
        })?,
    };
    Ok(selector.matches(|key| namespace.label(key)))
}
