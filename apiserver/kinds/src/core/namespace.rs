//! Namespaces.

use apimachinery::Value;
use apimachinery::validation::{Cursor, object_meta};
use serde_json::json;

use registry::edit::{copy, default, items, object, text};
use registry::printing::{AGE, NAME, column, created, name};
use registry::strategy::{Context, NameRule, SelectableField, Strategy, Subresource, Table};

/// The label by which selectors find a namespace by name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Holds a namespace until everything in it is gone.
const FINALIZER: &str = "kubernetes";

pub const STRATEGY: Strategy = Strategy {
    name: NameRule::Label,
    default: label,
    prepare_for_create,
    prepare_for_update: |namespace, old, _| {
        copy(namespace, old, "status");
        let finalizers = old["spec"].get("finalizers").cloned();
        if let Some(finalizers) = finalizers {
            object(namespace, "spec")["finalizers"] = finalizers;
        }
    },
    validate,
    validate_update: |new, _| validate(new),
    canonicalize: label,
    fields: &[SelectableField { name: "status.phase", value: |namespace| text(namespace, "status.phase").into() }],
    subresources: &[Subresource {
        name: "finalize",
        prepare: |namespace, old, _| copy(namespace, old, "status"),
        validate: |new, _| finalizers(new),
        reset_fields: &[],
    }],
    table: Some(Table {
        columns: &[NAME, column("Status", "Whether it is in use or going away."), AGE],
        cells: |namespace, now| vec![name(namespace), namespace["status"]["phase"].clone(), created(namespace, now)],
    }),
    ..Strategy::GENERIC
};

fn label(namespace: &mut Value) {
    let name = text(namespace, "metadata.name").to_owned();
    if !name.is_empty() {
        object(object(namespace, "metadata"), "labels")[NAME_LABEL] = name.into();
    }
}

fn prepare_for_create(namespace: &mut Value, _: &Context<'_>) {
    namespace["status"] = json!({"phase": "Active"});
    let spec = object(namespace, "spec");
    if !items(spec, "finalizers").iter().any(|f| f == FINALIZER) {
        default(spec, "finalizers", Vec::<Value>::new());
        if let Some(list) = spec["finalizers"].as_array_mut() {
            list.push(FINALIZER.into());
        }
    }
}

fn validate(namespace: &Cursor<'_>) {
    finalizers(namespace);
}

fn finalizers(namespace: &Cursor<'_>) {
    let list = namespace.dig("spec.finalizers");
    for finalizer in list.items() {
        object_meta::finalizer_name(finalizer.str()).into_iter().for_each(|p| list.invalid_value(finalizer.str(), p));
    }
}
