//! A pod's claims must be there, and the volumes they are bound to must be reachable from the node.

use super::Stores;
use super::node_affinity::matches_term;
use crate::cluster::{Cluster, NodeInfo, PodInfo};
use crate::framework::{Events, Plugin, PreFilter, Rejection, State, Verdict, data};
use component_base::informer::ObjectKey;
use k8s_openapi::api::core::v1::PersistentVolume;
use std::sync::Arc;

pub struct VolumeBinding {
    stores: Stores,
}

/// Volumes that the pod's claims are bound to.
#[derive(Clone)]
struct Bound(Vec<Arc<PersistentVolume>>);

impl VolumeBinding {
    pub fn new(stores: Stores) -> VolumeBinding {
        VolumeBinding { stores }
    }
}

/// Names of the claims that a pod uses; a generic ephemeral volume's claim is named after pod and volume. (KEP-1698.)
fn claims(pod: &PodInfo) -> impl Iterator<Item = String> {
    let volumes = pod.pod.spec.as_ref().and_then(|s| s.volumes.as_ref());
    volumes.into_iter().flatten().filter_map(|v| match (&v.persistent_volume_claim, &v.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.name, v.name)),
        _ => None,
    })
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn events(&self) -> Events {
        Events::VOLUMES.and(Events::NODE_ADDED).and(Events::NODE_LABELS)
    }

    fn pre_filter(&self, pod: &PodInfo, _: &Cluster) -> Result<PreFilter, Rejection> {
        let mut bound = Vec::new();
        for name in claims(pod) {
            let claim = self.stores.claims.get(&ObjectKey::namespaced(pod.namespace.clone(), name.clone()));
            let Some(claim) = claim else {
                return Err(Rejection::final_(format!("persistentvolumeclaim \"{name}\" not found")));
            };
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(Rejection::final_(format!("persistentvolumeclaim \"{name}\" is being deleted")));
            }
            match claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).filter(|v| !v.is_empty()) {
                Some(volume) => match self.stores.volumes.get(&ObjectKey::cluster(volume)) {
                    Some(volume) => bound.push(volume),
                    None => return Err(Rejection::final_(format!("persistentvolume \"{volume}\" not found"))),
                },
                None => return Err(Rejection::final_("pod has unbound immediate PersistentVolumeClaims")),
            }
        }
        Ok(if bound.is_empty() { PreFilter::Skip } else { PreFilter::Run(Some(Box::new(Bound(bound)))) })
    }

    fn filter(&self, state: &State, _: &PodInfo, node: &NodeInfo) -> Verdict {
        let Some(Bound(volumes)) = data::<Bound>(state) else { return Ok(()) };
        let reachable = volumes.iter().all(|volume| {
            let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref()?.required.as_ref());
            affinity.is_none_or(|required| required.node_selector_terms.iter().any(|t| matches_term(t, node)))
        });
        if reachable { Ok(()) } else { Err(Rejection::final_("node(s) didn't match PersistentVolume's node affinity")) }
    }
}
