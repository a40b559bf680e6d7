//! namespace-controller: empties namespaces that are being deleted, and then lets them go.
//!
//! What a namespace holds is asked from discovery, so that custom resources go with it. Progress is told in the
//! namespace's conditions.

use std::time::Duration;

use component_base::{
    controller::{self, Action},
    informer::{ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};

use crate::{
    common::{
        Doing, Error, Result,
        discovery::{self, Served},
        meta,
    },
    context::Context,
};

/// Requests at once while a namespace is emptied.
const PARALLEL: usize = 8;
/// The finalizer in `spec.finalizers` that stands for this controller.
const FINALIZER: &str = "kubernetes";
/// Another API server may not know yet that the namespace is on its way out, and let something in.
const SETTLE: Duration = Duration::from_secs(1);
/// Until content that ends by itself (pods, finalizers) is looked for again.
const RETRY: Duration = Duration::from_secs(2);

pub async fn run(context: Context) {
    let controller = Controller { namespaces: context.factory.store(Scope::all()), client: context.client };
    let queue = WorkQueue::new("namespace");
    let feed = queue.clone();
    controller.namespaces.on_change(move |change| {
        if change.object().is_some_and(|namespace| meta::is_deleting(namespace.as_ref())) {
            feed.add_after(change.key(), SETTLE);
        }
    });
    controller.namespaces.synced().await;
    let controller = &controller;
    let workers = context.options.workers.concurrent_namespace_syncs;
    controller::run(
        context.name,
        queue,
        workers,
        context.shutdown,
        |key| async move { controller.reconcile(&key).await },
    )
    .await;
}

struct Controller {
    namespaces: Store<Namespace>,
    client: Client,
}

/// What is left of a namespace's content.
#[derive(Debug, Default)]
struct Remains {
    /// Resource and how many objects of it.
    objects: Vec<(String, usize)>,
    /// Finalizer and how many objects wait for it.
    finalizers: Vec<(String, usize)>,
    failures: Vec<String>,
}

impl Remains {
    fn is_nothing(&self) -> bool {
        self.objects.is_empty() && self.failures.is_empty()
    }

    fn absorb(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.failures.extend(other.failures);
        for (finalizer, count) in other.finalizers {
            match self.finalizers.iter_mut().find(|(known, _)| *known == finalizer) {
                Some((_, sum)) => *sum += count,
                None => self.finalizers.push((finalizer, count)),
            }
        }
    }
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let api: Api<Namespace> = Api::all(self.client.clone());
        // The store may be behind: what follows is final.
        let read = api.get_opt(&key.name).await.doing(|| format!("read namespace {key}"))?;
        let Some(mut namespace) = read.filter(meta::is_deleting) else {
            return Ok(Action::Done);
        };
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
        if finalizers.is_empty() {
            return Ok(Action::Done);
        }
        if namespace.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Terminating") {
            namespace.status.get_or_insert_default().phase = Some("Terminating".into());
            namespace = self.write_status(&api, namespace).await?;
        }
        let (remains, discovery_failure) = match discovery::served(&self.client).await {
            Ok(served) => (self.empty(&key.name, served).await, None),
            Err(error) => (Remains::default(), Some(error.to_string())),
        };
        let done = remains.is_nothing() && discovery_failure.is_none();
        let conditions = conditions(&remains, discovery_failure.as_deref());
        if set_conditions(&mut namespace, conditions) {
            namespace = self.write_status(&api, namespace).await?;
        }
        if !done {
            return match (discovery_failure, remains.failures.is_empty()) {
                (None, true) => Ok(Action::After(RETRY)),
                (Some(failure), _) => Err(Error::Invalid(failure)),
                (None, false) => Err(Error::Invalid(remains.failures.join("; "))),
            };
        }
        namespace.spec.get_or_insert_default().finalizers =
            Some(finalizers.into_iter().filter(|finalizer| finalizer != FINALIZER).collect());
        let finalized: kube::Result<Namespace> =
            api.replace_subresource("finalize", &key.name, &PostParams::default(), &namespace).await;
        finalized.or_gone(|| format!("finalize namespace {key}"))?;
        Ok(Action::Done)
    }

    async fn write_status(&self, api: &Api<Namespace>, namespace: Namespace) -> Result<Namespace> {
        let name = namespace.name_any();
        let what = || format!("update the status of namespace {name}");
        api.replace_status(&name, &PostParams::default(), &namespace).await.doing(what)
    }

    /// Deletes what is in the namespace. Pods go first and alone, so that none of them runs on without what protects others
    /// from it, such as a NetworkPolicy. (KEP-5080)
    async fn empty(&self, namespace: &str, served: Vec<Served>) -> Remains {
        let deletable = served.into_iter().filter(|kind| kind.namespaced && kind.can("delete") && kind.can("list"));
        let is_pods = |kind: &Served| kind.resource.group.is_empty() && kind.resource.plural == "pods";
        let (pods, deletable): (Vec<Served>, Vec<Served>) = deletable.partition(is_pods);
        for kind in pods {
            let remains = self.empty_of(namespace, &kind).await;
            if !remains.is_nothing() {
                return remains;
            }
        }
        let work = stream::iter(deletable).map(|kind| async move { self.empty_of(namespace, &kind).await });
        let mut remains = Remains::default();
        let mut results = work.buffer_unordered(PARALLEL);
        while let Some(part) = results.next().await {
            remains.absorb(part);
        }
        remains.objects.sort();
        remains.finalizers.sort();
        remains
    }

    async fn empty_of(&self, namespace: &str, kind: &Served) -> Remains {
        let name = match kind.resource.group.as_str() {
            "" => format!("{}.", kind.resource.plural),
            group => format!("{}.{group}", kind.resource.plural),
        };
        match self.try_empty_of(namespace, kind).await {
            Ok((0, _)) => Remains::default(),
            Ok((count, finalizers)) => Remains { objects: vec![(name, count)], finalizers, ..Remains::default() },
            // Gone from the API in the meantime (a CRD was deleted), or not for us to delete.
            Err(error) if matches!(error.code(), Some(404 | 405)) => Remains::default(),
            Err(error) => Remains { failures: vec![error.to_string()], ..Remains::default() },
        }
    }

    async fn try_empty_of(&self, namespace: &str, kind: &Served) -> Result<(usize, Vec<(String, usize)>)> {
        let api = kind.metadata(&self.client, namespace);
        let what = |verb: &str| format!("{verb} {} of namespace {namespace}", kind.resource.plural);
        let before = api.list(&ListParams::default()).await.doing(|| what("list"))?;
        if before.items.is_empty() {
            return Ok((0, Vec::new()));
        }
        let background = DeleteParams::background();
        if kind.can("deletecollection") {
            let plain: Api<kube::api::DynamicObject> =
                Api::namespaced_with(self.client.clone(), namespace, &kind.resource);
            plain.delete_collection(&background, &ListParams::default()).await.doing(|| what("delete"))?;
        } else {
            for object in &before.items {
                api.delete(&object.name_any(), &background).await.or_gone(|| what("delete"))?;
            }
        }
        let after = api.list(&ListParams::default()).await.doing(|| what("list"))?;
        let mut remains = Remains::default();
        for object in &after.items {
            let finalizers = object.finalizers().iter().map(|finalizer| (finalizer.clone(), 1)).collect();
            remains.absorb(Remains { finalizers, ..Remains::default() });
        }
        Ok((after.items.len(), remains.finalizers))
    }
}

/// Condition type, and its reason and message while all is well.
const WELL: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

fn conditions(remains: &Remains, discovery_failure: Option<&str>) -> Vec<NamespaceCondition> {
    let objects = remains.objects.iter().map(|(kind, count)| format!("{kind} has {count} resource instances"));
    let finalizers = remains.finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances"));
    let list = |parts: Vec<String>| parts.join(", ");
    WELL.into_iter()
        .map(|(kind, reason, message)| {
            let trouble = match kind {
                "NamespaceDeletionDiscoveryFailure" => discovery_failure
                    .map(|failure| ("DiscoveryFailed", format!("Discovery failed for some groups: {failure}"))),
                "NamespaceDeletionContentFailure" if !remains.failures.is_empty() => {
                    let message = format!("Failed to delete all resource types, {}", list(remains.failures.clone()));
                    Some(("ContentDeletionFailed", message))
                }
                "NamespaceContentRemaining" if !remains.objects.is_empty() => {
                    let objects = list(objects.clone().collect());
                    Some(("SomeResourcesRemain", format!("Some resources are remaining: {objects}")))
                }
                "NamespaceFinalizersRemaining" if !remains.finalizers.is_empty() => {
                    let finalizers = list(finalizers.clone().collect());
                    let message = format!("Some content in the namespace has finalizers remaining: {finalizers}");
                    Some(("SomeFinalizersRemain", message))
                }
                _ => None,
            };
            let status = if trouble.is_some() { "True" } else { "False" };
            let (reason, message) = trouble.unwrap_or((reason, message.to_owned()));
            NamespaceCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_transition_time: Some(meta::now()),
            }
        })
        .collect()
}

/// Returns whether anything but times differs.
fn set_conditions(namespace: &mut Namespace, new: Vec<NamespaceCondition>) -> bool {
    let conditions = namespace.status.get_or_insert_default().conditions.get_or_insert_default();
    let mut changed = false;
    for mut condition in new {
        match conditions.iter_mut().find(|old| old.type_ == condition.type_) {
            Some(old) => {
                if old.status == condition.status {
                    condition.last_transition_time = old.last_transition_time.clone();
                }
                changed |= *old != condition;
                *old = condition;
            }
            None => {
                changed = true;
                conditions.push(condition);
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_tell_what_remains() {
        let remains = Remains {
            objects: vec![("pods.".into(), 2)],
            finalizers: vec![("example.com/x".into(), 1)],
            failures: Vec::new(),
        };
        let by_type: Vec<_> =
            conditions(&remains, None).into_iter().map(|c| (c.type_, c.status, c.message.unwrap())).collect();
        assert_eq!(by_type[3].1, "True");
        assert_eq!(by_type[3].2, "Some resources are remaining: pods. has 2 resource instances");
        assert!(by_type[4].2.ends_with("example.com/x in 1 resource instances"));
        assert_eq!(by_type.iter().filter(|(_, status, _)| status == "True").count(), 2);

        let mut namespace = Namespace::default();
        assert!(set_conditions(&mut namespace, conditions(&remains, None)));
        assert!(!set_conditions(&mut namespace, conditions(&remains, None)));
    }
}
