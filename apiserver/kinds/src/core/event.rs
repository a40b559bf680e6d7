//! Events, of the core group and of `events.k8s.io`: the same objects under two sets of names.

use apimachinery::Value;
use apimachinery::validation::Cursor;

use registry::edit::{get, number, text};
use registry::printing::{NAME, age, column, name, wide};
use registry::strategy::{Column, NameRule, SelectableField, Strategy, Table};

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
    // The old API takes any name that can stand in a path.
    name: NameRule::PathSegment,
    create_on_update: true,
    validate,
    validate_update,
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

/// Texts of events that are bounded, and by how many bytes.
const BYTES_MAX: [(&str, usize); 4] = [("reportingInstance", 128), ("action", 128), ("reason", 128), ("note", 1024)];

/// Members of `events.k8s.io/v1` that an update may not change, and upstream's names of them.
const IMMUTABLE: [(&str, &str); 13] = [
    ("regarding", "involvedObject"),
    ("reason", "reason"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingController", "reportingController"),
    ("reportingInstance", "reportingInstance"),
];

/// Only the younger API says what an event is about in `regarding`, and is strict.
fn is_strict(event: &Cursor<'_>) -> bool {
    event.field("regarding").exists()
}

fn validate(event: &Cursor<'_>) {
    lenient(event);
    if !is_strict(event) {
        return;
    }
    event.dig("metadata.name").optional_shape(apimachinery::validation::names::dns1123_subdomain);
    series(event);
    event.field("eventTime").required();
    if !["Normal", "Warning"].contains(&event.field("type").str()) {
        event.field("type").invalid_value("", format!("has invalid value: {}", event.field("type").str()));
    }
    for (member, name) in &IMMUTABLE[3..7] {
        let given = event.field(member);
        if given.exists() && given.i64() != Some(0) && given.object().is_none_or(|source| !source.is_empty()) {
            event.field(name).invalid_value("", "needs to be unset");
        }
    }
}

fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>) {
    lenient(new);
    if !is_strict(new) && !is_strict(old) {
        return;
    }
    if new.field("series").value() != old.field("series").value() {
        series(new);
    }
    for (member, name) in IMMUTABLE {
        new.field(name).with_value(new.field(member).value()).immutable(&old.field(member));
    }
}

fn series(event: &Cursor<'_>) {
    let series = event.field("series");
    if series.exists() {
        if series.field("count").i64().unwrap_or_default() < 2 {
            series.field("count").invalid_value("", "should be at least 2");
        }
        series.field("lastObservedTime").required();
    }
}

/// What holds for events of both APIs.
fn lenient(event: &Cursor<'_>) {
    let namespace = event.dig("metadata.namespace").str();
    let member = if is_strict(event) { "regarding" } else { "involvedObject" };
    let about = event.field("involvedObject").field("namespace");
    let of = about.with_value(event.field(member).field("namespace").value());
    // Events about objects without a namespace are kept in `default`, or where their reporter runs.
    let dated = event.field("eventTime").exists();
    let fits = match (of.is_empty(), dated) {
        (true, true) => matches!(namespace, "default" | "kube-system"),
        (true, false) => matches!(namespace, "" | "default"),
        (false, true) => true,
        (false, false) => of.str() == namespace,
    };
    if !fits {
        of.invalid_value(of.str(), "does not match event.namespace");
    }
    if !dated {
        return;
    }
    let controller = if is_strict(event) { "reportingController" } else { "reportingComponent" };
    event.field(controller).required();
    event.field(controller).shape(apimachinery::validation::names::qualified_name);
    for (name, bytes_max) in BYTES_MAX {
        if name != "note" {
            event.field(name).required();
        }
        if event.field(name).len() > bytes_max {
            let path = if name == "note" { "message" } else { name };
            event.field(path).invalid_value("", format!("can have at most {bytes_max} characters"));
        }
    }
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
