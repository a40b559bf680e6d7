//! From client-side to server-side apply: `kubectl apply` keeps in an annotation what it applied last. Who goes over to
//! `kubectl apply --server-side` takes over the fields that the annotation names, without a conflict, and finds the annotation
//! up to date on the way back (KEP-555, "migration").

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{compare::compare, extract};
use crate::schema::{GroupVersionKind, Node};
use crate::validation::object_meta::ANNOTATIONS_BYTES_MAX;

/// The field manager of `kubectl apply --server-side`. Whoever names another has opted out.
pub const MANAGER: &str = "kubectl";

/// Where `kubectl apply` keeps what it applied.
pub const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The fields that were applied last and still have the value they had then, as conflicts name them
/// (`.spec.containers[name="c"].image`). None where the annotation is missing, unreadable or of another version.
pub fn fields(live: &Value, api_version: &str, node: Node<'_>) -> HashSet<String> {
    let text = live["metadata"]["annotations"][ANNOTATION].as_str().unwrap_or_default();
    let Ok(Value::Object(mut applied)) = serde_json::from_str(text) else { return HashSet::new() };
    if applied.remove("apiVersion").is_none_or(|given| given != api_version) {
        return HashSet::new();
    }
    applied.remove("kind");
    let applied = Value::Object(applied);
    let comparison = compare(&applied, live, node);
    let unchanged = extract::fields(&applied, node)
        .difference(&comparison.modified)
        .difference(&comparison.added)
        .difference(&comparison.removed);
    unchanged.paths().iter().map(|path| path.iter().map(ToString::to_string).collect()).collect()
}

/// Brings the annotation of `merged`, if it has one, up to date with the configuration that was applied to it.
pub fn update(merged: &mut Value, config: &Value, kind: &GroupVersionKind) {
    let annotations = |object: &mut Value| {
        object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut).map(std::mem::take)
    };
    let Some(mut kept) = annotations(merged) else { return };
    if kept.get(ANNOTATION).and_then(Value::as_str).is_some_and(|text| !text.is_empty()) {
        kept.remove(ANNOTATION);
        let mut applied = config.clone();
        if let Some(mut own) = annotations(&mut applied) {
            own.remove(ANNOTATION);
            applied["metadata"]["annotations"] = own.into();
        }
        applied["apiVersion"] = kind.api_version().into();
        applied["kind"] = kind.kind.as_str().into();
        let text = format!("{applied}\n");
        // One that no longer fits is left out, as kubectl then works without.
        if bytes(&kept) + ANNOTATION.len() + text.len() <= ANNOTATIONS_BYTES_MAX {
            kept.insert(ANNOTATION.into(), text.into());
        }
    }
    merged["metadata"]["annotations"] = kept.into();
}

fn bytes(annotations: &Map<String, Value>) -> usize {
    annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Schema, Shape};
    use serde_json::json;

    #[test]
    fn what_was_applied_and_has_not_changed_is_known() {
        let schema = Schema::builtin();
        let shape = Shape::Struct(schema.kind("", "v1", "ConfigMap").unwrap().id);
        let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1", "b": "1"}});
        let mut live =
            json!({"metadata": {"annotations": {ANNOTATION: applied.to_string()}}, "data": {"a": "1", "b": "2"}});
        let found = fields(&live, "v1", Node::root(schema, &shape));
        assert!(found.contains(".data.a") && !found.contains(".data.b"), "{found:?}");
        assert!(fields(&live, "v2", Node::root(schema, &shape)).is_empty());

        update(&mut live, &json!({"data": {"a": "3"}}), &GroupVersionKind::new("", "v1", "ConfigMap"));
        let text = live["metadata"]["annotations"][ANNOTATION].as_str().unwrap();
        assert_eq!(text, "{\"apiVersion\":\"v1\",\"data\":{\"a\":\"3\"},\"kind\":\"ConfigMap\"}\n");
    }
}
