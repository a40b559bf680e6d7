//! `PodSecurityConfiguration`: what holds in namespaces without labels, and who is exempt.

use super::policy::Policies;
use anyhow::{anyhow, ensure};
use apimachinery::Value;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};

const GROUP: &str = "pod-security.admission.config.k8s.io/";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PodSecurityConfiguration {
    api_version: String,
    kind: String,
    #[serde(default)]
    defaults: BTreeMap<String, String>,
    #[serde(default)]
    exemptions: Exemptions,
}

/// Whose requests, and which pods, are not checked.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Exemptions {
    pub usernames: HashSet<String>,
    pub namespaces: HashSet<String>,
    pub runtime_classes: HashSet<String>,
}

pub fn read(configuration: &Value) -> anyhow::Result<(Policies, Exemptions)> {
    let configuration = PodSecurityConfiguration::deserialize(configuration)?;
    let version = configuration.api_version.strip_prefix(GROUP);
    ensure!(
        matches!(version, Some("v1" | "v1beta1" | "v1alpha1")) && configuration.kind == "PodSecurityConfiguration",
        "it is a {} of {}, not a PodSecurityConfiguration of {GROUP}v1",
        configuration.kind,
        configuration.api_version
    );
    let known = |key: &str| matches!(key.strip_suffix("-version").unwrap_or(key), "enforce" | "audit" | "warn");
    for key in configuration.defaults.keys() {
        ensure!(known(key), "defaults.{key}: unknown field");
    }
    let defaults = serde_json::to_value(configuration.defaults)?;
    Ok((Policies::of_configuration(&defaults).map_err(|why| anyhow!(why))?, configuration.exemptions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_and_exemptions_are_read() {
        let (defaults, exemptions) = read(&json!({
            "apiVersion": "pod-security.admission.config.k8s.io/v1",
            "kind": "PodSecurityConfiguration",
            "defaults": {"enforce": "baseline", "enforce-version": "latest", "warn": "restricted"},
            "exemptions": {"usernames": ["root"], "namespaces": ["kube-system"], "runtimeClasses": ["vm"]},
        }))
        .unwrap();
        assert_eq!(
            [defaults.enforce, defaults.audit, defaults.warn].map(|p| p.name()),
            ["baseline:latest", "privileged:latest", "restricted:latest"]
        );
        assert!(exemptions.usernames.contains("root") && exemptions.runtime_classes.contains("vm"));
        for (path, value) in [
            ("/kind", json!("Other")),
            ("/apiVersion", json!("v1")),
            ("/defaults", json!({"enforce": "loose"})),
            ("/defaults", json!({"enforces": "baseline"})),
            ("/exemptions", json!({"users": []})),
        ] {
            let mut wrong = json!({"apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration", "defaults": {}, "exemptions": {}});
            *wrong.pointer_mut(path).unwrap() = value;
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }
}
