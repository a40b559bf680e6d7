//! What of a kubeconfig concerns the certificate of its user.

use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::pair::Pair;

/// How a user of a kubeconfig is known by a certificate.
#[derive(Debug)]
pub enum ClientCertificate {
    /// The certificate is written out in the kubeconfig.
    Data(Pair),
    /// The kubeconfig names the certificate's files.
    Files(Pair),
    /// The user is known by other means, such as a token.
    None,
}

pub fn read(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_yaml_ng::from_str(&text).with_context(|| format!("parsing {}", path.display()))
}

/// The certificate of the current context's user. Paths are relative to the kubeconfig.
pub fn client_certificate(path: &Path) -> anyhow::Result<ClientCertificate> {
    let config = read(path)?;
    let context = current_context(&config)?;
    let user = named(&config, "users", &context["user"]).context("the current context names no user")?;
    let user = &user["user"];
    let folder = path.parent().unwrap_or(Path::new(""));
    // Data comes before files, as clients of the API server have it.
    let part = |name: &str| -> anyhow::Result<Option<Vec<u8>>> {
        if let Some(data) = text(&user[format!("{name}-data")]) {
            return Ok(Some(STANDARD.decode(data).with_context(|| format!("decoding {name}-data"))?));
        }
        let Some(file) = text(&user[name]) else { return Ok(None) };
        let file = folder.join(file);
        Ok(Some(std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?))
    };
    let (Some(cert), Some(key)) = (part("client-certificate")?, part("client-key")?) else {
        return Ok(ClientCertificate::None);
    };
    let pair = Pair::from_pem(&cert, &key)?;
    Ok(match text(&user["client-certificate-data"]) {
        Some(_) => ClientCertificate::Data(pair),
        None => ClientCertificate::Files(pair),
    })
}

/// The current context's cluster of a bootstrap kubeconfig in `folder`, with a certificate as its user. What the source has
/// relative to its own place is made absolute: the new one has another.
pub fn rewritten(source: &Value, folder: &Path, certificate: &Path) -> anyhow::Result<Value> {
    let context = current_context(source)?;
    let cluster = named(source, "clusters", &context["cluster"]).context("the current context names no cluster")?;
    let mut cluster = cluster["cluster"].clone();
    if let Some(authority) = text(&cluster["certificate-authority"]) {
        cluster["certificate-authority"] = json!(std::path::absolute(folder.join(authority))?);
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "contexts": [{"name": "default-context", "context": {"cluster": "default-cluster", "namespace": "default", "user": "default-auth"}}],
        "current-context": "default-context",
        "users": [{"name": "default-auth", "user": {"client-certificate": certificate, "client-key": certificate}}],
    }))
}

fn current_context(config: &Value) -> anyhow::Result<&Value> {
    let context = named(config, "contexts", &config["current-context"]).context("it has no current context")?;
    Ok(&context["context"])
}

fn named<'a>(config: &'a Value, list: &str, name: &Value) -> Option<&'a Value> {
    config[list].as_array()?.iter().find(|item| &item["name"] == name)
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Template;

    fn source(cluster: Value, user: Value) -> Value {
        json!({
            "current-context": "c",
            "contexts": [{"name": "other", "context": {}}, {"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
        })
    }

    #[test]
    fn the_kubeconfig_keeps_the_cluster_and_takes_the_certificate() {
        for (authority, expected) in [
            (json!("ca.crt"), json!("/etc/kubernetes/ca.crt")),
            (json!("/pki/ca.crt"), json!("/pki/ca.crt")),
            (Value::Null, Value::Null),
        ] {
            let cluster = json!({"server": "https://x:6443", "certificate-authority": authority});
            let source = source(cluster, json!({"token": "secret"}));
            let written =
                rewritten(&source, Path::new("/etc/kubernetes"), Path::new("/pki/current.pem")).expect("written");
            let cluster = &written["clusters"][0]["cluster"];
            assert_eq!(cluster["server"], "https://x:6443");
            assert_eq!(cluster["certificate-authority"], expected);
            assert_eq!(written["users"][0]["user"]["client-key"], "/pki/current.pem");
            assert!(!written.to_string().contains("secret"));
        }
        assert!(rewritten(&json!({}), Path::new("/"), Path::new("/c")).is_err());
    }

    #[test]
    fn the_certificate_of_the_user_is_found_wherever_it_is() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let cert = Template::client("n1").params().and_then(|params| params.self_signed(&key)).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("n1.crt"), cert.pem()).expect("written");
        std::fs::write(folder.path().join("n1.key"), key.serialize_pem()).expect("written");
        let (cert, key) = (STANDARD.encode(cert.pem()), STANDARD.encode(key.serialize_pem()));
        for (user, expected) in [
            (json!({"client-certificate-data": cert, "client-key-data": key}), "data"),
            (json!({"client-certificate": "n1.crt", "client-key": "n1.key"}), "files"),
            (json!({"client-certificate": folder.path().join("n1.crt"), "client-key-data": key}), "files"),
            (json!({"token": "t"}), "none"),
            (json!({"client-certificate": "", "client-key": ""}), "none"),
            (json!({"client-certificate": "n2.crt", "client-key": "n1.key"}), "unusable"),
            (json!({"client-certificate": "n1.key", "client-key": "n1.key"}), "unusable"),
            (json!({"client-certificate-data": "?", "client-key-data": key}), "unusable"),
        ] {
            let path = folder.path().join("kubelet.conf");
            std::fs::write(&path, source(json!({}), user.clone()).to_string()).expect("written");
            let found = match client_certificate(&path) {
                Ok(ClientCertificate::Data(_)) => "data",
                Ok(ClientCertificate::Files(_)) => "files",
                Ok(ClientCertificate::None) => "none",
                Err(_) => "unusable",
            };
            assert_eq!(found, expected, "{user}");
        }
    }
}
