//! Connections to where requests end.

use super::KubeletFlags;
use anyhow::Context;
use component_base::any_server::any_server;
use request::status::{Result, Status};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How to speak TLS to kubelets: our certificate, and whose certificates we take.
pub struct KubeletClient {
    pub tls: Arc<ClientConfig>,
    pub address_types: Vec<String>,
    pub timeout: Duration,
}

impl KubeletClient {
    pub fn new(flags: &KubeletFlags) -> anyhow::Result<KubeletClient> {
        let identity = match (&flags.kubelet_client_certificate, &flags.kubelet_client_key) {
            (Some(cert), Some(key)) => Some(read_identity(cert, key)?),
            _ => None,
        };
        let tls = client_config(flags.kubelet_certificate_authority.as_ref(), identity)?;
        Ok(KubeletClient {
            tls: Arc::new(tls),
            address_types: flags.kubelet_preferred_address_types.clone(),
            timeout: flags.kubelet_timeout.0,
        })
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub fn read_identity(cert: &Path, key: &Path) -> anyhow::Result<Identity> {
    let certs = component_base::tls::read_certs(cert)?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("reading the key {}", key.display()))?;
    Ok((certs, key))
}

/// A client that checks servers against `ca`, or takes any certificate where there is none: upstream, too, does not check
/// kubelets unless told whose certificates they have.
pub fn client_config(ca: Option<&PathBuf>, identity: Option<Identity>) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match ca {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for cert in component_base::tls::read_certs(path)? {
                roots.add(cert).with_context(|| format!("in {}", path.display()))?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder.dangerous().with_custom_certificate_verifier(any_server()),
    };
    Ok(match identity {
        Some((certs, key)) => builder.with_client_auth_cert(certs, key)?,
        None => builder.with_no_client_auth(),
    })
}

/// Anything bytes go through.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Connects to `host:port`, with TLS if `tls` says how and with whom.
pub async fn connect(
    host: &str,
    port: u16,
    tls: Option<(&Arc<ClientConfig>, &str)>,
    timeout: Duration,
) -> Result<Box<dyn Stream>> {
    let failed = |why: String| Status::internal(format!("error dialing backend: dial tcp {host}:{port}: {why}"));
    let connecting = async {
        let tcp = TcpStream::connect((host, port)).await.map_err(|e| failed(e.to_string()))?;
        let _ = tcp.set_nodelay(true);
        let Some((config, name)) = tls else { return Ok(Box::new(tcp) as Box<dyn Stream>) };
        let name = ServerName::try_from(name.to_owned()).map_err(|e| failed(e.to_string()))?;
        let stream = TlsConnector::from(config.clone()).connect(name, tcp).await.map_err(|e| failed(e.to_string()))?;
        Ok(Box::new(stream) as Box<dyn Stream>)
    };
    match tokio::time::timeout(timeout, connecting).await {
        Ok(result) => result,
        Err(_) => Err(failed("i/o timeout".into())),
    }
}
