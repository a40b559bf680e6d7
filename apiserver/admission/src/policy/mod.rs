//! Admission policies: objects that check and change writes by expressions.
//!
//! [`environment`] is what an expression sees of a write; [`definition`] is what policies of both kinds share, [`request`] which of
//! them match; [`params`] finds the objects that hold a policy's settings; [`validating`] and [`mutating`] are the plugins. Policies and bindings are read from the watch cache and compiled once per version ([`Memo`]).
//! No expression is run across an await: what it needs is fetched first.

pub mod definition;
pub mod environment;
pub mod metrics;
pub mod mutating;
pub mod params;
pub mod request;
pub mod validating;

use apimachinery::Value as Json;
use handlers::api::admission::Attributes;
use parking_lot::Mutex;
use registry::metrics::compiling;
use std::collections::HashMap;
use std::sync::Arc;
use storage::Revision;
use storage::cache::Cache;

pub const GROUP: &str = "admissionregistration.k8s.io";
/// Policies neither check nor change policies: a bad one could not be removed.
const POLICIES: [&str; 4] = [
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];

/// Whether a write is one that policies have no say in.
fn is_exempt(attributes: &Attributes<'_>) -> bool {
    let row = &attributes.endpoint.row;
    row.kind.group == GROUP && POLICIES.contains(&row.plural.as_str())
}

/// What objects were read into, by key, each as of a revision. Holds no more than the cache does.
pub struct Memo<T>(Mutex<Known<T>>);

type Known<T> = HashMap<Box<str>, (Revision, Arc<T>)>;

impl<T> Default for Memo<T> {
    fn default() -> Memo<T> {
        Memo(Mutex::new(HashMap::new()))
    }
}

impl<T> Memo<T> {
    /// What each object in the cache reads as, in the order of their names.
    pub fn all(&self, cache: &Cache, read: impl Fn(&Json) -> T) -> Vec<Arc<T>> {
        let snapshot = cache.snapshot();
        let mut known = self.0.lock();
        if known.len() > snapshot.objects.len() {
            known.retain(|key, _| snapshot.get(key).is_some());
        }
        let mut all = Vec::with_capacity(snapshot.objects.len());
        for entry in &snapshot.objects {
            let object = &entry.0;
            match known.get(&object.key) {
                Some((revision, read)) if *revision == object.revision => all.push(read.clone()),
                _ => {
                    let made = Arc::new(compiling(|| read(&object.tree())));
                    known.insert(object.key.clone(), (object.revision, made.clone()));
                    all.push(made);
                }
            }
        }
        all
    }
}
