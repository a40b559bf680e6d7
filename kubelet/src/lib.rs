//! The kubelet: makes the containers of this node's pods be as their specs say.
//!
//! | to | see |
//! |---|---|
//! | run one pod | [`pod::worker`] |
//! | turn sources into pods | [`pod::manager`], [`sources`] |
//! | talk to the runtime | [`cri`] |
//! | describe a container to it | [`container`] |
//! | report pods and node | [`statuses`], [`node`] |
//! | answer on port 10250 | [`server`] |
//!
//! The kubelet talks to the API server and to the runtime, to no other component. What decides is pure; what acts is in
//! the pods' workers; [`kubelet::Kubelet`] is what they share.

pub mod cm;
pub mod config;
pub mod container;
pub mod cri;
pub mod eviction;
pub mod images;
mod inotify;
mod json;
pub mod kubelet;
pub mod logs;
pub mod node;
pub mod objects;
pub mod options;
pub mod pod;
pub mod probes;
pub mod quantity;
pub mod server;
pub mod sources;
pub mod stats;
pub mod statuses;
pub mod volumes;
