//! PersistentVolumes.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};
use serde_json::json;

use super::persistent_volume_claim::{ACCESS_MODES, CLASS_ANNOTATION, class_annotation_warning, storage_class};
use super::pod_spec::affinity::node_selector;
use super::pod_spec::defaults::{round_to_milli, source_defaults};
use super::pod_spec::resources::quantity;
use super::pod_spec::warnings::node_selector_term;
use super::volume_source::{self, Owner, SOURCES, Source};
use registry::edit::{at, copy, default, default_text, items, object, remove, text};
use registry::printing::{AGE, NAME, UNSET, access_modes, column, created, name, text_or, wide};
use registry::strategy::{Strategy, Subresource, Table};

/// Kinds that only persistent volumes have.
const OWN_SOURCES: &[Source] =
    &[Source::new("local", &["path"], |at, _| volume_source::no_backsteps(&at.field("path")))];

/// Kinds that only pods have.
const POD_ONLY: [&str; 3] = ["emptyDir", "gitRepo", "persistentVolumeClaim"];

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
    warnings,
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

/// Kinds of volumes whose plugins are gone, and what upstream calls them in warnings.
const OLD_SOURCES: [(&str, &str, &str); 6] = [
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

fn warnings(volume: &Value, _: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    let annotations = &volume["metadata"]["annotations"];
    if annotations.get(CLASS_ANNOTATION).is_some() {
        warnings.push(class_annotation_warning());
    }
    let mount_options = "volume.beta.kubernetes.io/mount-options";
    if annotations.get(mount_options).is_some() {
        let why = "deprecated since v1.31; use \"mountOptions\" attribute instead";
        warnings.push(format!("metadata.annotations[{mount_options}]: {why}"));
    }
    if text(volume, "spec.persistentVolumeReclaimPolicy") == "Recycle" {
        let why = "the policy Recycle is deprecated; provision volumes dynamically instead";
        warnings.push(format!("spec.persistentVolumeReclaimPolicy: {why}"));
    }
    let terms = "spec.nodeAffinity.required.nodeSelectorTerms";
    for (i, term) in items(volume, terms).iter().enumerate() {
        node_selector_term(term, false, &format!("{terms}[{i}]"), &mut warnings);
    }
    for (_, name, why) in OLD_SOURCES.iter().filter(|(source, ..)| volume["spec"].get(source).is_some()) {
        warnings.push(format!("spec.{name}: {why}"));
    }
    warnings
}

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
    sources(&spec, volume.dig("metadata.name").str());
    spec.field("storageClassName").optional_shape(names::dns1123_subdomain);
    spec.field("volumeMode").one_of(&["Block", "Filesystem"]);
    let class = spec.field("volumeAttributesClassName");
    if class.exists() {
        if class.required_because("an empty string is disallowed") {
            class.shape(names::dns1123_subdomain);
        }
        if !spec.field("csi").exists() {
            spec.field("csi").missing("has to be specified when using volumeAttributesClassName");
        }
    }
}

fn sources(spec: &Cursor<'_>, name: &str) {
    let sources: Vec<&'static Source> =
        SOURCES.iter().chain(OWN_SOURCES).filter(|s| !POD_ONLY.contains(&s.member)).collect();
    match volume_source::validate(spec, &sources, Owner::PersistentVolume).map(|(source, at)| (source.member, at)) {
        Some(("local", _)) if !spec.field("nodeAffinity").exists() => {
            spec.field("nodeAffinity").missing("Local volume requires node affinity");
        }
        Some(("iscsi", at)) if at.field("initiatorName").exists() => {
            let portal = at.field("targetPortal").str();
            if name.len() + 1 + portal.len() > 64 {
                let why = "the volume's name and targetPortal, with a colon, must be under 64 characters if initiatorName is specified";
                at.field("targetportal").invalid_value(portal, why);
            }
        }
        _ => {}
    }
    let (path, recycled) = (spec.dig("hostPath.path"), spec.field("persistentVolumeReclaimPolicy"));
    let root = path.str().starts_with('/') && path.str().split('/').all(|part| part.is_empty() || part == ".");
    if root && recycled.str() == "Recycle" {
        recycled.forbid("may not be 'recycle' for a hostPath mount of '/'");
    }
}

fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>) {
    validate(new);
    let (spec, old_spec) = (new.field("spec"), old.field("spec"));
    let mut members = SOURCES.iter().chain(OWN_SOURCES).map(|source| source.member);
    if members.any(|name| source_of(&spec, name, &old_spec) != old_spec.field(name).value().cloned()) {
        spec.field("persistentvolumesource").forbid("spec.persistentvolumesource is immutable after creation");
    }
    new.field("volumeMode").with_value(spec.field("volumeMode").value()).immutable(&old_spec.field("volumeMode"));
    // KEP-5381 lets the affinity of a volume follow where the volume went.
    if old_spec.field("nodeAffinity").exists() && !new.gate("MutablePVNodeAffinity") {
        let affinity = new.field("nodeAffinity").with_value(spec.field("nodeAffinity").value());
        affinity.immutable(&old_spec.field("nodeAffinity"));
    }
    let (class, old_class) = (spec.field("volumeAttributesClassName"), old_spec.field("volumeAttributesClassName"));
    if old_class.exists() && !class.exists() {
        class.forbid("update from non-nil value to nil is forbidden");
    }
}

/// The source as it is compared with the old one: the secret for expansion may be added to a volume that has none.
fn source_of(spec: &Cursor<'_>, name: &str, old: &Cursor<'_>) -> Option<Value> {
    let mut source = spec.value()?.get(name).filter(|source| !source.is_null())?.clone();
    if name == "csi" && !old.dig("csi.controllerExpandSecretRef").exists() {
        remove(&mut source, "controllerExpandSecretRef");
    }
    Some(source)
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
