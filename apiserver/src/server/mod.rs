//! The server: what every request passes before it reaches its handler, and what is beside the API.
//!
//! [`pipeline`] reads top to bottom as the way of a request. [`route`] finds the handler. Each stage is a file.

pub mod health;
pub mod impersonation;
pub mod inflight;
pub mod metrics;
pub mod pipeline;
pub mod route;

use aggregation::Aggregator;
use authentication::Authenticators;
use authorization::rbac::Rbac;
use handlers::api::Api;
use handlers::api::authorization::Authorizers;
use health::HealthLimits;
use http::HeaderValue;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use streaming::Backends;
use tokio_util::sync::CancellationToken;

/// Everything that a request may need.
pub struct Server {
    pub api: Arc<Api>,
    pub authn: Authenticators,
    pub authz: Arc<Authorizers>,
    pub rbac: Option<Arc<Rbac>>,
    /// API servers behind this one.
    pub aggregator: Arc<Aggregator>,
    /// Where requests to pods, services and nodes go on.
    pub backends: Backends,
    pub inflight: inflight::Inflight,
    pub request_timeout: Duration,
    /// `host:port` that clients are told.
    pub address: String,
    /// The objects that every cluster has are in place.
    pub bootstrapped: AtomicBool,
    pub health: HealthLimits,
    /// `Strict-Transport-Security` of every answer, where it is asked for.
    pub transport_security: Option<HeaderValue>,
    /// Set when the server was told to stop: readiness fails, so that load balancers look elsewhere. All else goes on.
    pub closing: CancellationToken,
    /// Set after `--shutdown-delay-duration`: nobody new is let in, watches end, requests that run are let end.
    pub draining: CancellationToken,
}
