//! The rows of a definition: one per version that it serves.

use super::columns::PrinterColumn;
use super::rules::Rules;
use crate::registry::strategy::Strategy;
use crate::registry::table::{Form, Resource, StorageRow, SubresourceRow};
use apimachinery::Value;
use apimachinery::schema::{GroupVersionKind, Structural};
use std::sync::Arc;

/// What all custom resources have in common; the rest is in their schema.
pub static CUSTOM: Strategy = Strategy { generation: true, unconditional_update: false, ..Strategy::GENERIC };

const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];

pub fn of(definition: &Value) -> Vec<Resource> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let texts = |value: &Value| -> Vec<String> { value.as_array().into_iter().flatten().map(text).collect() };
    let names = &spec["names"];
    let (group, kind, plural) = (text(&spec["group"]), text(&names["kind"]), text(&names["plural"]));
    let versions = || spec["versions"].as_array().into_iter().flatten();
    let stored = versions().find(|v| v["storage"] == true).map(|v| text(&v["name"])).unwrap_or_default();
    let row = |version: &Value| {
        let gvk = GroupVersionKind::new(&group, &text(&version["name"]), &kind);
        let schema = Structural::read(&version["schema"]["openAPIV3Schema"]);
        let rules = Rules::compile(&schema).map(Arc::new);
        let form = Form::Custom(Arc::new(schema));
        Resource {
            zero: form.zero(),
            form,
            plural: plural.clone(),
            singular: text(&names["singular"]),
            list_kind: text(&names["listKind"]),
            namespaced: spec["scope"] == "Namespaced",
            verbs: VERBS.map(str::to_owned).into(),
            short_names: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
            subresources: subresources(&version["subresources"], &gvk),
            storage: Some(StorageRow {
                prefix: format!("{group}/{plural}"),
                kind: GroupVersionKind::new(&group, &stored, &kind),
            }),
            strategy: &CUSTOM,
            rules,
            columns: Some(PrinterColumn::read(&version["additionalPrinterColumns"])),
            on: true,
            kind: gvk,
        }
    };
    versions().filter(|v| v["served"] == true).map(row).collect()
}

fn subresources(given: &Value, own: &GroupVersionKind) -> Vec<SubresourceRow> {
    let row = |name: &str, kind: GroupVersionKind| SubresourceRow {
        name: name.into(),
        kind,
        verbs: SUBRESOURCE_VERBS.map(str::to_owned).into(),
    };
    let mut rows = Vec::new();
    if given["status"].is_object() {
        rows.push(row("status", own.clone()));
    }
    // Replicas in any other place are not served, rather than served wrong.
    if given["scale"]["specReplicasPath"] == ".spec.replicas"
        && given["scale"]["statusReplicasPath"] == ".status.replicas"
    {
        rows.push(row("scale", GroupVersionKind::new("autoscaling", "v1", "Scale")));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_served_version_is_a_row_and_all_are_stored_in_one() {
        let version = |name: &str, served: bool, storage: bool| {
            json!({"name": name, "served": served, "storage": storage,
            "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {"type": "object"}}})
        };
        let rows = of(&json!({"spec": {"group": "g", "scope": "Cluster", "names": {"plural": "as", "kind": "A"},
            "versions": [version("v1", true, true), version("v1beta1", true, false), version("v1alpha1", false, false)]}}));
        let versions: Vec<&str> = rows.iter().map(|r| r.kind.version.as_str()).collect();
        assert_eq!(versions, ["v1", "v1beta1"]);
        assert!(rows.iter().all(|r| r.storage.as_ref().unwrap().kind.version == "v1" && r.has_status()));
    }
}
