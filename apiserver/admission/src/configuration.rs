//! `--admission-control-config-file`: what plugins are told beside flags, an `AdmissionConfiguration` with a piece for each plugin.

use anyhow::{Context, bail, ensure};
use apimachinery::Value;
use serde::Deserialize;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Plugins that have a configuration of their own.
const CONFIGURABLE: [&str; 1] = ["PodSecurity"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AdmissionConfiguration {
    api_version: String,
    kind: String,
    #[serde(default)]
    plugins: Vec<PluginConfiguration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginConfiguration {
    name: String,
    /// Another file, from the folder of this one.
    #[serde(default)]
    path: String,
    configuration: Option<Value>,
}

/// Configurations by the name of their plugin.
pub type Configurations = HashMap<String, Value>;

/// Reads the file and those that it names. A configuration that nobody would heed is an error, not a surprise later.
pub fn read(file: &Path) -> anyhow::Result<Configurations> {
    let about = || format!("reading the admission configuration {}", file.display());
    let text = fs::read_to_string(file).with_context(about)?;
    parse(&text, file.parent().unwrap_or(Path::new(""))).with_context(about)
}

fn parse(text: &str, folder: &Path) -> anyhow::Result<Configurations> {
    let configuration: AdmissionConfiguration = serde_yaml_ng::from_str(text)?;
    let known = matches!(&*configuration.api_version, "apiserver.config.k8s.io/v1" | "apiserver.k8s.io/v1alpha1");
    ensure!(
        known && configuration.kind == "AdmissionConfiguration",
        "it is a {} of {}, not an AdmissionConfiguration of apiserver.config.k8s.io/v1",
        configuration.kind,
        configuration.api_version
    );
    let mut plugins = Configurations::new();
    for PluginConfiguration { name, path, configuration } in configuration.plugins {
        let configuration = match configuration {
            Some(configuration) => configuration,
            None if path.is_empty() => continue,
            None => {
                let path = folder.join(path);
                let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
                serde_yaml_ng::from_str(&text).with_context(|| format!("in {}", path.display()))?
            }
        };
        if !CONFIGURABLE.contains(&&*name) {
            bail!("the plugin {name} takes no configuration here yet; those that do: {}", CONFIGURABLE.join(", "));
        }
        ensure!(plugins.insert(name.clone(), configuration).is_none(), "the plugin {name} is configured twice");
    }
    Ok(plugins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn configurations_stand_in_the_file_or_in_another() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("other.yaml"), "kind: X\n").unwrap();
        let file = |plugins: &str| {
            parse(
                &format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins: {plugins}"),
                folder.path(),
            )
        };
        for (plugins, want) in [
            ("[]", json!({})),
            ("[{name: PodSecurity}]", json!({})),
            ("[{name: PodSecurity, configuration: {kind: Y}}]", json!({"PodSecurity": {"kind": "Y"}})),
            ("[{name: PodSecurity, path: other.yaml}]", json!({"PodSecurity": {"kind": "X"}})),
        ] {
            let found: serde_json::Map<_, _> = file(plugins).unwrap().into_iter().collect();
            assert_eq!(Value::Object(found), want, "{plugins}");
        }
        for (plugins, why) in [
            ("[{name: Other, configuration: {}}]", "the plugin Other takes no configuration"),
            ("[{name: PodSecurity, path: missing.yaml}]", "missing.yaml"),
            ("[{name: PodSecurity, configuration: {}}, {name: PodSecurity, configuration: {}}]", "twice"),
            ("[{nam: PodSecurity}]", "unknown field"),
        ] {
            let error = format!("{:#}", file(plugins).unwrap_err());
            assert!(error.contains(why), "{plugins}: {error}");
        }
        assert!(parse("apiVersion: v1\nkind: ConfigMap\n", folder.path()).is_err());
    }
}
