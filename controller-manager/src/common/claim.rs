//! Adoption and release: an owner manages what carries its reference and matches its selector.

use std::sync::Arc;

use component_base::informer::Kind;
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
    core::Selector,
};
use serde_json::json;

use super::{Doing, Error, Result, meta};

/// What is to happen to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    Ignore,
    Adopt,
    Release,
}

fn verdict_on<O: Resource, K: Resource>(owner: &O, selector: &Selector, object: &K) -> Verdict {
    match meta::controller_of(object) {
        Some(reference) if reference.uid != meta::uid(owner) => Verdict::Ignore,
        Some(_) if meta::matches(selector, object) => Verdict::Keep,
        // The garbage collector decides about the rest of an owner that goes.
        Some(_) if meta::is_deleting(owner) => Verdict::Ignore,
        Some(_) => Verdict::Release,
        None if meta::is_deleting(owner) || meta::is_deleting(object) => Verdict::Ignore,
        None if meta::matches(selector, object) => Verdict::Adopt,
        None => Verdict::Ignore,
    }
}

/// Those of `candidates` that `owner` manages, after adopting orphans that match and releasing what no longer does.
///
/// Before the first adoption the owner is read from the server: a store may still show an owner that is gone, or one
/// that another of the same name has replaced.
pub async fn claim<O, K>(
    owners: &Api<O>,
    owner: &O,
    selector: &Selector,
    objects: &Api<K>,
    candidates: Vec<Arc<K>>,
) -> Result<Vec<Arc<K>>>
where
    O: Kind,
    K: Kind,
{
    let mut claimed = Vec::with_capacity(candidates.len());
    let mut may_adopt = None;
    for object in candidates {
        match verdict_on(owner, selector, object.as_ref()) {
            Verdict::Keep => claimed.push(object),
            Verdict::Ignore => {}
            Verdict::Adopt => {
                if may_adopt.is_none() {
                    may_adopt = Some(is_current(owners, owner).await?);
                }
                if may_adopt == Some(true)
                    && let Some(adopted) = adopt(owner, objects, &object).await?
                {
                    claimed.push(Arc::new(adopted));
                }
            }
            Verdict::Release => release(owner, objects, object.as_ref()).await?,
        }
    }
    Ok(claimed)
}

async fn is_current<O: Kind>(owners: &Api<O>, owner: &O) -> Result<bool> {
    let name = meta::name(owner);
    let current = owners.get_metadata_opt(name).await.doing(|| format!("read {} {name}", O::kind(&())))?;
    Ok(current.is_some_and(|current| current.metadata.uid == owner.meta().uid && !meta::is_deleting(&current)))
}

async fn adopt<O: Kind, K: Kind>(owner: &O, objects: &Api<K>, object: &Arc<K>) -> Result<Option<K>> {
    let name = meta::name(object.as_ref());
    // The uid guards against another object of that name.
    let patch =
        json!({"metadata": {"ownerReferences": [meta::controller_ref(owner)], "uid": meta::uid(object.as_ref())}});
    let patched = objects.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
    ignoring_race(patched, || format!("adopt {} {name}", K::kind(&())))
}

async fn release<O: Kind, K: Kind>(owner: &O, objects: &Api<K>, object: &K) -> Result<()> {
    let name = meta::name(object);
    let patch = json!({"metadata": {
        "ownerReferences": [{"$patch": "delete", "uid": meta::uid(owner)}],
        "uid": meta::uid(object),
    }});
    let patched = objects.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
    ignoring_race(patched, || format!("release {} {name}", K::kind(&()))).map(drop)
}

/// 404: it is gone. 409 and 422: another object has its name, or somebody else has adopted it.
fn ignoring_race<K>(result: kube::Result<K>, action: impl FnOnce() -> String) -> Result<Option<K>> {
    match result.doing(action) {
        Ok(object) => Ok(Some(object)),
        Err(error) if matches!(error.code(), Some(404 | 409 | 422)) => Ok(None),
        Err(error) => Err::<_, Error>(error),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
    use kube::api::ObjectMeta;

    use super::*;

    #[test]
    fn who_is_kept_adopted_and_released() {
        let selector: Selector = [("app", "web")].into_iter().collect();
        for (owned_by, matches, owner_goes, pod_goes, verdict) in [
            (Some("me"), true, false, false, Verdict::Keep),
            (Some("me"), true, false, true, Verdict::Keep),
            (Some("me"), false, false, false, Verdict::Release),
            (Some("me"), false, true, false, Verdict::Ignore),
            (Some("other"), true, false, false, Verdict::Ignore),
            (None, true, false, false, Verdict::Adopt),
            (None, true, false, true, Verdict::Ignore),
            (None, true, true, false, Verdict::Ignore),
            (None, false, false, false, Verdict::Ignore),
        ] {
            let gone = |goes: bool| goes.then(meta::now);
            let object = |uid: &str, goes| ObjectMeta {
                uid: Some(uid.into()),
                deletion_timestamp: gone(goes),
                ..ObjectMeta::default()
            };
            let owner = ReplicaSet { metadata: object("me", owner_goes), ..ReplicaSet::default() };
            let mut pod = Pod { metadata: object("pod", pod_goes), ..Pod::default() };
            pod.metadata.labels = matches.then(|| [("app".into(), "web".into())].into());
            pod.metadata.owner_references = owned_by.map(|uid| {
                let other = ReplicaSet { metadata: object(uid, false), ..ReplicaSet::default() };
                vec![meta::controller_ref(&other)]
            });
            assert_eq!(verdict_on(&owner, &selector, &pod), verdict, "{owned_by:?} {matches} {owner_goes} {pod_goes}");
        }
    }
}
