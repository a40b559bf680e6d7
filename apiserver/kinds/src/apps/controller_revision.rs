//! ControllerRevisions: templates as they once were.

use apimachinery::Value;
use apimachinery::validation::Cursor;

use registry::edit::{items, number, text};
use registry::printing::{AGE, NAME, NONE, column, created, name};
use registry::strategy::{Strategy, Table};

pub const STRATEGY: Strategy = Strategy {
    validate,
    validate_update: |new, old| {
        validate(new);
        new.field("data").immutable(&old.field("data"));
    },
    table: Some(Table {
        columns: &[NAME, column("Controller", "Whose revision it is."), column("Revision", ".revision"), AGE],
        cells: |revision, now| {
            vec![
                name(revision),
                controller(revision).into(),
                number(revision, "revision").into(),
                created(revision, now),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn validate(revision: &Cursor<'_>) {
    if !revision.field("data").exists() {
        revision.field("data").missing("data is mandatory");
    }
    revision.field("revision").non_negative();
}

fn controller(revision: &Value) -> String {
    let Some(owner) = items(revision, "metadata.ownerReferences").iter().find(|o| o["controller"] == true) else {
        return NONE.into();
    };
    let group = text(owner, "apiVersion").split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
    format!("{}{group}/{}", text(owner, "kind").to_lowercase(), text(owner, "name"))
}
