//! Events, of the core group and of `events.k8s.io`: the same objects under two sets of names.

use apimachinery::Value;
use apimachinery::validation::Cursor;

use crate::registry::edit::{get, number, text};
use crate::registry::printing::{NAME, age, column, name, wide};
use crate::registry::strategy::{Column, SelectableField, Strategy, Table};

/// Who an event is about, in either group.
fn about<'a>(event: &'a Value, member: &str) -> &'a str {
    match text(event, &format!("involvedObject.{member}")) {
        "" => text(event, &format!("regarding.{member}")),
        found => found,
    }
}

/// The first of some members that is a string that is not empty.
fn first<'a>(event: &'a Value, paths: &[&str]) -> &'a str {
    paths.iter().map(|path| text(event, path)).find(|t| !t.is_empty()).unwrap_or_default()
}

const FIELDS: &[SelectableField] = &[
    SelectableField { name: "involvedObject.kind", value: |e| about(e, "kind").into() },
    SelectableField { name: "involvedObject.namespace", value: |e| about(e, "namespace").into() },
    SelectableField { name: "involvedObject.name", value: |e| about(e, "name").into() },
    SelectableField { name: "involvedObject.uid", value: |e| about(e, "uid").into() },
    SelectableField { name: "involvedObject.apiVersion", value: |e| about(e, "apiVersion").into() },
    SelectableField { name: "involvedObject.resourceVersion", value: |e| about(e, "resourceVersion").into() },
    SelectableField { name: "involvedObject.fieldPath", value: |e| about(e, "fieldPath").into() },
    SelectableField { name: "regarding.kind", value: |e| about(e, "kind").into() },
    SelectableField { name: "regarding.namespace", value: |e| about(e, "namespace").into() },
    SelectableField { name: "regarding.name", value: |e| about(e, "name").into() },
    SelectableField { name: "regarding.uid", value: |e| about(e, "uid").into() },
    SelectableField { name: "reason", value: |e| text(e, "reason").into() },
    SelectableField {
        name: "reportingComponent",
        value: |e| first(e, &["reportingComponent", "reportingController"]).into(),
    },
    SelectableField {
        name: "reportingController",
        value: |e| first(e, &["reportingComponent", "reportingController"]).into(),
    },
    SelectableField { name: "source", value: |e| source_component(e).into() },
    SelectableField { name: "type", value: |e| text(e, "type").into() },
];

fn source_component(event: &Value) -> &str {
    first(event, &["source.component", "deprecatedSource.component", "reportingComponent", "reportingController"])
}

pub const STRATEGY: Strategy = Strategy {
    create_on_update: true,
    validate,
    validate_update: |new, _| validate(new),
    fields: FIELDS,
    table: Some(Table {
        columns: &[
            column("Last Seen", ".lastTimestamp"),
            column("Type", ".type"),
            column("Reason", ".reason"),
            column("Object", ".involvedObject"),
            wide("Subobject", ".involvedObject.fieldPath"),
            wide("Source", ".source"),
            column("Message", ".message"),
            wide("First Seen", ".firstTimestamp"),
            wide("Count", ".count"),
            Column { priority: 1, ..NAME },
        ],
        cells,
    }),
    ..Strategy::GENERIC
};

fn validate(event: &Cursor<'_>) {
    let namespace = event.dig("metadata.namespace").str();
    for name in ["involvedObject", "regarding"] {
        let about = event.field(name);
        if !about.exists() {
            continue;
        }
        // Events about objects without a namespace are kept in `default`, or where their reporter runs.
        let of = about.field("namespace");
        if !of.is_empty() && of.str() != namespace {
            of.invalid("does not match event.namespace");
        }
        if of.is_empty() && event.field("eventTime").exists() && namespace != "default" && namespace != "kube-system" {
            of.invalid_value("", "does not match event.namespace");
        }
    }
    if !event.field("eventTime").exists() {
        return;
    }
    let controller = if event.field("regarding").exists() { "reportingController" } else { "reportingComponent" };
    event.field(controller).required_shape(apimachinery::validation::names::qualified_name);
    event.field("reportingInstance").required();
    event.field("reportingInstance").bytes_max(128);
    event.field("action").required();
    event.field("action").bytes_max(128);
    event.field("reason").required();
    event.field("reason").bytes_max(128);
    event.field("type").required_one_of(&["Normal", "Warning"]);
}

fn cells(event: &Value, now: i64) -> Vec<Value> {
    let time = |paths: &[&str]| {
        paths.iter().find_map(|path| get(event, path).filter(|t| t.is_string())).cloned().unwrap_or_default()
    };
    let begun = time(&["firstTimestamp", "deprecatedFirstTimestamp", "eventTime"]);
    let last = time(&["series.lastObservedTime", "lastTimestamp", "deprecatedLastTimestamp"]);
    let last = if last.is_null() { begun.clone() } else { last };
    let count = ["series.count", "count", "deprecatedCount"]
        .into_iter()
        .map(|p| number(event, p))
        .find(|n| *n > 0)
        .unwrap_or(1);
    let host = first(event, &["source.host", "deprecatedSource.host"]);
    let mut source = source_component(event).to_owned();
    if !host.is_empty() {
        source = format!("{source}, {host}");
    }
    let kind = about(event, "kind").to_lowercase();
    let object = match about(event, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        age(&last, now).into(),
        text(event, "type").into(),
        text(event, "reason").into(),
        object.into(),
        about(event, "fieldPath").into(),
        source.into(),
        first(event, &["message", "note"]).trim().into(),
        age(&begun, now).into(),
        count.to_string().into(),
        name(event),
    ]
}
