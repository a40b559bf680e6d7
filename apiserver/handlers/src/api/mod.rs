//! The served API as one value: every resource with its cache, how to reach storage, and what takes part in writes: [`admission`],
//! [`allocator`]s and [`authorization`]. Who implements those is in other crates.

pub mod admission;
pub mod allocator;
pub mod authorization;

use admission::Chain;
use allocator::Allocator;
use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use apimachinery::validation::Gates;
use arc_swap::ArcSwap;
use authorization::Authorizers;
use component_base::feature_gates::FeatureGates;
use component_base::tls::Watched;
use registry::conversion;
use registry::gated_fields::GatedFields;
use registry::resource::{Form, Resource, StorageRow};
use request::status::{Result, Status};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use storage::cache::{Cache, Completion};
use storage::codec::Media;
use storage::dispatcher::Dispatcher;
use storage::etcd::Etcd;
use storage::freshness::{Freshness, Progress};
use storage::leases::EventLeases;
use storage::object::Object;
use webhook::Callout;
use webhook::client::Identity;
use webhook::resolver::Resolver;

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

    fn remove(&mut self, group: &str, plural: &str) {
        for ((_, _), table) in self.versions.iter_mut().filter(|((g, _), _)| g == group) {
            table.remove(plural);
        }
        self.versions.retain(|((g, _), table)| g != group || !table.is_empty());
    }

    /// Puts the versions of a group into the order in which clients prefer them.
    fn sort_versions(&mut self, group: &str) {
        let mut of_group: Vec<_> = self.versions.extract_if(.., |((g, _), _)| g == group).collect();
        of_group.sort_by_key(|((_, version), _)| std::cmp::Reverse(version_rank(version)));
        self.versions.extend(of_group);
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

/// How much a version is preferred: stable over beta over alpha, then by number. (Upstream's order of custom versions.)
pub fn version_rank(version: &str) -> (u8, u32, u32) {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    let major = digits(rest);
    let Ok(number) = major.parse() else { return (0, 0, 0) };
    let stage = &rest[major.len()..];
    let minor = |name: &str| stage.strip_prefix(name).and_then(|minor| minor.parse().ok());
    match (stage, minor("beta"), minor("alpha")) {
        ("", ..) => (3, number, 0),
        (_, Some(minor), _) => (2, number, minor),
        (_, _, Some(minor)) => (1, number, minor),
        _ => (0, 0, 0),
    }
}

/// What flags decide about the API.
pub struct Settings {
    pub admission: Chain,
    pub allocators: Vec<Box<dyn Allocator>>,
    pub event_ttl_seconds: i64,
    /// `--feature-gates`
    pub gates: FeatureGates,
    /// `--enable-aggregator-routing`
    pub aggregator_routing: bool,
    /// `--proxy-client-cert-file` and its key.
    pub front_proxy_identity: Option<Watched<Identity>>,
    /// The port this server listens at.
    pub port: u16,
    /// `--enable-garbage-collector`
    pub collects_garbage: bool,
}

/// The API and its storage.
pub struct Api {
    pub etcd: Etcd,
    pub dispatcher: Arc<Dispatcher>,
    pub progress: Arc<Progress>,
    pub freshness: Arc<Freshness>,
    pub media: Media,
    pub served: ArcSwap<Served>,
    pub admission: Chain,
    /// Leases that let events end after their time.
    pub event_leases: EventLeases,
    pub allocators: Vec<Box<dyn Allocator>>,
    /// `--feature-gates`
    pub gates: FeatureGates,
    /// Fields that are dropped on write because their gates are off.
    pub gated_fields: GatedFields,
    /// The same as names of those that are on, for rules that ask.
    pub rules_gates: Gates,
    /// Webhooks and aggregated API servers.
    pub callout: Arc<Callout>,
    /// For admission that asks what a user may; set once, before the first request.
    pub authz: OnceLock<Arc<Authorizers>>,
    /// Whether somebody looks after the dependents of what is deleted.
    pub collects_garbage: bool,
}

impl Api {
    /// Puts the rows that are switched on into service; their caches are fed once the dispatcher runs.
    pub fn new(etcd: Etcd, media: Media, rows: Vec<Arc<Resource>>, settings: Settings) -> Api {
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
        let cache = |group: &str, plural: &str| served.find(group, "v1", plural).and_then(|e| e.cache.clone());
        let (services, slices) = (cache("", "services"), cache("discovery.k8s.io", "endpointslices"));
        let resolver = Resolver::new(services, slices, settings.aggregator_routing, settings.port);
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
            gated_fields: GatedFields::new(&settings.gates),
            rules_gates: Arc::new(settings.gates.all_enabled().collect()),
            gates: settings.gates,
            callout: Arc::new(Callout::new(resolver, settings.front_proxy_identity)),
            authz: OnceLock::new(),
            collects_garbage: settings.collects_garbage,
        }
    }

    pub fn endpoint(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Endpoint>> {
        self.served.load().find(group, version, plural).cloned()
    }

    /// Puts the versions of a custom resource into service, in place of those it had.
    pub async fn serve_custom(&self, group: &str, plural: &str, rows: Vec<Resource>) -> Result<()> {
        let Some(storage) = rows.first().and_then(|row| row.storage.clone()) else {
            self.retire_custom(group, plural);
            return Ok(());
        };
        let there = self.served.load().versions.iter().find_map(|((g, _), table)| {
            let endpoint = (g == group).then(|| table.get(plural)).flatten()?;
            let same = endpoint.row.stored_as == rows[0].stored_as;
            endpoint.cache.clone().map(|cache| (cache, same))
        });
        let cache = match there {
            Some((cache, true)) => cache,
            // Read again as the new schema completes it. Watches end, and clients start over.
            outdated => {
                if let Some((outdated, _)) = outdated {
                    outdated.watchers.close();
                }
                let cache = Arc::new(new_cache(&self.etcd, &rows[0], &storage, &self.progress));
                self.dispatcher.add_and_load(&storage.prefix, cache.clone()).await?;
                cache
            }
        };
        let mut served = Served::clone(&self.served.load());
        served.remove(group, plural);
        for row in rows {
            let key = (row.kind.group.clone(), row.kind.version.clone());
            let endpoint = Arc::new(Endpoint { row: Arc::new(row), cache: Some(cache.clone()) });
            match served.versions.iter_mut().find(|(k, _)| *k == key) {
                Some((_, table)) => drop(table.insert(plural.to_owned(), endpoint)),
                None => served.versions.push((key, VersionTable::from([(plural.to_owned(), endpoint)]))),
            }
        }
        served.sort_versions(group);
        self.served.store(Arc::new(served));
        Ok(())
    }

    /// Takes a custom resource out of service and ends its watches.
    pub fn retire_custom(&self, group: &str, plural: &str) {
        let mut served = Served::clone(&self.served.load());
        served.remove(group, plural);
        self.served.store(Arc::new(served));
        self.dispatcher.remove(&format!("{group}/{plural}"));
    }

    /// The other versions of a resource: they share its objects.
    pub fn equivalents(&self, endpoint: &Arc<Endpoint>) -> Vec<Arc<Endpoint>> {
        let Some(cache) = &endpoint.cache else { return Vec::new() };
        let same = |e: &&Arc<Endpoint>| {
            e.row.kind != endpoint.row.kind && e.cache.as_ref().is_some_and(|c| Arc::ptr_eq(c, cache))
        };
        let served = self.served.load();
        served.versions.iter().filter_map(|(_, table)| table.get(&endpoint.row.plural)).filter(same).cloned().collect()
    }

    /// Objects of a resource in another of its versions, in normal form. `row` is of either version.
    ///
    /// # Errors
    /// Only where a webhook converts.
    pub async fn convert(
        &self,
        row: &Resource,
        from: &GroupVersionKind,
        to: &GroupVersionKind,
        mut objects: Vec<Value>,
    ) -> Result<Vec<Value>> {
        match &row.conversion {
            Some(converter) if from != to => {
                let given = objects.into_iter().map(|object| (from.clone(), object)).collect();
                let mut converted = converter.convert(to, given).await?;
                if row.kind == *to {
                    converted.iter_mut().try_for_each(|object| row.conform(object))?;
                }
                Ok(converted)
            }
            _ => {
                objects.iter_mut().for_each(|object| conversion::convert(from, to, object));
                Ok(objects)
            }
        }
    }

    /// Cached objects as they are to be read in the version of `endpoint`. Of built-in resources they stay as they are stored:
    /// those convert without waiting, when they are printed.
    ///
    /// # Errors
    /// Only where a webhook converts.
    pub async fn readable(&self, endpoint: &Endpoint, objects: Vec<Arc<Object>>) -> Result<Vec<Arc<Object>>> {
        match &endpoint.row.conversion {
            Some(converter) => converter.read_all(&endpoint.row, objects).await,
            None => Ok(objects),
        }
    }

    /// The same for one object.
    pub async fn readable_one(&self, endpoint: &Endpoint, object: Arc<Object>) -> Result<Arc<Object>> {
        match &endpoint.row.conversion {
            Some(_) => Ok(self.readable(endpoint, vec![object.clone()]).await?.pop().unwrap_or(object)),
            None => Ok(object),
        }
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
    let indexed = row.strategy.fields.iter().position(|f| f.name == "spec.nodeName");
    let cache = Cache::new(format!("{}/{}/", etcd.prefix, storage.prefix), row.layout(), indexed, progress.clone());
    let cache = cache.with_completion(completion(row, storage));
    if row.is_custom() { cache.with_versions() } else { cache }
}

/// How objects of a resource are brought to what they would be if they were written today.
fn completion(row: &Resource, storage: &StorageRow) -> Completion {
    let stored = storage.kind.clone();
    match &row.form {
        Form::Builtin(_) => {
            let default = row.default_stored;
            Arc::new(move |tree| {
                let (group, version) = GroupVersionKind::split_api_version(tree["apiVersion"].as_str().unwrap_or(""));
                // Another server may have written it in another version.
                if !version.is_empty() && (group != stored.group || version != stored.version) {
                    let from = GroupVersionKind::new(group, version, &stored.kind);
                    conversion::convert(&from, &stored, tree);
                }
                default(tree);
                true
            })
        }
        Form::Custom(_) => {
            let Some(schema) = row.stored_schema.clone() else { return Arc::new(|_| true) };
            let many = row.conversion.is_some();
            Arc::new(move |tree| {
                // Another version has another schema; it is completed when it is converted.
                let version = GroupVersionKind::split_api_version(tree["apiVersion"].as_str().unwrap_or("")).1;
                if !version.is_empty() && version != stored.version {
                    return true;
                }
                if let Some(members) = tree.as_object_mut() {
                    members.remove("kind");
                    members.remove("apiVersion");
                }
                let before = many.then(|| tree.clone());
                schema.normalize_stored(tree);
                // What another version has written is kept for its readers.
                let fits = before.is_none_or(|before| {
                    let same = before == *tree;
                    if !same {
                        *tree = before;
                    }
                    same
                });
                schema.fill_in(tree);
                fits
            })
        }
    }
}
