//! Rules for `metadata`, the same for every kind.

use serde_json::Value;

use super::names::{self, Problems};
use super::{Cursor, FieldError};

/// All annotations of an object together, keys and values.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
const MANAGER_BYTES_MAX: usize = 128;

/// Finalizers of Kubernetes' own that have no domain in front.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Checks `metadata` of a new object, or of the new state of one. `name` is the kind's rule for names.
pub fn object_meta(meta: &Cursor<'_>, namespaced: bool, name: fn(&str) -> Problems) {
    // A prefix may end in what a name may not end in: the random suffix follows.
    meta.field("generateName").optional_shape(|prefix| match prefix.strip_suffix('-') {
        Some(rest) => name(&format!("{rest}a")),
        None => name(prefix),
    });
    if meta.field("name").required_because("name or generateName is required") {
        meta.field("name").shape(name);
    }
    let namespace = meta.field("namespace");
    if namespaced {
        namespace.required_shape(names::dns1123_label);
    } else if !namespace.is_empty() {
        namespace.forbid("not allowed on this type");
    }
    meta.field("generation").non_negative();
    labels(&meta.field("labels"));
    annotations(&meta.field("annotations"));
    owner_references(&meta.field("ownerReferences"));
    finalizers(&meta.field("finalizers"));
    managed_fields(&meta.field("managedFields"));
}

/// Checks what an update may do to `metadata`; the new metadata itself is [`object_meta`]'s matter.
pub fn object_meta_update(meta: &Cursor<'_>, old: &Cursor<'_>) {
    if old.field("deletionTimestamp").exists() {
        let kept = old.field("finalizers");
        let added: Vec<_> =
            meta.field("finalizers").items().filter(|f| !kept.array().contains(&f.str().into())).collect();
        if !added.is_empty() {
            let names: Vec<_> = added.iter().map(|f| f.str()).collect();
            let why = "no new finalizers can be added if the object is being deleted, found new finalizers";
            meta.field("finalizers").forbid(format!("{why} {names:?}"));
        }
    }
    if meta.field("resourceVersion").is_empty() {
        meta.field("resourceVersion").invalid_value(0, "must be specified for an update");
    }
    let generation = meta.field("generation");
    if generation.i64().unwrap_or(0) < old.field("generation").i64().unwrap_or(0) {
        generation.invalid_value(generation.i64().unwrap_or(0), "must not be decremented");
    }
    for name in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        meta.field(name).immutable(&old.field(name));
    }
}

/// Checks a map of labels; errors are at the map, as upstream's.
pub fn labels(map: &Cursor<'_>) {
    for (key, value) in map.entries() {
        names::qualified_name(key).into_iter().for_each(|p| map.invalid_value(key, p));
        names::label_value(value.str()).into_iter().for_each(|p| map.invalid_value(value.str(), p));
    }
}

/// Checks a map of annotations.
pub fn annotations(map: &Cursor<'_>) {
    let mut bytes = 0;
    for (key, value) in map.entries() {
        // Unlike those of labels, keys may have capitals in the prefix.
        names::qualified_name(&key.to_lowercase()).into_iter().for_each(|p| map.invalid_value(key, p));
        bytes += key.len() + value.len();
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        map.too_long(ANNOTATIONS_BYTES_MAX);
    }
}

fn owner_references(list: &Cursor<'_>) {
    let mut controllers = Vec::new();
    for owner in list.items() {
        // Errors are at the list: upstream gives no index here.
        let field = |name: &'static str| Cursor::at(owner.field(name).value(), list.path().child(name), list.errors());
        let api_version = field("apiVersion");
        match api_version.str().split('/').collect::<Vec<_>>()[..] {
            [version] | [_, version] if version.is_empty() => {
                api_version.invalid_value(api_version.str(), "version must not be empty")
            }
            [_] | [_, _] => {}
            _ => api_version.invalid(format!("unexpected GroupVersion string: {}", api_version.str())),
        }
        for name in ["kind", "name", "uid"] {
            if field(name).is_empty() {
                field(name).invalid_value("", "must not be empty");
            }
        }
        if owner.field("kind").str() == "Event" && matches!(api_version.str(), "v1" | "events.k8s.io/v1") {
            list.push(FieldError::invalid(list.path(), value_of(&owner), "an Event is disallowed from being an owner"));
        }
        if owner.field("controller").bool() {
            controllers.push(owner.field("name").str());
        }
    }
    if let [first, second, ..] = controllers[..] {
        list.invalid(format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
        ));
    }
}

fn value_of(c: &Cursor<'_>) -> Value {
    c.value().cloned().unwrap_or_default()
}

fn finalizers(list: &Cursor<'_>) {
    for finalizer in list.items().map(|f| f.str()) {
        names::qualified_name(finalizer).into_iter().for_each(|p| list.invalid_value(finalizer, p));
    }
    let has = |name: &str| list.array().iter().any(|f| f == name);
    if has("orphan") && has("foregroundDeletion") {
        list.invalid("finalizer orphan and foregroundDeletion cannot be both set");
    }
}

/// The finalizers of built-in kinds without a domain must be Kubernetes' own; those of custom resources may be anybody's.
pub fn builtin_finalizers(meta: &Cursor<'_>) {
    let list = meta.field("finalizers");
    for finalizer in list.items().map(|f| f.str()) {
        if names::qualified_name(finalizer).is_empty() {
            finalizer_name(finalizer).into_iter().for_each(|p| list.invalid_value(finalizer, p));
        }
    }
}

/// A finalizer is a qualified name; without a domain it must be one of Kubernetes' own.
pub fn finalizer_name(name: &str) -> Problems {
    let mut problems = names::qualified_name(name);
    if problems.is_empty() && !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
        problems.push("name is neither a standard finalizer name nor is it fully qualified".into());
    }
    problems
}

fn managed_fields(list: &Cursor<'_>) {
    for entry in list.items() {
        let operation = entry.field("operation");
        if !matches!(operation.str(), "Apply" | "Update") {
            operation.invalid_value(operation.str(), "must be `Apply` or `Update`");
        }
        let fields_type = entry.field("fieldsType");
        if !matches!(fields_type.str(), "" | "FieldsV1") {
            fields_type.invalid("must be `FieldsV1`");
        }
        field_manager(&entry.field("manager"));
        entry.field("subresource").bytes_max(256);
    }
}

/// Rules for the name of a field manager, in `managedFields` and in the query of a request.
pub fn field_manager(manager: &Cursor<'_>) {
    manager.bytes_max(MANAGER_BYTES_MAX);
    if let Some((i, _)) = manager.str().char_indices().find(|(_, c)| c.is_control()) {
        manager.invalid(format!("should only contain printable characters, the one at byte {i} is not"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::Errors;
    use serde_json::json;

    fn create(meta: Value, namespaced: bool) -> Vec<(String, &'static str)> {
        let (errors, object) = (Errors::new(), json!({"metadata": meta}));
        object_meta(&Cursor::root(&object, &errors).field("metadata"), namespaced, names::dns1123_subdomain);
        builtin_finalizers(&Cursor::root(&object, &errors).field("metadata"));
        errors.into_vec().into_iter().map(|e| (e.field.to_string(), e.kind.reason())).collect()
    }

    fn update(meta: Value, old: Value) -> Vec<(String, &'static str)> {
        let (errors, old_errors) = (Errors::new(), Errors::new());
        let (object, old) = (json!({"metadata": meta}), json!({"metadata": old}));
        let old = Cursor::root(&old, &old_errors).field("metadata");
        object_meta_update(&Cursor::root(&object, &errors).field("metadata"), &old);
        errors.into_vec().into_iter().map(|e| (e.field.to_string(), e.kind.reason())).collect()
    }

    #[test]
    fn metadata_of_new_objects() {
        let invalid = |field: &str| vec![(field.to_owned(), "FieldValueInvalid")];
        for (meta, found) in [
            (json!({"name": "a", "namespace": "n"}), vec![]),
            (json!({"name": "a", "namespace": "n", "generateName": "a-"}), vec![]),
            (json!({"name": "A", "namespace": "n"}), invalid("metadata.name")),
            (json!({"namespace": "n"}), vec![("metadata.name".to_owned(), "FieldValueRequired")]),
            (json!({"name": "a"}), vec![("metadata.namespace".to_owned(), "FieldValueRequired")]),
            (json!({"name": "a", "namespace": "n", "labels": {"a": "b c"}}), invalid("metadata.labels")),
            (json!({"name": "a", "namespace": "n", "annotations": {"Ex.com/A": "b c"}}), vec![]),
            (json!({"name": "a", "namespace": "n", "finalizers": ["mine"]}), invalid("metadata.finalizers")),
            (json!({"name": "a", "namespace": "n", "finalizers": ["orphan", "x.y/z"]}), vec![]),
            (
                json!({"name": "a", "namespace": "n", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
                invalid("metadata.ownerReferences.uid"),
            ),
            (
                json!({"name": "a", "namespace": "n", "annotations": {"a": "x".repeat(ANNOTATIONS_BYTES_MAX)}}),
                vec![("metadata.annotations".to_owned(), "FieldValueTooLong")],
            ),
        ] {
            assert_eq!(create(meta.clone(), true), found, "{meta}");
        }
        let forbidden = vec![("metadata.namespace".to_owned(), "FieldValueForbidden")];
        assert_eq!(create(json!({"name": "a", "namespace": "n"}), false), forbidden);
    }

    #[test]
    fn what_an_update_may_not_change() {
        let old = json!({"name": "a", "uid": "1", "resourceVersion": "5", "generation": 2});
        assert!(update(old.clone(), old.clone()).is_empty());
        for (name, value) in
            [("name", json!("b")), ("uid", json!("2")), ("resourceVersion", json!("")), ("generation", json!(1))]
        {
            let mut new = old.clone();
            new[name] = value;
            assert_eq!(update(new, old.clone()), [(format!("metadata.{name}"), "FieldValueInvalid")]);
        }
        let mut deleted = old.clone();
        deleted["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
        let mut new = deleted.clone();
        new["finalizers"] = json!(["x.y/z"]);
        assert_eq!(update(new, deleted), [("metadata.finalizers".to_owned(), "FieldValueForbidden")]);
    }
}
