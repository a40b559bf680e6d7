//! VolumeAttachments.

use apimachinery::validation::{Cursor, names};

use crate::registry::core::pod_spec::volume;
use crate::registry::edit::{copy, text};
use crate::registry::printing::{AGE, NAME, column, created, name};
use crate::registry::strategy::{Column, Strategy, Subresource, Table};

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    unconditional_update: false,
    validate,
    validate_update: |new, old| {
        validate(new);
        new.field("spec").immutable(&old.field("spec"));
    },
    subresources: &[Subresource {
        name: "status",
        prepare: |attachment, old, _| copy(attachment, old, "spec"),
        validate: |_, _| {},
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

fn validate(attachment: &Cursor<'_>) {
    let spec = attachment.field("spec");
    if spec.field("attacher").required() {
        volume::csi_driver(&spec.field("attacher"));
    }
    spec.field("nodeName").required_shape(names::dns1123_subdomain);
    let source = spec.field("source");
    let (volume, inline) = (source.field("persistentVolumeName"), source.field("inlineVolumeSpec"));
    match (volume.exists(), inline.exists()) {
        (true, true) => source.forbid("must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
        (false, false) => source.missing("must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
        _ => {}
    }
    if volume.exists() {
        volume.shape(names::dns1123_subdomain);
    }
}
