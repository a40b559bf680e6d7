//! A small HTTP server: health, metrics and configuration endpoints of every component, and the kubelet's API.
//!
//! What lives here: the server's loop, the routes that all components have, delegated authentication and
//! authorization. The API server's own stages live in its crate.
//!
//! ```no_run
//! use component_base::serving::{self, Router};
//! # async fn demo(shutdown: tokio_util::sync::CancellationToken) -> anyhow::Result<()> {
//! let router = Router::new().with_health(Default::default()).with_metrics();
//! let listener = serving::bind("127.0.0.1:10249".parse()?).await?;
//! serving::serve_http(listener, router.into_handler(), shutdown).await;
//! # Ok(()) }
//! ```
//!
//! A handler finds in the request's extensions the peer's address ([`PeerAddr`]), its certificates if it presented any
//! ([`crate::tls::PeerCertificates`]), and may upgrade the connection with `hyper::upgrade::on`.

pub mod auth;
mod body;
mod connection;
mod health;
mod keepalive;
mod router;
pub mod secure;
mod server;
mod stall;

pub use body::{Body, BoxError, empty, full, json, status, stream, text};
pub use health::{Check, Checks};
pub use router::{Handler, Router, handler};
pub use server::{Limits, PeerAddr, bind, serve_http, serve_https, serve_https_within};
