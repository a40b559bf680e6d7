//! The rows of a definition: one per version that it serves.

use super::conversion::Versions;
use apimachinery::Value;
use apimachinery::schema::{GroupVersionKind, Structural};
use registry::columns::PrinterColumn;
use registry::expressions::Rules;
use registry::resource::Converter;
use registry::resource::{Form, Resource, ScalePaths, Selectable, StorageRow, SubresourceRow};
use registry::strategy::Strategy;
use sha2::Digest;
use std::sync::Arc;
use webhook::Callout;

/// What all custom resources have in common; the rest is in their schema.
pub static CUSTOM: Strategy = Strategy { generation: true, unconditional_update: false, ..Strategy::GENERIC };

const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];

pub fn of(definition: &Value, callout: &Arc<Callout>) -> Vec<Resource> {
    let conversion = Versions::read(definition, callout).map(|versions| versions as Arc<dyn Converter>);
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let texts = |value: &Value| -> Vec<String> { value.as_array().into_iter().flatten().map(text).collect() };
    let names = &spec["names"];
    let (group, kind, plural) = (text(&spec["group"]), text(&names["kind"]), text(&names["plural"]));
    let versions = || spec["versions"].as_array().into_iter().flatten();
    let stored = versions().find(|v| v["storage"] == true).map(|v| text(&v["name"])).unwrap_or_default();
    let all_selectable = selectable(&spec["versions"]);
    let stored_schema = versions().find(|v| v["storage"] == true).map(|v| &v["schema"]["openAPIV3Schema"]);
    let terminating = !definition["metadata"]["deletionTimestamp"].is_null();
    let stored_as = format!("{stored} {all_selectable:?} {}", stored_schema.unwrap_or(&Value::Null));
    let stored_as = format!("{:X}", sha2::Sha256::digest(stored_as));
    let stored_schema = stored_schema.map(|schema| Arc::new(Structural::read(schema)));
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
            verbs: VERBS.iter().filter(|v| !(terminating && **v == "create")).map(|v| (*v).to_owned()).collect(),
            short_names: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
            subresources: subresources(&version["subresources"], &gvk),
            storage: Some(StorageRow {
                prefix: format!("{group}/{plural}"),
                kind: GroupVersionKind::new(&group, &stored, &kind),
            }),
            strategy: &CUSTOM,
            default_stored: CUSTOM.default,
            rules,
            selectable: all_selectable
                .iter()
                .map(|name| Selectable { name: name.clone(), here: selectable_here(version).any(|n| n == *name) })
                .collect(),
            scale: scale_paths(&version["subresources"]),
            stored_schema: stored_schema.clone(),
            stored_as: stored_as.clone(),
            terminating,
            deprecation: deprecation(version, &gvk),
            columns: Some(PrinterColumn::read(&version["additionalPrinterColumns"])),
            conversion: conversion.clone(),
            on: true,
            gate: None,
            kind: gvk,
        }
    };
    versions().filter(|v| v["served"] == true).map(row).collect()
}

/// The paths of `subresources.scale`. They are simple, which validation sees to: `.spec.replicas`.
fn scale_paths(given: &Value) -> Option<ScalePaths> {
    let path = |name: &str| -> Option<Vec<String>> {
        let text = given["scale"][name].as_str().filter(|t| !t.is_empty())?;
        Some(text.trim_start_matches('.').split('.').map(str::to_owned).collect())
    };
    Some(ScalePaths {
        spec: path("specReplicasPath")?,
        status: path("statusReplicasPath")?,
        selector: path("labelSelectorPath"),
    })
}

/// Names of the fields of all served versions that selectors may name, in the order in which they first stand.
fn selectable(versions: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for version in versions.as_array().into_iter().flatten().filter(|v| v["served"] == true) {
        all.extend(selectable_here(version).filter(|name| !all.contains(name)).collect::<Vec<_>>());
    }
    all
}

fn selectable_here(version: &Value) -> impl Iterator<Item = String> + '_ {
    let fields = version["selectableFields"].as_array().into_iter().flatten();
    fields.filter_map(|f| Some(f["jsonPath"].as_str()?.trim_start_matches('.').to_owned()))
}

/// What clients of a deprecated version are warned of.
fn deprecation(version: &Value, kind: &GroupVersionKind) -> Option<String> {
    let own = version["deprecationWarning"].as_str().map(str::to_owned);
    (version["deprecated"] == true)
        .then(|| own.unwrap_or_else(|| format!("{} {} is deprecated", kind.api_version(), kind.kind)))
}

fn subresources(given: &Value, own: &GroupVersionKind) -> Vec<SubresourceRow> {
    let row = |name: &str, kind: GroupVersionKind| SubresourceRow {
        name: name.into(),
        kind,
        verbs: SUBRESOURCE_VERBS.map(str::to_owned).into(),
        gate: None,
    };
    let mut rows = Vec::new();
    if given["status"].is_object() {
        rows.push(row("status", own.clone()));
    }
    if scale_paths(given).is_some() {
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
        let rows = of(
            &json!({"spec": {"group": "g", "scope": "Cluster", "names": {"plural": "as", "kind": "A"},
            "versions": [version("v1", true, true), version("v1beta1", true, false), version("v1alpha1", false, false)]}}),
            &Arc::default(),
        );
        let versions: Vec<&str> = rows.iter().map(|r| r.kind.version.as_str()).collect();
        assert_eq!(versions, ["v1", "v1beta1"]);
        assert!(rows.iter().all(|r| r.storage.as_ref().unwrap().kind.version == "v1" && r.has_status()));
    }
}
