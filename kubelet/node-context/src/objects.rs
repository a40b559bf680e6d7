//! ConfigMaps and Secrets that pods refer to, fetched by name and kept for a while. The node authorizer allows a kubelet
//! only the ones its pods name, one by one, so no watch over all of them is possible.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

/// How long a fetched object is good: changes reach volumes within this and a sync period, as in upstream's "Cache"
/// change detection.
const TTL: Duration = Duration::from_secs(60);
/// Objects kept per kind; the longest unused goes first.
const OBJECTS_MAX: usize = 512;

/// Why an object can't be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("{kind} {name:?} not found")]
    NotFound { kind: &'static str, name: String },
    #[error("getting {kind} {namespace}/{name}: {message}")]
    Fetch { kind: &'static str, namespace: String, name: String, message: String },
    #[error("{kind} {name:?} can't be read: this kubelet has no API server (no --kubeconfig)")]
    Standalone { kind: &'static str, name: String },
}

impl ObjectError {
    /// There is no such object, as opposed to: it can't be had.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// Namespace and name.
type Key = (String, String);

struct Cache<K> {
    /// With the time of each one's fetch.
    entries: Mutex<HashMap<Key, (Instant, Arc<K>)>>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self { entries: Mutex::new(HashMap::new()) }
    }
}

impl<K> Cache<K> {
    fn get(&self, key: &Key) -> Option<Arc<K>> {
        let entries = self.entries.lock();
        entries.get(key).filter(|(at, _)| at.elapsed() < TTL).map(|(_, object)| object.clone())
    }

    /// What is kept of an object, however old: better than nothing while the API server is away.
    fn stale(&self, key: &Key) -> Option<Arc<K>> {
        self.entries.lock().get(key).map(|(_, object)| object.clone())
    }

    fn put(&self, key: Key, object: Arc<K>) {
        let mut entries = self.entries.lock();
        if entries.len() >= OBJECTS_MAX && !entries.contains_key(&key) {
            let oldest = entries.iter().min_by_key(|(_, (at, _))| *at).map(|(key, _)| key.clone());
            oldest.map(|oldest| entries.remove(&oldest));
        }
        entries.insert(key, (Instant::now(), object));
    }
}

/// Fetches and keeps objects. Cheap to share.
pub struct Objects {
    client: Option<Client>,
    config_maps: Cache<ConfigMap>,
    secrets: Cache<Secret>,
}

impl Objects {
    pub fn new(client: Option<Client>) -> Self {
        Self { client, config_maps: Cache::default(), secrets: Cache::default() }
    }

    /// Finds nothing: a kubelet without an API server.
    pub fn none() -> Self {
        Self::new(None)
    }
    /// A ConfigMap, at most a minute old while the API server answers.
    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, ObjectError> {
        self.get("configmap", &self.config_maps, namespace, name).await
    }
    /// A Secret, at most a minute old while the API server answers.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, ObjectError> {
        self.get("secret", &self.secrets, namespace, name).await
    }

    /// Forgets what a new pod will read, so that it starts with the objects' present state.
    pub fn refresh(&self, namespace: &str) {
        self.config_maps.entries.lock().retain(|(ns, _), _| ns != namespace);
        self.secrets.entries.lock().retain(|(ns, _), _| ns != namespace);
    }

    async fn get<K>(
        &self,
        kind: &'static str,
        cache: &Cache<K>,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<K>, ObjectError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(object) = cache.get(&key) {
            return Ok(object);
        }
        let Some(client) = &self.client else {
            return Err(ObjectError::Standalone { kind, name: name.to_owned() });
        };
        match Api::<K>::namespaced(client.clone(), namespace).get_opt(name).await {
            Ok(Some(mut object)) => {
                object.meta_mut().managed_fields = None;
                let object = Arc::new(object);
                cache.put(key, object.clone());
                Ok(object)
            }
            Ok(None) => {
                cache.entries.lock().remove(&key);
                Err(ObjectError::NotFound { kind, name: name.to_owned() })
            }
            Err(kube::Error::Api(status)) => Err(ObjectError::Fetch {
                kind,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                message: status.message.clone(),
            }),
            Err(error) => cache.stale(&key).ok_or_else(|| ObjectError::Fetch {
                kind,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                message: error.to_string(),
            }),
        }
    }
}
