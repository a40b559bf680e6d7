//! Volumes of a pod and where containers mount them.
//!
//! Paths of errors are upstream's, which for some rules leave out the position in the list.

use apimachinery::validation::selector::label_selector;
use apimachinery::validation::{Cursor, names, object_meta};

use super::env::downward_file;
use crate::certificates::{cluster_trust_bundle, pod_certificate_request};
use crate::core::persistent_volume_claim;
use crate::core::volume_source::{
    self, Owner, SOURCES, Source, descending_path, local_path, mode, no_backsteps, non_reserved_path,
};

pub use crate::core::volume_source::csi_driver;

/// Kinds that only pods have.
const POD_SOURCES: &[Source] = &[
    Source::new("secret", &["secretName"], |at, _| key_files(at)),
    Source::new("downwardAPI", &[], |at, _| {
        mode(&at.field("defaultMode"));
        at.field("items").items().for_each(|item| downward_file(&item, at));
    }),
    Source::new("configMap", &["name"], |at, _| key_files(at)),
    Source::new("projected", &[], |at, _| projected(at)),
    Source::new("ephemeral", &["volumeClaimTemplate"], |at, _| ephemeral(&at.field("volumeClaimTemplate"))),
    Source::new("image", &[], |at, _| {
        at.field("pullPolicy").required_one_of(&["Always", "IfNotPresent", "Never"]);
    }),
];

/// A volume in which nothing is wrong: only such ones can be mounted.
pub struct Volume<'a> {
    pub name: &'a str,
    /// Whether it is a claim, which is what can be a block device.
    pub claim: bool,
}

/// Checks `volumes` of a pod of a name, if there is one already, and returns those in which nothing is wrong.
pub fn volumes<'a>(list: &Cursor<'a>, pod_name: Option<&str>) -> Vec<Volume<'a>> {
    let sources: Vec<&'static Source> = SOURCES.iter().chain(POD_SOURCES).collect();
    let created: Vec<String> = pod_name
        .into_iter()
        .flat_map(|pod| list.items().filter(|v| v.field("ephemeral").exists()).map(move |v| (pod, v)))
        .map(|(pod, volume)| format!("{pod}-{}", volume.field("name").str()))
        .collect();
    let mut valid: Vec<Volume<'a>> = Vec::new();
    for volume in list.items() {
        let before = list.errors().len();
        let name = volume.field("name");
        let source = volume_source::validate(&volume, &sources, Owner::Pod).map(|(source, at)| (source.member, at));
        match &source {
            Some(("ephemeral", _)) if !name.is_empty() => {
                if let Some(pod) = pod_name {
                    let claim = format!("{pod}-{}", name.str());
                    names::dns1123_subdomain(&claim)
                        .into_iter()
                        .for_each(|problem| name.invalid(format!("PVC name {claim:?}: {problem}")));
                }
            }
            Some(("iscsi", at))
                if at.field("initiatorName").exists() && name.len() + 1 + at.field("targetPortal").len() > 64 =>
            {
                name.invalid("the name and targetPortal, with a colon, must be under 64 characters if initiatorName is specified");
            }
            _ => {}
        }
        name.required_shape(names::dns1123_label);
        if valid.iter().any(|v| v.name == name.str()) {
            name.duplicate();
        }
        if list.errors().len() == before {
            let claim = matches!(source, Some(("persistentVolumeClaim" | "ephemeral", _)));
            valid.push(Volume { name: name.str(), claim });
        }
        let claim_name = volume.dig("persistentVolumeClaim.claimName");
        if created.iter().any(|created| created == claim_name.str()) {
            claim_name.invalid("must not reference a PVC that gets created for an ephemeral volume");
        }
    }
    valid
}

fn ephemeral(template: &Cursor<'_>) {
    if template.exists() {
        object_meta::labels(&template.dig("metadata.labels"));
        object_meta::annotations(&template.dig("metadata.annotations"));
        persistent_volume_claim::spec(&template.field("spec"));
    }
}

/// Keys of a ConfigMap or Secret as files.
fn key_files(at: &Cursor<'_>) {
    mode(&at.field("defaultMode"));
    at.field("items").items().for_each(|item| key_file(&item));
}

fn key_file(item: &Cursor<'_>) {
    item.field("key").required();
    local_path(&item.field("path"));
    mode(&item.field("mode"));
}

fn projected(at: &Cursor<'_>) {
    const KINDS: [&str; 6] =
        ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
    mode(&at.field("defaultMode"));
    let mut paths = Vec::new();
    for source in at.field("sources").items() {
        let set: Vec<_> = KINDS.iter().map(|kind| (*kind, source.field(kind))).filter(|(_, c)| c.exists()).collect();
        for (kind, c) in &set {
            let mut files: Vec<Cursor<'_>> = c.field("items").items().map(|item| item.field("path")).collect();
            match *kind {
                "secret" | "configMap" => {
                    c.field("name").required();
                    c.field("items").items().for_each(|item| key_file(&item));
                }
                "downwardAPI" => c.field("items").items().for_each(|item| downward_file(&item, c)),
                "serviceAccountToken" => token(c, at),
                "clusterTrustBundle" => {
                    trust_bundle(c);
                    files.push(c.field("path"));
                }
                _ => {
                    pod_certificate_request::projection(c);
                    let members = ["credentialBundlePath", "keyPath", "certificateChainPath"];
                    files = members.map(|name| c.field(name)).into_iter().filter(|path| !path.is_empty()).collect();
                    files.iter().for_each(non_reserved_path);
                    if files.is_empty() {
                        c.missing("specify at least one of credentialBundlePath, keyPath, and certificateChainPath");
                    }
                }
            }
            for file in files.iter().filter(|file| !file.is_empty()) {
                if paths.contains(&file.str()) {
                    at.invalid_value(file.str(), "conflicting duplicate paths");
                }
                paths.push(file.str());
            }
        }
        if set.len() > 1 {
            source.forbid("may not specify more than 1 volume type per source");
        }
    }
}

fn token(c: &Cursor<'_>, volume: &Cursor<'_>) {
    let seconds = c.field("expirationSeconds");
    match seconds.i64().unwrap_or(3600) {
        n if n < 600 => seconds.invalid("may not specify a duration less than 10 minutes"),
        n if n > 1 << 32 => seconds.invalid("may not specify a duration larger than 2^32 seconds"),
        _ => {}
    }
    local_path(&volume.field("path").with_value(c.field("path").value()));
}

fn trust_bundle(c: &Cursor<'_>) {
    let (name, signer) = (c.field("name"), c.field("signerName"));
    match (name.exists(), signer.exists()) {
        (true, true) => c.invalid("only one of name and signerName may be used"),
        (true, false) => {
            name.required_because("must be a valid object name");
            cluster_trust_bundle::name_of_bundle(&name);
            if c.field("labelSelector").exists() {
                c.field("labelSelector").invalid("labelSelector must be unset if name is specified");
            }
        }
        (false, true) => {
            signer.required_because("must be a valid signer name");
            signer.shape(names::domain_prefixed_path);
            label_selector(&c.field("labelSelector"));
        }
        (false, false) => c.missing("either name or signerName must be specified"),
    }
    local_path(&c.field("path"));
}

/// Checks `volumeMounts` of a container against the pod's volumes.
pub fn mounts(container: &Cursor<'_>, volumes: &[Volume<'_>]) {
    let (list, devices) = (container.field("volumeMounts"), container.field("volumeDevices"));
    let mut paths = Vec::new();
    for mount in list.items() {
        let (name, path) = (mount.field("name"), mount.field("mountPath"));
        name.required();
        if !volumes.iter().any(|volume| volume.name == name.str()) {
            name.push(apimachinery::validation::FieldError::not_found(name.path(), name.str()));
        }
        path.required();
        if paths.contains(&path.str()) {
            path.invalid("must be unique");
        }
        paths.push(path.str());
        if devices.array().iter().any(|device| device["name"] == name.str()) {
            name.invalid("must not already exist in volumeDevices");
        }
        if devices.array().iter().any(|device| device["devicePath"] == path.str()) {
            path.invalid("must not already exist as a path in volumeDevices");
        }
        let (sub, expression) = (mount.field("subPath"), mount.field("subPathExpr"));
        descending_path(&list.field("subPath").with_value(sub.value()));
        descending_path(&list.field("subPathExpr").with_value(expression.value()));
        if !sub.is_empty() && !expression.is_empty() {
            expression.invalid("subPathExpr and subPath are mutually exclusive");
        }
        let propagation = list.field("mountPropagation").with_value(mount.field("mountPropagation").value());
        propagation.one_of(&["Bidirectional", "HostToContainer", "None"]);
        if propagation.str() == "Bidirectional" && !container.dig("securityContext.privileged").bool() {
            propagation.forbid("Bidirectional mount propagation is available only to privileged containers");
        }
        recursive_read_only(&mount, &list);
    }
}

fn recursive_read_only(mount: &Cursor<'_>, list: &Cursor<'_>) {
    let recursive = list.field("recursiveReadOnly").with_value(mount.field("recursiveReadOnly").value());
    match recursive.opt_str() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.field("readOnly").bool() {
                recursive.forbid("may only be specified when readOnly is true");
            }
            if !matches!(mount.field("mountPropagation").opt_str(), None | Some("None")) {
                recursive.forbid("may only be specified when mountPropagation is None or not specified");
            }
        }
        Some(_) => recursive.not_supported(&["Disabled", "Enabled", "IfPossible"]),
    }
}

/// Checks `volumeDevices` of a container: only claims are block devices.
pub fn devices(container: &Cursor<'_>, volumes: &[Volume<'_>]) {
    let (list, mounts) = (container.field("volumeDevices"), container.field("volumeMounts"));
    let (mut names, mut paths) = (Vec::new(), Vec::new());
    for device in list.items() {
        let (name, path) = (device.field("name"), device.field("devicePath"));
        name.required();
        if names.contains(&name.str()) {
            name.invalid("must be unique");
        }
        match volumes.iter().find(|volume| volume.name == name.str()) {
            Some(volume) if !volume.claim => {
                name.invalid("can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode");
            }
            Some(_) => {}
            None => name.push(apimachinery::validation::FieldError::not_found(name.path(), name.str())),
        }
        path.required();
        if paths.contains(&path.str()) {
            path.invalid("must be unique");
        }
        no_backsteps(&path);
        if mounts.array().iter().any(|mount| mount["name"] == name.str()) {
            name.invalid("must not already exist in volumeMounts");
        }
        if mounts.array().iter().any(|mount| mount["mountPath"] == path.str()) {
            path.invalid_value(path.str(), "must not already exist as a path in volumeMounts");
        }
        names.extend((!name.is_empty()).then_some(name.str()));
        paths.push(path.str());
    }
}
