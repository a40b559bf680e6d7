//! What load balancers ask: whether this proxy works (10256), and for services with the Local policy whether this node has
//! endpoints (their healthCheckNodePort).

use component_base::serving::{self, Body};
use http::{Response, StatusCode};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

/// Rules that wait longer than this to be applied mean that something is wrong.
const LAG_MAX: Duration = Duration::from_secs(120);

/// How the proxy is doing.
#[derive(Default)]
pub struct Health {
    /// Since when changes wait; none: all is applied.
    pub waiting_since: Mutex<Option<Instant>>,
    /// When rules were last applied.
    pub applied: Mutex<Option<SystemTime>>,
}

impl Health {
    pub fn is_healthy(&self) -> bool {
        self.applied.lock().is_some() && self.waiting_since.lock().is_none_or(|since| since.elapsed() < LAG_MAX)
    }

    pub fn answer(&self) -> Response<Body> {
        let healthy = self.is_healthy();
        let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let updated = self.applied.lock().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_secs());
        serving::json(code, &json!({"lastUpdated": updated, "nodeEligible": true}))
    }
}

/// The servers behind healthCheckNodePorts.
#[derive(Default)]
pub struct ServiceHealth {
    servers: HashMap<u16, (String, Arc<AtomicUsize>, CancellationToken)>,
}

impl ServiceHealth {
    /// Serves on `port` for `service` (`namespace/name`), telling `local` endpoints; `None` ends a service's server.
    pub fn set(
        &mut self,
        service: &str,
        port: Option<u16>,
        local: usize,
        proxy: &Arc<Health>,
        shutdown: &CancellationToken,
    ) {
        self.servers.retain(|p, (name, _, stop)| {
            let keep = name != service || Some(*p) == port;
            if !keep {
                stop.cancel();
            }
            keep
        });
        let Some(port) = port else { return };
        if let Some((_, count, _)) = self.servers.get(&port) {
            count.store(local, Ordering::Relaxed);
            return;
        }
        let (count, stop) = (Arc::new(AtomicUsize::new(local)), shutdown.child_token());
        self.servers.insert(port, (service.to_owned(), count.clone(), stop.clone()));
        let (service, proxy) = (service.to_owned(), proxy.clone());
        tokio::spawn(async move {
            let listener = match serving::bind(SocketAddr::from(([0, 0, 0, 0], port))).await {
                Ok(listener) => listener,
                Err(e) => return tracing::error!(service, port, error = %e, "cannot serve a service's health"),
            };
            let handler = serving::handler(move |_| {
                let (namespace, name) = service.split_once('/').unwrap_or(("", &service));
                let local = count.load(Ordering::Relaxed);
                let healthy = proxy.is_healthy();
                let code = if local > 0 && healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                let body = json!({"service": {"namespace": namespace, "name": name}, "localEndpoints": local, "serviceProxyHealthy": healthy});
                let answer = serving::json(code, &body);
                async move { answer }
            });
            serving::serve_http(listener, handler, stop).await;
        });
    }
}
