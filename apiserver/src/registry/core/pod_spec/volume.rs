//! Volumes of a pod and where containers mount them.

use apimachinery::validation::{Cursor, FieldError, names};

use super::env::downward_file;
use super::resources::quantity;
use crate::registry::certificates::pod_certificate_request;

/// Sources of volumes, what each can't do without, in the order errors come.
const SOURCES: &[(&str, &[&str])] = &[
    ("emptyDir", &[]),
    ("hostPath", &["path"]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("quobyte", &["registry", "volume"]),
    ("downwardAPI", &[]),
    ("fc", &[]),
    ("azureFile", &["secretName", "shareName"]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &[]),
    ("projected", &[]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("csi", &["driver"]),
    ("ephemeral", &["volumeClaimTemplate"]),
    ("image", &["reference"]),
];

const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Checks `volumes` of a pod.
pub fn volumes(list: &Cursor<'_>) {
    let mut seen = Vec::new();
    for volume in list.items() {
        let name = volume.field("name");
        if name.required() {
            name.shape(names::dns1123_label);
            if seen.contains(&name.str()) {
                name.duplicate();
            }
            seen.push(name.str());
        }
        let sources: Vec<_> =
            SOURCES.iter().map(|(s, required)| (*s, *required, volume.field(s))).filter(|(.., c)| c.exists()).collect();
        for (i, (source, required, at)) in sources.iter().enumerate() {
            if i > 0 {
                at.forbid("may not specify more than 1 volume type");
                continue;
            }
            for field in *required {
                at.field(field).required();
            }
            self::source(source, at);
        }
        if sources.is_empty() {
            volume.missing("must specify a volume type");
        }
    }
}

fn source(name: &str, at: &Cursor<'_>) {
    match name {
        "emptyDir" => {
            let size = at.field("sizeLimit");
            if quantity(&size).is_some_and(|q| q.sign() < 0) {
                size.forbid("SizeLimit field must be a valid resource quantity");
            }
        }
        "hostPath" => host_path(at),
        "secret" | "configMap" => key_files(at),
        "nfs" if !at.field("path").is_empty() && !at.field("path").str().starts_with('/') => {
            at.field("path").invalid("must be an absolute path");
        }
        "downwardAPI" => {
            mode(&at.field("defaultMode"));
            at.field("items").items().for_each(|item| downward_file(&item));
        }
        "projected" => projected(at),
        "csi" => csi_driver(&at.field("driver")),
        "image" => {
            at.field("pullPolicy").one_of(&["Always", "IfNotPresent", "Never"]);
        }
        "ephemeral" => {
            let template = at.field("volumeClaimTemplate");
            if template.exists() {
                super::super::persistent_volume_claim::spec(&template.field("spec"));
            }
        }
        "gitRepo" => {
            let directory = at.field("directory");
            if !directory.is_empty() {
                local_path(&directory);
            }
        }
        _ => {}
    }
}

/// Checks a path on the host.
pub fn host_path(at: &Cursor<'_>) {
    no_backsteps(&at.field("path"));
    at.field("type").one_of(&HOST_PATH_TYPES);
}

/// Drivers are named like domains, in any case.
pub fn csi_driver(driver: &Cursor<'_>) {
    if driver.is_empty() {
        return;
    }
    if driver.len() > 63 {
        driver.too_long(63);
    }
    names::dns1123_subdomain(&driver.str().to_lowercase()).into_iter().for_each(|problem| driver.invalid(problem));
}

/// Keys of a ConfigMap or Secret as files.
fn key_files(at: &Cursor<'_>) {
    mode(&at.field("defaultMode"));
    for item in at.field("items").items() {
        item.field("key").required();
        local_path(&item.field("path"));
        mode(&item.field("mode"));
    }
}

fn projected(at: &Cursor<'_>) {
    mode(&at.field("defaultMode"));
    let mut paths = Vec::new();
    for source in at.field("sources").items() {
        let kinds =
            ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
        let set: Vec<_> = kinds.iter().map(|k| (*k, source.field(k))).filter(|(_, c)| c.exists()).collect();
        for (i, (kind, c)) in set.iter().enumerate() {
            if i > 0 {
                c.forbid("may not specify more than 1 volume type");
                continue;
            }
            let mut files: Vec<Cursor<'_>> = c.field("items").items().map(|item| item.field("path")).collect();
            match *kind {
                "secret" | "configMap" => {
                    c.field("name").required();
                    key_files(c);
                }
                "downwardAPI" => c.field("items").items().for_each(|item| downward_file(&item)),
                "serviceAccountToken" => {
                    token(c);
                    files.push(c.field("path"));
                }
                "clusterTrustBundle" => {
                    local_path(&c.field("path"));
                    files.push(c.field("path"));
                    if c.field("name").exists() == c.field("signerName").exists() {
                        c.invalid("either name or signerName must be specified, not both");
                    }
                }
                _ => {
                    pod_certificate_request::projection(c);
                    let paths = ["credentialBundlePath", "keyPath", "certificateChainPath"];
                    files.extend(paths.map(|name| c.field(name)).into_iter().filter(Cursor::exists));
                    files.iter().for_each(local_path);
                    if files.is_empty() {
                        c.missing("must specify at least one of: credentialBundlePath, keyPath, certificateChainPath");
                    }
                }
            }
            for file in files.iter().filter(|f| !f.is_empty()) {
                if paths.contains(&file.str()) {
                    file.invalid("conflicting duplicate paths");
                }
                paths.push(file.str());
            }
        }
        if set.is_empty() {
            source.missing("must specify at least one of: secret, configMap, downwardAPI, serviceAccountToken");
        }
    }
}

fn token(c: &Cursor<'_>) {
    let seconds = c.field("expirationSeconds");
    match seconds.i64().unwrap_or(3600) {
        n if n < 600 => seconds.invalid("may not specify a duration less than 10 minutes"),
        n if n > 1 << 32 => seconds.invalid("may not specify a duration larger than 2^32 seconds"),
        _ => {}
    }
    c.field("path").required();
    no_backsteps(&c.field("path"));
}

/// File permissions.
pub fn mode(mode: &Cursor<'_>) {
    if mode.i64().is_some_and(|m| !(0..=0o777).contains(&m)) {
        mode.invalid("must be a number between 0 and 0777 (octal), both inclusive");
    }
}

/// A relative path that stays inside the volume and clear of the files that the kubelet itself keeps there.
pub fn local_path(path: &Cursor<'_>) {
    if !path.required() {
        return;
    }
    if path.str().starts_with('/') {
        path.invalid("must be a relative path");
    }
    no_backsteps(path);
    if path.str().starts_with("..") && !path.str().starts_with("../") && path.str() != ".." {
        path.invalid("must not start with '..'");
    }
}

fn no_backsteps(path: &Cursor<'_>) {
    if path.str().split('/').any(|part| part == "..") {
        path.invalid("must not contain '..'");
    }
}

/// Checks `volumeMounts` of a container against the pod's volumes.
pub fn mounts(list: &Cursor<'_>, devices: &Cursor<'_>, volumes: &Cursor<'_>) {
    let known = |name: &str| volumes.array().iter().any(|v| v["name"] == name);
    let mut paths = Vec::new();
    for mount in list.items() {
        let (name, path) = (mount.field("name"), mount.field("mountPath"));
        if name.required() && !known(name.str()) {
            name.not_found();
        }
        path.required();
        if paths.contains(&path.str()) {
            path.invalid("must be unique");
        }
        paths.push(path.str());
        if devices.array().iter().any(|d| d["name"] == name.str()) {
            name.invalid("must not already exist in volumeDevices");
        }
        if devices.array().iter().any(|d| d["devicePath"] == path.str()) {
            path.invalid("must not already exist as a path in volumeDevices");
        }
        let (sub, expression) = (mount.field("subPath"), mount.field("subPathExpr"));
        for sub in [&sub, &expression] {
            if sub.str().starts_with('/') {
                sub.invalid("must be a relative path");
            }
            no_backsteps(sub);
        }
        if !sub.is_empty() && !expression.is_empty() {
            expression.invalid("subPathExpr and subPath are mutually exclusive");
        }
        mount.field("mountPropagation").one_of(&["Bidirectional", "HostToContainer", "None"]);
        recursive_read_only(&mount);
    }
}

fn recursive_read_only(mount: &Cursor<'_>) {
    let recursive = mount.field("recursiveReadOnly");
    match recursive.str() {
        "" | "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.field("readOnly").bool() {
                recursive.forbid("may only be specified when readOnly is true");
            }
            if !matches!(mount.field("mountPropagation").str(), "" | "None") {
                recursive.forbid("may only be specified when mountPropagation is None or not specified");
            }
        }
        _ => recursive.not_supported(&["Disabled", "Enabled", "IfPossible"]),
    }
}

/// Checks `volumeDevices` of a container: only claims are block devices.
pub fn devices(list: &Cursor<'_>, mounts: &Cursor<'_>, volumes: &Cursor<'_>) {
    let (mut names, mut paths) = (Vec::new(), Vec::new());
    for device in list.items() {
        let (name, path) = (device.field("name"), device.field("devicePath"));
        let volume = volumes.array().iter().find(|v| v["name"] == name.str());
        name.required();
        if names.contains(&name.str()) {
            name.invalid("must be unique");
        }
        names.push(name.str());
        match volume {
            Some(v) if v.get("persistentVolumeClaim").is_none() && v.get("ephemeral").is_none() => {
                name.invalid("can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode");
            }
            None if !name.is_empty() => name.not_found(),
            _ => {}
        }
        path.required();
        if paths.contains(&path.str()) {
            path.invalid("must be unique");
        }
        paths.push(path.str());
        no_backsteps(&path);
        if mounts.array().iter().any(|m| m["name"] == name.str()) {
            name.invalid("must not already exist in volumeMounts");
        }
        if mounts.array().iter().any(|m| m["mountPath"] == path.str()) {
            path.push(FieldError::invalid(path.path(), path.str(), "must not already exist as a path in volumeMounts"));
        }
    }
}
