//! The kubelet's HTTPS API on port 10250, and /healthz on 10248. Every request is authenticated (client certificate,
//! token) and authorized (SubjectAccessReview on nodes/<subresource>) before it is routed.
//!
//! What handlers show comes from the kubelet's own state; the streams of exec, attach and port-forward are tunnelled to
//! the runtime without a look inside (`streaming`). No handler changes what the kubelet knows or does.

mod auth;
mod logs;
mod metrics;
mod pods;
mod streaming;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use component_base::serving::{self, Body, Check, Checks, Router};
use component_base::tls::{self, CertifiedFiles, ServerTls};
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use pod_lifecycle::Lifecycle;
use rustls::server::ResolvesServerCert;
use tokio_util::sync::CancellationToken;

/// Opens the ports, and returns what serves them until shutdown. Without a `requested` certificate that of the configuration
/// is served with, or else a self-signed one that is kept in `cert_dir`.
pub async fn serve(
    lifecycle: Arc<Lifecycle>,
    cert_dir: &Path,
    requested: Option<Arc<dyn ResolvesServerCert>>,
    shutdown: CancellationToken,
) -> anyhow::Result<BoxFuture<'static, ()>> {
    let config = &lifecycle.context.config;
    let mut servers: Vec<BoxFuture<'static, ()>> = Vec::new();
    if config.healthz_port > 0 {
        let address = address(&config.healthz_bind_address, config.healthz_port)?;
        let listener = serving::bind(address).await?;
        let handler = Router::new().with_health(checks(&lifecycle)).into_handler();
        servers.push(Box::pin(serving::serve_http(listener, handler, shutdown.clone())));
    }
    if config.enable_server {
        let listener = serving::bind(address(&config.address, config.port)?).await?;
        let certificate = match requested {
            Some(requested) => requested,
            None => certificate(&lifecycle, cert_dir)?,
        };
        let hints = auth::client_ca(&lifecycle)?;
        let mut server_tls = ServerTls::new(certificate);
        if config.tls_min_version == "VersionTLS13" {
            server_tls.versions = tls::ONLY_TLS13;
        }
        server_tls.restrict_cipher_suites(&config.tls_cipher_suites)?;
        if let Some(ca) = &hints {
            server_tls.client_ca_hints = ca.hints();
        }
        let handler = auth::layer(&lifecycle, hints, router(&lifecycle).into_handler());
        let tls = tls::server_config(server_tls)?;
        servers.push(Box::pin(serving::serve_https(listener, tls, handler, shutdown.clone())));
    }
    if config.read_only_port > 0 {
        let listener = serving::bind(address(&config.address, config.read_only_port)?).await?;
        let handler = read_only(&lifecycle).into_handler();
        servers.push(Box::pin(serving::serve_http(listener, handler, shutdown.clone())));
    }
    Ok(Box::pin(async move {
        futures::future::join_all(servers).await;
    }))
}

fn address(host: &str, port: i32) -> anyhow::Result<SocketAddr> {
    let port = u16::try_from(port).with_context(|| format!("{port} is no port"))?;
    let ip = host.parse().with_context(|| format!("{host:?} is not an IP address to serve on"))?;
    Ok(SocketAddr::new(ip, port))
}

/// The serving certificate: as configured, or a self-signed one that is kept for the next start.
fn certificate(lifecycle: &Lifecycle, cert_dir: &Path) -> anyhow::Result<Arc<dyn ResolvesServerCert>> {
    let config = &lifecycle.context.config;
    if config.tls_cert_file.is_empty() {
        let mut names = vec![lifecycle.context.node_name.clone(), "localhost".to_owned()];
        names.extend(lifecycle.context.node_ips.iter().cloned());
        return Ok(tls::self_signed_in(cert_dir, "kubelet", &names)?);
    }
    let (cert, key) = (PathBuf::from(&config.tls_cert_file), PathBuf::from(&config.tls_private_key_file));
    Ok(tls::from_files(CertifiedFiles { cert, key })?)
}

fn checks(lifecycle: &Arc<Lifecycle>) -> Checks {
    let pleg = {
        let lifecycle = lifecycle.clone();
        move || lifecycle.pleg.check(std::time::Instant::now(), lifecycle.context.started)
    };
    Checks::default().with(Check::new("ping", || Ok(()))).with(Check::new("syncloop", pleg))
}

/// Adds a route whose handler gets the kubelet.
fn on<F, Fut>(router: Router, lifecycle: &Arc<Lifecycle>, path: &str, handler: F) -> Router
where
    F: Fn(Arc<Lifecycle>, Request<Incoming>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let lifecycle = lifecycle.clone();
    router.on(path, move |request| handler(lifecycle.clone(), request))
}

/// What anyone may know who can reach the read-only port.
fn read_only(lifecycle: &Arc<Lifecycle>) -> Router {
    let mut router = Router::new().with_health(checks(lifecycle));
    for (path, handler) in metrics::ROUTES {
        router = on(router, lifecycle, path, handler);
    }
    for path in ["/pods", "/pods/"] {
        router = on(router, lifecycle, path, pods::list);
    }
    router
}

/// Paths that `enableDebuggingHandlers` opens.
const DEBUGGING: [&str; 8] =
    ["/run/", "/exec/", "/attach/", "/portForward/", "/containerLogs/", "/runningpods/", "/debug/pprof/", "/logs/"];

fn router(lifecycle: &Arc<Lifecycle>) -> Router {
    let router = read_only(lifecycle);
    if !lifecycle.context.config.enable_debugging_handlers {
        return DEBUGGING
            .into_iter()
            .fold(router, |router, path| closed(router, path, "Debug endpoints are disabled.\n"));
    }
    let config = serde_json::to_value(&lifecycle.context.config).unwrap_or_default();
    let mut router = router.with_configz("kubeletconfig", config);
    for path in ["/runningpods", "/runningpods/"] {
        router = on(router, lifecycle, path, pods::running);
    }
    router = on(router, lifecycle, "/containerLogs/", logs::container);
    router = on(router, lifecycle, "/exec/", streaming::exec);
    router = on(router, lifecycle, "/attach/", streaming::attach);
    router = on(router, lifecycle, "/portForward/", streaming::port_forward);
    router = on(router, lifecycle, "/run/", streaming::run);
    for path in ["/logs", "/logs/"] {
        router = match lifecycle.context.config.enable_system_log_handler {
            true => on(router, lifecycle, path, logs::node),
            false => closed(router, path, "logs endpoint is disabled.\n"),
        };
    }
    router
}

/// Adds a path that the configuration has closed.
fn closed(router: Router, path: &str, message: &'static str) -> Router {
    router.on(path, move |_| async move { failure(StatusCode::METHOD_NOT_ALLOWED, message) })
}

/// The parameters of a query; of one given twice, all values in order.
struct Query(Vec<(String, String)>);

impl Query {
    fn of<B>(request: &Request<B>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(have, _)| have == key).map(|(_, value)| value.as_str())
    }

    fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(have, _)| have == key).map(|(_, value)| value.clone()).collect()
    }

    /// "1" and "true" are true, as Go's ParseBool has it.
    fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
    }
}

/// Segments of a path below `prefix`, decoded.
fn segments<B>(request: &Request<B>, prefix: &str) -> Vec<String> {
    let rest = request.uri().path().strip_prefix(prefix).unwrap_or_default();
    let decode = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    rest.split('/').filter(|part| !part.is_empty()).map(decode).collect()
}

/// A plain text failure, as upstream's kubelet answers.
fn failure(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    serving::text(status, message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_paths_are_decoded() {
        let request =
            Request::get("/exec/ns/a%2Fb/c?command=ls&command=-l%20x&tty=1&input=0").body(()).expect("a request");
        let query = Query::of(&request);
        assert_eq!(query.all("command"), ["ls", "-l x"]);
        assert_eq!((query.flag("tty"), query.flag("input"), query.flag("error")), (true, false, false));
        assert_eq!(segments(&request, "/exec/"), ["ns", "a/b", "c"]);
    }
}
