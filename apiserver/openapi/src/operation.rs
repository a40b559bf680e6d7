//! What names an operation and tells it from all others, in documents of both versions.

use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use registry::resource::Resource;
use serde_json::{Map, json};

/// What all operations on a path take.
pub fn path_item(row: &Resource, named: bool) -> Map<String, Value> {
    let parameter = |name: &str, text: String| json!({"name": name, "in": "path", "description": text, "required": true, "schema": {"type": "string", "uniqueItems": true}});
    let mut parameters = Vec::new();
    if named {
        parameters.push(parameter("name", format!("The name of the {}.", row.kind.kind)));
    }
    if row.namespaced {
        parameters.push(parameter("namespace", "The namespace that it is in.".to_owned()));
    }
    if parameters.is_empty() { Map::new() } else { Map::from_iter([("parameters".to_owned(), parameters.into())]) }
}

/// What an operation is about.
pub struct About<'a> {
    /// The kind of the objects that are sent.
    pub kind: &'a GroupVersionKind,
    pub schema: &'a Value,
    /// The subresource.
    pub part: Option<&'a str>,
    /// In all namespaces.
    pub everywhere: bool,
}

/// `createCoreV1NamespacedPod`, `listAppsV1DeploymentForAllNamespaces`: unique among all operations. Those that connect are told
/// apart by a method, which stands behind the verb: `connect get` is `connectCoreV1GetNamespacedPodExec`.
pub fn operation_id(verb: &str, row: &Resource, about: &About<'_>) -> String {
    let action = match verb {
        "get" => "read",
        "update" => "replace",
        "deletecollection" => "deleteCollection",
        other => other,
    };
    let (action, method) = action.split_once(' ').unwrap_or((action, ""));
    let method = capital(method);
    let place = if row.namespaced && !about.everywhere { "Namespaced" } else { "" };
    let part = about.part.map(capital).unwrap_or_default();
    let reach = if about.everywhere { "ForAllNamespaces" } else { "" };
    let (group, version) = (group_title(&row.kind.group), capital(&row.kind.version));
    format!("{action}{group}{version}{method}{place}{}{part}{reach}", row.kind.kind)
}

/// `core_v1`: what operations are sorted by.
pub fn tag(row: &Resource) -> String {
    format!("{}_{}", group_title(&row.kind.group).to_lowercase(), row.kind.version)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// `Core`, `Apps`, `RbacAuthorization`, `StableExampleCom`: a group in the names of operations.
fn group_title(group: &str) -> String {
    match group.strip_suffix(".k8s.io").unwrap_or(group) {
        "" => "Core".into(),
        rest => rest.split(['.', '-']).map(capital).collect(),
    }
}
