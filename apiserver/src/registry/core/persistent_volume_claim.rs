//! PersistentVolumeClaims.

use apimachinery::Value;
use apimachinery::validation::selector::label_selector;
use apimachinery::validation::{Cursor, FieldError, names};
use serde_json::json;

use super::pod_spec::defaults::resource_lists;
use super::pod_spec::resources::quantity;
use crate::registry::edit::{at, copy, default, default_text, get, items, object, text};
use crate::registry::printing::{AGE, NAME, UNSET, access_modes, column, created, name, text_or, wide};
use crate::registry::strategy::{Strategy, Subresource, Table};

pub const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// Class of a claim from before `storageClassName`.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

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
        data_sources(claim);
    },
    prepare_for_update: |claim, old, _| copy(claim, old, "status"),
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

/// Defaults of a claim's spec, also in templates of claims.
pub fn spec_defaults(spec: &mut Value) {
    default(spec, "volumeMode", "Filesystem");
    if let Some(resources) = at(spec, "resources") {
        resource_lists(resources);
    }
}

/// `dataSource` and `dataSourceRef` are two names of one thing where the source is in the same namespace.
fn data_sources(claim: &mut Value) {
    let spec = object(claim, "spec");
    let (source, reference) = (get(spec, "dataSource").cloned(), get(spec, "dataSourceRef").cloned());
    match (source, reference) {
        (Some(source), None) => spec["dataSourceRef"] = source,
        (None, Some(reference)) if text(&reference, "namespace").is_empty() => spec["dataSource"] = reference,
        _ => {}
    }
}

/// Checks a claim's spec, also of a template.
pub fn spec(spec: &Cursor<'_>) {
    let modes = spec.field("accessModes");
    modes.required_because("at least 1 access mode is required");
    label_selector(&spec.field("selector"));
    let mut single = false;
    for mode in modes.items() {
        if !ACCESS_MODES.contains(&mode.str()) {
            modes.push(FieldError::not_supported(modes.path(), mode.str(), &ACCESS_MODES));
        }
        single |= mode.str() == "ReadWriteOncePod";
    }
    if single && modes.len() > 1 {
        modes.forbid("may not use ReadWriteOncePod with other access modes");
    }
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
    for name in ["dataSource", "dataSourceRef"] {
        let source = spec.field(name);
        if source.exists() {
            source.field("name").required();
            source.field("kind").required();
            if source.field("apiGroup").is_empty() && source.field("kind").str() != "PersistentVolumeClaim" {
                source.invalid("must be 'PersistentVolumeClaim' when referencing the default apiGroup");
            }
        }
    }
    spec.field("volumeAttributesClassName").optional_shape(names::dns1123_subdomain);
}

fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>) {
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    spec(&new_spec);
    let (Some(mut left), Some(before)) = (new_spec.value().cloned(), old_spec.value()) else { return };
    let bound = old.dig("status.phase").str() == "Bound";
    if bound && let Some(resources) = left.get_mut("resources") {
        copy(resources, &before["resources"], "requests");
    }
    if bound || old_spec.field("volumeAttributesClassName").is_empty() {
        copy(&mut left, before, "volumeAttributesClassName");
    }
    // The binder sets the volume once.
    if old_spec.field("volumeName").is_empty() {
        copy(&mut left, before, "volumeName");
    }
    if old_spec.field("storageClassName").value().is_none() {
        copy(&mut left, before, "storageClassName");
    }
    if left != *before {
        new_spec.forbid(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
    let (size, old_size) = (new_spec.dig("resources.requests.storage"), old_spec.dig("resources.requests.storage"));
    if let (Some(size_now), Some(before)) = (quantity(&size), quantity(&old_size))
        && bound
        && size_now < before
        && quantity(&old.dig("status.capacity.storage")).is_none_or(|capacity| size_now <= capacity)
    {
        new_spec.dig("resources.requests.storage").forbid("field can not be less than status.capacity");
    }
    new_spec.field("volumeMode").immutable(&old_spec.field("volumeMode"));
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
