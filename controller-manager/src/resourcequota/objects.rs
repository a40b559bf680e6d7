//! What quotas count. Pods, services and claims are in stores that all controllers share; of any other kind the names are
//! watched from when a quota first counts it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apimachinery::{
    Value,
    quota::{CLAIMS, DEVICE_CLAIMS, Kind, PODS, SERVICES},
};
use component_base::{
    informer::{self, Change, Kind as Typed, Scope, Store},
    runtime::AbortOnDrop,
};
use k8s_openapi::api::{
    core::v1::{PersistentVolumeClaim, Pod, Service},
    resource::v1::ResourceClaim,
};
use kube::{Client, Resource, runtime::watcher};
use tokio::sync::{Mutex, OnceCell};
use tokio_util::sync::CancellationToken;

use super::Trigger;
use crate::{
    common::{
        Error, Result,
        discovery::{self, Partial},
        meta,
        pod::index,
    },
    context::Context,
};

/// For the first list of a kind that is newly counted.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

/// A kind's objects by name only, watched for the quotas that count them.
struct Watched {
    names: Store<Partial>,
    _task: AbortOnDrop,
}

pub(super) struct Objects {
    pods: Store<Pod>,
    services: Store<Service>,
    claims: Store<PersistentVolumeClaim>,
    /// Begins with the first quota that counts devices, and stays: claims are few.
    device_claims: OnceCell<Store<ResourceClaim>>,
    factory: informer::Factory,
    /// By group and plural. As many as there are kinds that quotas name and the server serves.
    others: Mutex<BTreeMap<(String, String), Watched>>,
    trigger: Trigger,
    client: Client,
    shutdown: CancellationToken,
}

impl Objects {
    pub fn new(context: &Context, trigger: Trigger) -> Self {
        let objects = Self {
            pods: context.pods(),
            services: context.factory.store(Scope::all()),
            claims: context.factory.store(Scope::all()),
            device_claims: OnceCell::new(),
            factory: context.factory.clone(),
            others: Mutex::default(),
            trigger,
            client: context.client.clone(),
            shutdown: context.shutdown.clone(),
        };
        follow(&objects.pods, PODS, &objects.trigger);
        follow(&objects.services, SERVICES, &objects.trigger);
        follow(&objects.claims, CLAIMS, &objects.trigger);
        objects
    }

    pub async fn synced(&self) {
        tokio::join!(self.pods.synced(), self.services.synced(), self.claims.synced());
    }

    /// The objects of a kind in a namespace; none if nobody serves the kind.
    pub async fn of(&self, kind: Kind<'_>, namespace: &str) -> Result<Option<Vec<Value>>> {
        Ok(Some(match kind {
            PODS => whole(&self.pods, namespace),
            SERVICES => whole(&self.services, namespace),
            CLAIMS => whole(&self.claims, namespace),
            DEVICE_CLAIMS => {
                let begin = || async {
                    let claims = self.factory.store(Scope::all());
                    follow(&claims, DEVICE_CLAIMS, &self.trigger);
                    claims
                };
                let claims = self.device_claims.get_or_init(begin).await;
                until_synced(claims, kind).await?;
                whole(claims, namespace)
            }
            _ => {
                let Some(names) = self.names(kind).await? else { return Ok(None) };
                until_synced(&names, kind).await?;
                // No scope and no amount asks for more than that they are there.
                names.by_index(index::NAMESPACE, namespace).iter().map(|_| Value::Null).collect()
            }
        }))
    }

    async fn names(&self, kind: Kind<'_>) -> Result<Option<Store<Partial>>> {
        let mut others = self.others.lock().await;
        let key = (kind.group.to_owned(), kind.plural.to_owned());
        if let Some(watched) = others.get(&key) {
            return Ok(Some(watched.names.clone()));
        }
        let served = discovery::served(&self.client).await?.into_iter().find(|served| {
            let is_it = served.resource.group == kind.group && served.resource.plural == kind.plural;
            is_it && served.namespaced && ["create", "list", "watch", "delete"].iter().all(|verb| served.can(verb))
        });
        let Some(served) = served else { return Ok(None) };
        let names: Store<Partial> = Store::default();
        names.add_index(index::NAMESPACE, |object| vec![meta::namespace(object).to_owned()]);
        let (trigger, own) = (self.trigger.clone(), key.clone());
        names.on_change(move |change| {
            let (namespace, kind) = (change.key().namespace, Kind { group: &own.0, plural: &own.1 });
            match change {
                Change::Added(_) => trigger.came(&namespace, kind),
                Change::Deleted(_) => trigger.went(&namespace, kind),
                _ => {}
            }
        });
        let watch = informer::events(served.metadata(self.factory.client(), ""), watcher::Config::default());
        let only_names = |object: &mut Partial| {
            let meta = &mut object.metadata;
            (meta.labels, meta.annotations, meta.owner_references, meta.finalizers) = (None, None, None, None);
        };
        let task = tokio::spawn(informer::fill(names.clone(), watch, only_names, self.shutdown.clone()));
        others.insert(key, Watched { names: names.clone(), _task: AbortOnDrop(task) });
        Ok(Some(names))
    }

    /// Ends the watches of other kinds than these.
    pub async fn retain(&self, kinds: &BTreeSet<Kind<'_>>) {
        let mut others = self.others.lock().await;
        others.retain(|(group, plural), _| kinds.contains(&Kind { group, plural }));
    }
}

async fn until_synced<K>(store: &Store<K>, kind: Kind<'_>) -> Result<()> {
    tokio::time::timeout(SYNC_TIMEOUT, store.synced()).await.map_err(|_| {
        Error::Invalid(format!("cannot list {}.{} that a quota counts, will retry", kind.plural, kind.group))
    })
}

fn whole<K: Typed + serde::Serialize>(store: &Store<K>, namespace: &str) -> Vec<Value> {
    store.by_index(index::NAMESPACE, namespace).iter().map(|object| value(object.as_ref())).collect()
}

fn value(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// Wakes quotas when objects of a shared store come, use something else, or go.
fn follow<K>(store: &Store<K>, kind: Kind<'static>, trigger: &Trigger)
where
    K: Typed + Resource + serde::Serialize,
{
    store.add_index(index::NAMESPACE, |object| vec![meta::namespace(object).to_owned()]);
    let trigger = trigger.clone();
    store.on_change(move |change| match change {
        Change::Added(object) => trigger.came(meta::namespace(object.as_ref()), kind),
        Change::Updated { old, new } => {
            trigger.changed(meta::namespace(new.as_ref()), kind, || [value(old.as_ref()), value(new.as_ref())]);
        }
        Change::Deleted(object) => trigger.went(meta::namespace(object.as_ref()), kind),
        Change::Resync => {}
    });
}
