//! The server as its clients see it: the built binary on a real etcd, over TLS, by a real client. Each test starts its own
//! etcd and server on free ports in a temporary folder and stops them again.

mod admission_webhooks;
mod aggregation;
mod crd_conversion;
mod custom;
mod definitions;
mod expressions;
mod facts;
mod golden;
mod guards;
mod kinds;
mod mutating_policies;
mod openapi;
mod restarts;
mod stand;
mod verbs;
mod webhook_server;
