//! What belongs to an ordinal: name, host name, labels, volumes.

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec},
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Resource, ResourceExt, api::ObjectMeta};

use crate::common::{meta, pod_control};

pub(super) const REVISION_LABEL: &str = "controller-revision-hash";
const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in a pod's name; `None` if it is no name of this set's.
pub(super) fn ordinal(set: &StatefulSet, pod: &str) -> Option<i32> {
    let text = pod.strip_prefix(meta::name(set))?.strip_prefix('-')?;
    // "web-01" is not the name of ordinal 1.
    let number: i32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

pub(super) fn pod(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    template: &PodTemplateSpec,
    ordinal: i32,
    revision: &str,
) -> Pod {
    let mut pod = pod_control::from_template(set, template);
    let name = format!("{}-{ordinal}", meta::name(set));
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels = pod.labels_mut();
    labels.insert(POD_NAME_LABEL.into(), name.clone());
    labels.insert(POD_INDEX_LABEL.into(), ordinal.to_string());
    labels.insert(REVISION_LABEL.into(), revision.to_owned());

    let claims = claims(set, spec, ordinal);
    let templates = spec.volume_claim_templates.iter().flatten();
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(name);
    pod_spec.subdomain = spec.service_name.clone().filter(|name| !name.is_empty());
    let volumes = pod_spec.volumes.get_or_insert_default();
    for (template, claim) in templates.zip(claims) {
        let volume = template.name_any();
        // A claim template takes the place of a volume of its name.
        volumes.retain(|own| own.name != volume);
        volumes.push(Volume {
            name: volume,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.name_any(),
                read_only: Some(false),
            }),
            ..Volume::default()
        });
    }
    pod
}

/// The claims of an ordinal, one per template, in the templates' order.
pub(super) fn claims(set: &StatefulSet, spec: &StatefulSetSpec, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let templates = spec.volume_claim_templates.iter().flatten();
    templates
        .map(|template| {
            let mut labels = template.metadata.labels.clone().unwrap_or_default();
            labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
            PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some(format!("{}-{}-{ordinal}", template.name_any(), meta::name(set))),
                    namespace: set.namespace(),
                    labels: Some(labels),
                    annotations: template.metadata.annotations.clone(),
                    ..ObjectMeta::default()
                },
                spec: template.spec.clone(),
                status: None,
            }
        })
        .collect()
}

/// The claim with the owners that the retention policy asks for; `None` if it has them.
pub(super) fn claim_owners(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    pod: &Pod,
    condemned: bool,
    claim: &PersistentVolumeClaim,
) -> Option<PersistentVolumeClaim> {
    let policy = spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |when: Option<&String>| when.is_some_and(|when| when == "Delete");
    let with_set = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
    // Only a pod that is scaled away takes its claim along; one that is replaced does not.
    let with_pod = condemned && deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));

    let own = [meta::uid(set), meta::uid(pod)];
    let before = claim.owner_references();
    let mut owners: Vec<OwnerReference> =
        before.iter().filter(|owner| !own.contains(&owner.uid.as_str())).cloned().collect();
    if with_pod {
        owners.extend(pod.owner_ref(&()));
    } else if with_set {
        owners.extend(set.owner_ref(&()));
    }
    let uids = |owners: &[OwnerReference]| owners.iter().map(|owner| owner.uid.clone()).collect::<Vec<_>>();
    if uids(&owners) == uids(before) {
        return None;
    }
    let mut claim = claim.clone();
    claim.metadata.owner_references = Some(owners);
    Some(claim)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set() -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "default", "uid": "set"},
            "spec": {
                "serviceName": "dbs", "selector": {"matchLabels": {"app": "db"}},
                "template": {"spec": {"containers": [], "volumes": [{"name": "data", "emptyDir": {}}, {"name": "x"}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn ordinals_of_names() {
        for (name, expected) in
            [("db-0", Some(0)), ("db-12", Some(12)), ("db-01", None), ("db", None), ("web-0", None), ("db-x", None)]
        {
            assert_eq!(ordinal(&set(), name), expected, "{name}");
        }
    }

    #[test]
    fn an_ordinal_has_its_name_everywhere() {
        let set = set();
        let spec = set.spec.as_ref().unwrap();
        let pod = pod(&set, spec, &spec.template, 2, "db-abc");
        assert_eq!(pod.name_any(), "db-2");
        assert_eq!(pod.labels()[POD_INDEX_LABEL], "2");
        let pod_spec = pod.spec.as_ref().unwrap();
        assert_eq!((pod_spec.hostname.as_deref(), pod_spec.subdomain.as_deref()), (Some("db-2"), Some("dbs")));
        let volumes = pod_spec.volumes.as_ref().unwrap();
        assert_eq!(volumes.len(), 2);
        assert_eq!(volumes[1].persistent_volume_claim.as_ref().unwrap().claim_name, "data-db-2");
        assert_eq!(claims(&set, spec, 2)[0].labels()["app"], "db");
    }

    #[test]
    fn claims_follow_what_the_policy_says() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "db-0", "uid": "pod"}})).unwrap();
        for (deleted, scaled, condemned, owner) in [
            ("Retain", "Retain", true, None),
            ("Delete", "Retain", false, Some("set")),
            ("Delete", "Delete", true, Some("pod")),
            ("Retain", "Delete", false, None),
        ] {
            let mut set = set();
            let policy = json!({"whenDeleted": deleted, "whenScaled": scaled});
            let spec = set.spec.as_mut().unwrap();
            spec.persistent_volume_claim_retention_policy = serde_json::from_value(policy).unwrap();
            let spec = spec.clone();
            let updated = claim_owners(&set, &spec, &pod, condemned, &PersistentVolumeClaim::default());
            let uid = updated.map(|claim| claim.owner_references()[0].uid.clone());
            assert_eq!(uid.as_deref(), owner, "{deleted} {scaled} {condemned}");
        }
    }
}
