//! PodTemplates.

use super::pod_spec::{template, warnings};
use registry::edit::{at, get};
use registry::printing::{NAME, column, containers, labels, name};
use registry::strategy::{Strategy, Table};

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    generation: true,
    default: |object| {
        if let Some(pod_template) = at(object, "template") {
            template::default(pod_template);
        }
    },
    warnings: |object, old| warnings::template(object, old, "template"),
    validate: |object| template::validate(&object.field("template")),
    validate_update: |new, _| template::validate(&new.field("template")),
    table: Some(Table {
        columns: &[
            NAME,
            column("Containers", "Names of the containers."),
            column("Images", "Images of the containers."),
            column("Pod Labels", "Labels that the pods get."),
        ],
        cells: |object, _| {
            let [names, images] = containers(get(object, "template.spec"));
            vec![name(object), names, images, labels(get(object, "template.metadata.labels"))]
        },
    }),
    ..Strategy::GENERIC
};
