//! What is to be written so that the slices say what the Endpoints object says. Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{core::v1::Endpoints, discovery::v1::EndpointSlice};
use kube::{ResourceExt, api::ObjectMeta};

use super::{MANAGER, desired::Group};
use crate::common::{
    meta,
    slices::{self, Changes, MANAGED_BY, SERVICE_NAME},
};

/// Annotations that speak of the Endpoints object itself and would be wrong on a slice.
const NOT_MIRRORED: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
/// Letters of a name that leave room for a generated suffix.
const PREFIX_MAX: usize = 252;

/// The way from `existing` to one slice for each of `groups`.
pub(super) fn plan(endpoints: &Endpoints, groups: Vec<Group>, mut existing: Vec<Arc<EndpointSlice>>) -> Changes {
    let mut changes = Changes::default();
    // In a stable order, so that the same state leads to the same writes.
    existing.sort_by_key(|slice| (meta::created(slice.as_ref()), slice.name_any()));
    let mut missing = Vec::new();
    for group in groups {
        match existing.iter().position(|slice| belongs(slice, &group)) {
            Some(index) => changes.update.extend(updated(endpoints, group, &existing.remove(index))),
            None => missing.push(group),
        }
    }
    // A slice that would go is used again where one of its family is missing: one write in the place of two.
    for group in missing {
        match existing.iter().position(|slice| slice.address_type == group.address_type) {
            Some(index) => changes.update.extend(updated(endpoints, group, &existing.remove(index))),
            // What is being deleted gets nothing new.
            None if meta::is_deleting(endpoints) => {}
            None => changes.create.push(created(endpoints, group)),
        }
    }
    changes.delete = existing;
    changes
}

fn belongs(slice: &EndpointSlice, group: &Group) -> bool {
    slice.address_type == group.address_type
        && slices::normal(slice.ports.as_deref().unwrap_or_default()) == slices::normal(&group.ports)
}

/// `slice` as it should be; `None` if it is so.
fn updated(endpoints: &Endpoints, group: Group, slice: &Arc<EndpointSlice>) -> Option<EndpointSlice> {
    let mut wanted = EndpointSlice::clone(slice);
    let metadata = &mut wanted.metadata;
    metadata.labels = Some(labels(endpoints));
    metadata.annotations = Some(annotations(endpoints)).filter(|own| !own.is_empty());
    // Endpoints that were made again under the name have another uid.
    metadata.owner_references = Some(vec![meta::controller_ref(endpoints)]);
    if belongs(slice, &group) && slice.endpoints.len() == group.endpoints.len() {
        // The order of endpoints says nothing.
        if group.endpoints.iter().all(|endpoint| slice.endpoints.contains(endpoint)) && wanted == **slice {
            return None;
        }
    }
    wanted.ports = Some(group.ports);
    wanted.endpoints = group.endpoints;
    Some(wanted)
}

fn created(endpoints: &Endpoints, group: Group) -> EndpointSlice {
    let name = endpoints.name_any();
    EndpointSlice {
        metadata: ObjectMeta {
            // The dash is for the eye only.
            generate_name: Some(if name.len() < PREFIX_MAX { format!("{name}-") } else { name }),
            namespace: endpoints.namespace(),
            labels: Some(labels(endpoints)),
            annotations: Some(annotations(endpoints)),
            owner_references: Some(vec![meta::controller_ref(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: group.address_type.to_owned(),
        endpoints: group.endpoints,
        ports: Some(group.ports),
    }
}

fn labels(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut labels = endpoints.labels().clone();
    labels.insert(SERVICE_NAME.into(), meta::name(endpoints).into());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

fn annotations(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut annotations = endpoints.annotations().clone();
    annotations.retain(|name, _| !NOT_MIRRORED.contains(&name.as_str()));
    annotations
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::endpointslicemirroring::desired::desired;

    fn endpoints(metadata: Value, subsets: Value) -> Endpoints {
        let mut endpoints = json!({"metadata": {"name": "e", "namespace": "n", "uid": "u"}, "subsets": subsets});
        for (field, value) in metadata.as_object().unwrap() {
            endpoints["metadata"][field] = value.clone();
        }
        serde_json::from_value(endpoints).unwrap()
    }

    fn groups(endpoints: &Endpoints) -> Vec<Group> {
        desired(endpoints, 1000).groups
    }

    /// As if the API server had made it.
    fn stored(endpoints: &Endpoints, group: Group, name: &str) -> Arc<EndpointSlice> {
        let mut slice = created(endpoints, group);
        slice.metadata.name = Some(name.into());
        slice.metadata.annotations = slice.metadata.annotations.filter(|own| !own.is_empty());
        Arc::new(slice)
    }

    #[test]
    fn few_writes() {
        let on = |ip: &str, port: i32| json!({"addresses": [{"ip": ip}], "ports": [{"port": port, "protocol": "TCP"}]});
        for (name, before, now, writes) in [
            ("new", json!([]), json!([on("10.0.0.1", 80)]), (1, 0, 0)),
            ("as it is", json!([on("10.0.0.1", 80)]), json!([on("10.0.0.1", 80)]), (0, 0, 0)),
            ("another address", json!([on("10.0.0.1", 80)]), json!([on("10.0.0.2", 80)]), (0, 1, 0)),
            ("another port takes the slice over", json!([on("10.0.0.1", 80)]), json!([on("10.0.0.1", 81)]), (0, 1, 0)),
            ("another family", json!([on("10.0.0.1", 80)]), json!([on("fd00::1", 80)]), (1, 0, 1)),
            ("gone", json!([on("10.0.0.1", 80)]), json!([]), (0, 0, 1)),
        ] {
            let old = endpoints(json!({}), before);
            let existing = groups(&old).into_iter().map(|group| stored(&old, group, "e-1")).collect();
            let new = endpoints(json!({}), now);
            let changes = plan(&new, groups(&new), existing);
            let found = (changes.create.len(), changes.update.len(), changes.delete.len());
            assert_eq!(found, writes, "{name}");
        }
    }

    #[test]
    fn a_slice_says_whose_it_is_and_carries_what_the_endpoints_carry() {
        let subsets = json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]);
        let plain = endpoints(json!({}), subsets.clone());
        let existing = || vec![stored(&plain, groups(&plain).remove(0), "e-1")];
        assert!(plan(&plain, groups(&plain), existing()).update.is_empty());

        for (metadata, is_written) in [
            (json!({"labels": {"a": "b"}}), true),
            (json!({"annotations": {"a": "b"}}), true),
            (json!({"uid": "another"}), true),
            (json!({"annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "t"}}), false),
        ] {
            let changed = endpoints(metadata.clone(), subsets.clone());
            let changes = plan(&changed, groups(&changed), existing());
            assert_eq!(changes.update.len(), usize::from(is_written), "{metadata}");
        }
        let labelled = endpoints(json!({"labels": {"a": "b"}, "annotations": {"c": "d"}}), subsets);
        let slice = &plan(&labelled, groups(&labelled), Vec::new()).create[0];
        assert_eq!(slice.labels()["a"], "b");
        assert_eq!(slice.labels()[MANAGED_BY], MANAGER);
        assert_eq!(slice.labels()[SERVICE_NAME], "e");
        assert_eq!(slice.annotations()["c"], "d");
        assert_eq!(slice.owner_references()[0].kind, "Endpoints");
        assert_eq!(slice.metadata.generate_name.as_deref(), Some("e-"));
    }
}
