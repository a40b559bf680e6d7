//! The server as its clients see it: the built binary on a real etcd, over TLS, by a real client. Each test starts its own
//! etcd and server on free ports in a temporary folder and stops them again.

mod custom;
mod expressions;
mod golden;
mod restarts;
mod stand;
mod verbs;
