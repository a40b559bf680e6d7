//! Kinds of volumes, which pods and persistent volumes have in common: a row each says what it can't do without and what else holds.

use apimachinery::validation::{Cursor, names};

use super::pod_spec::resources::quantity;

/// Who has the volume. References to secrets name a namespace in persistent volumes, which have none of their own.
#[derive(Clone, Copy, PartialEq)]
pub enum Owner {
    Pod,
    PersistentVolume,
}

/// A kind of volume.
pub struct Source {
    /// The member that it is in.
    pub member: &'static str,
    /// Its name in the paths of errors, which upstream does not always take from the API.
    path: &'static str,
    required: &'static [&'static str],
    rules: fn(&Cursor<'_>, Owner),
}

impl Source {
    /// A kind with rules beyond what it can't do without.
    pub const fn new(member: &'static str, required: &'static [&'static str], rules: fn(&Cursor<'_>, Owner)) -> Source {
        Source { member, path: member, required, rules }
    }

    const fn plain(member: &'static str, required: &'static [&'static str]) -> Source {
        Source::new(member, required, |_, _| {})
    }
}

/// Kinds that both may have, in the order in which errors come.
pub const SOURCES: &[Source] = &[
    Source::new("emptyDir", &[], |at, _| {
        if quantity(&at.field("sizeLimit")).is_some_and(|q| q.sign() < 0) {
            at.field("sizeLimit").forbid("SizeLimit field must be a valid resource quantity");
        }
    }),
    Source::new("hostPath", &["path"], |at, _| host_path(at)),
    Source::new("gitRepo", &["repository"], |at, _| descending_path(&at.field("directory"))),
    Source { path: "persistentDisk", ..Source::new("gcePersistentDisk", &["pdName"], |at, _| partition(at)) },
    Source::new("awsElasticBlockStore", &["volumeID"], |at, _| partition(at)),
    Source::new("nfs", &["server", "path"], |at, _| {
        if !at.field("path").str().starts_with('/') {
            at.field("path").invalid_value(at.field("path").str(), "must be an absolute path");
        }
    }),
    Source::new("iscsi", &["targetPortal", "iqn"], iscsi),
    Source::new("glusterfs", &["endpoints", "path"], |at, _| {
        let namespace = at.field("endpointsNamespace");
        if namespace.exists() {
            namespace.shape(names::dns1123_label);
        }
    }),
    Source::new("flocker", &[], |at, _| flocker(at)),
    Source::plain("persistentVolumeClaim", &["claimName"]),
    Source::plain("rbd", &["monitors", "image"]),
    Source::new("cinder", &["volumeID"], |at, owner| secret_ref(&at.field("secretRef"), owner)),
    Source::plain("cephfs", &["monitors"]),
    Source::new("quobyte", &["registry", "volume"], |at, _| quobyte(at)),
    Source::new("fc", &[], |at, _| fibre_channel(at)),
    Source::new("flexVolume", &["driver"], |at, _| flex_options(&at.field("options"))),
    Source::new("azureFile", &["secretName", "shareName"], |at, _| {
        if at.field("secretNamespace").exists() {
            at.field("secretNamespace").required();
        }
    }),
    Source::plain("vsphereVolume", &["volumePath"]),
    Source::plain("photonPersistentDisk", &["pdID"]),
    Source::plain("portworxVolume", &["volumeID"]),
    Source::new("azureDisk", &["diskName", "diskURI"], |at, _| azure_disk(at)),
    Source::plain("scaleIO", &["gateway", "system", "volumeName"]),
    Source::new("storageos", &["volumeName"], |at, owner| {
        at.field("volumeName").optional_shape(names::dns1123_label);
        at.field("volumeNamespace").optional_shape(names::dns1123_label);
        secret_ref(&at.field("secretRef"), owner);
    }),
    Source::new("csi", &["driver"], csi),
];

/// Checks the source of a volume that is one of `sources`, of which it must have exactly one. The one that counts is returned.
pub fn validate<'a>(
    volume: &Cursor<'a>,
    sources: &[&'static Source],
    owner: Owner,
) -> Option<(&'static Source, Cursor<'a>)> {
    let mut found = None;
    for source in sources {
        let value = volume.field(source.member);
        if !value.exists() {
            continue;
        }
        if found.is_some() {
            value.forbid("may not specify more than 1 volume type");
            continue;
        }
        let at = volume.field(source.path).with_value(value.value());
        for field in source.required {
            at.field(field).required();
        }
        (source.rules)(&at, owner);
        found = Some((*source, at));
    }
    if found.is_none() {
        volume.missing("must specify a volume type");
    }
    found
}

/// Checks a path on the host.
pub fn host_path(at: &Cursor<'_>) {
    const TYPES: [&str; 8] =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    if !at.field("path").is_empty() {
        no_backsteps(&at.field("path"));
        at.field("type").one_of(&TYPES);
    }
}

/// Partitions of disks are numbered from 1; 0 is the whole disk.
fn partition(at: &Cursor<'_>) {
    at.field("partition").range(0, 255);
}

fn secret_ref(reference: &Cursor<'_>, owner: Owner) {
    if reference.exists() {
        reference.field("name").required();
        if owner == Owner::PersistentVolume {
            reference.field("namespace").required();
        }
    }
}

fn iscsi(at: &Cursor<'_>, owner: Owner) {
    let (iqn, initiator) = (at.field("iqn"), at.field("initiatorName"));
    if !iqn.is_empty() && !is_iscsi_name(iqn.str()) {
        iqn.invalid("must be valid format starting with iqn, eui, or naa");
    }
    at.field("lun").range(0, 255);
    if at.field("chapAuthDiscovery").bool() || at.field("chapAuthSession").bool() {
        at.field("secretRef").required();
    }
    if owner == Owner::PersistentVolume && at.field("secretRef").exists() {
        at.dig("secretRef.name").required();
    }
    if initiator.exists() && !is_iscsi_name(initiator.str()) {
        let name = initiator.str();
        at.field("initiatorname").invalid_value(name, "must be valid format starting with iqn, eui, or naa");
    }
}

/// Whether a name is one of the three forms of RFC 3721 §1.1, as strictly as upstream takes them.
fn is_iscsi_name(name: &str) -> bool {
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let numbered = |prefix: &str, count| {
        let rest = name.strip_prefix(prefix).and_then(|rest| rest.get(1..));
        rest.is_some_and(|id| id.len() == count && id.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    let qualified = || {
        let (date, rest) = name.strip_prefix("iqn.")?.split_once('.')?;
        let (year, month) = date.split_once('-')?;
        let (authority, label) = rest.split_once(':')?;
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '[' | ']' | ':');
        let plain = |c: char| !c.is_ascii_whitespace() && !",;*&$|".contains(c);
        let fits = digits(year, 4) && digits(month, 2) && !authority.is_empty() && authority.chars().all(known);
        (fits && !label.is_empty() && label.chars().all(plain)).then_some(())
    };
    match name.get(..3) {
        Some("iqn") => qualified().is_some(),
        Some("eui") => numbered("eui", 16),
        Some("naa") => numbered("naa", 32),
        _ => false,
    }
}

fn flocker(at: &Cursor<'_>) {
    let (name, uuid) = (at.field("datasetName"), at.field("datasetUUID"));
    match (name.is_empty(), uuid.is_empty()) {
        (true, true) => at.missing("one of datasetName and datasetUUID is required"),
        (false, false) => {
            at.invalid_value("resource", "datasetName and datasetUUID can not be specified simultaneously")
        }
        _ => {}
    }
    if name.str().contains('/') {
        name.invalid("must not contain '/'");
    }
}

fn quobyte(at: &Cursor<'_>) {
    let registry = at.field("registry");
    if registry.is_empty() {
        return;
    }
    if at.field("tenant").len() >= 65 {
        at.field("tenant").missing("must be a UUID and may not exceed a length of 64 characters");
        return;
    }
    let host_and_port = |pair: &str| match pair.rsplit_once(':') {
        Some((host, _)) => !host.contains(':') || host.starts_with('[') && host.ends_with(']'),
        None => false,
    };
    for _ in registry.str().split(',').filter(|pair| !host_and_port(pair)) {
        registry.invalid("must be a host:port pair or multiple pairs separated by commas");
    }
}

fn fibre_channel(at: &Cursor<'_>) {
    let (names, ids) = (at.field("targetWWNs"), at.field("wwids"));
    match (names.is_empty(), ids.is_empty()) {
        (true, true) => names.missing("must specify either targetWWNs or wwids, but not both"),
        (false, false) => names.invalid("targetWWNs and wwids can not be specified simultaneously"),
        _ => {}
    }
    if !names.is_empty() {
        match at.field("lun").exists() {
            true => drop(at.field("lun").range(0, 255)),
            false => at.field("lun").missing("lun is required if targetWWNs is specified"),
        }
    }
}

/// Options in Kubernetes' own namespaces are the kubelet's to set.
fn flex_options(options: &Cursor<'_>) {
    for (key, option) in options.entries() {
        let domain = key.split_once('/').map_or(key, |(domain, _)| domain).to_lowercase();
        let reserved = |own: &str| domain.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if reserved("kubernetes.io") || reserved("k8s.io") {
            option.invalid_value(key, "kubernetes.io and k8s.io namespaces are reserved");
        }
    }
}

fn azure_disk(at: &Cursor<'_>) {
    at.field("cachingMode").one_of(&["None", "ReadOnly", "ReadWrite"]);
    at.field("kind").one_of(&["Dedicated", "Managed", "Shared"]);
    let (kind, uri) = (at.field("kind"), at.field("diskURI"));
    let (start, form) = match kind.str() {
        "Managed" => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        _ => ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"),
    };
    if kind.exists() && !uri.str().starts_with(start) {
        uri.not_supported(&[form]);
    }
}

fn csi(at: &Cursor<'_>, owner: Owner) {
    csi_driver(&at.field("driver"));
    if owner == Owner::PersistentVolume {
        at.field("volumeHandle").required();
        for name in
            ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"]
        {
            let reference = at.field(name);
            if reference.exists() {
                reference.field("name").required_shape(names::dns1123_subdomain);
                reference.field("namespace").required_shape(names::dns1123_label);
            }
        }
        return;
    }
    let reference = at.field("nodePublishSecretRef");
    if reference.exists() && reference.field("name").required() {
        // Upstream names the member without the reference that it is in.
        let name = at.field("name").with_value(reference.field("name").value());
        name.shape(names::dns1123_subdomain);
    }
}

/// Drivers are named like domains, in any case.
pub fn csi_driver(driver: &Cursor<'_>) {
    if driver.is_empty() {
        return;
    }
    driver.bytes_max(63);
    names::dns1123_subdomain(&driver.str().to_lowercase()).into_iter().for_each(|problem| driver.invalid(problem));
}

/// File permissions.
pub fn mode(mode: &Cursor<'_>) {
    if mode.i64().is_some_and(|m| !(0..=0o777).contains(&m)) {
        mode.invalid("must be a number between 0 and 0777 (octal), both inclusive");
    }
}

/// A path that must be there and is [local](non_reserved_path).
pub fn local_path(path: &Cursor<'_>) {
    if path.required() {
        non_reserved_path(path);
    }
}

/// A relative path that stays inside the volume and clear of the files that the kubelet itself keeps there.
pub fn non_reserved_path(path: &Cursor<'_>) {
    descending_path(path);
    if path.str().starts_with("..") && !path.str().starts_with("../") {
        path.invalid("must not start with '..'");
    }
}

/// A relative path that stays inside the volume.
pub fn descending_path(path: &Cursor<'_>) {
    if path.str().starts_with('/') {
        path.invalid("must be a relative path");
    }
    no_backsteps(path);
}

/// A path that does not go up.
pub fn no_backsteps(path: &Cursor<'_>) {
    if path.str().split('/').any(|part| part == "..") {
        path.invalid("must not contain '..'");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::validation::Errors;
    use serde_json::json;

    #[test]
    fn iscsi_names_have_three_forms() {
        for (name, valid) in [
            ("iqn.2003-01.org.linux-iscsi:x", true),
            ("iqn.03-01.org:x", false),
            ("iqn.2003-01.org", false),
            ("iqn.2003-01.org:a b", false),
            ("eui.02004567A425678D", true),
            ("eui.02004567", false),
            ("naa.52004567BA64678D52004567BA64678D", true),
            ("other", false),
        ] {
            assert_eq!(is_iscsi_name(name), valid, "{name}");
        }
    }

    #[test]
    fn each_kind_of_volume_has_its_rules() {
        for (volume, owner, wanted) in [
            (json!({"nfs": {"server": "s", "path": "x"}}), Owner::Pod, vec!["nfs.path Invalid"]),
            (json!({"gcePersistentDisk": {}}), Owner::Pod, vec!["persistentDisk.pdName Required"]),
            (json!({"fc": {"targetWWNs": ["a"]}}), Owner::Pod, vec!["fc.lun Required"]),
            (
                json!({"flexVolume": {"driver": "d", "options": {"x.k8s.io/a": ""}}}),
                Owner::Pod,
                vec!["flexVolume.options[x.k8s.io/a] Invalid"],
            ),
            (json!({"cinder": {"volumeID": "v", "secretRef": {"name": "s"}}}), Owner::Pod, vec![]),
            (
                json!({"cinder": {"volumeID": "v", "secretRef": {"name": "s"}}}),
                Owner::PersistentVolume,
                vec!["cinder.secretRef.namespace Required"],
            ),
            (json!({"hostPath": {"path": "/"}, "nfs": {}}), Owner::Pod, vec!["nfs Forbidden"]),
            (json!({}), Owner::Pod, vec!["<nil> Required"]),
        ] {
            let errors = Errors::new();
            validate(&Cursor::root(&volume, &errors), &SOURCES.iter().collect::<Vec<_>>(), owner);
            let found: Vec<String> = errors
                .into_vec()
                .iter()
                .map(|e| format!("{} {}", e.field, e.kind.reason().trim_start_matches("FieldValue")))
                .collect();
            assert_eq!(found, wanted, "{volume}");
        }
    }
}
