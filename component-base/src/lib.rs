//! What every Ferrokube process needs, once: flags, logging, metrics, TLS serving, the API client, shared informers,
//! keyed queues, leader election and events.
//!
//! Nothing in here knows a component: no scheduling, no controller, no container. What only one binary needs belongs
//! into that binary's crate. There is one way to do each thing:
//!
//! | to | use |
//! |---|---|
//! | read flags | [`cli::parse`] |
//! | log | [`logs::init`], then `tracing` |
//! | ask what is on | [`feature_gates`] |
//! | run until SIGTERM | [`runtime::run`] |
//! | count | [`metrics`] |
//! | serve HTTP(S) | [`serving`], [`tls`] |
//! | talk to the API server | [`client::connect`] |
//! | read objects | [`informer::Factory`] |
//! | work on keys | [`queue::WorkQueue`], [`controller::run`] |
//! | be the only one | [`leader::run`] |
//! | tell users what happened | [`events::Recorder`] |

pub mod any_server;
pub mod cli;
pub mod client;
pub mod controller;
pub mod events;
pub mod feature_gates;
mod go;
pub mod informer;
pub mod leader;
pub mod logs;
pub mod metrics;
pub mod queue;
pub mod runtime;
pub mod serving;
pub mod tls;
pub mod version;
