//! The secure port of components that the API server vouches for: its flags, and the server.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::{
    Router,
    auth::{Attributes, Authenticator, Authorizer, Delegated},
    server,
};
use crate::{
    cli::{self, GoDuration},
    client::{self, ClientFlags},
    tls::{self, CaBundle, CertifiedFiles, ServerTls},
    version,
};

/// Upstream's flags of secure serving. Those that say "accepted" change nothing here.
#[derive(Clone, Debug, clap::Args)]
pub struct SecureServingFlags {
    /// The IP address on which to listen for the --secure-port port.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// The port on which to serve HTTPS with authentication and authorization, if not the component's own. If 0, don't serve
    /// HTTPS at all.
    #[arg(long)]
    pub secure_port: Option<u16>,
    /// The directory in which a self-signed certificate is kept if no files are given; if empty, it is made anew at each start.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub cert_dir: PathBuf,
    /// File containing the default x509 certificate for HTTPS, intermediates behind it.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub tls_cert_file: PathBuf,
    /// File containing the default x509 private key matching --tls-cert-file.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub tls_private_key_file: PathBuf,
    /// Cipher suites for TLS 1.2, by their IANA names; TLS 1.3 chooses by itself. If empty, all that are safe.
    #[arg(long, value_delimiter = ',')]
    pub tls_cipher_suites: Vec<String>,
    /// Lowest TLS version: VersionTLS10, VersionTLS11, VersionTLS12 or VersionTLS13; nothing below 1.2 is ever spoken.
    #[arg(long, default_value = "", value_parser = ["", "VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13"])]
    pub tls_min_version: String,
    /// Further certificates by server name: not supported, an error if given.
    #[arg(long)]
    pub tls_sni_cert_key: Vec<String>,
    /// Serve HTTP/1.1 only.
    #[arg(long)]
    pub disable_http2_serving: bool,
    /// Requests of one HTTP/2 connection at once; accepted, the server's own limit holds.
    #[arg(long, default_value_t = 0)]
    pub http2_max_streams_per_connection: u32,
    /// Share the address with a socket that is closing; accepted, it always is.
    #[arg(long)]
    pub permit_address_sharing: bool,
    /// Share the port with another process; accepted, it never is.
    #[arg(long)]
    pub permit_port_sharing: bool,

    /// kubeconfig file with rights to create tokenreviews. If empty, the component's own.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub authentication_kubeconfig: PathBuf,
    /// Do not look up authentication configuration in the cluster; accepted, it never is.
    #[arg(long)]
    pub authentication_skip_lookup: bool,
    /// A failed lookup of authentication configuration is no error; accepted, see --authentication-skip-lookup.
    #[arg(long, default_value_t = true)]
    pub authentication_tolerate_lookup_failure: bool,
    /// How long answers about tokens are kept; accepted, they are for 10 s.
    #[arg(long, default_value = "10s")]
    pub authentication_token_webhook_cache_ttl: GoDuration,
    /// Requests with a client certificate of one of the authorities in this file are those of its common name.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub client_ca_file: PathBuf,
    /// Authorities of proxies that name users in headers; accepted, such requests are not taken here.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub requestheader_client_ca_file: PathBuf,
    #[arg(long, value_delimiter = ',', hide = true)]
    pub requestheader_allowed_names: Vec<String>,
    #[arg(long, value_delimiter = ',', hide = true)]
    pub requestheader_username_headers: Vec<String>,
    #[arg(long, value_delimiter = ',', hide = true)]
    pub requestheader_uid_headers: Vec<String>,
    #[arg(long, value_delimiter = ',', hide = true)]
    pub requestheader_group_headers: Vec<String>,
    #[arg(long, value_delimiter = ',', hide = true)]
    pub requestheader_extra_headers_prefix: Vec<String>,
    /// kubeconfig file with rights to create subjectaccessreviews. If empty, the component's own.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub authorization_kubeconfig: PathBuf,
    /// How long a yes is kept; accepted, it is for 10 s.
    #[arg(long, default_value = "10s")]
    pub authorization_webhook_cache_authorized_ttl: GoDuration,
    /// How long a no is kept; accepted, it is for 10 s.
    #[arg(long, default_value = "10s")]
    pub authorization_webhook_cache_unauthorized_ttl: GoDuration,
    /// A list of HTTP paths to skip during authorization, i.e. these are authorized without contacting the server.
    #[arg(long, value_delimiter = ',', default_value = "/healthz,/readyz,/livez")]
    pub authorization_always_allow_paths: Vec<String>,
}

/// A flag's path, if it names one.
fn given(path: &PathBuf) -> Option<&PathBuf> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

impl SecureServingFlags {
    /// The port, if any is to be served; `preset` is the component's own.
    pub fn port(&self, preset: u16) -> Option<u16> {
        Some(self.secure_port.unwrap_or(preset)).filter(|port| *port != 0)
    }

    /// Serves `router` on the secure port in a task that ends with `shutdown`. `own` asks the API server where no other
    /// kubeconfig is given.
    pub async fn serve(
        &self,
        component: &str,
        preset: u16,
        router: Router,
        own: kube::Client,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let tls = tls::server_config(self.tls(component)?)?;
        let Some(port) = self.port(preset) else { return Ok(()) };
        let agent = version::user_agent(component);
        let reviewer = async |kubeconfig: &PathBuf| match given(kubeconfig) {
            Some(path) => {
                client::connect(&ClientFlags { kubeconfig: Some(path.clone()), ..ClientFlags::default() }, &agent).await
            }
            None => Ok(own.clone()),
        };
        let client_ca = given(&self.client_ca_file).map(CaBundle::from_file).transpose()?;
        let auth = Delegated {
            authenticator: Authenticator::new(Some(reviewer(&self.authentication_kubeconfig).await?), client_ca, true),
            authorizer: Authorizer::new(reviewer(&self.authorization_kubeconfig).await?),
            always_allow: self.authorization_always_allow_paths.clone(),
        };
        let handler = auth.layer(router.into_handler(), Attributes::non_resource);
        let address = SocketAddr::new(self.bind_address, port);
        let listener = server::bind(address).await.context("cannot serve --secure-port")?;
        tracing::info!(%address, "Serving securely");
        tokio::spawn(server::serve_https(listener, tls, handler, shutdown));
        Ok(())
    }

    fn tls(&self, component: &str) -> anyhow::Result<ServerTls> {
        anyhow::ensure!(self.tls_sni_cert_key.is_empty(), "--tls-sni-cert-key is not supported");
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let cert = match (given(&self.tls_cert_file), given(&self.tls_private_key_file), given(&self.cert_dir)) {
            (Some(cert), Some(key), _) => tls::from_files(CertifiedFiles { cert: cert.clone(), key: key.clone() })?,
            (None, None, Some(folder)) => tls::self_signed_in(folder, component, &names)?,
            (None, None, None) => tls::self_signed(&names)?,
            _ => anyhow::bail!("--tls-cert-file and --tls-private-key-file must be given together"),
        };
        let mut config = ServerTls::new(cert);
        if self.tls_min_version == "VersionTLS13" {
            config.versions = tls::ONLY_TLS13;
        }
        config.restrict_cipher_suites(&self.tls_cipher_suites)?;
        if self.disable_http2_serving {
            config.alpn = vec![b"http/1.1".to_vec()];
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        serving: SecureServingFlags,
    }

    fn flags(words: &[&str]) -> SecureServingFlags {
        let words = std::iter::once("demo").chain(words.iter().copied());
        cli::try_parse::<Args, _, _>("demo", words).unwrap().serving
    }

    #[test]
    fn the_port_is_the_components_own_unless_given() {
        for (words, port) in [(&[][..], Some(10257)), (&["--secure-port=1"], Some(1)), (&["--secure-port=0"], None)] {
            assert_eq!(flags(words).port(10257), port);
        }
    }

    #[test]
    fn tls_is_as_the_flags_say() {
        let folder = tempfile::tempdir().unwrap();
        let kept = format!("--cert-dir={}", folder.path().display());
        for (words, versions, alpn, suites) in [
            (vec![], 2, 2, 0),
            (vec!["--tls-min-version=VersionTLS13"], 1, 2, 0),
            (vec!["--tls-min-version=VersionTLS11", "--disable-http2-serving"], 2, 1, 0),
            (vec!["--tls-cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_RSA_WITH_AES_128_CBC_SHA"], 2, 2, 2),
            (vec![kept.as_str()], 2, 2, 0),
        ] {
            let tls = flags(&words).tls("demo").unwrap();
            assert_eq!(
                (tls.versions.len(), tls.alpn.len(), tls.cipher_suites.len()),
                (versions, alpn, suites),
                "{words:?}"
            );
            tls::server_config(tls).unwrap();
        }
        assert!(folder.path().join("demo.crt").exists());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (words, message) in [
            (&["--tls-cert-file=a"][..], "must be given together"),
            (&["--tls-sni-cert-key=a,b"], "not supported"),
            (&["--tls-cipher-suites=TLS_NONE"], "Cipher suite TLS_NONE not supported or doesn't exist"),
        ] {
            let error = flags(words).tls("demo").err().unwrap().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
