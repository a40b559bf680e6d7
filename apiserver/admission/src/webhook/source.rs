//! All webhooks of one kind of configuration, in the order in which they are asked: by name of the configuration, then as they
//! stand there. Read again only when a configuration changed; requests in between share one list.

use super::hook::Hook;
use arc_swap::ArcSwapOption;
use handlers::api::Api;
use request::status::Result;
use std::sync::Arc;
use storage::Revision;

/// Configurations of one kind.
pub struct Source {
    plural: &'static str,
    read: ArcSwapOption<(Revision, Arc<[Hook]>)>,
}

impl Source {
    pub const fn new(plural: &'static str) -> Source {
        Source { plural, read: ArcSwapOption::const_empty() }
    }

    /// The webhooks as of the cache.
    pub fn hooks(&self, api: &Api) -> Result<Arc<[Hook]>> {
        let Some(endpoint) = api.endpoint("admissionregistration.k8s.io", "v1", self.plural) else {
            return Ok(Arc::default()); // switched off
        };
        let cache = endpoint.cache()?;
        let changed = cache.last_change();
        if let Some(read) = &*self.read.load()
            && read.0 == changed
        {
            return Ok(read.1.clone());
        }
        let objects = cache.snapshot().objects;
        let hooks: Arc<[Hook]> = objects.iter().flat_map(|e| Hook::read_all(&e.0.tree())).collect();
        // The snapshot may be newer than `changed`: then the next request reads once more, and no change is missed.
        self.read.store(Some(Arc::new((changed, hooks.clone()))));
        Ok(hooks)
    }
}
