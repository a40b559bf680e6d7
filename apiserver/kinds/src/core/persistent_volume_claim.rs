//! PersistentVolumeClaims.

use apimachinery::Value;
use apimachinery::quantity::{Format, Quantity};
use apimachinery::validation::selector::label_selector;
use apimachinery::validation::{Cursor, FieldError, names};
use serde_json::json;

use super::pod_spec::defaults::resource_lists;
use super::pod_spec::resources::quantity;
use super::pod_spec::warnings::fractional_bytes;
use registry::edit::{at, copy, default, default_text, get, items, object, remove, text};
use registry::printing::{AGE, NAME, UNSET, access_modes, column, created, name, text_or, wide};
use registry::strategy::{Strategy, Subresource, Table};

pub const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// Class of a claim from before `storageClassName`.
pub const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    default: |claim| {
        default_text(object(claim, "status"), "phase", "Pending");
        if let Some(spec) = at(claim, "spec") {
            spec_defaults(spec);
        }
    },
    prepare_for_create: |claim, _| {
        claim["status"] = json!({"phase": "Pending"});
        data_sources(claim, None);
    },
    prepare_for_update: |claim, old, _| {
        copy(claim, old, "status");
        data_sources(claim, Some(old));
    },
    warnings: |claim, _| {
        let mut warnings = spec_warnings(&claim["spec"], "spec");
        if claim["metadata"]["annotations"].get(CLASS_ANNOTATION).is_some() {
            warnings.push(class_annotation_warning());
        }
        warnings
    },
    validate: |claim| spec(&claim.field("spec")),
    validate_update,
    subresources: &[Subresource {
        name: "status",
        prepare: |claim, old, _| copy(claim, old, "spec"),
        validate: |new, _| {
            for (_, amount) in new.dig("status.capacity").entries() {
                super::pod_spec::resources::non_negative(&amount);
            }
        },
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("Status", ".status.phase"),
            column("Volume", ".spec.volumeName"),
            column("Capacity", ".status.capacity"),
            column("Access Modes", ".status.accessModes"),
            column("StorageClass", ".spec.storageClassName"),
            column("VolumeAttributesClass", ".spec.volumeAttributesClassName"),
            AGE,
            wide("VolumeMode", ".spec.volumeMode"),
        ],
        cells,
    }),
    ..Strategy::GENERIC
};

/// Amounts of storage that are no whole number of bytes.
pub fn spec_warnings(spec: &Value, path: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    for part in ["requests", "limits"] {
        let amount = get(spec, "resources").and_then(|resources| resources.get(part)).and_then(|p| p.get("storage"));
        fractional_bytes(amount, &format!("{path}.resources.{part}[storage]"), &mut warnings);
    }
    warnings
}

/// The annotation has become a field.
pub fn class_annotation_warning() -> String {
    let why = "deprecated since v1.8; use \"storageClassName\" attribute instead";
    format!("metadata.annotations[{CLASS_ANNOTATION}]: {why}")
}

/// Defaults of a claim's spec, also in templates of claims.
pub fn spec_defaults(spec: &mut Value) {
    default(spec, "volumeMode", "Filesystem");
    if let Some(resources) = at(spec, "resources") {
        resource_lists(resources);
    }
}

/// `dataSource` and `dataSourceRef` are two names of one thing where the source is in the same namespace (KEP-1495).
///
/// Old clients know `dataSource` only, in which other kinds than the two that it was made for had been ignored.
fn data_sources(claim: &mut Value, old: Option<&Value>) {
    const KINDS: [(&str, &str); 2] = [("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")];
    let in_use = |old: &Value| ["spec.dataSource", "spec.dataSourceRef"].iter().any(|path| get(old, path).is_some());
    let spec = object(claim, "spec");
    let (source, reference) = (get(spec, "dataSource").cloned(), get(spec, "dataSourceRef").cloned());
    match (source, reference) {
        (Some(source), None) => {
            let known = KINDS.contains(&(text(&source, "apiGroup"), text(&source, "kind")));
            if known || old.is_some_and(in_use) {
                spec["dataSourceRef"] = source;
            } else {
                remove(spec, "dataSource");
            }
        }
        (None, Some(reference)) if text(&reference, "namespace").is_empty() => {
            spec["dataSource"] = reference;
            remove(&mut spec["dataSource"], "namespace");
        }
        _ => {}
    }
}

/// Checks a claim's spec, also of a template.
pub fn spec(spec: &Cursor<'_>) {
    let modes = spec.field("accessModes");
    modes.required_because("at least 1 access mode is required");
    label_selector(&spec.field("selector"));
    access_modes_fit(&modes);
    let resources = spec.field("resources");
    let storage = resources.dig("requests.storage");
    let at_storage = resources.path().key("storage");
    match quantity(&storage) {
        None => spec.push(FieldError::required(&at_storage, "")),
        Some(q) if q.sign() <= 0 => {
            spec.push(FieldError::invalid(&at_storage, storage.str(), "must be greater than zero"));
        }
        Some(_) => {}
    }
    spec.field("storageClassName").optional_shape(names::dns1123_subdomain);
    spec.field("volumeMode").one_of(&["Block", "Filesystem"]);
    let (source, reference) = (spec.field("dataSource"), spec.field("dataSourceRef"));
    data_source(&source);
    data_source(&reference);
    reference.field("namespace").optional_shape(names::dns1123_label);
    let alike = || ["apiGroup", "kind", "name"].iter().all(|n| source.field(n).str() == reference.field(n).str());
    if source.exists() && !reference.field("namespace").is_empty() {
        spec.invalid_value("spec.dataSource", "may not be specified when dataSourceRef.namespace is specified");
    } else if source.exists() && reference.exists() && !alike() {
        spec.invalid_value("spec.dataSource", "must match dataSourceRef");
    }
    spec.field("volumeAttributesClassName").optional_shape(names::dns1123_subdomain);
}

/// Each mode must be known, and one that keeps all others out goes with no other.
pub fn access_modes_fit(modes: &Cursor<'_>) {
    let is_single = |mode: &Value| mode == "ReadWriteOncePod";
    for mode in modes.items().filter(|mode| !ACCESS_MODES.contains(&mode.str())) {
        modes.push(FieldError::not_supported(modes.path(), mode.str(), &ACCESS_MODES));
    }
    let shared = |mode: &Value| !is_single(mode) && mode.as_str().is_some_and(|mode| ACCESS_MODES.contains(&mode));
    if modes.array().iter().any(is_single) && modes.array().iter().any(shared) {
        modes.forbid("may not use ReadWriteOncePod with other access modes");
    }
}

fn data_source(source: &Cursor<'_>) {
    if !source.exists() {
        return;
    }
    source.field("name").required();
    source.field("kind").required();
    let (group, kind) = (source.field("apiGroup"), source.field("kind").str());
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        source.invalid_value(kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
    group.optional_shape(names::dns1123_subdomain);
}

fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>) {
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    spec(&new_spec);
    let (Some(mut left), Some(before)) = (new_spec.value().cloned(), old_spec.value()) else { return };
    let annotation = |claim: &Cursor<'_>| {
        claim.dig("metadata.annotations").value().and_then(|annotations| annotations.get(CLASS_ANNOTATION)).cloned()
    };
    let (class, old_class) = (new_spec.field("storageClassName"), old_spec.field("storageClassName"));
    let (annotated, old_annotated) = (annotation(new), annotation(old));
    // The annotation came before the field: a claim may move from one to the other, and may get the default class later.
    let moved = old_annotated.is_some()
        && class.value() == old_annotated.as_ref()
        && annotated.as_ref().is_none_or(|annotated| Some(annotated) == old_annotated.as_ref());
    if !old_class.exists() && (moved || class.exists() && old_annotated.is_none()) {
        copy(&mut left, before, "storageClassName");
    }
    if (!moved || old_class.exists()) && annotated != old_annotated {
        let path = new.path().child("metadata").child("annotations").key(CLASS_ANNOTATION);
        new.push(FieldError::invalid(path, annotated.unwrap_or_default(), "field is immutable"));
    }
    if new.dig("status.phase").str() == "Bound" {
        if let Some(requests) = left.pointer_mut("/resources/requests").filter(|requests| requests.is_object()) {
            copy(requests, before.pointer("/resources/requests").unwrap_or(&Value::Null), "storage");
        }
        copy(&mut left, before, "volumeAttributesClassName");
    }
    // The binder sets the volume once.
    if old_spec.field("volumeName").is_empty() {
        copy(&mut left, before, "volumeName");
    }
    if left != *before {
        new_spec.forbid(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
    let zero = Quantity::new(0, Format::BinarySi);
    let size = |spec: &Cursor<'_>| quantity(&spec.dig("resources.requests.storage")).unwrap_or(zero.clone());
    let capacity = quantity(&old.dig("status.capacity.storage")).unwrap_or(zero.clone());
    if size(&new_spec) < size(&old_spec) && size(&new_spec) <= capacity {
        new_spec.dig("resources.requests.storage").forbid("field can not be less than status.capacity");
    }
    // Upstream leaves `spec` out of this path.
    new.field("volumeMode").with_value(new_spec.field("volumeMode").value()).immutable(&old_spec.field("volumeMode"));
    let attributes = new_spec.field("volumeAttributesClassName");
    if old.dig("status.currentVolumeAttributesClassName").exists() && attributes.is_empty() {
        attributes.forbid("a claim that has a class can't go without one");
    }
}

/// The class of a claim or volume: the member, or the annotation it replaced.
pub fn storage_class(object: &Value) -> String {
    match object["metadata"]["annotations"][CLASS_ANNOTATION].as_str() {
        Some(class) => class.into(),
        None => text(object, "spec.storageClassName").into(),
    }
}

fn cells(claim: &Value, now: i64) -> Vec<Value> {
    let mut phase = text(claim, "status.phase");
    if claim["metadata"]["deletionTimestamp"].is_string() {
        phase = "Terminating";
    }
    let bound = !text(claim, "spec.volumeName").is_empty();
    let (modes, capacity) = match bound {
        true => (access_modes(items(claim, "status.accessModes")), text(claim, "status.capacity.storage")),
        false => Default::default(),
    };
    vec![
        name(claim),
        phase.into(),
        text(claim, "spec.volumeName").into(),
        capacity.into(),
        modes.into(),
        storage_class(claim).into(),
        text_or(claim, "spec.volumeAttributesClassName", UNSET),
        created(claim, now),
        text_or(claim, "spec.volumeMode", UNSET),
    ]
}
