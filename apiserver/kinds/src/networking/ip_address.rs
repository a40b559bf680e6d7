//! IPAddresses: who has which address of a service range.

use apimachinery::validation::{Cursor, addresses, names};

use registry::edit::text;
use registry::printing::{NAME, column, name};
use registry::strategy::{SelectableField, Strategy, Table};

pub const STRATEGY: Strategy = Strategy {
    name: registry::strategy::NameRule::PathSegment,
    validate,
    validate_update: |new, old| {
        validate(new);
        new.dig("spec.parentRef").immutable(&old.dig("spec.parentRef"));
    },
    fields: &[SelectableField {
        name: "spec.parentRef.name",
        value: |address| text(address, "spec.parentRef.name").into(),
    }],
    table: Some(Table {
        columns: &[NAME, column("ParentRef", ".spec.parentRef")],
        cells: |address, _| {
            let part = |name: &str| text(address, &format!("spec.parentRef.{name}"));
            let resource = match part("group") {
                "" => part("resource").to_owned(),
                group => format!("{}.{group}", part("resource")),
            };
            let parts = [resource.as_str(), part("namespace"), part("name")];
            vec![name(address), parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("/").into()]
        },
    }),
    ..Strategy::GENERIC
};

fn validate(address: &Cursor<'_>) {
    address.dig("metadata.name").optional_shape(addresses::ip);
    address.dig("metadata.generateName").optional_shape(addresses::ip);
    let parent = address.dig("spec.parentRef");
    if !parent.exists() {
        parent.missing("");
        return;
    }
    parent.field("resource").required_shape(names::path_segment);
    parent.field("name").required_shape(names::path_segment);
    parent.field("group").optional_shape(names::dns1123_subdomain);
    parent.field("namespace").optional_shape(names::path_segment);
}
