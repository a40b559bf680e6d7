//! The server as its clients see it: the built binary on a real etcd, over TLS, by a real client. Each test starts its own
//! etcd and server on free ports in a temporary folder and stops them again.

mod abuse;
mod admission_webhooks;
mod aggregation;
mod apply_migration;
mod cbor;
mod certificates;
mod chunking;
mod crd_conversion;
mod crd_objects;
mod custom;
mod definitions;
mod discovery;
mod embedded;
mod eviction;
mod expressions;
mod facts;
mod field_order;
mod field_validation;
mod gated;
mod golden;
mod guards;
mod kinds;
mod legacy_tokens;
mod lifecycles;
mod mutating_policies;
mod mutations;
mod namespaces;
mod older_watches;
mod openapi;
mod pod_security;
mod proxies;
mod restarts;
mod several;
mod spdy_kubelet;
mod streams;
mod verbs;
mod watchers;
mod webhook_server;
mod writes;

/// Every test's server; shared with the tests of other programs.
use ::stand;
