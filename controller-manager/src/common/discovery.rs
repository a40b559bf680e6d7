//! Which kinds the API server serves.

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    core::PartialObjectMeta,
    discovery::{Discovery, Scope},
};

use super::{Doing, Result};

/// An object of any kind, by its metadata only.
pub type Partial = PartialObjectMeta<DynamicObject>;

/// A resource in its most stable version.
#[derive(Clone, Debug)]
pub struct Served {
    pub resource: ApiResource,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl Served {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }

    /// The metadata of one namespace's objects, or of all where the kind has none.
    pub fn metadata(&self, client: &Client, namespace: &str) -> Api<Partial> {
        if self.namespaced && !namespace.is_empty() {
            Api::namespaced_with(client.clone(), namespace, &self.resource)
        } else {
            Api::all_with(client.clone(), &self.resource)
        }
    }
}

/// Every resource that is served, each once.
pub async fn served(client: &Client) -> Result<Vec<Served>> {
    let discovery = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovery) => discovery,
        // A server that does not aggregate is asked group by group.
        Err(_) => {
            Discovery::new(client.clone()).run().await.doing(|| "discover what the API server serves".to_owned())?
        }
    };
    let resources = discovery.groups().flat_map(|group| group.resources_by_stability());
    Ok(resources
        .map(|(resource, capabilities)| Served {
            resource,
            namespaced: capabilities.scope == Scope::Namespaced,
            verbs: capabilities.operations,
        })
        .collect())
}
