//! Names, owners and selectors.

use component_base::informer::ObjectKey;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference, Time};
use kube::{
    Resource, ResourceExt,
    api::{DeleteParams, Preconditions},
    core::{Selector, SelectorExt},
};

use super::{Error, Result};

/// The owner that manages an object: the reference with `controller: true`.
pub fn controller_of(object: &impl Resource) -> Option<&OwnerReference> {
    let owners = object.meta().owner_references.as_ref()?;
    owners.iter().find(|owner| owner.controller == Some(true))
}

/// Whether `owner` manages `object`.
pub fn is_controlled_by(object: &impl Resource, owner: &impl Resource) -> bool {
    controller_of(object).is_some_and(|reference| Some(&reference.uid) == owner.meta().uid.as_ref())
}

/// The reference that makes `owner` the manager of what carries it.
pub fn controller_ref<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

pub fn is_deleting(object: &impl Resource) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// The namespace, empty if there is none.
pub fn namespace(object: &impl Resource) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

pub fn name(object: &impl Resource) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

pub fn uid(object: &impl Resource) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}

/// When an object was created; objects that were never stored count as the oldest.
pub fn created(object: &impl Resource) -> Timestamp {
    object.meta().creation_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0)
}

pub fn key(object: &impl Resource) -> ObjectKey {
    let meta = object.meta();
    ObjectKey::namespaced(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

pub fn now() -> Time {
    Time(Timestamp::now())
}

/// From `then` until now, in whole seconds and more; negative if it lies ahead.
pub fn since(then: &Time) -> SignedDuration {
    Timestamp::now().duration_since(then.0)
}

/// The label selector of `object`, in a form that matches.
pub fn selector(selector: &LabelSelector) -> Result<Selector> {
    selector
        .clone()
        .try_into()
        .map_err(|error| Error::Invalid(format!("the label selector is invalid, correct it: {error}")))
}

pub fn matches(selector: &Selector, object: &impl Resource) -> bool {
    selector.matches(object.labels())
}

/// Deletes this object and no later one of its name.
pub fn delete_exactly(object: &impl Resource) -> DeleteParams {
    let preconditions = Preconditions { uid: object.meta().uid.clone(), resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}
