//! Connections to the servers that are called. A client is made per server and way of knowing it, and shared by all calls: its
//! connections (HTTP/2 where the server speaks it) are used again.

use super::config::{Destination, Place, Trust};
use super::resolver::{ResolveError, Resolver};
use component_base::serving::Body;
use component_base::tls::Watched;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;

/// Servers whose connections are kept. The one that was called longest ago goes first.
const CLIENTS_MAX: usize = 256;
/// Connections that are kept open to one server with nothing to do, and for how long.
const IDLE_MAX: usize = 16;
const IDLE: Duration = Duration::from_secs(90);
/// For connecting, the handshake not included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What the machine trusts, read when somebody is first called who names no CA.
static SYSTEM_ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
});

/// The certificate that this server shows, with its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What tells one client from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    host: String,
    port: u16,
    server_name: String,
    trust: Trust,
    /// Aggregated servers are spoken to by HTTP/1.1: a watch takes a connection of its own, not one of the few streams that an
    /// HTTP/2 connection has for everybody.
    as_front_proxy: bool,
    /// Shows the front proxy's certificate, as of this address of it in memory: a rotated one makes new connections.
    identity: Option<usize>,
}

type Connections = Client<HttpsConnector<Dial>, Body>;

/// Calls out to other servers.
pub struct Callout {
    pub resolver: Resolver,
    /// `--proxy-client-cert-file` and its key, followed when they change.
    identity: Option<Watched<Identity>>,
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    made: HashMap<Key, Made>,
    /// Counts calls, to know which client was used last.
    calls: u64,
}

struct Made {
    client: Connections,
    used: u64,
    /// Kept so that its address stays its own while the key names it.
    _identity: Option<Arc<Identity>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0}")]
    Resolve(#[from] ResolveError),
    #[error("{0}")]
    Tls(String),
    #[error("{0}")]
    Http(String),
}

impl Default for Callout {
    /// One that finds no Service.
    fn default() -> Callout {
        Callout::new(Resolver::default(), None)
    }
}

impl Callout {
    pub fn new(resolver: Resolver, identity: Option<Watched<Identity>>) -> Callout {
        Callout { resolver, identity, clients: Mutex::default() }
    }

    /// Sends a request whose URI has the destination's authority; the answer's body is read by the caller.
    pub async fn send(
        &self,
        to: &Destination,
        as_front_proxy: bool,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, ConnectError> {
        let (host, port) = self.address(to)?;
        let client = self.client(to, as_front_proxy, host, port)?;
        client.request(request).await.map_err(|e| ConnectError::Http(root_cause(&e)))
    }

    /// Where to connect to.
    pub fn address(&self, to: &Destination) -> Result<(String, u16), ResolveError> {
        match &to.place {
            Place::Host { host, port } => Ok((host.clone(), *port)),
            Place::Service { namespace, name, port } => self.resolver.resolve(namespace, name, *port),
        }
    }

    /// How to speak TLS to a destination.
    pub fn tls(&self, to: &Destination, as_front_proxy: bool) -> Result<ClientConfig, ConnectError> {
        let identity = self.identity.as_ref().filter(|_| as_front_proxy).map(Watched::get);
        tls(&to.trust, identity.as_deref())
    }

    fn client(
        &self,
        to: &Destination,
        as_front_proxy: bool,
        host: String,
        port: u16,
    ) -> Result<Connections, ConnectError> {
        let identity = self.identity.as_ref().filter(|_| as_front_proxy).map(Watched::get);
        let key = Key {
            host,
            port,
            server_name: to.server_name.clone(),
            trust: to.trust.clone(),
            as_front_proxy,
            identity: identity.as_ref().map(|i| Arc::as_ptr(i) as usize),
        };
        let mut clients = self.clients.lock();
        clients.calls += 1;
        let now = clients.calls;
        if let Some(made) = clients.made.get_mut(&key) {
            made.used = now;
            return Ok(made.client.clone());
        }
        let client = connections(&key, identity.as_deref())?;
        if clients.made.len() >= CLIENTS_MAX {
            let oldest = clients.made.iter().min_by_key(|(_, made)| made.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| clients.made.remove(&key));
        }
        clients.made.insert(key, Made { client: client.clone(), used: now, _identity: identity });
        Ok(client)
    }
}

fn connections(key: &Key, identity: Option<&Identity>) -> Result<Connections, ConnectError> {
    let name = ServerName::try_from(key.server_name.clone())
        .map_err(|e| ConnectError::Tls(format!("invalid server name {:?}: {e}", key.server_name)))?;
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls(&key.trust, identity)?)
        .https_only()
        .with_server_name_resolver(FixedServerNameResolver::new(name));
    let dial = Dial { host: key.host.clone().into(), port: key.port };
    let connector = match key.as_front_proxy {
        true => connector.enable_http1().wrap_connector(dial),
        false => connector.enable_all_versions().wrap_connector(dial),
    };
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_MAX)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(15))
        .build(connector))
}

fn tls(trust: &Trust, identity: Option<&Identity>) -> Result<ClientConfig, ConnectError> {
    let bad = |why: String| ConnectError::Tls(why);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(e.to_string()))?;
    let mut roots = RootCertStore::empty();
    let builder = match trust {
        Trust::Any => builder.dangerous().with_custom_certificate_verifier(component_base::any_server::any_server()),
        Trust::System => builder.with_root_certificates(SYSTEM_ROOTS.clone()),
        Trust::Bundle(pem) => {
            for cert in CertificateDer::pem_slice_iter(pem) {
                let cert = cert.map_err(|e| bad(format!("unable to load root certificates: {e}")))?;
                roots.add(cert).map_err(|e| bad(format!("unable to load root certificates: {e}")))?;
            }
            if roots.is_empty() {
                return Err(bad("unable to load root certificates: unable to parse bytes as PEM block".into()));
            }
            builder.with_root_certificates(roots)
        }
    };
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some((certs, key)) => {
            builder.with_client_auth_cert(certs.clone(), key.clone_key()).map_err(|e| bad(e.to_string()))
        }
    }
}

/// The innermost error: the outer ones only say that sending failed.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    in_go_words(&cause.to_string())
}

/// What clients look for when a certificate is not taken.
fn in_go_words(cause: &str) -> String {
    const WORDS: [(&str, &str); 4] = [
        ("UnknownIssuer", "x509: certificate signed by unknown authority"),
        ("xpired", "x509: certificate has expired or is not yet valid"),
        ("NotValidYet", "x509: certificate has expired or is not yet valid"),
        ("not valid for name", "x509: certificate is not valid for the name asked for"),
    ];
    let Some(problem) = cause.strip_prefix("invalid peer certificate: ") else { return cause.to_owned() };
    let known = WORDS.iter().find(|(sign, _)| problem.contains(sign)).map(|(_, words)| *words);
    format!("tls: failed to verify certificate: {}", known.unwrap_or(problem))
}

/// Connects to one host and port, whatever the URI says.
#[derive(Clone)]
struct Dial {
    host: Arc<str>,
    port: u16,
}

impl tower::Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (host, port) = (self.host.clone(), self.port);
        Box::pin(async move {
            let told = |why: String| std::io::Error::other(format!("dial tcp {host}:{port}: {why}"));
            match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((&*host, port))).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    Ok(TokioIo::new(stream))
                }
                Ok(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                    Err(told("connect: connection refused".into()))
                }
                Ok(Err(e)) => Err(told(format!("connect: {e}"))),
                Err(_) => Err(told("i/o timeout".into())),
            }
        })
    }
}
