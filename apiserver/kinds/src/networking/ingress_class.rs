//! IngressClasses.

use apimachinery::validation::{Cursor, names};

use registry::edit::{at, default, get, text};
use registry::printing::{AGE, NAME, NONE, column, created, name};
use registry::strategy::{Strategy, Table};

const CONTROLLER_BYTES_MAX: usize = 250;

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    default: |class| {
        if let Some(parameters) = at(class, "spec.parameters") {
            default(parameters, "scope", "Cluster");
        }
    },
    validate,
    validate_update: |new, old| {
        validate(new);
        new.dig("spec.controller").immutable(&old.dig("spec.controller"));
    },
    table: Some(Table {
        columns: &[NAME, column("Controller", ".spec.controller"), column("Parameters", ".spec.parameters"), AGE],
        cells: |class, now| {
            let parameters = get(class, "spec.parameters").map(|p| match text(p, "apiGroup") {
                "" => format!("{}/{}", text(p, "kind"), text(p, "name")),
                group => format!("{}.{group}/{}", text(p, "kind"), text(p, "name")),
            });
            let controller = text(class, "spec.controller").into();
            vec![name(class), controller, parameters.unwrap_or(NONE.into()).into(), created(class, now)]
        },
    }),
    ..Strategy::GENERIC
};

/// A reference to an object of any kind, in the same namespace where there is one.
pub fn object_reference(reference: &Cursor<'_>) {
    if reference.field("apiGroup").exists() {
        reference.field("apiGroup").shape(names::dns1123_subdomain);
    }
    reference.field("kind").required_shape(names::path_segment);
    reference.field("name").required_shape(names::path_segment);
}

fn validate(class: &Cursor<'_>) {
    let (controller, parameters) = (class.dig("spec.controller"), class.dig("spec.parameters"));
    controller.bytes_max(CONTROLLER_BYTES_MAX);
    if controller.required() {
        controller.shape(names::domain_prefixed_path);
    }
    if !parameters.exists() {
        return;
    }
    object_reference(&parameters);
    let (scope, namespace) = (parameters.field("scope"), parameters.field("namespace"));
    if !scope.exists() {
        scope.missing("");
    }
    scope.one_of(&["Cluster", "Namespace"]);
    match scope.str() {
        "Namespace" => {
            if namespace.exists() {
                namespace.shape(names::dns1123_label);
            } else {
                namespace.missing("`parameters.scope` is set to 'Namespace'");
            }
        }
        "Cluster" => {
            namespace.absent("`parameters.scope` is set to 'Cluster'");
        }
        _ => {}
    }
}
