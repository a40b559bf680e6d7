//! MutatingAdmissionWebhook: asks other servers what to change in an object, one after the other, each about what the one before
//! left.

use super::webhook::ask::{Failure, Kind, Versioned, apply_failure_policy, ask};
use super::webhook::hook::Hook;
use super::webhook::matching::{Invocation, invocation, is_exempt};
use super::webhook::source::Source;
use apimachinery::Value;
use apimachinery::apply::decode_managed_fields;
use apimachinery::codec::Report;
use apimachinery::patch::json_patch;
use apimachinery::schema::GroupVersionKind;
use futures::future::BoxFuture;
use handlers::api::admission::{Attributes, Plugin};
use handlers::api::{Api, Endpoint};
use request::status::{Result, Status};

pub struct MutatingWebhook {
    source: Source,
}

impl Default for MutatingWebhook {
    fn default() -> MutatingWebhook {
        MutatingWebhook { source: Source::new("mutatingwebhookconfigurations") }
    }
}

impl Plugin for MutatingWebhook {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("CUDO", "")
    }

    fn admit<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if is_exempt(attributes) {
                return Ok(());
            }
            let hooks = self.source.hooks(api)?;
            if hooks.is_empty() {
                return Ok(());
            }
            attributes.reinvocation.start(attributes.object.as_ref());
            for hook in hooks.iter() {
                if attributes.reinvocation.skips(&hook.id) {
                    continue;
                }
                let Some(invocation) = invocation(api, hook, attributes).await? else { continue };
                let changed = match mutate(api, hook, attributes, &invocation).await {
                    Ok(changed) => changed,
                    Err(failure) => {
                        apply_failure_policy(Kind::Mutating, hook, failure)?;
                        false
                    }
                };
                attributes.reinvocation.asked(&hook.id, hook.reinvoke, changed);
            }
            attributes.reinvocation.end(attributes.object.as_ref());
            Ok(())
        })
    }
}

/// Asks one webhook and does what it says; whether that changed the object.
async fn mutate(
    api: &Api,
    hook: &Hook,
    attributes: &mut Attributes<'_>,
    invocation: &Invocation,
) -> std::result::Result<bool, Failure> {
    let (object, old) = attributes.in_version(api, &invocation.endpoint).await.map_err(Failure::Other)?;
    let versioned = Versioned { object: object.as_deref(), old: old.as_deref() };
    let answer = ask(api, Kind::Mutating, hook, attributes, invocation, versioned).await?;
    let Some(patch) = answer.patch else {
        attributes.record(&hook.name, answer.warnings, answer.audit_annotations);
        return Ok(false);
    };
    let Some(object) = object else {
        let why = format!(
            "Internal error occurred: admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        );
        return Err(Failure::Other(Status::internal(why)));
    };
    let mut patched = patched(&object, patch, attributes, invocation).map_err(Failure::Other)?;
    let spoilt = keep_managed_fields(&mut patched, &object);
    let mut new = None;
    if patched != *object {
        new = Some(attributes.in_own_version(api, &invocation.endpoint, patched).await.map_err(Failure::Other)?);
    }
    attributes.record(&hook.name, answer.warnings, answer.audit_annotations);
    attributes.warnings.extend(spoilt);
    let changed = new.is_some();
    if changed {
        attributes.object = new;
    }
    Ok(changed)
}

/// Puts managed fields back that a patch has made unreadable; the text to warn of it.
fn keep_managed_fields(patched: &mut Value, object: &Value) -> Option<String> {
    let (new, old) = (patched["metadata"].get("managedFields"), object["metadata"].get("managedFields"));
    if new == old {
        return None;
    }
    let why = decode_managed_fields(new).err()?;
    match old.cloned() {
        Some(old) => patched["metadata"]["managedFields"] = old,
        None => drop(patched["metadata"].as_object_mut().and_then(|m| m.remove("managedFields"))),
    }
    Some(format!(
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: {why}"
    ))
}

/// The object with a patch applied, in normal form, what the patch left open filled with defaults.
fn patched(object: &Value, patch: Value, attributes: &Attributes<'_>, invocation: &Invocation) -> Result<Value> {
    let failed = |why: String| Status::internal(format!("Internal error occurred: {why}"));
    let kind = &invocation.kind;
    let mut tree = registry::edit::typed(object.clone(), kind);
    json_patch(&mut tree, patch).map_err(|e| failed(e.to_string()))?;
    completed(tree, kind, &invocation.endpoint, attributes.subresource)
}

/// A patched object without `apiVersion` and `kind`, which must still be what they were, in normal form and with defaults.
pub fn completed(mut tree: Value, kind: &GroupVersionKind, endpoint: &Endpoint, subresource: &str) -> Result<Value> {
    let failed = |why: String| Status::internal(format!("Internal error occurred: {why}"));
    let members = tree.as_object_mut().ok_or_else(|| failed("the patch leaves no object".into()))?;
    let said = (members.remove("apiVersion"), members.remove("kind"));
    if said != (Some(kind.api_version().into()), Some(kind.kind.as_str().into())) {
        return Err(failed(format!("the patch changes apiVersion or kind of a {}", kind.kind)));
    }
    let form = endpoint.row.form_of(subresource).ok_or_else(Status::no_such_resource)?;
    form.normalize(&mut tree, &mut Report::default()).map_err(|e| failed(e.to_string()))?;
    if *kind == endpoint.row.kind {
        (endpoint.row.strategy.default)(&mut tree);
        form.fill_in(&mut tree);
    }
    Ok(tree)
}
