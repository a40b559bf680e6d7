//! Calling other HTTPS servers: admission and conversion webhooks, and the servers behind aggregated APIs.
//!
//! | file | what |
//! |---|---|
//! | [`config`] | whom to call: a `WebhookClientConfig` or an APIService's reference, read once |
//! | [`resolver`] | where a Service is |
//! | [`client`] | connections, shared by all who call the same server in the same way |
//! | [`call`] | one POST of a review and its answer, bounded in time and size |
//!
//! What is asked and what the answer means is not for here.

pub mod call;
pub mod client;
pub mod config;
pub mod resolver;

pub use call::Limits;
pub use client::Callout;
pub use config::Destination;
