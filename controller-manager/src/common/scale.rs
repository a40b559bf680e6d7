//! The scale subresource of any kind: how many pods something has and should have.

use std::collections::HashMap;

use k8s_openapi::api::autoscaling::v1::Scale;
use kube::{
    Api, Client, Discovery,
    api::{ApiResource, DynamicObject, PostParams},
};
use parking_lot::Mutex;

use super::{Doing, Error, Result};

/// Kinds remembered; more are looked up again.
const KINDS_MAX: usize = 1000;

/// Finds resources by the names that objects use for each other: a group, with any version, and a kind.
pub struct Scales {
    client: Client,
    resources: Mutex<HashMap<(String, String), ApiResource>>,
}

impl Scales {
    pub fn new(client: Client) -> Self {
        Self { client, resources: Mutex::default() }
    }

    /// The resource of a kind, in the version that its group prefers.
    pub async fn resource(&self, api_version: &str, kind: &str) -> Result<ApiResource> {
        let group = match api_version.split('/').collect::<Vec<_>>()[..] {
            [_] => "",
            [group, _] => group,
            _ => return Err(Error::Invalid(format!("unexpected GroupVersion string: {api_version}"))),
        };
        let key = (group.to_owned(), kind.to_owned());
        if let Some(known) = self.resources.lock().get(&key) {
            return Ok(known.clone());
        }
        let unknown = || match group {
            "" => Error::Invalid(format!("no matches for kind {kind:?} in version {api_version:?}")),
            group => Error::Invalid(format!("no matches for kind {kind:?} in group {group:?}")),
        };
        let discovery = Discovery::new(self.client.clone()).filter(&[group]).run().await;
        let discovery = discovery.doing(|| format!("discover the API group {group:?}"))?;
        let group = discovery.get(group).ok_or_else(unknown)?;
        let (resource, _) = group.recommended_kind(kind).ok_or_else(unknown)?;
        let mut resources = self.resources.lock();
        if resources.len() >= KINDS_MAX {
            resources.clear();
        }
        resources.insert(key, resource.clone());
        Ok(resource)
    }

    /// The scale of an object, and the resource to write it to. `None` if there is no such object, or it has no scale.
    pub async fn get(
        &self,
        namespace: &str,
        api_version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<(Scale, ApiResource)>> {
        let resource = self.resource(api_version, kind).await?;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let scale = api.get_scale(name).await.or_gone(|| format!("read the scale of {kind} {namespace}/{name}"))?;
        if scale.is_none() {
            // The kind may be another's now.
            self.resources.lock().retain(|_, known| *known != resource);
        }
        Ok(scale.map(|scale| (scale, resource)))
    }

    /// Whether the server knows of a scale of this kind.
    pub async fn is_scalable(&self, resource: &ApiResource) -> Result<bool> {
        let listed = match resource.group.as_str() {
            "" => self.client.list_core_api_resources(&resource.version).await,
            _ => self.client.list_api_group_resources(&resource.api_version).await,
        };
        let listed = listed.doing(|| format!("list the resources of {}", resource.api_version))?;
        let scale = format!("{}/scale", resource.plural);
        Ok(listed.resources.iter().any(|own| own.name == scale))
    }

    /// Sets the number of pods, if the object is still as its scale was read.
    pub async fn set(&self, namespace: &str, resource: &ApiResource, mut scale: Scale, replicas: i32) -> Result<()> {
        let name = scale.metadata.name.clone().unwrap_or_default();
        scale.spec.get_or_insert_default().replicas = Some(replicas);
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, resource);
        let written = api.replace_scale(&name, &PostParams::default(), &scale).await;
        written.doing(|| format!("scale {} {namespace}/{name}", resource.kind)).map(drop)
    }
}
