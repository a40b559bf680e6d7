//! persistentvolume-binder-controller: matches claims with volumes, tells provisioners what is missing, and carries out
//! what is to happen to a volume whose claim is gone.
//!
//! A binding has two halves, `volume.spec.claimRef` and `claim.spec.volumeName`. The volume's half is written first: it
//! is the one that excludes others.

use std::sync::Arc;

use component_base::{
    controller::{self, Action},
    events::{Recorder, Type},
    informer::{ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use k8s_openapi::{
    api::{
        core::v1::{PersistentVolume, PersistentVolumeClaim},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{Api, Client, Resource, ResourceExt, api::PostParams};

use crate::{
    common::{Doing, Result, meta},
    context::Context,
};

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// Set by the scheduler on claims of classes that wait for their first consumer.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

pub async fn run(context: Context) {
    let binder = Binder {
        volumes: context.factory.store(Scope::all()),
        claims: context.factory.store(Scope::all()),
        classes: context.factory.store(Scope::all()),
        recorder: context.recorder("persistentvolume-controller"),
        client: context.client.clone(),
    };
    let (volume_queue, claim_queue) = (WorkQueue::new("volumes"), WorkQueue::new("claims"));
    // A change on one side may let the other go on: a volume that comes may suit any claim that waits.
    let (own, claims, feed) = (volume_queue.clone(), binder.claims.clone(), claim_queue.clone());
    binder.volumes.on_change(move |change| {
        own.add(change.key());
        let waiting = claims.list().into_iter().filter(|claim| phase_of_claim(claim) != "Bound");
        waiting.for_each(|claim| feed.add(meta::key(claim.as_ref())));
    });
    let (own, feed) = (claim_queue.clone(), volume_queue.clone());
    binder.claims.on_change(move |change| {
        own.add(change.key());
        if let Some(volume) = change.object().and_then(|claim| volume_name(claim).map(str::to_owned)) {
            feed.add(ObjectKey::cluster(volume));
        }
    });
    tokio::join!(binder.volumes.synced(), binder.claims.synced(), binder.classes.synced());
    let binder = &binder;
    // One at a time: two claims must not go for the same volume.
    let claims = controller::run(context.name, claim_queue, 1, context.shutdown.clone(), |key| async move {
        binder.reconcile_claim(&key).await
    });
    let volumes = controller::run(context.name, volume_queue, 1, context.shutdown.clone(), |key| async move {
        binder.reconcile_volume(&key).await
    });
    tokio::join!(claims, volumes);
}

fn phase_of_claim(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default()
}

/// Bytes, as far as volumes need: suffixes of ten and two.
fn bytes(quantity: &Quantity) -> f64 {
    const SUFFIXES: [(&str, f64); 12] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let text = quantity.0.as_str();
    let suffixed =
        SUFFIXES.iter().find_map(|(suffix, scale)| Some(text.strip_suffix(suffix)?.parse::<f64>().ok()? * scale));
    suffixed.or_else(|| text.parse().ok()).unwrap_or(0.0)
}

fn capacity(volume: &PersistentVolume) -> f64 {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    capacity.map_or(0.0, bytes)
}

/// Whether a volume may serve a claim.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(own), Some(wanted)) = (&volume.spec, &claim.spec) else { return false };
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if meta::is_deleting(volume) || !matches!(phase, "" | "Pending" | "Available") && own.claim_ref.is_none() {
        return false;
    }
    if let Some(reference) = &own.claim_ref {
        // Reserved for somebody: by name alone for whoever has it, with a uid for one alone.
        let named = reference.name.as_deref() == Some(meta::name(claim))
            && reference.namespace.as_deref() == Some(meta::namespace(claim));
        return named && reference.uid.as_ref().is_none_or(|uid| uid.is_empty() || uid == meta::uid(claim));
    }
    let modes = |modes: &Option<Vec<String>>| modes.clone().unwrap_or_default();
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    let requested = wanted.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("storage"));
    let labels = wanted.selector.as_ref().map(meta::selector);
    own.storage_class_name.as_deref().unwrap_or_default() == class_of_claim(claim)
        && mode(&own.volume_mode) == mode(&wanted.volume_mode)
        && modes(&wanted.access_modes).iter().all(|mode| modes(&own.access_modes).contains(mode))
        && capacity(volume) >= requested.map_or(0.0, bytes)
        && labels.is_none_or(|labels| labels.is_ok_and(|labels| meta::matches(&labels, volume)))
}

struct Binder {
    volumes: Store<PersistentVolume>,
    claims: Store<PersistentVolumeClaim>,
    classes: Store<StorageClass>,
    recorder: Recorder,
    client: Client,
}

impl Binder {
    fn claims_api(&self, namespace: &str) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn reconcile_claim(&self, key: &ObjectKey) -> Result {
        let Some(claim) = self.claims.get(key) else { return Ok(Action::Done) };
        if claim.annotations().contains_key(BIND_COMPLETED) {
            let volume = volume_name(&claim).and_then(|name| self.volumes.get(&ObjectKey::cluster(name)));
            return match volume {
                Some(volume) => self.show_bound(&claim, &volume).await,
                None => {
                    let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
                    self.set_claim_phase(&claim, "Lost", Some(("ClaimLost", message))).await
                }
            };
        }
        if meta::is_deleting(claim.as_ref()) {
            return Ok(Action::Done);
        }
        let mut suitable: Vec<_> = match volume_name(&claim) {
            Some(name) => self.volumes.get(&ObjectKey::cluster(name)).into_iter().collect(),
            None => self.volumes.list(),
        };
        suitable.retain(|volume| suits(volume, &claim));
        // One reserved for the claim first, then the smallest.
        suitable.sort_by(|left, right| {
            let free = |volume: &PersistentVolume| volume.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_none());
            free(left)
                .cmp(&free(right))
                .then(capacity(left).total_cmp(&capacity(right)))
                .then(left.name_any().cmp(&right.name_any()))
        });
        let waits = self.waits_for_consumer(&claim);
        let reserved =
            |volume: &Arc<PersistentVolume>| volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
        match suitable.into_iter().find(|volume| !waits || reserved(volume) || volume_name(&claim).is_some()) {
            Some(volume) => self.bind(&claim, &volume).await,
            None if waits => {
                let message = "waiting for first consumer to be created before binding";
                self.set_claim_phase(&claim, "Pending", Some(("WaitForFirstConsumer", message))).await
            }
            None => self.ask_provisioner(&claim).await,
        }
    }

    /// The class leaves the choice to the scheduler, which has not made it.
    fn waits_for_consumer(&self, claim: &PersistentVolumeClaim) -> bool {
        let class = self.classes.get(&ObjectKey::cluster(class_of_claim(claim)));
        class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
            && !claim.annotations().contains_key(SELECTED_NODE)
    }

    async fn bind(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result {
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let mut volume = volume.clone();
        if reference.and_then(|reference| reference.uid.as_deref()) != Some(meta::uid(claim)) {
            if reference.is_none() {
                volume.annotations_mut().insert(BOUND_BY_CONTROLLER.into(), "yes".into());
            }
            volume.spec.get_or_insert_default().claim_ref = Some(claim.object_ref(&()));
            let name = volume.name_any();
            let api: Api<PersistentVolume> = Api::all(self.client.clone());
            let what = || format!("reserve PersistentVolume {name}");
            volume = api.replace(&name, &PostParams::default(), &volume).await.doing(what)?;
        }
        let mut bound = claim.clone();
        if volume_name(claim).is_none() {
            bound.annotations_mut().insert(BOUND_BY_CONTROLLER.into(), "yes".into());
        }
        bound.annotations_mut().insert(BIND_COMPLETED.into(), "yes".into());
        bound.spec.get_or_insert_default().volume_name = Some(volume.name_any());
        let bound = self.write_claim(&bound, "bind").await?;
        self.show_bound(&bound, &volume).await
    }

    async fn show_bound(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result {
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if reference.and_then(|reference| reference.uid.as_deref()).is_some_and(|uid| uid != meta::uid(claim)) {
            let message = "Bound claim has lost its PersistentVolume: it is bound to another claim.";
            return self.set_claim_phase(claim, "Lost", Some(("ClaimMisbound", message))).await;
        }
        self.set_volume_phase(volume, "Bound", None).await?;
        if phase_of_claim(claim) == "Bound" {
            return Ok(Action::Done);
        }
        let spec = volume.spec.clone().unwrap_or_default();
        let mut claim = claim.clone();
        let status = claim.status.get_or_insert_default();
        status.access_modes = spec.access_modes;
        status.capacity = spec.capacity;
        self.write_claim_phase(claim, "Bound").await
    }

    async fn ask_provisioner(&self, claim: &PersistentVolumeClaim) -> Result {
        let class = self.classes.get(&ObjectKey::cluster(class_of_claim(claim)));
        let provisioner = class.map(|class| class.provisioner.clone()).filter(|name| name != NO_PROVISIONER);
        let Some(provisioner) = provisioner.filter(|_| volume_name(claim).is_none()) else {
            let message = "no persistent volumes available for this claim and no storage class is set";
            return self.set_claim_phase(claim, "Pending", Some(("FailedBinding", message))).await;
        };
        if claim.annotations().get(PROVISIONER) != Some(&provisioner) {
            let mut claim = claim.clone();
            for key in [PROVISIONER, PROVISIONER_BETA] {
                claim.annotations_mut().insert(key.into(), provisioner.clone());
            }
            self.write_claim(&claim, "name the provisioner of").await?;
            // The changed claim comes back and goes on from here.
            return Ok(Action::Done);
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        );
        self.set_claim_phase(claim, "Pending", Some(("ExternalProvisioning", &message))).await
    }

    async fn set_claim_phase(&self, claim: &PersistentVolumeClaim, phase: &str, event: Option<(&str, &str)>) -> Result {
        if let Some((reason, message)) = event {
            let kind = if phase == "Lost" { Type::Warning } else { Type::Normal };
            self.recorder.event(claim, kind, reason, message);
        }
        if phase_of_claim(claim) == phase {
            return Ok(Action::Done);
        }
        self.write_claim_phase(claim.clone(), phase).await
    }

    async fn write_claim(&self, claim: &PersistentVolumeClaim, verb: &str) -> Result<PersistentVolumeClaim> {
        let api = self.claims_api(meta::namespace(claim));
        let what = || format!("{verb} PersistentVolumeClaim {}", meta::key(claim));
        api.replace(meta::name(claim), &PostParams::default(), claim).await.doing(what)
    }

    async fn write_claim_phase(&self, mut claim: PersistentVolumeClaim, phase: &str) -> Result {
        claim.status.get_or_insert_default().phase = Some(phase.to_owned());
        let api = self.claims_api(meta::namespace(&claim));
        let what = || format!("update the status of PersistentVolumeClaim {}", meta::key(&claim));
        api.replace_status(meta::name(&claim), &PostParams::default(), &claim).await.or_gone(what)?;
        Ok(Action::Done)
    }

    async fn reconcile_volume(&self, key: &ObjectKey) -> Result {
        let Some(volume) = self.volumes.get(key) else { return Ok(Action::Done) };
        let spec = volume.spec.clone().unwrap_or_default();
        let Some(reference) = spec.claim_ref else {
            return self.set_volume_phase(&volume, "Available", None).await;
        };
        let Some(uid) = reference.uid.filter(|uid| !uid.is_empty()) else {
            // Reserved by name for a claim that has not come.
            return self.set_volume_phase(&volume, "Available", None).await;
        };
        let claim_key =
            ObjectKey::namespaced(reference.namespace.unwrap_or_default(), reference.name.unwrap_or_default());
        let mut claim = self.claims.get(&claim_key).filter(|claim| meta::uid(claim.as_ref()) == uid);
        if claim.is_none() {
            // To release is final: the store's word is not enough.
            let live = self.claims_api(&claim_key.namespace).get_opt(&claim_key.name).await;
            let live = live.doing(|| format!("read PersistentVolumeClaim {claim_key}"))?;
            claim = live.filter(|claim| meta::uid(claim) == uid).map(Arc::new);
        }
        match claim {
            Some(claim) if volume_name(&claim) == Some(key.name.as_str()) => {
                self.set_volume_phase(&volume, "Bound", None).await
            }
            // The other half is written by the claim's turn.
            Some(_) => Ok(Action::Done),
            None => match spec.persistent_volume_reclaim_policy.as_deref() {
                // The provisioner that made the volume deletes it when it is Released.
                None | Some("Retain" | "Delete") => self.set_volume_phase(&volume, "Released", None).await,
                Some(policy) => {
                    let message = format!("reclaim policy {policy} is not supported, use Retain or Delete");
                    self.set_volume_phase(&volume, "Failed", Some(&message)).await
                }
            },
        }
    }

    async fn set_volume_phase(&self, volume: &PersistentVolume, phase: &str, message: Option<&str>) -> Result {
        if volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase) {
            return Ok(Action::Done);
        }
        let mut volume = volume.clone();
        let status = volume.status.get_or_insert_default();
        status.phase = Some(phase.to_owned());
        status.message = message.map(str::to_owned);
        status.last_phase_transition_time = Some(meta::now());
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let name = meta::name(&volume);
        let replaced = api.replace_status(name, &PostParams::default(), &volume).await;
        replaced.or_gone(|| format!("update the status of PersistentVolume {name}"))?;
        Ok(Action::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in
            [("1Gi", 1_073_741_824.0), ("500M", 5e8), ("10", 10.0), ("1.5k", 1500.0), ("1e3", 1000.0)]
        {
            assert_eq!(bytes(&Quantity(text.into())), expected, "{text}");
        }
    }

    #[test]
    fn which_volume_suits() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": "data", "namespace": "default", "uid": "c"},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "slow",
                "resources": {"requests": {"storage": "2Gi"}}},
        }))
        .unwrap();
        let base = json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "storageClassName": "slow",
            "capacity": {"storage": "5Gi"}});
        for (name, change, expected) in [
            ("as it should be", json!({}), true),
            ("too small", json!({"capacity": {"storage": "1Gi"}}), false),
            ("another class", json!({"storageClassName": "fast"}), false),
            ("another mode", json!({"volumeMode": "Block"}), false),
            ("another access", json!({"accessModes": ["ReadOnlyMany"]}), false),
            ("reserved", json!({"claimRef": {"name": "data", "namespace": "default"}}), true),
            ("reserved for another", json!({"claimRef": {"name": "data", "namespace": "other"}}), false),
            ("of an earlier claim", json!({"claimRef": {"name": "data", "namespace": "default", "uid": "old"}}), false),
        ] {
            let mut spec = base.clone();
            spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let volume = serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": spec})).unwrap();
            assert_eq!(suits(&volume, &claim), expected, "{name}");
        }
    }
}
