//! PersistentVolumes.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};
use serde_json::json;

use super::persistent_volume_claim::{ACCESS_MODES, storage_class};
use super::pod_spec::affinity::node_selector;
use super::pod_spec::defaults::{round_to_milli, source_defaults};
use super::pod_spec::resources::quantity;
use super::pod_spec::volume::{csi_driver, host_path};
use crate::registry::edit::{at, copy, default, default_text, items, object, text};
use crate::registry::printing::{AGE, NAME, UNSET, access_modes, column, created, name, text_or, wide};
use crate::registry::strategy::{Strategy, Subresource, Table};

/// Members of the spec that name the storage itself, and what each can't do without.
const SOURCES: &[(&str, &[&str])] = &[
    ("hostPath", &["path"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("nfs", &["server", "path"]),
    ("rbd", &["monitors", "image"]),
    ("quobyte", &["registry", "volume"]),
    ("cephfs", &["monitors"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("cinder", &["volumeID"]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("local", &["path"]),
    ("storageos", &["volumeName"]),
    ("csi", &["driver", "volumeHandle"]),
];

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    default: |volume| {
        default_text(object(volume, "status"), "phase", "Pending");
        let Some(spec) = at(volume, "spec") else { return };
        default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
        default(spec, "volumeMode", "Filesystem");
        if let Some(capacity) = at(spec, "capacity") {
            round_to_milli(capacity);
        }
        source_defaults(spec);
    },
    prepare_for_create: |volume, context| {
        volume["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": context.now});
    },
    prepare_for_update: |volume, old, _| copy(volume, old, "status"),
    validate,
    validate_update,
    subresources: &[Subresource {
        name: "status",
        prepare: |volume, old, context| {
            copy(volume, old, "spec");
            if text(volume, "status.phase") != text(old, "status.phase")
                && volume["status"]["lastPhaseTransitionTime"] == old["status"]["lastPhaseTransitionTime"]
            {
                object(volume, "status")["lastPhaseTransitionTime"] = context.now.into();
            }
        },
        validate: |_, _| {},
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("Capacity", ".spec.capacity"),
            column("Access Modes", ".spec.accessModes"),
            column("Reclaim Policy", ".spec.persistentVolumeReclaimPolicy"),
            column("Status", ".status.phase"),
            column("Claim", ".spec.claimRef"),
            column("StorageClass", ".spec.storageClassName"),
            column("VolumeAttributesClass", ".spec.volumeAttributesClassName"),
            column("Reason", ".status.reason"),
            AGE,
            wide("VolumeMode", ".spec.volumeMode"),
        ],
        cells,
    }),
    ..Strategy::GENERIC
};

fn validate(volume: &Cursor<'_>) {
    let spec = volume.field("spec");
    let (modes, capacity) = (spec.field("accessModes"), spec.field("capacity"));
    modes.required();
    let single = modes.array().iter().any(|m| m == "ReadWriteOncePod");
    for mode in modes.items() {
        if !ACCESS_MODES.contains(&mode.str()) {
            modes.push(apimachinery::validation::FieldError::not_supported(modes.path(), mode.str(), &ACCESS_MODES));
        }
    }
    if single && modes.len() > 1 {
        modes.forbid("may not use ReadWriteOncePod with other access modes");
    }
    capacity.required();
    if capacity.len() > 1 || !capacity.field("storage").exists() {
        capacity.not_supported(&["storage"]);
    }
    for (_, amount) in capacity.entries() {
        if quantity(&amount).is_some_and(|q| q.sign() <= 0) {
            amount.invalid("must be greater than zero");
        }
    }
    spec.field("persistentVolumeReclaimPolicy").one_of(&["Delete", "Recycle", "Retain"]);
    let affinity = spec.field("nodeAffinity");
    if affinity.exists() {
        let required = affinity.field("required");
        if required.exists() {
            node_selector(&required);
        } else {
            required.missing("must specify required node constraints");
        }
    }
    sources(&spec);
    spec.field("storageClassName").optional_shape(names::dns1123_subdomain);
    spec.field("volumeMode").one_of(&["Block", "Filesystem"]);
    spec.field("volumeAttributesClassName").optional_shape(names::dns1123_subdomain);
}

fn sources(spec: &Cursor<'_>) {
    let sources: Vec<_> = SOURCES
        .iter()
        .map(|(name, required)| (*name, *required, spec.field(name)))
        .filter(|(.., c)| c.exists())
        .collect();
    for (i, (name, required, source)) in sources.iter().enumerate() {
        if i > 0 {
            source.forbid("may not specify more than 1 volume type");
            continue;
        }
        for field in *required {
            source.field(field).required();
        }
        match *name {
            "hostPath" => {
                host_path(source);
                let recycled = spec.field("persistentVolumeReclaimPolicy");
                if source.field("path").str() == "/" && recycled.str() == "Recycle" {
                    recycled.forbid("may not be 'recycle' for a hostPath mount of '/'");
                }
            }
            "csi" => csi_driver(&source.field("driver")),
            "local" if !spec.field("nodeAffinity").exists() => {
                spec.field("nodeAffinity").missing("Local volume requires node affinity");
            }
            _ => {}
        }
    }
    if sources.is_empty() {
        spec.missing("must specify a volume type");
    }
}

fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>) {
    validate(new);
    let (spec, old_spec) = (new.field("spec"), old.field("spec"));
    if SOURCES.iter().any(|(name, _)| spec.field(name).value() != old_spec.field(name).value()) {
        spec.field("persistentvolumesource").forbid("spec.persistentvolumesource is immutable after creation");
    }
    spec.field("volumeMode").immutable(&old_spec.field("volumeMode"));
    // KEP-5381 lets the affinity of a volume follow where the volume went.
    if old_spec.field("nodeAffinity").exists() && !new.gate("MutablePVNodeAffinity") {
        spec.field("nodeAffinity").immutable(&old_spec.field("nodeAffinity"));
    }
}

fn cells(volume: &Value, now: i64) -> Vec<Value> {
    let claim = match (text(volume, "spec.claimRef.namespace"), text(volume, "spec.claimRef.name")) {
        ("", "") => String::new(),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    let phase =
        if volume["metadata"]["deletionTimestamp"].is_string() { "Terminating" } else { text(volume, "status.phase") };
    vec![
        name(volume),
        text(volume, "spec.capacity.storage").into(),
        access_modes(items(volume, "spec.accessModes")).into(),
        text(volume, "spec.persistentVolumeReclaimPolicy").into(),
        phase.into(),
        claim.into(),
        storage_class(volume).into(),
        text_or(volume, "spec.volumeAttributesClassName", UNSET),
        text(volume, "status.reason").into(),
        created(volume, now),
        text_or(volume, "spec.volumeMode", UNSET),
    ]
}
