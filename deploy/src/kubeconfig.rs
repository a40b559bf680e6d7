//! Kubeconfigs of the components, and the admin's place among those the user has already.

use crate::layout::{ADMIN_CONF, KUBERNETES};
use crate::pki::{Authority, Leaf, write};
use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Name of cluster, user and context in the user's kubeconfig.
pub const CONTEXT: &str = "ferrokube";

/// (file, common name, organization): who gets a kubeconfig.
const COMPONENTS: &[(&str, &str, Option<&str>)] = &[
    ("admin.conf", "kubernetes-admin", Some("kubeadm:cluster-admins")),
    ("super-admin.conf", "kubernetes-super-admin", Some("system:masters")),
    ("controller-manager.conf", "system:kube-controller-manager", None),
    ("scheduler.conf", "system:kube-scheduler", None),
];

/// Writes the kubeconfigs that are missing.
pub fn ensure(ca: &Authority, server: &str, node: &str) -> anyhow::Result<()> {
    let kubelet = format!("system:node:{node}");
    let all = COMPONENTS.iter().copied().chain([("kubelet.conf", kubelet.as_str(), Some("system:nodes"))]);
    for (file, common_name, organization) in all {
        let path = format!("{KUBERNETES}/{file}");
        if Path::new(&path).exists() {
            continue;
        }
        let signed = ca.sign(&Leaf { common_name, organization, names: vec![], server: false, client: true })?;
        let user = json!({
            "client-certificate-data": STANDARD.encode(&signed.cert_pem),
            "client-key-data": STANDARD.encode(&signed.key_pem),
        });
        let config = kubeconfig(&ca.cert_pem, server, "kubernetes", common_name, user);
        write(&path, &serde_yaml_ng::to_string(&config)?, 0o600)?;
    }
    Ok(())
}

/// A kubeconfig with one cluster, one user and one context.
pub fn kubeconfig(ca_pem: &str, server: &str, cluster: &str, user_name: &str, user: Value) -> Value {
    let context = format!("{user_name}@{cluster}");
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(ca_pem)}}],
        "users": [{"name": user_name, "user": user}],
        "contexts": [{"name": context, "context": {"cluster": cluster, "user": user_name}}],
        "current-context": context,
    })
}

/// The user's kubeconfig: the first of `$KUBECONFIG`, else `~/.kube/config`.
pub fn user_path() -> anyhow::Result<PathBuf> {
    if let Some(first) =
        std::env::var("KUBECONFIG").ok().and_then(|v| v.split(':').find(|p| !p.is_empty()).map(PathBuf::from))
    {
        return Ok(first);
    }
    let home = std::env::var("HOME").context("HOME is not set; set KUBECONFIG to say where your kubeconfig is")?;
    Ok(PathBuf::from(home).join(".kube/config"))
}

/// Puts the admin of this cluster into the user's kubeconfig as the current context; other clusters stay as they are.
pub fn merge_into_users() -> anyhow::Result<PathBuf> {
    let path = user_path()?;
    let admin: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(ADMIN_CONF)?)?;
    let mut config = without_ours(&path)?;
    let entry = |list: &str, member: &str| json!({"name": CONTEXT, member: admin[list][0][member]});
    for (list, member) in [("clusters", "cluster"), ("users", "user")] {
        push(&mut config, list, entry(list, member));
    }
    push(&mut config, "contexts", json!({"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}));
    config["current-context"] = CONTEXT.into();
    save(&path, &config)?;
    Ok(path)
}

/// Takes this cluster out of the user's kubeconfig; a file that holds nothing else goes away.
pub fn remove_from_users() -> anyhow::Result<()> {
    let path = user_path()?;
    if !path.exists() {
        return Ok(());
    }
    let mut config = without_ours(&path)?;
    if config["clusters"].as_array().is_none_or(Vec::is_empty) && config["users"].as_array().is_none_or(Vec::is_empty) {
        return std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()));
    }
    if config["current-context"] == CONTEXT {
        config["current-context"] = "".into();
    }
    save(&path, &config)
}

fn without_ours(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let parsed: Value = serde_yaml_ng::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    let mut config = if parsed.is_object() { parsed } else { json!({"apiVersion": "v1", "kind": "Config"}) };
    for list in ["clusters", "users", "contexts"] {
        if let Some(items) = config[list].as_array_mut() {
            items.retain(|item| item["name"] != CONTEXT);
        }
    }
    Ok(config)
}

fn push(config: &mut Value, list: &str, entry: Value) {
    if !config[list].is_array() {
        config[list] = json!([]);
    }
    if let Some(items) = config[list].as_array_mut() {
        items.push(entry);
    }
}

fn save(path: &Path, config: &Value) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    write(&path.to_string_lossy(), &serde_yaml_ng::to_string(config)?, 0o600)
}
