//! How endpoints are spread over slices: as little as possible is written.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
};
use kube::{ResourceExt, api::ObjectMeta};

use super::desired::{self, Group};
use crate::common::{
    meta,
    slices::{self, Changes},
};

/// The way from `existing` to `groups`, with at most `max` endpoints in a slice.
pub(super) fn plan(
    service: &Service,
    groups: Vec<Group>,
    mut existing: Vec<Arc<EndpointSlice>>,
    max: usize,
) -> Changes {
    let mut changes = Changes::default();
    let labels = desired::labels(service);
    // In a stable order, so that the same state leads to the same writes.
    existing.sort_by_key(|slice| (meta::created(slice.as_ref()), slice.name_any()));
    for group in groups {
        let (own, rest): (Vec<_>, _) =
            existing.into_iter().partition(|slice| belongs(slice, &group) && !meta::is_deleting(slice.as_ref()));
        existing = rest;
        plan_group(service, &labels, group, own, max, &mut changes);
    }
    // Of a family or of ports that the Service no longer has.
    changes.delete.extend(existing.into_iter().filter(|slice| !meta::is_deleting(slice.as_ref())));
    changes
}

fn belongs(slice: &EndpointSlice, group: &Group) -> bool {
    slice.address_type == group.address_type
        && slices::normal(slice.ports.as_deref().unwrap_or_default()) == slices::normal(&group.ports)
}

/// Who an endpoint is, across changes of its conditions.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()).unwrap_or_default();
    format!("{uid}/{}", endpoint.addresses.join(","))
}

fn plan_group(
    service: &Service,
    labels: &BTreeMap<String, String>,
    group: Group,
    slices: Vec<Arc<EndpointSlice>>,
    max: usize,
    changes: &mut Changes,
) {
    let mut wanted: HashMap<String, Endpoint> =
        group.endpoints.iter().map(|endpoint| (identity(endpoint), endpoint.clone())).collect();
    // Each endpoint stays in the slice that has it.
    let mut kept: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    for slice in slices {
        let own = slice.endpoints.iter().filter_map(|endpoint| wanted.remove(&identity(endpoint))).take(max).collect();
        kept.push((slice, own));
    }
    let mut fresh: Vec<Endpoint> =
        group.endpoints.into_iter().filter(|endpoint| wanted.contains_key(&identity(endpoint))).collect();

    // The rest fills slices that are written anyway, then the fullest that takes all of what would be a slice's
    // remainder, and then new ones.
    for (slice, endpoints) in &mut kept {
        if changed(slice, endpoints, labels) && !endpoints.is_empty() {
            let room = max.saturating_sub(endpoints.len()).min(fresh.len());
            endpoints.extend(fresh.drain(..room));
        }
    }
    let remainder = fresh.len() % max;
    if remainder > 0 {
        let fits = kept.iter_mut().filter(|(_, endpoints)| endpoints.len() + remainder <= max);
        if let Some((_, endpoints)) = fits.max_by_key(|(_, endpoints)| endpoints.len()) {
            endpoints.extend(fresh.drain(..remainder));
        }
    }
    let make = |endpoints: Vec<Endpoint>| slice(service, labels.clone(), group.address_type, &group.ports, endpoints);
    let has_any = !fresh.is_empty() || kept.iter().any(|(_, endpoints)| !endpoints.is_empty());
    while !fresh.is_empty() {
        let rest = fresh.split_off(max.min(fresh.len()));
        changes.create.push(make(std::mem::replace(&mut fresh, rest)));
    }
    // A Service without endpoints keeps one empty slice: it tells consumers that there are none.
    let mut placeholder = has_any;
    for (slice, endpoints) in kept {
        if endpoints.is_empty() && placeholder {
            changes.delete.push(slice);
            continue;
        }
        placeholder = true;
        if changed(&slice, &endpoints, labels) {
            let mut slice = Arc::unwrap_or_clone(slice);
            slice.metadata.labels = Some(labels.clone());
            slice.endpoints = endpoints;
            changes.update.push(slice);
        }
    }
    if !placeholder {
        changes.create.push(make(Vec::new()));
    }
}

fn changed(slice: &EndpointSlice, endpoints: &[Endpoint], labels: &BTreeMap<String, String>) -> bool {
    slice.endpoints != endpoints || slice.labels() != labels
}

fn slice(
    service: &Service,
    labels: BTreeMap<String, String>,
    address_type: &str,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", meta::name(service))),
            namespace: service.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![meta::controller_ref(service)]),
            ..ObjectMeta::default()
        },
        address_type: address_type.to_owned(),
        endpoints,
        ports: Some(ports.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(number: usize) -> Endpoint {
        Endpoint { addresses: vec![format!("10.0.0.{number}")], ..Endpoint::default() }
    }

    fn group(endpoints: impl IntoIterator<Item = usize>) -> Group {
        let ports = vec![EndpointPort { name: Some("http".into()), port: Some(80), ..EndpointPort::default() }];
        Group { address_type: "IPv4", ports, endpoints: endpoints.into_iter().map(endpoint).collect() }
    }

    fn existing(service: &Service, name: &str, endpoints: &[usize]) -> Arc<EndpointSlice> {
        let Group { ports, endpoints, .. } = group(endpoints.iter().copied());
        let mut slice = slice(service, desired::labels(service), "IPv4", &ports, endpoints);
        slice.metadata.name = Some(name.into());
        Arc::new(slice)
    }

    #[test]
    fn few_writes() {
        let service = Service::default();
        for (name, wanted, have, expected) in [
            ("nothing yet", vec![1, 2], vec![], (1, 0, 0)),
            ("five in slices of two", vec![1, 2, 3, 4, 5], vec![], (3, 0, 0)),
            ("all there", vec![1, 2], vec![vec![1, 2]], (0, 0, 0)),
            ("one goes", vec![1], vec![vec![1, 2]], (0, 1, 0)),
            ("one comes into the gap", vec![1, 3], vec![vec![1]], (0, 1, 0)),
            ("one is replaced", vec![1, 3], vec![vec![1, 2]], (0, 1, 0)),
            ("full slices stay", vec![1, 2, 3], vec![vec![1, 2]], (1, 0, 0)),
            ("an emptied slice goes", vec![1, 2], vec![vec![1, 2], vec![3]], (0, 0, 1)),
            ("the last becomes a placeholder", vec![], vec![vec![1]], (0, 1, 0)),
            ("a placeholder for none", vec![], vec![], (1, 0, 0)),
            ("a placeholder stays", vec![], vec![vec![]], (0, 0, 0)),
            ("a placeholder is filled", vec![1], vec![vec![]], (0, 1, 0)),
        ] {
            let have =
                have.iter().enumerate().map(|(index, own)| existing(&service, &index.to_string(), own)).collect();
            let changes = plan(&service, vec![group(wanted)], have, 2);
            let found = (changes.create.len(), changes.update.len(), changes.delete.len());
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn slices_of_other_ports_go() {
        let service = Service::default();
        let mut other = group([1]);
        other.ports[0].port = Some(81);
        let changes = plan(&service, vec![other], vec![existing(&service, "a", &[1])], 100);
        assert_eq!((changes.create.len(), changes.delete.len()), (1, 1));
    }
}
