//! Replays what a real API server was asked and answered, where the recordings are at hand: objects after defaults, and the places
//! and reasons of errors. What admission adds is left out on both sides.

use apimachinery::Value;
use apimachinery::codec::Report;
use apimachinery::validation::{Cursor, Errors, names, object_meta::object_meta};

use crate::rows::builtin;
use registry::edit::{remove, text};
use registry::resource::Resource;
use registry::strategy::{Context, NameRule};

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden/recorded.jsonl");

/// Stands for the uid that the recording left out.
const UID: &str = "6f2a4c1e-0000-4000-8000-000000000001";

/// Cases that other parts of the server answer, before a kind's rules are asked.
const ELSEWHERE: &[&str] = &[
    "invalid/pod-unknown-field-type",
    "invalid/pod-wrong-version",
    "invalid/pod-wrong-namespace",
    "invalid/pod-rv-on-create",
    "invalid/service-bad-ip",
    "invalid/secret-bad-base64",
    "invalid/namespace-missing",
    "invalid/malformed-json",
    "invalid/empty-body",
];

fn name_rule(rule: NameRule) -> fn(&str) -> names::Problems {
    match rule {
        NameRule::Subdomain => names::dns1123_subdomain,
        NameRule::Label => names::dns1123_label,
        NameRule::Label1035 => names::dns1035_label,
        NameRule::PathSegment => names::path_segment,
    }
}

/// The row that a path names: `/apis/apps/v1/namespaces/n/deployments`.
fn row<'a>(rows: &'a [std::sync::Arc<Resource>], path: &str) -> &'a Resource {
    let parts: Vec<_> = path.split('?').next().unwrap_or_default().trim_matches('/').split('/').collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => panic!("no path of a resource: {path}"),
    };
    let plural = if rest.len() > 2 { rest[2] } else { rest[0] };
    rows.iter()
        .find(|r| r.kind.group == group && r.kind.version == version && r.plural == plural)
        .unwrap_or_else(|| panic!("{path}"))
}

/// The object as it would be stored, or the errors.
fn create(row: &Resource, mut object: Value) -> Result<Value, Vec<(String, String)>> {
    row.form.normalize(&mut object, &mut Report::default()).unwrap();
    if row.namespaced {
        object["metadata"]["namespace"] = "{ns}".into();
    }
    if !text(&object, "metadata.generateName").is_empty() && text(&object, "metadata.name").is_empty() {
        object["metadata"]["name"] = "x-<rand>".into();
    }
    object["metadata"]["uid"] = UID.into();
    (row.strategy.default)(&mut object);
    if row.has_status() && !row.strategy.status_on_create {
        remove(&mut object, "status");
    }
    let user = request::user::User { name: "golden".into(), ..Default::default() };
    let context = Context { user: &user, now: "2024-01-01T00:00:00Z", labelled: false };
    (row.strategy.prepare_for_create)(&mut object, &context);
    row.form.normalize(&mut object, &mut Report::default()).unwrap();
    let errors = Errors::new();
    let root = Cursor::root(&object, &errors);
    let mut named = object.clone();
    for member in ["name", "namespace"] {
        // Stand-ins of the recording, which are no names.
        let plain = text(&object["metadata"], member).replace("{ns}", "ns").replace("<rand>", "rand");
        if !plain.is_empty() {
            named["metadata"][member] = plain.into();
        }
    }
    object_meta(&Cursor::root(&named, &errors).field("metadata"), row.namespaced, name_rule(row.strategy.name));
    (row.strategy.validate)(&root);
    let errors = errors.into_vec();
    if errors.is_empty() {
        (row.strategy.canonicalize)(&mut object);
        let shown = object.to_string().replace(UID, "<uid>");
        Ok(serde_json::from_str(&shown).unwrap())
    } else {
        Err(errors.iter().map(|e| (e.field.to_string(), e.kind.reason().to_owned())).collect())
    }
}

/// Takes out what is not the registry's: metadata of the store, and what admission sets.
fn comparable(mut object: Value) -> Value {
    for name in ["resourceVersion", "creationTimestamp", "managedFields", "generation", "finalizers", "uid"] {
        remove(&mut object["metadata"], name);
    }
    for name in ["tolerations", "priority", "preemptionPolicy"] {
        if object["kind"] == "Pod" {
            remove(&mut object["spec"], name);
        }
    }
    if object["kind"] == "PersistentVolume" {
        remove(&mut object["status"], "lastPhaseTransitionTime");
    }
    object
}

fn cases() -> Vec<(String, Value, Value)> {
    let Ok(recorded) = std::fs::read_to_string(RECORDED) else { return Vec::new() };
    let mut cases = Vec::new();
    for line in recorded.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case[0].as_str().unwrap_or_default();
        if (name.starts_with("default/") || name.starts_with("invalid/")) && !ELSEWHERE.contains(&name) {
            cases.push((name.to_owned(), case[1][0][0].clone(), case[1][0][1].clone()));
        }
    }
    cases
}

#[test]
fn objects_become_what_upstream_makes_of_them() {
    let rows = builtin();
    let mut wrong = Vec::new();
    for (name, request, answer) in cases() {
        let row = row(&rows, request[1].as_str().unwrap());
        let got = create(row, request[2].clone());
        let body = &answer["body"];
        if body["kind"] == "Status" {
            let causes = body["details"]["causes"].as_array().cloned().unwrap_or_default();
            let expected: Vec<_> =
                causes.iter().map(|c| (text(c, "field").to_owned(), text(c, "reason").to_owned())).collect();
            if got != Err(expected.clone()) {
                wrong.push(format!("{name}: expected {expected:?}, got {got:?}"));
            }
            continue;
        }
        match got {
            Ok(object) => {
                if let Some(differences) = difference("", &comparable(body.clone()), &comparable(object)) {
                    wrong.push(format!("{name}: {differences}"));
                }
            }
            Err(errors) => wrong.push(format!("{name}: {errors:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What differs, place by place.
fn difference(path: &str, expected: &Value, got: &Value) -> Option<String> {
    match (expected, got) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k)));
            let differ = |k: &String| {
                difference(&format!("{path}.{k}"), a.get(k).unwrap_or(&Value::Null), b.get(k).unwrap_or(&Value::Null))
            };
            let found: Vec<String> = keys.filter_map(differ).collect();
            (!found.is_empty()).then(|| found.join("; "))
        }
        (a, b) if a == b => None,
        (a, b) => Some(format!("{path}: expected {a}, got {b}")),
    }
}

/// Columns of each table, where the list of upstream's is at hand.
#[test]
fn tables_have_upstreams_columns() {
    let facts = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/facts/table-columns.json");
    let Ok(facts) = std::fs::read_to_string(facts) else { return };
    let facts: Value = serde_json::from_str(&facts).unwrap();
    let mut wrong = Vec::new();
    for row in builtin() {
        let key = format!("{}/{}", row.kind.api_version(), row.plural);
        let (Some(expected), Some(table)) = (facts.get(&key), &row.strategy.table) else { continue };
        let column = |c: &Value| {
            (text(c, "name").to_owned(), text(c, "type").to_owned(), c["priority"].as_i64().unwrap() as i32)
        };
        let expected: Vec<_> = expected.as_array().unwrap().iter().map(column).collect();
        let got: Vec<_> = table.columns.iter().map(|c| (c.name.to_owned(), c.kind.to_owned(), c.priority)).collect();
        if got != expected {
            wrong.push(format!("{key}: expected {expected:?}, got {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every rule and every cell runs on objects in which everything is set, and on objects in which nothing is; what the server makes of
/// an object in normal form is in normal form.
#[test]
fn no_object_is_too_strange() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/facts/roundtrip");
    let user = request::user::User::apiserver();
    let context = Context { user: &user, now: "2024-01-01T00:00:00Z", labelled: false };
    for row in builtin() {
        let group = if row.kind.group.is_empty() { "core" } else { &row.kind.group };
        let file = format!("{folder}/{group}.{}.{}.json", row.kind.version, row.kind.kind);
        let full = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let empty = serde_json::json!({"apiVersion": row.kind.api_version(), "kind": row.kind.kind, "metadata": {}});
        let check = |made: &Value, by: &str| {
            let mut normal = made.clone();
            row.form.normalize(&mut normal, &mut Report::default()).unwrap();
            assert_eq!(normal, *made, "{} by {by}", row.plural);
        };
        for mut object in [Some(empty), full].into_iter().flatten() {
            row.form.normalize(&mut object, &mut Report::default()).unwrap();
            let old = object.clone();
            (row.strategy.default)(&mut object);
            let (errors, none) = (Errors::new(), Errors::new());
            let mut made = object.clone();
            (row.strategy.prepare_for_create)(&mut made, &context);
            check(&made, "prepare_for_create");
            (row.strategy.validate)(&Cursor::root(&made, &errors));
            let mut updated = object.clone();
            (row.strategy.prepare_for_update)(&mut updated, &old, &context);
            check(&updated, "prepare_for_update");
            (row.strategy.validate_update)(&Cursor::root(&updated, &errors), &Cursor::root(&old, &none));
            for subresource in row.strategy.subresources {
                let mut updated = object.clone();
                (subresource.prepare)(&mut updated, &old, &context);
                check(&updated, subresource.name);
                (subresource.validate)(&Cursor::root(&updated, &errors), &Cursor::root(&old, &none));
            }
            (row.strategy.warnings)(&object, Some(&old));
            (row.strategy.canonicalize)(&mut object);
            row.form.normalize(&mut object, &mut Report::default()).unwrap();
            if let Some(table) = &row.strategy.table {
                assert_eq!((table.cells)(&object, 0).len(), table.columns.len(), "{}", row.plural);
            }
        }
    }
}
