//! The rows: `resources.txt` read into [`Resource`]s, and where each is kept in etcd.

use crate::strategies;
use apimachinery::schema::{GroupVersionKind, Schema, Shape};
use component_base::feature_gates::FeatureGates;
use registry::resource::{ALL_VERBS, Form, Resource, StorageRow, SubresourceRow};
use std::sync::Arc;

/// Prefixes that are not the resource's plural: names from Kubernetes' first days, and two servers that put their group first.
const PREFIXES: &[(&str, &str, &str)] = &[
    ("", "nodes", "minions"),
    ("", "services", "services/specs"),
    ("", "endpoints", "services/endpoints"),
    ("", "replicationcontrollers", "controllers"),
    ("events.k8s.io", "events", "events"),
    ("networking.k8s.io", "ingresses", "ingress"),
    ("apiextensions.k8s.io", "customresourcedefinitions", "apiextensions.k8s.io/customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices", "apiregistration.k8s.io/apiservices"),
];

/// Resources of several versions or groups that are written in one: (group, plural, group and version written).
const STORED_AS: &[(&str, &str, &str, &str)] = &[
    ("events.k8s.io", "events", "", "v1"),
    ("autoscaling", "horizontalpodautoscalers", "autoscaling", "v2"),
    ("networking.k8s.io", "ipaddresses", "networking.k8s.io", "v1"),
    ("networking.k8s.io", "servicecidrs", "networking.k8s.io", "v1"),
    ("storage.k8s.io", "volumeattributesclasses", "storage.k8s.io", "v1"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies", "admissionregistration.k8s.io", "v1beta1"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings", "admissionregistration.k8s.io", "v1beta1"),
    ("certificates.k8s.io", "clustertrustbundles", "certificates.k8s.io", "v1beta1"),
    ("coordination.k8s.io", "leasecandidates", "coordination.k8s.io", "v1beta1"),
    ("resource.k8s.io", "deviceclasses", "resource.k8s.io", "v1"),
    ("resource.k8s.io", "resourceclaims", "resource.k8s.io", "v1"),
    ("resource.k8s.io", "resourceclaimtemplates", "resource.k8s.io", "v1"),
    ("resource.k8s.io", "resourceslices", "resource.k8s.io", "v1"),
];

/// The rows of all built-in resources, those that are off by default too.
///
/// # Panics
/// When `resources.txt` is wrong; a unit test reads it.
pub fn builtin() -> Vec<Arc<Resource>> {
    read().into_iter().map(Arc::new).collect()
}

/// The built-in resources and subresources whose gates are on, of those that `is_on`.
///
/// # Panics
/// When `resources.txt` is wrong; a unit test reads it.
pub fn served(is_on: impl Fn(&Resource) -> bool, gates: &FeatureGates) -> Vec<Arc<Resource>> {
    let open = |gate: Option<&'static str>| gate.is_none_or(|gate| gates.enabled(gate));
    let mut rows = read();
    rows.retain(|row| is_on(row) && open(row.gate));
    for row in &mut rows {
        row.subresources.retain(|subresource| open(subresource.gate));
    }
    rows.into_iter().map(Arc::new).collect()
}

fn read() -> Vec<Resource> {
    let schema = Schema::builtin();
    let mut rows: Vec<Resource> = Vec::new();
    let (mut group, mut version) = ("", "");
    for line in include_str!("resources.txt").lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match (line.len() - line.trim_start().len(), words.as_slice()) {
            (_, []) | (_, ["#", ..]) => {}
            (0, [gv]) => {
                (group, version) = gv.split_once('/').unwrap_or(("", gv));
                if group == "core" {
                    group = "";
                }
            }
            (2, [plural, kind, singular, scope, verbs, flags @ ..]) => {
                let flag = |name: &str| flags.iter().find_map(|f| f.strip_prefix(name)).map(list).unwrap_or_default();
                let ty = schema
                    .kind(group, version, kind)
                    .unwrap_or_else(|| panic!("resources.txt: no type for {group}/{version} {kind}"));
                let verbs = if *verbs == "*" { ALL_VERBS.iter().map(|v| v.to_string()).collect() } else { list(verbs) };
                let gvk = GroupVersionKind::new(group, version, kind);
                let kept = verbs.iter().any(|v: &String| v == "watch");
                let storage = kept.then(|| storage(&gvk, plural));
                let stored = storage.as_ref().map_or(&gvk, |storage| &storage.kind);
                rows.push(Resource {
                    default_stored: strategies::strategy(&stored.group, &stored.version, plural).default,
                    plural: plural.to_string(),
                    singular: singular.to_string(),
                    list_kind: format!("{kind}List"),
                    namespaced: *scope == "namespaced",
                    short_names: flag("short="),
                    categories: flag("categories="),
                    subresources: Vec::new(),
                    storage,
                    zero: Form::Builtin(Shape::Struct(ty.id)).zero(),
                    form: Form::Builtin(Shape::Struct(ty.id)),
                    strategy: strategies::strategy(group, version, plural),
                    columns: None,
                    conversion: None,
                    rules: None,
                    selectable: Vec::new(),
                    scale: None,
                    stored_schema: None,
                    stored_as: String::new(),
                    terminating: false,
                    deprecation: deprecation(group, version, kind, flags),
                    on: !flags.contains(&"off"),
                    gate: flags.iter().find_map(|f| f.strip_prefix("gate=")),
                    verbs,
                    kind: gvk,
                });
            }
            (4, [name, kind, verbs, flags @ ..]) => {
                let row = rows.last_mut().unwrap_or_else(|| panic!("resources.txt: a subresource before any resource"));
                let kind = match kind.split('/').collect::<Vec<_>>()[..] {
                    [g, v, k] => GroupVersionKind::new(g, v, k),
                    _ => GroupVersionKind::new(&row.kind.group, &row.kind.version, kind),
                };
                let gate = flags.iter().find_map(|f| f.strip_prefix("gate="));
                row.subresources.push(SubresourceRow { name: name[1..].to_string(), kind, verbs: list(verbs), gate });
            }
            _ => panic!("resources.txt: cannot read {line:?}"),
        }
    }
    rows
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

/// The warning of a row marked `deprecated=since[,gone]`, and `use=version` where another version of the group takes over, `use=group/version/Kind` where another
/// kind does.
fn deprecation(group: &str, version: &str, kind: &str, flags: &[&str]) -> Option<String> {
    let flag = |name: &str| flags.iter().find_map(|f| f.strip_prefix(name));
    let (since, gone) = flag("deprecated=").map(|v| v.split_once(',').unwrap_or((v, "")))?;
    let name = |version: &str| GroupVersionKind::new(group, version, kind).api_version();
    let mut text = format!("{} {kind} is deprecated in v{since}+", name(version));
    if !gone.is_empty() {
        text += &format!(", unavailable in v{gone}+");
    }
    match flag("use=").map(|other| (other, other.rsplit_once('/'))) {
        Some((_, Some((version, kind)))) => text += &format!("; use {version} {kind}"),
        Some((version, None)) => text += &format!("; use {} {kind}", name(version)),
        None => {}
    }
    Some(text)
}

fn storage(gvk: &GroupVersionKind, plural: &str) -> StorageRow {
    let prefix =
        PREFIXES.iter().find(|(g, p, _)| *g == gvk.group && *p == plural).map_or(plural, |(_, _, prefix)| prefix);
    let stored = STORED_AS.iter().find(|(g, p, ..)| *g == gvk.group && *p == plural);
    let (group, version) = stored.map_or((gvk.group.as_str(), gvk.version.as_str()), |(_, _, g, v)| (g, v));
    StorageRow { prefix: prefix.to_owned(), kind: GroupVersionKind::new(group, version, &gvk.kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_read_and_keys_lie_where_upstream_puts_them() {
        let rows = builtin();
        let prefix = |group: &str, version: &str, plural: &str| {
            let row =
                rows.iter().find(|r| r.kind.group == group && r.kind.version == version && r.plural == plural).unwrap();
            row.storage.as_ref().map(|s| s.prefix.clone())
        };
        assert_eq!(prefix("", "v1", "nodes").as_deref(), Some("minions"));
        assert_eq!(prefix("apps", "v1", "deployments").as_deref(), Some("deployments"));
        assert_eq!(prefix("events.k8s.io", "v1", "events").as_deref(), Some("events"));
        assert_eq!(prefix("authorization.k8s.io", "v1", "subjectaccessreviews"), None);
        let hpa = rows.iter().find(|r| r.plural == "horizontalpodautoscalers" && r.kind.version == "v1").unwrap();
        assert_eq!(hpa.storage.as_ref().unwrap().kind.version, "v2");
    }
}
