//! API servers behind this one. An APIService that names a Service makes a group and version whose requests go there, after they
//! were authenticated and authorized here.
//!
//! | file | what |
//! |---|---|
//! | [`table`] | which groups and versions are served by whom, read from the cache once per change |
//! | [`proxy`] | passing a request on, as the user who sent it |
//! | [`availability`] | whether the others can be reached, and what they serve; kept in the APIServices' status |
//! | [`discovery`] | their groups among our own |
//! | [`openapi`] | their documents among our own |

pub mod availability;
pub mod discovery;
mod get;
pub mod openapi;
pub mod proxy;
pub mod table;

use arc_swap::ArcSwapOption;
use handlers::api::Api;
use openapi::Documents;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use storage::Revision;
use table::Table;

const GROUP: &str = "apiregistration.k8s.io";
const PLURAL: &str = "apiservices";

/// What is known of other API servers.
pub struct Aggregator {
    pub api: Arc<Api>,
    table: ArcSwapOption<(Revision, Arc<Table>)>,
    /// By name of the APIService: what its server said last.
    said: RwLock<HashMap<String, Said>>,
}

/// What a server said about a group and version.
#[derive(Clone, Default)]
pub struct Said {
    /// Resources as aggregated discovery tells them.
    pub resources: Arc<Vec<apimachinery::Value>>,
    /// The server could be asked the last time.
    pub fresh: bool,
    pub documents: Arc<Documents>,
}

impl Aggregator {
    pub fn new(api: Arc<Api>) -> Aggregator {
        Aggregator { api, table: Default::default(), said: Default::default() }
    }

    /// Who serves what, as of the cache.
    pub fn table(&self) -> Arc<Table> {
        let Some(cache) = self.api.endpoint(GROUP, "v1", PLURAL).and_then(|e| e.cache.clone()) else {
            return Arc::default(); // switched off
        };
        let changed = cache.last_change();
        if let Some(read) = &*self.table.load()
            && read.0 == changed
        {
            return read.1.clone();
        }
        let objects = cache.snapshot().objects;
        let table = Arc::new(Table::read(objects.iter().map(|e| e.0.tree())));
        self.table.store(Some(Arc::new((changed, table.clone()))));
        table
    }

    pub fn said(&self, name: &str) -> Said {
        self.said.read().get(name).cloned().unwrap_or_default()
    }
}
