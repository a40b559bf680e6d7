//! TLS bootstrap: with a token that may do little else, a new node asks for its client certificate by a
//! CertificateSigningRequest, and writes the kubeconfig that uses it
//! (kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping).

use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use component_base::client::{ClientFlags, connect};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::Api;
use kube::api::PostParams;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const CURRENT: &str = "kubelet-client-current.pem";
const POLL: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(2);

/// Gets a client certificate with the credentials of `bootstrap` and writes `kubeconfig`. Waits for the API server and
/// for the request's approval.
pub async fn client_certificate(
    bootstrap: &Path,
    kubeconfig: &Path,
    cert_dir: &Path,
    node_name: &str,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let current = cert_dir.join(CURRENT);
    if !current.exists() {
        let flags = ClientFlags { kubeconfig: Some(bootstrap.to_path_buf()), ..Default::default() };
        let client = connect(&flags, "kubelet").await?;
        let key = KeyPair::generate().context("making a key")?;
        let certificate = tokio::select! {
            certificate = request(client, node_name, &key) => certificate?,
            () = shutdown.cancelled() => bail!("stopped before the node had its certificate"),
        };
        store(cert_dir, &certificate, &key.serialize_pem())?;
    }
    write_kubeconfig(bootstrap, kubeconfig, &current)
}

/// Asks until a certificate is issued; returns its PEM.
async fn request(client: kube::Client, node_name: &str, key: &KeyPair) -> anyhow::Result<Vec<u8>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node_name}"));
    let pem = params.serialize_request(key).context("making a certificate request")?.pem().context("encoding it")?;
    let mut object = CertificateSigningRequest {
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: SIGNER.into(),
            usages: Some(vec!["digital signature".into(), "client auth".into()]),
            ..Default::default()
        },
        ..Default::default()
    };
    object.metadata.generate_name = Some("csr-".into());
    let api: Api<CertificateSigningRequest> = Api::all(client);
    let name = loop {
        match api.create(&PostParams::default(), &object).await {
            Ok(created) => break created.metadata.name.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "Can't ask for the node's certificate yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    tracing::info!(csr = name, "Asked for the node's client certificate, waiting for its approval");
    loop {
        match api.get(&name).await {
            Ok(csr) => {
                let status = csr.status.unwrap_or_default();
                if let Some(certificate) = status.certificate.filter(|certificate| !certificate.0.is_empty()) {
                    return Ok(certificate.0);
                }
                if let Some(no) =
                    status.conditions.iter().flatten().find(|c| matches!(c.type_.as_str(), "Denied" | "Failed"))
                {
                    bail!("certificate request {name} was refused: {}", no.message.as_deref().unwrap_or_default());
                }
            }
            Err(error) => tracing::warn!(csr = name, %error, "Can't look at the certificate request"),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Writes certificate and key into one file, readable by root alone, and points the "current" link at it.
fn store(cert_dir: &Path, certificate: &[u8], key: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(cert_dir).with_context(|| format!("making {}", cert_dir.display()))?;
    let name = jiff::Timestamp::now().strftime("kubelet-client-%Y-%m-%d-%H-%M-%S.pem").to_string();
    let path = cert_dir.join(&name);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("making {}", path.display()))?;
    std::io::Write::write_all(&mut file, &[certificate, key.as_bytes()].concat())?;
    let link = cert_dir.join(format!("{CURRENT}.new"));
    let _ = std::fs::remove_file(&link);
    symlink(&name, &link)?;
    std::fs::rename(link, cert_dir.join(CURRENT)).context("linking the current certificate")
}

/// The bootstrap kubeconfig's cluster, with the certificate as its user.
fn write_kubeconfig(bootstrap: &Path, kubeconfig: &Path, certificate: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(bootstrap).with_context(|| format!("reading {}", bootstrap.display()))?;
    let source: Value = serde_yaml_ng::from_str(&text).with_context(|| format!("parsing {}", bootstrap.display()))?;
    let written = serde_yaml_ng::to_string(&rewritten(&source, certificate)?)?;
    let new = PathBuf::from(format!("{}.new", kubeconfig.display()));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    std::io::Write::write_all(&mut file, written.as_bytes())?;
    std::fs::rename(&new, kubeconfig).with_context(|| format!("writing {}", kubeconfig.display()))
}

fn rewritten(source: &Value, certificate: &Path) -> anyhow::Result<Value> {
    let named = |list: &str, name: &Value| {
        source[list].as_array().into_iter().flatten().find(|item| &item["name"] == name).cloned()
    };
    let context =
        named("contexts", &source["current-context"]).context("the bootstrap kubeconfig has no current context")?;
    let cluster = named("clusters", &context["context"]["cluster"]).context("its context names no cluster")?;
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster["cluster"]}],
        "contexts": [{"name": "default-context", "context": {"cluster": "default-cluster", "namespace": "default", "user": "default-auth"}}],
        "current-context": "default-context",
        "users": [{"name": "default-auth", "user": {"client-certificate": certificate, "client-key": certificate}}],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubeconfig_keeps_the_cluster_and_takes_the_certificate() {
        let source = json!({
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "token"}}],
            "clusters": [{"name": "k", "cluster": {"server": "https://x:6443"}}],
            "users": [{"name": "token", "user": {"token": "secret"}}],
        });
        let written = rewritten(&source, Path::new("/pki/current.pem")).expect("written");
        assert_eq!(written["clusters"][0]["cluster"]["server"], "https://x:6443");
        assert_eq!(written["users"][0]["user"]["client-key"], "/pki/current.pem");
        assert!(!written.to_string().contains("secret"));
    }
}
