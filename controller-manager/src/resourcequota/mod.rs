//! resourcequota-controller: tells in a quota's status what its namespace uses.
//!
//! The API server's admission charges a write before it is stored; this controller counts what there is, gives back what
//! was deleted, and corrects what was charged but never stored. What an object uses is said by [`apimachinery::quota`], for
//! both. [`objects`] has what is to be counted.

mod objects;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use apimachinery::{
    Value,
    quota::{Amounts, Kind, amount},
};
use component_base::{
    controller::{self, Action},
    informer::{Change, ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ResourceQuota, ResourceQuotaStatus},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{Api, Client, api::PostParams};

use self::objects::Objects;
use crate::{
    common::{Doing, Error, Result, meta, pod::index},
    context::Context,
};

/// A new object was charged before it was stored. Should a count in between have missed it, a later one finds it; many
/// new objects are counted at once.
const SETTLE: Duration = Duration::from_secs(1);
/// Until a kind that a quota counts and nobody serves is looked for again.
const UNSERVED_RETRY: Duration = Duration::from_secs(30);

pub async fn run(context: Context) {
    let quotas = context.factory.store::<ResourceQuota>(Scope::all());
    quotas.add_index(index::NAMESPACE, |quota| vec![meta::namespace(quota).to_owned()]);
    let queue = WorkQueue::new("resourcequota_primary");
    let feed = queue.clone();
    quotas.on_change(move |change| match change {
        Change::Added(_) => feed.add(change.key()),
        // The status is written by us, and by admission, which knows what it does.
        Change::Updated { old, new } if old.spec != new.spec || hard(new) != told(new) => feed.add(change.key()),
        _ => {}
    });
    let trigger = Trigger { quotas: quotas.clone(), queue: queue.clone() };
    let objects = Objects::new(&context, trigger);
    quotas.synced().await;
    objects.synced().await;

    let controller = Controller { quotas, objects, client: context.client };
    let controller = &controller;
    let workers = context.options.workers.concurrent_resource_quota_syncs;
    let resync = {
        let (queue, shutdown) = (queue.clone(), context.shutdown.clone());
        let mut ticks = tokio::time::interval(context.options.resource_quota.resource_quota_sync_period.get());
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        async move {
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = ticks.tick() => {}
                }
                controller.forget_unnamed().await;
                controller.quotas.keys().into_iter().for_each(|key| queue.add(key));
            }
        }
    };
    let work = controller::run(context.name, queue, workers, context.shutdown, |key| async move {
        controller.reconcile(&key).await
    });
    tokio::join!(work, resync);
}

fn hard(quota: &ResourceQuota) -> Option<&BTreeMap<String, Quantity>> {
    quota.spec.as_ref().and_then(|spec| spec.hard.as_ref())
}

/// The limits that the status tells, which are those that admission keeps to.
fn told(quota: &ResourceQuota) -> Option<&BTreeMap<String, Quantity>> {
    quota.status.as_ref().and_then(|status| status.hard.as_ref())
}

/// As the evaluators take it.
fn spec(quota: &ResourceQuota) -> Value {
    serde_json::to_value(&quota.spec).unwrap_or_default()
}

/// Wakes the quotas that an object's coming, change or going concerns.
#[derive(Clone)]
struct Trigger {
    quotas: Store<ResourceQuota>,
    queue: WorkQueue<ObjectKey>,
}

impl Trigger {
    fn quotas_of(&self, namespace: &str, kind: Kind<'_>) -> Vec<Arc<ResourceQuota>> {
        let mut quotas = self.quotas.by_index(index::NAMESPACE, namespace);
        quotas.retain(|quota| hard(quota).into_iter().flatten().any(|(name, _)| Kind::tracking(name) == Some(kind)));
        quotas
    }

    fn came(&self, namespace: &str, kind: Kind<'_>) {
        for quota in self.quotas_of(namespace, kind) {
            self.queue.add_after(meta::key(quota.as_ref()), SETTLE);
        }
    }

    fn went(&self, namespace: &str, kind: Kind<'_>) {
        for quota in self.quotas_of(namespace, kind) {
            self.queue.add(meta::key(quota.as_ref()));
        }
    }

    /// `object` is only called where there is a quota to compare for.
    fn changed(&self, namespace: &str, kind: Kind<'_>, objects: impl FnOnce() -> [Value; 2]) {
        let quotas = self.quotas_of(namespace, kind);
        if quotas.is_empty() {
            return;
        }
        let ([old, new], now) = (objects(), Timestamp::now());
        let uses_other = kind.usage(&old, now) != kind.usage(&new, now);
        for quota in quotas {
            let spec = spec(&quota);
            if uses_other || kind.in_scope(&spec, &old) != kind.in_scope(&spec, &new) {
                self.queue.add(meta::key(quota.as_ref()));
            }
        }
    }
}

struct Controller {
    quotas: Store<ResourceQuota>,
    objects: Objects,
    client: Client,
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result {
        // Read before the objects: a charge that comes in between is a conflict and leads to another count.
        let Some(quota) = self.quotas.get(key) else { return Ok(Action::Done) };
        let (names, now) = (hard(&quota).cloned().unwrap_or_default(), Timestamp::now());
        let spec = spec(&quota);
        let (mut used, mut errors, mut unserved) = (Amounts::new(), Vec::new(), false);
        let kinds: BTreeSet<Kind<'_>> = names.keys().filter_map(|name| Kind::tracking(name)).collect();
        for kind in kinds {
            match self.objects.of(kind, &key.namespace).await {
                Ok(Some(objects)) => used.extend(kind.tally(names.keys().map(String::as_str), &spec, objects, now)),
                Ok(None) => unserved = true,
                Err(error) => errors.push(error),
            }
        }
        if let Some(status) = new_status(&quota, used) {
            let mut new = quota.as_ref().clone();
            new.status = Some(status);
            let api: Api<ResourceQuota> = Api::namespaced(self.client.clone(), &key.namespace);
            let written = api.replace_status(&key.name, &PostParams::default(), &new).await;
            written.or_gone(|| format!("update the status of ResourceQuota {key}"))?;
        }
        Error::join(errors)?;
        Ok(if unserved { Action::After(UNSERVED_RETRY) } else { Action::Done })
    }

    /// Ends the watches of kinds that no quota names any more.
    async fn forget_unnamed(&self) {
        let quotas = self.quotas.list();
        let names = quotas.iter().filter_map(|quota| hard(quota)).flat_map(BTreeMap::keys);
        self.objects.retain(&names.filter_map(|name| Kind::tracking(name)).collect()).await;
    }
}

/// The status with what was counted, if it tells anything else than before. What could not be counted stays as it was.
fn new_status(quota: &ResourceQuota, counted: Amounts) -> Option<ResourceQuotaStatus> {
    let hard = hard(quota).cloned().unwrap_or_default();
    let before = quota.status.clone().unwrap_or_default();
    let mut used = before.used.clone().unwrap_or_default();
    used.retain(|name, _| hard.contains_key(name));
    for (name, counted) in counted {
        let same =
            used.get(&name).and_then(|old| amount(&Value::from(old.0.clone()))).is_some_and(|old| old == counted);
        if !same {
            used.insert(name, Quantity(counted.to_string()));
        }
    }
    let status = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
    // The server leaves out what is empty.
    let full = |map: &Option<BTreeMap<String, Quantity>>| map.clone().unwrap_or_default();
    let same = full(&status.hard) == full(&before.hard) && full(&status.used) == full(&before.used);
    (!same).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_is_written_only_when_it_tells_something_new() {
        let quota = |status: Value| -> ResourceQuota {
            let spec = json!({"hard": {"pods": "2", "cpu": "1", "count/unknown.example.com": "1"}});
            serde_json::from_value(json!({"metadata": {"name": "q"}, "spec": spec, "status": status})).unwrap()
        };
        let counted = || {
            let parse = |text: &str| amount(&Value::from(text)).unwrap();
            Amounts::from([("pods".to_owned(), parse("1")), ("cpu".to_owned(), parse("1000m"))])
        };
        let hard = json!({"pods": "2", "cpu": "1", "count/unknown.example.com": "1"});
        let first = new_status(&quota(json!({})), counted()).unwrap();
        assert_eq!(serde_json::to_value(&first).unwrap(), json!({"hard": hard, "used": {"pods": "1", "cpu": "1"}}));
        // One and 1000m are the same; what nobody counts stays; what is limited no more goes.
        let used = json!({"pods": "1", "cpu": "1000m", "count/unknown.example.com": "7"});
        assert_eq!(new_status(&quota(json!({"hard": hard, "used": used})), counted()), None);
        let used = json!({"pods": "1", "cpu": "1", "secrets": "7"});
        let fewer = new_status(&quota(json!({"hard": hard, "used": used})), counted()).unwrap();
        assert!(!fewer.used.unwrap().contains_key("secrets"));
    }
}
