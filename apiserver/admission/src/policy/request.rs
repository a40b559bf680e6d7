//! A write as policies match it.

use crate::rules::{self, Gvr, MatchResources, NamespaceLabels, Target};
use apimachinery::Value as Json;
use handlers::api::admission::Attributes;
use handlers::api::{Api, Endpoint};
use request::status::Result;
use std::sync::Arc;

/// A write as policies match it.
pub struct Request {
    /// The resource in all its versions and groups.
    same: Vec<Arc<Endpoint>>,
    /// The namespace it is in, whole; `null` outside.
    pub namespace: Json,
    /// The labels that namespace selectors look at; none where every selector takes it.
    labels: Option<Json>,
}

impl Request {
    pub fn new(api: &Api, attributes: &Attributes<'_>) -> Result<Request> {
        let target = target(attributes);
        let find = |name: &str| -> Result<Json> {
            let mut namespace = api.cached(&*api.builtin("", "v1", "namespaces")?, "", name)?.tree();
            namespace["apiVersion"] = "v1".into();
            namespace["kind"] = "Namespace".into();
            Ok(namespace)
        };
        let is_namespace = attributes.is_resource("", "namespaces");
        let namespace =
            if attributes.namespace.is_empty() || is_namespace { Json::Null } else { find(attributes.namespace)? };
        let labels = match rules::namespace_labels(&target) {
            NamespaceLabels::None => None,
            NamespaceLabels::Own => {
                Some(attributes.object.as_ref().map(|o| o["metadata"]["labels"].clone()).unwrap_or_default())
            }
            NamespaceLabels::Of(_) if !namespace.is_null() => Some(namespace["metadata"]["labels"].clone()),
            NamespaceLabels::Of(name) => Some(find(name)?["metadata"]["labels"].clone()),
        };
        // Versions and groups that share their storage are the same resource.
        let row = &attributes.endpoint.row;
        let served = api.served.load();
        let same = served.versions.iter().flat_map(|(_, table)| table.values()).filter(|endpoint| {
            row.storage.is_some()
                && endpoint.row.storage.as_ref().map(|s| &s.prefix) == row.storage.as_ref().map(|s| &s.prefix)
        });
        Ok(Request { same: same.cloned().collect(), namespace, labels })
    }

    /// The version of the resource in which rules and selectors match the write, if they do.
    pub fn matched(&self, matches: &MatchResources, attributes: &Attributes<'_>) -> Option<Arc<Endpoint>> {
        let others: Vec<Gvr<'_>> = self.same.iter().map(gvr).collect();
        let in_namespace = self.labels.as_ref().is_none_or(|labels| {
            matches.namespace_selector.is_everything() || matches.namespace_selector.matches_object(Some(labels))
        });
        if !in_namespace || !matches.selects_object(attributes.object.as_ref(), attributes.old) {
            return None;
        }
        let found = matches.resource(&target(attributes), &others)?;
        if found == gvr(attributes.endpoint) {
            return Some(attributes.endpoint.clone());
        }
        self.same.iter().find(|endpoint| gvr(endpoint) == found).cloned()
    }
}

fn gvr(endpoint: &Arc<Endpoint>) -> Gvr<'_> {
    let row = &endpoint.row;
    Gvr { group: &row.kind.group, version: &row.kind.version, resource: &row.plural }
}

fn target<'t>(attributes: &'t Attributes<'_>) -> Target<'t> {
    let row = &attributes.endpoint.row;
    Target {
        operation: attributes.operation.as_str(),
        resource: gvr(attributes.endpoint),
        subresource: attributes.subresource,
        namespace: if row.namespaced { attributes.namespace } else { "" },
        name: attributes.name,
    }
}
