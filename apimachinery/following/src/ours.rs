//! The API as our tables tell it: the type table, the rows of resources and the values of enumerations.

use crate::api::{Api, Field, GroupVersion, Kind, Resource, Type, short_name};
use apimachinery::schema::{self, ListType, Schema, Shape, TypeId};
use std::collections::{BTreeMap, BTreeSet};

const RESOURCES: &str = include_str!("../../../apiserver/kinds/src/resources.txt");
const VALUES: &str = include_str!("../../../apiserver/openapi/src/enums.txt");

/// What `*` stands for in `resources.txt`.
const ALL_VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Types that requests and answers have whatever the resource is.
const EVERYWHERE: [&str; 3] = ["DeleteOptions", "Status", "WatchEvent"];

/// Our API with every group, version and gate switched on, as upstream publishes its own.
pub fn api() -> Api {
    let resources = resources(RESOURCES);
    let kinds = kinds(&resources);
    let reached = reach(&kinds);
    let schema = Schema::builtin();
    let values = values(VALUES);
    let types = schema.types.iter().map(|ty| {
        let fields = ty.members.iter().map(|&(owner, at)| {
            let field = &schema.get(owner).fields[usize::from(at)];
            let listed = values.get(&format!("{}.{}", short_name(&ty.name), field.name));
            (field.name.to_owned(), self::field(field, listed.cloned().unwrap_or_default()))
        });
        let reachable = reached.contains(&ty.id.0);
        let told = Type { fields: fields.collect(), object: ty.type_meta, atomic: ty.atomic, reachable };
        (short_name(&ty.name).to_owned(), told)
    });
    Api { types: types.collect(), kinds, resources, tells_watches: true, tells_values: true, tells_defaults: false }
}

/// Reads `resources.txt`; its first lines say how it is written.
fn resources(table: &str) -> BTreeMap<GroupVersion, BTreeMap<String, Resource>> {
    let mut all: BTreeMap<GroupVersion, BTreeMap<String, Resource>> = BTreeMap::new();
    let (mut version, mut plural, mut namespaced) = (GroupVersion::new("", ""), "", false);
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (name, kind, verbs) = match words[..] {
            [open] => {
                version = split(open);
                continue;
            }
            [sub, kind, verbs, ..] if sub.starts_with('/') => (format!("{plural}{sub}"), kind, verbs),
            [name, kind, _, scope, verbs, ..] => {
                (plural, namespaced) = (name, scope == "namespaced");
                (name.to_owned(), kind, verbs)
            }
            _ => continue,
        };
        let kind = match kind.rsplit_once('/') {
            Some((of, name)) => Kind { version: split(of), name: name.into() },
            None => Kind { version: version.clone(), name: kind.into() },
        };
        let verbs = if verbs == "*" { ALL_VERBS.join(",") } else { verbs.into() };
        let verbs = verbs.split(',').map(str::to_owned).collect();
        let resource = Resource { kind: Some(kind), namespaced, verbs };
        all.entry(version.clone()).or_default().insert(name, resource);
    }
    all
}

fn split(version: &str) -> GroupVersion {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    GroupVersion::new(group, version)
}

/// The kinds of resources and of lists of them. Options of connections are parameters of paths: no document has them as types.
fn kinds(resources: &BTreeMap<GroupVersion, BTreeMap<String, Resource>>) -> BTreeSet<Kind> {
    let mut all = BTreeSet::new();
    for resource in resources.values().flat_map(BTreeMap::values) {
        let Some(kind) = resource.kind.clone().filter(|kind| !kind.name.ends_with("Options")) else { continue };
        if resource.verbs.contains("list") {
            all.insert(Kind { name: format!("{}List", kind.name), ..kind.clone() });
        }
        all.insert(kind);
    }
    all
}

/// The types that kinds lead to.
fn reach(kinds: &BTreeSet<Kind>) -> BTreeSet<u32> {
    let schema = Schema::builtin();
    let of_kind = |kind: &Kind| schema.kind(&kind.version.group, &kind.version.version, &kind.name);
    let everywhere = EVERYWHERE.iter().filter_map(|name| schema.kind("", "v1", name));
    let mut open: Vec<TypeId> = kinds.iter().filter_map(of_kind).chain(everywhere).map(|ty| ty.id).collect();
    let mut reached = BTreeSet::new();
    while let Some(id) = open.pop() {
        if reached.insert(id.0) {
            open.extend(schema.members(schema.get(id)).filter_map(|field| leads_to(&field.shape)));
        }
    }
    reached
}

fn leads_to(shape: &Shape) -> Option<TypeId> {
    match shape {
        Shape::List(inner) | Shape::Map(inner) => leads_to(inner),
        Shape::Struct(id) | Shape::SchemaOrArray(id) | Shape::SchemaOrBool(id) | Shape::SchemaOrStringArray(id) => {
            Some(*id)
        }
        _ => None,
    }
}

fn field(field: &schema::Field, values: BTreeSet<String>) -> Field {
    let merge = match (&field.shape, &field.list_type) {
        (Shape::List(_) | Shape::ExtraValue, ListType::Atomic) => "atomic".into(),
        (Shape::List(_), ListType::Set) => "set".into(),
        (Shape::List(_), ListType::Map(keys)) => format!("map by {}", keys.join(",")),
        _ if field.atomic => "atomic".into(),
        _ if field.granular => "granular".into(),
        _ => String::new(),
    };
    let strategies = [(field.patch.merge, "merge"), (field.patch.retain_keys, "retainKeys")];
    let strategies: Vec<&str> = strategies.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    let mut patch = strategies.join(",");
    if let Some(key) = field.patch.key {
        patch = format!("{patch} by {key}");
    }
    Field { shape: shape(&field.shape), required: field.required, merge, patch, values, default: None }
}

fn shape(of: &Shape) -> String {
    let name = match of {
        Shape::String => "string",
        Shape::Bytes => "bytes",
        Shape::Bool => "boolean",
        Shape::Int32 => "int32",
        Shape::Int64 => "int64",
        Shape::Double => "double",
        Shape::Time => "meta.v1.Time",
        Shape::MicroTime => "meta.v1.MicroTime",
        Shape::Quantity => "api.resource.Quantity",
        Shape::IntOrString => "util.intstr.IntOrString",
        Shape::RawExtension => "pkg.runtime.RawExtension",
        Shape::FieldsV1 => "meta.v1.FieldsV1",
        Shape::Json => "apiextensions.v1.JSON",
        Shape::SchemaOrArray(_) => "apiextensions.v1.JSONSchemaPropsOrArray",
        Shape::SchemaOrBool(_) => "apiextensions.v1.JSONSchemaPropsOrBool",
        Shape::SchemaOrStringArray(_) => "apiextensions.v1.JSONSchemaPropsOrStringArray",
        Shape::ExtraValue => "[]string",
        Shape::Any => "any",
        Shape::Struct(id) => short_name(&Schema::builtin().get(*id).name),
        Shape::List(inner) => return format!("[]{}", shape(inner)),
        Shape::Map(inner) => return format!("map[string]{}", shape(inner)),
    };
    name.to_owned()
}

/// Reads `enums.txt`: values by field, such as `core.v1.ServiceSpec.type`.
fn values(table: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut package = "";
    let rows = table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let Some(row) = line.strip_prefix("  ") else {
            package = line;
            return None;
        };
        let (field, values) = row.split_once(' ')?;
        Some((format!("{package}.{field}"), values.split('|').map(str::to_owned).collect()))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_with_their_subresources() {
        let api = api();
        let pods = &api.resources[&GroupVersion::new("core", "v1")];
        assert_eq!(pods["pods"].verbs.len(), 8);
        assert_eq!(pods["pods/eviction"].kind.as_ref().unwrap().to_string(), "policy/v1/Eviction");
        assert!(pods["pods/log"].namespaced && !pods["nodes/proxy"].namespaced);
        assert!(api.kinds.iter().any(|kind| kind.to_string() == "apps/v1/DeploymentList"));
    }

    #[test]
    fn what_resources_lead_to_is_told_from_what_only_webhooks_see() {
        let types = api().types;
        assert!(types["core.v1.ContainerPort"].reachable);
        assert!(!types["admission.v1.AdmissionReview"].reachable);
        let ports = &types["core.v1.ServiceSpec"].fields["ports"];
        assert_eq!((&*ports.shape, &*ports.merge), ("[]core.v1.ServicePort", "map by port,protocol"));
        assert_eq!(ports.patch, "merge by port");
        assert!(types["core.v1.ServiceSpec"].fields["type"].values.contains("NodePort"));
    }
}
