//! The served API as one value: every resource with its cache, and how to reach storage.

use crate::admission::Chain;
use crate::authz::Authorizers;
use crate::handlers::write::allocator::Allocator;
use crate::registry::table::{Form, Resource, StorageRow};
use crate::status::{Result, Status};
use crate::storage::cache::Cache;
use crate::storage::codec::MediaType;
use crate::storage::dispatcher::Dispatcher;
use crate::storage::etcd::Etcd;
use crate::storage::freshness::{Freshness, Progress};
use crate::storage::leases::EventLeases;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// A resource in one version, and the cache it shares with its other versions.
pub struct Endpoint {
    pub row: Arc<Resource>,
    /// None for resources that are only answered.
    pub cache: Option<Arc<Cache>>,
}

impl Endpoint {
    pub fn cache(&self) -> Result<&Arc<Cache>> {
        self.cache.as_ref().ok_or_else(Status::method_not_allowed)
    }

    pub fn storage(&self) -> Result<&StorageRow> {
        self.row.storage.as_ref().ok_or_else(Status::method_not_allowed)
    }
}

/// The resources of one group and version by plural.
pub type VersionTable = BTreeMap<String, Arc<Endpoint>>;

/// Everything that is served. Replaced as a whole when custom resources come and go.
#[derive(Default, Clone)]
pub struct Served {
    /// (group, version) in the order of discovery.
    pub versions: Vec<((String, String), VersionTable)>,
}

impl Served {
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Endpoint>> {
        self.version(group, version)?.get(plural)
    }

    pub fn version(&self, group: &str, version: &str) -> Option<&VersionTable> {
        self.versions.iter().find(|((g, v), _)| g == group && v == version).map(|(_, table)| table)
    }

    /// Groups in order, each with its versions in order.
    pub fn groups(&self) -> Vec<(&str, Vec<(&str, &VersionTable)>)> {
        let mut groups: Vec<(&str, Vec<(&str, &VersionTable)>)> = Vec::new();
        for ((group, version), table) in &self.versions {
            match groups.iter_mut().find(|(g, _)| g == group) {
                Some((_, versions)) => versions.push((version, table)),
                None => groups.push((group, vec![(version, table)])),
            }
        }
        groups
    }
}

/// What flags decide about the API.
pub struct Settings {
    pub admission: Chain,
    pub allocators: Vec<Box<dyn Allocator>>,
    pub event_ttl_seconds: i64,
}

/// The API and its storage.
pub struct Api {
    pub etcd: Etcd,
    pub dispatcher: Arc<Dispatcher>,
    pub progress: Arc<Progress>,
    pub freshness: Arc<Freshness>,
    pub media: MediaType,
    pub served: ArcSwap<Served>,
    pub admission: Chain,
    /// Leases that let events end after their time.
    pub event_leases: EventLeases,
    pub allocators: Vec<Box<dyn Allocator>>,
    /// For admission that asks what a user may; set once, before the first request.
    pub authz: OnceLock<Arc<Authorizers>>,
}

impl Api {
    /// Puts the rows that are switched on into service; their caches are fed once the dispatcher runs.
    pub fn new(etcd: Etcd, media: MediaType, rows: Vec<Arc<Resource>>, settings: Settings) -> Api {
        let progress = Arc::new(Progress::default());
        let dispatcher = Dispatcher::new(etcd.clone(), progress.clone());
        let mut caches: BTreeMap<String, Arc<Cache>> = BTreeMap::new();
        let mut served = Served::default();
        for row in rows {
            let cache = row.storage.as_ref().map(|storage| {
                let cache = caches
                    .entry(storage.prefix.clone())
                    .or_insert_with(|| Arc::new(new_cache(&etcd, &row, storage, &progress)));
                cache.clone()
            });
            let key = (row.kind.group.clone(), row.kind.version.clone());
            let endpoint = Arc::new(Endpoint { row, cache });
            let plural = endpoint.row.plural.clone();
            match served.versions.iter_mut().find(|(k, _)| *k == key) {
                Some((_, table)) => {
                    table.insert(plural, endpoint);
                }
                None => served.versions.push((key, VersionTable::from([(plural, endpoint)]))),
            }
        }
        for (prefix, cache) in caches {
            dispatcher.add(&prefix, cache);
        }
        let freshness = Freshness::new(etcd.clone(), progress.clone());
        Api {
            event_leases: EventLeases::new(etcd.clone(), settings.event_ttl_seconds),
            etcd,
            dispatcher,
            progress,
            freshness,
            media,
            served: ArcSwap::from_pointee(served),
            admission: settings.admission,
            allocators: settings.allocators,
            authz: OnceLock::new(),
        }
    }

    pub fn endpoint(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Endpoint>> {
        self.served.load().find(group, version, plural).cloned()
    }

    /// The endpoint of a built-in resource that the server itself needs.
    ///
    /// # Errors
    /// When it is switched off by `--runtime-config`.
    pub fn builtin(&self, group: &str, version: &str, plural: &str) -> Result<Arc<Endpoint>> {
        self.endpoint(group, version, plural)
            .ok_or_else(|| Status::unavailable(format!("{plural}.{group}/{version} is not served")))
    }
}

fn new_cache(etcd: &Etcd, row: &Resource, storage: &StorageRow, progress: &Arc<Progress>) -> Cache {
    let Form::Builtin(_) = row.form;
    let fields = row.strategy.fields.iter().map(|f| f.value).collect();
    let indexed = row.strategy.fields.iter().position(|f| f.name == "spec.nodeName");
    Cache::new(format!("{}/{}/", etcd.prefix, storage.prefix), fields, indexed, progress.clone())
}
