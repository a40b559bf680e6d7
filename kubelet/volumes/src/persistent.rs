//! Persistent volume claims whose volume is a directory of this node (hostPath or local).

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod};
use kube::Api;
use node_context::Context;
use pod_state::spec;

use super::usage::Measure;
use super::{MountedVolume, VolumeError, blocking, host_path, io, ownership};

pub async fn setup(
    context: &Context,
    pod: &Pod,
    source: &PersistentVolumeClaimVolumeSource,
) -> Result<MountedVolume, VolumeError> {
    let invalid = VolumeError::Invalid;
    let Some(client) = context.client.clone() else {
        return Err(invalid("persistent volume claims need an API server; this kubelet has none".into()));
    };
    let failed = |what: &str, error: kube::Error| invalid(format!("getting {what}: {error}"));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), spec::namespace(pod));
    let name = &source.claim_name;
    let claim = claims.get(name).await.map_err(|e| failed(&format!("persistentvolumeclaim {name:?}"), e))?;
    let bound = claim.status.and_then(|status| status.phase).is_some_and(|phase| phase == "Bound");
    let volume = claim.spec.and_then(|spec| spec.volume_name).filter(|_| bound);
    let volume = volume.ok_or_else(|| invalid(format!("persistentvolumeclaim {name:?} is not bound yet")))?;
    let volumes: Api<PersistentVolume> = Api::all(client);
    let volume = volumes.get(&volume).await.map_err(|e| failed(&format!("persistentvolume {volume:?}"), e))?;
    let volume = volume.spec.unwrap_or_default();

    let mut mounted = if let Some(source) = &volume.host_path {
        host_path::setup(source).await?
    } else if let Some(local) = &volume.local {
        let path = PathBuf::from(&local.path);
        MountedVolume { path, read_only: false, selinux_relabel: true, measure: Measure::Filesystem }
    } else {
        return Err(invalid(format!("the volume of claim {name:?} is of a type this kubelet can't mount")));
    };
    mounted.read_only = source.read_only.unwrap_or(false);
    let group = spec::spec(pod).security_context.as_ref().and_then(|context| context.fs_group);
    if let (Some(group), true, false) = (group, volume.local.is_some(), mounted.read_only) {
        let path = mounted.path.clone();
        blocking(move || ownership::give_tree(&path, group, false).map_err(io("giving to fsGroup", &path))).await?;
    }
    Ok(mounted)
}
