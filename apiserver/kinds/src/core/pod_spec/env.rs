//! Environment variables and where they come from, and the fields of a pod that the downward API shows.

use apimachinery::validation::{Cursor, names};

use crate::core::volume_source;

/// Fields that a variable can show.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that a file can show.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// What upstream can find in a pod by name, whether or not it is shown.
const KNOWN_FIELDS: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
/// What a variable can be taken from, in the order errors come.
const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

/// Checks `env` of a container.
pub fn variables(list: &Cursor<'_>) {
    for variable in list.items() {
        variable.field("name").required_shape(names::env_var_name);
        let from = variable.field("valueFrom");
        if from.exists() {
            value_from(&from, &variable);
        }
    }
}

fn value_from(from: &Cursor<'_>, variable: &Cursor<'_>) {
    let sources: Vec<_> = SOURCES.iter().map(|name| (*name, from.field(name))).filter(|(_, s)| s.exists()).collect();
    for (name, source) in &sources {
        match *name {
            "fieldRef" => field_ref(source, &ENV_FIELDS),
            "resourceFieldRef" => resource_ref(source, true),
            "configMapKeyRef" | "secretKeyRef" => key_ref(source),
            _ => {
                for name in ["volumeName", "path", "key"] {
                    source.field(name).required();
                }
            }
        }
    }
    if sources.is_empty() {
        from.invalid_value(
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        );
    } else if !variable.field("value").is_empty() {
        from.invalid_value("", "may not be specified when `value` is not empty");
    } else if sources.len() > 1 {
        from.invalid_value("", "may not have more than one field specified at a time");
    }
}

/// A key in a ConfigMap or Secret.
fn key_ref(source: &Cursor<'_>) {
    source.field("name").shape(names::dns1123_subdomain);
    source.field("key").required_shape(names::config_map_key);
}

/// Checks `envFrom` of a container.
pub fn sources(list: &Cursor<'_>) {
    for source in list.items() {
        source.field("prefix").optional_shape(names::env_var_name);
        let refs: Vec<_> =
            ["configMapRef", "secretRef"].map(|n| source.field(n)).into_iter().filter(Cursor::exists).collect();
        for reference in &refs {
            reference.field("name").required_shape(names::dns1123_subdomain);
        }
        // Upstream reports these at the list.
        match refs.len() {
            0 => list.invalid_value("", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => list.invalid_value("", "may not have more than one field specified at a time"),
        }
    }
}

/// Checks an item of a downward API volume. Upstream reports what is wrong with it at the volume.
pub fn downward_file(item: &Cursor<'_>, volume: &Cursor<'_>) {
    let at = |name: &'static str| volume.field(name).with_value(item.field(name).value());
    volume_source::local_path(&at("path"));
    let (field, resource) = (at("fieldRef"), at("resourceFieldRef"));
    match (field.exists(), resource.exists()) {
        (true, both) => {
            field_ref(&field, &FILE_FIELDS);
            if both {
                volume.invalid_value("resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
            }
        }
        (false, true) => resource_ref(&resource, false),
        (false, false) => volume.missing("one of fieldRef and resourceFieldRef is required"),
    }
    volume_source::mode(&at("mode"));
}

fn field_ref(source: &Cursor<'_>, shown: &[&str]) {
    if !source.field("apiVersion").required() {
        return;
    }
    let at = source.field("fieldPath");
    if !at.required() {
        return;
    }
    let path = at.str();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        match map {
            "metadata.annotations" => {
                names::qualified_name(&key.to_lowercase()).into_iter().for_each(|p| source.invalid_value(key, p));
            }
            "metadata.labels" => names::qualified_name(key).into_iter().for_each(|p| source.invalid_value(key, p)),
            _ => at.invalid(format!("error converting fieldPath: field label does not support subscript: {path}")),
        }
    } else if !KNOWN_FIELDS.contains(&path) {
        at.invalid(format!("error converting fieldPath: field label not supported: {path}"));
    } else if !shown.contains(&path) {
        at.not_supported(shown);
    }
}

fn resource_ref(source: &Cursor<'_>, in_env: bool) {
    let (container, resource) = (source.field("containerName"), source.field("resource"));
    let name = resource.str();
    let huge_pages = HUGE_PAGES.iter().any(|prefix| name.starts_with(prefix));
    if (in_env || container.required()) && resource.required() && !huge_pages && !RESOURCES.contains(&name) {
        resource.not_supported(&RESOURCES);
    }
    divisor(&source.field("divisor"), name);
}

const HUGE_PAGES: [&str; 2] = ["limits.hugepages-", "requests.hugepages-"];

/// Amounts are given in units that make sense for the resource; of other resources any divisor is taken.
fn divisor(divisor: &Cursor<'_>, resource: &str) {
    const BYTES: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let kind = resource.split_once('.').map_or("", |(_, kind)| kind);
    let allowed: &[&str] = match kind {
        "cpu" => &["1m", "1"],
        "memory" | "ephemeral-storage" => &BYTES,
        _ if HUGE_PAGES.iter().any(|prefix| resource.starts_with(prefix)) => &BYTES,
        _ => return,
    };
    if !matches!(divisor.str(), "" | "0") && !allowed.contains(&divisor.str()) {
        divisor.invalid_value(resource, format!("only divisor's values {} are supported with it", allowed.join(", ")));
    }
}
