//! ControllerRevisions: the past templates of DaemonSets and StatefulSets.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use component_base::informer::{Kind, Store};
use k8s_openapi::{api::apps::v1::ControllerRevision, apimachinery::pkg::runtime::RawExtension};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
    core::Selector,
};
use serde_json::Value;

use super::{Doing, Error, Result, claim, hash, meta, pod};

/// Index of the store of ControllerRevisions: the controller's uid, orphans under their namespace.
pub const BY_OWNER: &str = "owner";

pub fn add_index(revisions: &Store<ControllerRevision>) {
    revisions.add_index(BY_OWNER, |revision| {
        vec![match meta::controller_of(revision) {
            Some(owner) => owner.uid.clone(),
            None => pod::orphans(meta::namespace(revision)),
        }]
    });
}

/// The revisions of an owner, oldest first.
pub async fn list<O: Kind>(
    client: &Client,
    store: &Store<ControllerRevision>,
    owners: &Api<O>,
    owner: &O,
    selector: &Selector,
) -> Result<Vec<ControllerRevision>> {
    let namespace = meta::namespace(owner);
    let mut candidates = store.by_index(BY_OWNER, meta::uid(owner));
    candidates.extend(store.by_index(BY_OWNER, &pod::orphans(namespace)));
    let api = Api::namespaced(client.clone(), namespace);
    let claimed = claim::claim(owners, owner, selector, &api, candidates).await?;
    let mut revisions: Vec<_> = claimed.into_iter().map(Arc::unwrap_or_clone).collect();
    revisions.sort_by_key(|revision| (revision.revision, meta::created(revision), revision.name_any()));
    Ok(revisions)
}

/// How a kind writes its revisions.
pub struct Recipe<'a> {
    /// The label that carries the hash.
    pub hash_label: &'a str,
    pub labels: BTreeMap<String, String>,
    /// What is remembered.
    pub data: Value,
    pub collisions: Option<i32>,
}

/// What became of the current template's revision.
pub enum Current {
    /// It is the last of the list given.
    Found(Box<ControllerRevision>),
    /// Its name belongs to another revision: count a collision and try again.
    Collision,
}

/// The revision of the current template: found among `revisions` and made the newest, or created.
pub async fn current<O: Kind>(
    client: &Client,
    owner: &O,
    revisions: &[ControllerRevision],
    recipe: Recipe<'_>,
) -> Result<Current> {
    let namespace = meta::namespace(owner);
    let api: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
    let newest = revisions.last().map_or(0, |revision| revision.revision);
    let wanted = pruned(&recipe.data);
    let same = |revision: &&ControllerRevision| revision.data.as_ref().is_some_and(|data| pruned(&data.0) == wanted);
    if let Some(found) = revisions.iter().rev().find(same) {
        if found.revision == newest {
            return Ok(Current::Found(Box::new(found.clone())));
        }
        // A rollback: the old revision becomes the newest.
        let mut found = found.clone();
        found.revision = newest + 1;
        let name = found.name_any();
        let what = || format!("renumber ControllerRevision {namespace}/{name}");
        return api
            .replace(&name, &PostParams::default(), &found)
            .await
            .doing(what)
            .map(|found| Current::Found(Box::new(found)));
    }
    let hash = hash::of(&wanted, recipe.collisions);
    let name = format!("{}-{hash}", owner.name_any());
    let mut labels = recipe.labels;
    labels.insert(recipe.hash_label.to_owned(), hash);
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            annotations: owner.meta().annotations.clone(),
            owner_references: Some(vec![meta::controller_ref(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(recipe.data)),
        revision: newest + 1,
    };
    match api.create(&PostParams::default(), &revision).await.doing(|| format!("create ControllerRevision {name}")) {
        Ok(created) => Ok(Current::Found(Box::new(created))),
        Err(error) if error.code() == Some(409) => {
            let existing = api.get(&name).await.doing(|| format!("read ControllerRevision {name}"))?;
            Ok(if same(&&existing) { Current::Found(Box::new(existing)) } else { Current::Collision })
        }
        Err(error) => Err(error),
    }
}

/// Deletes the oldest revisions that are beyond `limit` and in no use.
pub async fn truncate(
    client: &Client,
    revisions: &[ControllerRevision],
    limit: usize,
    in_use: impl Fn(&ControllerRevision) -> bool,
) -> Result<()> {
    let mut idle: Vec<_> = revisions.iter().filter(|revision| !in_use(revision)).collect();
    idle.sort_by_key(|revision| Reverse(revision.revision));
    let mut errors: Vec<Error> = Vec::new();
    for revision in idle.into_iter().skip(limit) {
        let (namespace, name) = (meta::namespace(revision), revision.name_any());
        let api: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
        let deleted = api.delete(&name, &meta::delete_exactly(revision)).await;
        errors.extend(deleted.or_gone(|| format!("delete ControllerRevision {namespace}/{name}")).err());
    }
    Error::join(errors)
}

/// Without what is absent or empty: writers differ in whether they write `resources: {}`, `creationTimestamp: null`.
fn pruned(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().map(|(key, value)| (key.clone(), pruned(value))).filter(|(_, v)| !is_empty(v));
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(pruned).collect()),
        other => other.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn empty_fields_make_no_difference() {
        let ours = json!({"spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}});
        let theirs = json!({"spec": {"template": {"metadata": {"creationTimestamp": null},
            "spec": {"containers": [{"name": "c", "resources": {}}]}}}});
        assert_eq!(pruned(&ours), pruned(&theirs));
        assert_ne!(pruned(&ours), pruned(&json!({"spec": {"template": {"spec": {"containers": [{"name": "d"}]}}}})));
    }
}
