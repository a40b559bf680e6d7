//! The client of the API server.
//!
//! ```no_run
//! use component_base::client::{self, ClientFlags};
//! # async fn demo() -> anyhow::Result<()> {
//! let flags = ClientFlags { kubeconfig: Some("/etc/kubernetes/scheduler.conf".into()), ..ClientFlags::default() };
//! let client = client::connect(&flags, &component_base::version::user_agent("kube-scheduler")).await?;
//! # Ok(()) }
//! ```
//!
//! All requests and watches of a process share one HTTP/2 connection. A client certificate in files is re-read when they
//! change, so that a rotated one is used from the next connection on. Nothing is retried in here: level-triggered
//! callers come again anyway.

mod connections;

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt},
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use parking_lot::Mutex;
use rustls::{SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};
use tokio::{sync::watch, time::Instant};
use tower::{BoxError, Layer, Service, ServiceBuilder};

use crate::{
    metrics::{self, IntCounterVec},
    tls::{self, CertifiedFiles, Watched},
};

use connections::ClosableConnector;
pub use connections::Connections;

/// Where the API server is and how hard it may be asked.
#[derive(Clone, Debug, Default)]
pub struct ClientFlags {
    /// `--kubeconfig`. Without it and without `master` the pod's service account is used.
    pub kubeconfig: Option<PathBuf>,
    /// `--master`: overrides the kubeconfig's server.
    pub master: Option<String>,
    /// Requests per second on average; 0 means no limit.
    pub qps: f32,
    /// Requests at once on top of that average.
    pub burst: u32,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot load the kubeconfig {path}: {source}")]
    Kubeconfig { path: PathBuf, source: kube::config::KubeconfigError },
    #[error("neither --kubeconfig nor --master is given, and this process runs in no pod: {0}")]
    InCluster(#[source] kube::config::InClusterError),
    #[error("--master {master:?} is no URL: {reason}")]
    Master { master: String, reason: String },
    #[error("cannot use the client certificate: {0}")]
    Certificate(#[from] tls::Error),
    #[error("cannot make a client for {server}: {reason}")]
    Client { server: String, reason: String },
}

/// Loads the configuration that `flags` name. No request is sent.
pub async fn config(flags: &ClientFlags) -> Result<Config, Error> {
    Ok(load(flags).await?.0)
}

/// A client for the API server that `flags` name. No request is sent: the server need not be there yet.
pub async fn connect(flags: &ClientFlags, user_agent: &str) -> Result<Client, Error> {
    let (config, identity) = load(flags).await?;
    from_config(config, identity, user_agent, flags.qps, flags.burst)
}

/// A client that shows the certificate of `identity`, whatever the kubeconfig says. Whoever replaces that certificate has to
/// close the `connections` that were made with the one before.
pub async fn connect_as(
    flags: &ClientFlags,
    identity: Arc<dyn ResolvesClientCert>,
    connections: Connections,
    user_agent: &str,
) -> Result<Client, Error> {
    let (mut config, _) = load(flags).await?;
    let auth = &mut config.auth_info;
    (auth.client_certificate, auth.client_certificate_data) = (None, None);
    (auth.client_key, auth.client_key_data) = (None, None);
    let http = transport(&config, Some(identity), connections)?;
    assemble(&config, http, user_agent, None, flags.qps, flags.burst)
}

/// A connection without any identity of its own, for clients that each bring a token; see [`Anonymous::client`].
pub async fn connect_anonymously(flags: &ClientFlags) -> Result<Anonymous, Error> {
    let (mut config, _) = load(flags).await?;
    config.auth_info = AuthInfo::default();
    let http = transport(&config, None, Connections::default())?;
    Ok(Anonymous { config, http })
}

/// One connection that several identities share.
pub struct Anonymous {
    config: Config,
    http: HttpClient<Connector, Body>,
}

impl Anonymous {
    /// A client that acts as whoever `token` belongs to. Its requests wait until the slot has a token.
    pub fn client(&self, user_agent: &str, token: TokenSlot, qps: f32, burst: u32) -> Result<Client, Error> {
        assemble(&self.config, self.http.clone(), user_agent, Some(token), qps, burst)
    }
}

/// A bearer token that somebody keeps fresh; clones share it.
#[derive(Clone, Debug)]
pub struct TokenSlot(watch::Sender<Option<HeaderValue>>);

impl Default for TokenSlot {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl TokenSlot {
    /// From now on requests carry this token; one that cannot be in a header is ignored.
    pub fn set(&self, token: &str) {
        if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}")) {
            value.set_sensitive(true);
            self.0.send_replace(Some(value));
        }
    }

    async fn header(&self) -> Option<HeaderValue> {
        let mut receiver = self.0.subscribe();
        // An error would mean that the sender is gone, and `self` holds it.
        receiver.wait_for(Option::is_some).await.ok().and_then(|value| value.clone())
    }
}

async fn load(flags: &ClientFlags) -> Result<(Config, Option<CertifiedFiles>), Error> {
    let (mut config, identity) = match (&flags.kubeconfig, &flags.master) {
        (Some(path), _) => {
            let failed = |source| Error::Kubeconfig { path: path.clone(), source };
            let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
            let failed = |source| Error::Kubeconfig { path: path.clone(), source };
            let config =
                Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)?;
            let identity = identity_files(&config);
            (config, identity)
        }
        (None, Some(_)) => (Config::new(http::Uri::from_static("http://localhost")), None),
        (None, None) => (Config::incluster().map_err(Error::InCluster)?, None),
    };
    if let Some(master) = flags.master.as_ref().filter(|master| !master.is_empty()) {
        config.cluster_url =
            master.parse().map_err(|error| Error::Master { master: master.clone(), reason: format!("{error}") })?;
    }
    Ok((config, identity))
}

fn identity_files(config: &Config) -> Option<CertifiedFiles> {
    let auth = &config.auth_info;
    if auth.client_certificate_data.is_some() || auth.client_key_data.is_some() {
        return None;
    }
    let (cert, key) = (auth.client_certificate.as_ref()?, auth.client_key.as_ref()?);
    Some(CertifiedFiles { cert: cert.into(), key: key.into() })
}

/// A client for a configuration made elsewhere. `identity` names the files of the client certificate, if it is in files.
pub fn from_config(
    config: Config,
    identity: Option<CertifiedFiles>,
    user_agent: &str,
    qps: f32,
    burst: u32,
) -> Result<Client, Error> {
    let identity = match identity {
        Some(files) => Some(Arc::new(FollowedIdentity(tls::following(files)?)) as Arc<dyn ResolvesClientCert>),
        None => None,
    };
    let http = transport(&config, identity, Connections::default())?;
    assemble(&config, http, user_agent, None, qps, burst)
}

type Connector = HttpsConnector<ClosableConnector>;

fn transport(
    config: &Config,
    identity: Option<Arc<dyn ResolvesClientCert>>,
    connections: Connections,
) -> Result<HttpClient<Connector, Body>, Error> {
    let failed = |reason: String| Error::Client { server: config.cluster_url.to_string(), reason };
    let mut tls = config.rustls_client_config().map_err(|error| failed(error.to_string()))?;
    if let Some(identity) = identity {
        tls.client_auth_cert_resolver = identity;
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(Duration::from_secs(30)));
    let mut connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into().map_err(|error| failed(format!("tls-server-name: {error}")))?;
        connector = connector.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let connector = connector.enable_all_versions().wrap_connector(ClosableConnector::new(tcp, connections));
    Ok(HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        // A connection that the network has lost is found within 45 s, as with upstream's client.
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(15))
        .http2_keep_alive_while_idle(true)
        .build(connector))
}

fn assemble(
    config: &Config,
    http: HttpClient<Connector, Body>,
    user_agent: &str,
    token: Option<TokenSlot>,
    qps: f32,
    burst: u32,
) -> Result<Client, Error> {
    let server = config.cluster_url.to_string();
    let failed = |reason: String| Error::Client { server: server.clone(), reason };
    let agent = HeaderValue::from_str(user_agent).map_err(|error| failed(error.to_string()))?;
    let auth = config.auth_layer().map_err(|error| failed(error.to_string()))?;
    let headers = config.extra_headers_layer().map_err(|error| failed(error.to_string()))?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(auth)
        .layer(headers)
        .layer(EdgeLayer { agent, bucket: TokenBucket::new(qps, burst), token, host: server.clone().into() })
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}

/// An error of a request in one line: the server's own message where it answered, else all causes. kube's text repeats the
/// message and adds the whole Status, or names no cause at all.
pub fn describe(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error
        && !status.message.is_empty()
    {
        return status.message.clone();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[derive(Debug)]
struct FollowedIdentity(Watched<CertifiedKey>);

impl ResolvesClientCert for FollowedIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The last layer before the wire: the rate limit, the user agent, the count.
#[derive(Clone)]
struct EdgeLayer {
    agent: HeaderValue,
    bucket: Option<Arc<TokenBucket>>,
    token: Option<TokenSlot>,
    host: Arc<str>,
}

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, inner: S) -> Edge<S> {
        Edge { inner, edge: self.clone() }
    }
}

#[derive(Clone)]
struct Edge<S> {
    inner: S,
    edge: EdgeLayer,
}

impl<S> Service<Request<Body>> for Edge<S>
where
    S: Service<Request<Body>, Response = Response<Incoming>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that is ready is taken, its clone stays (tower's rule).
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let EdgeLayer { agent, bucket, token, host } = self.edge.clone();
        request.headers_mut().insert(http::header::USER_AGENT, agent);
        let method = request.method().as_str().to_owned();
        Box::pin(async move {
            if let Some(bucket) = bucket {
                bucket.take().await;
            }
            if let Some(token) = token
                && let Some(header) = token.header().await
            {
                request.headers_mut().insert(http::header::AUTHORIZATION, header);
            }
            let result = inner.call(request).await;
            let code = match &result {
                Ok(response) => response.status().as_str().to_owned(),
                Err(_) => "<error>".to_owned(),
            };
            REQUESTS.with_label_values(&[code.as_str(), &host, &method]).inc();
            result.map_err(Into::into)
        })
    }
}

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "Number of HTTP requests, partitioned by status code, method, and host.";
    metrics::int_counter_vec("rest_client_requests_total", help, &["code", "host", "method"])
});

/// Lets `rate` callers per second pass on average, `burst` at once; the rest wait their turn.
#[derive(Debug)]
struct TokenBucket {
    interval: Duration,
    burst: u32,
    /// When the next token would be there if none were saved up.
    next: Mutex<Instant>,
}

impl TokenBucket {
    fn new(qps: f32, burst: u32) -> Option<Arc<Self>> {
        (qps > 0.0).then(|| {
            let interval = Duration::from_secs_f32(1.0 / qps);
            Arc::new(Self { interval, burst: burst.max(1), next: Mutex::new(Instant::now()) })
        })
    }

    async fn take(&self) {
        let wait = self.reserve(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Books a token and says how long until it may be used.
    fn reserve(&self, now: Instant) -> Duration {
        let saved = self.interval * (self.burst - 1);
        let mut next = self.next.lock();
        let at = *next;
        *next = at.max(now.checked_sub(saved).unwrap_or(at)) + self.interval;
        (*next - self.interval).saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_saves_up_its_burst_and_no_more() {
        let bucket = TokenBucket::new(10.0, 3).unwrap();
        tokio::time::advance(Duration::from_secs(60)).await;
        let now = Instant::now();
        let waits: Vec<_> = (0..5).map(|_| bucket.reserve(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200]);
        assert!(TokenBucket::new(0.0, 10).is_none());
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_missing_is_named() {
        let flags = ClientFlags { kubeconfig: Some("/nonexistent/kubeconfig".into()), ..ClientFlags::default() };
        let error = connect(&flags, "test").await.err().unwrap().to_string();
        assert!(error.contains("/nonexistent/kubeconfig"), "{error}");
    }
}
