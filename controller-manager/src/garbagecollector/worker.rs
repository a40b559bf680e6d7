//! What is done about an object: nothing, forget an owner, delete it, finish its own deletion.

use std::time::Duration;

use component_base::controller::Action;
use futures::{StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy},
};
use serde_json::json;

use super::{
    Shared,
    graph::{Coordinates, FOREGROUND, ORPHAN, Uid},
};
use crate::common::{Doing, Error, Result, discovery::Partial, meta};

/// Until an owner that exists but was not seen yet is looked for again.
const UNSEEN_RETRY: Duration = Duration::from_secs(5);
const PARALLEL: usize = 8;

/// What is known of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnerState {
    Solid,
    Dangling,
    /// Deleted in the foreground.
    Waiting,
}

fn api(shared: &Shared, at: &Coordinates) -> Result<Api<Partial>> {
    match shared.kind(&at.group, &at.kind) {
        Some(kind) => Ok(kind.metadata(&shared.client, &at.namespace)),
        None => Err(Error::Invalid(format!("kind {}/{} of {} is not served", at.group, at.kind, at.name))),
    }
}

/// The object, if it is there and still the one that is meant.
async fn read(shared: &Shared, at: &Coordinates, uid: Uid) -> Result<Option<Partial>> {
    let what = || format!("read {} {}/{}", at.kind, at.namespace, at.name);
    let object = api(shared, at)?.get_opt(&at.name).await.doing(what)?;
    Ok(object.filter(|object| Uid::parse(meta::uid(object)) == uid))
}

pub(super) async fn attempt_to_delete(shared: &Shared, uid: Uid) -> Result {
    let Some(view) = shared.graph.lock().view(uid) else { return Ok(Action::Done) };
    if view.deleting && !view.deleting_dependents {
        return Ok(Action::Done);
    }
    let Some(object) = read(shared, &view.at, uid).await? else {
        let effects = shared.graph.lock().remove(uid);
        shared.enqueue(effects);
        return Ok(Action::Done);
    };
    if view.is_virtual {
        return Ok(Action::After(UNSEEN_RETRY));
    }
    if view.deleting_dependents {
        return finish_foreground(shared, uid, &view.at, &object).await;
    }
    let owners = object.owner_references();
    if owners.is_empty() {
        return Ok(Action::Done);
    }
    let mut states = Vec::with_capacity(owners.len());
    for owner in owners {
        states.push(owner_state(shared, &view.at, owner).await?);
    }
    if states.contains(&OwnerState::Solid) {
        return drop_owners(shared, &view.at, &object, &states).await;
    }
    let dependents = shared.graph.lock().dependents(uid);
    let policy = if states.contains(&OwnerState::Waiting) && !dependents.is_empty() {
        unblock_cycle(shared, uid, &dependents, &view.at, &object).await?;
        PropagationPolicy::Foreground
    } else if object.finalizers().iter().any(|finalizer| finalizer == ORPHAN) {
        PropagationPolicy::Orphan
    } else if object.finalizers().iter().any(|finalizer| finalizer == FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    };
    delete(shared, &view.at, &object, policy).await
}

/// Whether an owner exists. What the graph shows is believed: if it is out of date, the owner's end comes as an event and
/// leads here again.
async fn owner_state(shared: &Shared, dependent: &Coordinates, owner: &OwnerReference) -> Result<OwnerState> {
    let uid = Uid::parse(&owner.uid);
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let Some(kind) = shared.kind(group, &owner.kind) else {
        return Err(Error::Invalid(format!(
            "owner {} {} of {} {}/{} is of a kind that is not served",
            owner.kind, owner.name, dependent.kind, dependent.namespace, dependent.name
        )));
    };
    // What lives in no namespace cannot be owned by what does; such a reference is ignored.
    if kind.namespaced && dependent.namespace.is_empty() {
        return Ok(OwnerState::Solid);
    }
    let namespace = if kind.namespaced { &*dependent.namespace } else { "" };
    let seen = shared.graph.lock().view(uid).filter(|view| !view.is_virtual);
    if let Some(view) = seen {
        let same = *view.at.group == *group
            && *view.at.kind == *owner.kind
            && *view.at.namespace == *namespace
            && *view.at.name == *owner.name;
        return Ok(match (same, view.deleting_dependents) {
            (false, _) => OwnerState::Dangling,
            (true, true) => OwnerState::Waiting,
            (true, false) => OwnerState::Solid,
        });
    }
    let what = || format!("read owner {} {namespace}/{}", owner.kind, owner.name);
    let found = kind.metadata(&shared.client, namespace).get_opt(&owner.name).await.doing(what)?;
    Ok(match found.filter(|found| Uid::parse(meta::uid(found)) == uid) {
        None => OwnerState::Dangling,
        Some(found) if is_foreground(&found) => OwnerState::Waiting,
        Some(_) => OwnerState::Solid,
    })
}

fn is_foreground(object: &Partial) -> bool {
    meta::is_deleting(object) && object.finalizers().iter().any(|finalizer| finalizer == FOREGROUND)
}

/// Some owner is left: the references to the others go.
async fn drop_owners(shared: &Shared, at: &Coordinates, object: &Partial, states: &[OwnerState]) -> Result {
    let owners = object.owner_references();
    let left: Vec<_> =
        owners.iter().zip(states).filter(|(_, state)| **state == OwnerState::Solid).map(|(owner, _)| owner).collect();
    if left.len() < owners.len() {
        set_owners(shared, at, object, json!(left)).await?;
    }
    Ok(Action::Done)
}

/// An owner waits for this object, which itself waits for a dependent that is already waiting: a circle. It is opened by
/// no longer blocking the owners.
async fn unblock_cycle(
    shared: &Shared,
    uid: Uid,
    dependents: &[Uid],
    at: &Coordinates,
    object: &Partial,
) -> Result<()> {
    let waiting = {
        let graph = shared.graph.lock();
        dependents
            .iter()
            .any(|dependent| *dependent != uid && graph.view(*dependent).is_some_and(|view| view.deleting_dependents))
    };
    if waiting {
        let owners: Vec<_> = object
            .owner_references()
            .iter()
            .map(|owner| OwnerReference { block_owner_deletion: Some(false), ..owner.clone() })
            .collect();
        set_owners(shared, at, object, json!(owners)).await?;
    }
    Ok(())
}

async fn set_owners(shared: &Shared, at: &Coordinates, object: &Partial, owners: serde_json::Value) -> Result<()> {
    let patch = json!({"metadata": {
        "uid": meta::uid(object),
        "resourceVersion": object.resource_version(),
        "ownerReferences": owners,
    }});
    let patched = api(shared, at)?.patch(&at.name, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.or_gone(|| format!("change the owners of {} {}/{}", at.kind, at.namespace, at.name)).map(drop)
}

async fn delete(shared: &Shared, at: &Coordinates, object: &Partial, policy: PropagationPolicy) -> Result {
    // The version too: an owner may have been added since the object was read.
    let preconditions =
        Preconditions { uid: object.metadata.uid.clone(), resource_version: object.metadata.resource_version.clone() };
    let params = DeleteParams {
        propagation_policy: Some(policy.clone()),
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    };
    let deleted = api(shared, at)?.delete(&at.name, &params).await;
    deleted.or_gone(|| format!("delete {} {}/{}", at.kind, at.namespace, at.name))?;
    tracing::info!(kind = %at.kind, namespace = %at.namespace, name = %at.name, ?policy, "Deleted an object without owners");
    Ok(Action::Done)
}

/// Lets the object go if nothing blocks it any more; else makes what blocks it go first.
async fn finish_foreground(shared: &Shared, uid: Uid, at: &Coordinates, object: &Partial) -> Result {
    let blocking = shared.graph.lock().blocking(uid);
    if blocking.is_empty() {
        return remove_finalizer(shared, at, object, FOREGROUND).await;
    }
    let graph = shared.graph.lock();
    for dependent in blocking {
        if graph.view(dependent).is_some_and(|view| !view.deleting_dependents) {
            shared.delete.add(dependent);
        }
    }
    Ok(Action::Done)
}

pub(super) async fn attempt_to_orphan(shared: &Shared, uid: Uid) -> Result {
    let (view, dependents) = {
        let graph = shared.graph.lock();
        (graph.view(uid), graph.dependents(uid))
    };
    let Some(view) = view else { return Ok(Action::Done) };
    let releases = stream::iter(dependents).map(|dependent| release(shared, uid, dependent));
    let results: Vec<Result<()>> = releases.buffer_unordered(PARALLEL).collect().await;
    Error::join(results.into_iter().filter_map(Result::err).collect())?;
    match read(shared, &view.at, uid).await? {
        Some(object) => remove_finalizer(shared, &view.at, &object, ORPHAN).await,
        None => Ok(Action::Done),
    }
}

async fn release(shared: &Shared, owner: Uid, dependent: Uid) -> Result<()> {
    let Some(view) = shared.graph.lock().view(dependent) else { return Ok(()) };
    let Some(object) = read(shared, &view.at, dependent).await? else { return Ok(()) };
    let owners = object.owner_references();
    let left: Vec<_> = owners.iter().filter(|reference| Uid::parse(&reference.uid) != owner).collect();
    if left.len() == owners.len() {
        return Ok(());
    }
    let left = json!(left);
    set_owners(shared, &view.at, &object, left).await
}

async fn remove_finalizer(shared: &Shared, at: &Coordinates, object: &Partial, finalizer: &str) -> Result {
    let left: Vec<_> = object.finalizers().iter().filter(|own| *own != finalizer).collect();
    if left.len() == object.finalizers().len() {
        return Ok(Action::Done);
    }
    let patch = json!({"metadata": {
        "uid": meta::uid(object),
        "resourceVersion": object.resource_version(),
        "finalizers": left,
    }});
    let patched = api(shared, at)?.patch(&at.name, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.or_gone(|| format!("remove finalizer {finalizer} from {} {}/{}", at.kind, at.namespace, at.name))?;
    Ok(Action::Done)
}
