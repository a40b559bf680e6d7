//! VolumeAttachments.

use apimachinery::validation::{Cursor, names};

use crate::core::volume_source;
use registry::edit::{copy, text};
use registry::printing::{AGE, NAME, column, created, name};
use registry::strategy::{Column, Strategy, Subresource, Table};

const METADATA_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_BYTES_MAX: usize = 1024;

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    unconditional_update: false,
    validate: |attachment| {
        spec(attachment);
        names_of_new(attachment);
    },
    validate_update: |new, old| {
        spec(new);
        new.field("spec").immutable(&old.field("spec"));
    },
    subresources: &[Subresource {
        name: "status",
        prepare: |attachment, old, _| copy(attachment, old, "spec"),
        validate: |new, _| status(&new.field("status")),
        reset_fields: &["metadata", "spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            Column { name: "Attacher", kind: "string", format: "name", priority: 0, description: ".spec.attacher" },
            column("PV", ".spec.source.persistentVolumeName"),
            column("Node", ".spec.nodeName"),
            Column { name: "Attached", kind: "boolean", format: "", priority: 0, description: ".status.attached" },
            AGE,
        ],
        cells: |attachment, now| {
            vec![
                name(attachment),
                text(attachment, "spec.attacher").into(),
                text(attachment, "spec.source.persistentVolumeName").into(),
                text(attachment, "spec.nodeName").into(),
                (attachment["status"]["attached"] == true).into(),
                created(attachment, now),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn spec(attachment: &Cursor<'_>) {
    let spec = attachment.field("spec");
    spec.field("attacher").required();
    spec.field("nodeName").shape(names::dns1123_subdomain);
    let source = spec.field("source");
    let (volume, inline) = (source.field("persistentVolumeName"), source.field("inlineVolumeSpec"));
    match (volume.exists(), inline.exists()) {
        (true, true) => source.forbid("must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
        (false, false) => source.missing("must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
        (true, false) => drop(volume.required_because("must specify non empty persistentVolumeName")),
        (false, true) => {}
    }
}

/// Names that were once not checked: what has them may still be updated.
fn names_of_new(attachment: &Cursor<'_>) {
    volume_source::csi_driver(&attachment.dig("spec.attacher"));
    let volume = attachment.dig("spec.source.persistentVolumeName");
    if volume.exists() {
        volume.shape(names::dns1123_subdomain);
    }
}

fn status(status: &Cursor<'_>) {
    let metadata = status.field("attachmentMetadata");
    let bytes: usize = metadata.entries().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > METADATA_BYTES_MAX {
        metadata.too_long(METADATA_BYTES_MAX);
    }
    for error in ["attachError", "detachError"].map(|name| status.field(name)) {
        error.field("message").bytes_max(MESSAGE_BYTES_MAX);
        error.field("errorCode").range(0, i32::MAX.into());
    }
}
