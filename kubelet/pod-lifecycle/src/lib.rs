//! The pods of the node, from the moment it knows them until nothing of them is left: one task per pod owns it
//! ([`worker`]), decides by pure functions of spec and runtime state ([`actions`], `pod_state::status`), and carries the
//! decisions out (`worker::start`, `kill`). [`manager`] turns what the sources want into workers; [`pleg`] wakes them when
//! the runtime reports a change; [`statuses`] and [`mirror`] tell the API server.
//!
//! No two tasks ever act on one pod, and nothing outside a pod's worker starts, stops or removes its containers. Who stands
//! above reads [`Pods`] and [`Statuses`], and asks for evictions.

pub mod actions;
mod admission;
mod backoff;
mod hooks;
mod kill;
pub mod manager;
pub mod mirror;
pub mod pleg;
pub mod statuses;
pub mod worker;

use std::sync::Arc;

use component_base::queue::WorkQueue;
use images::Images;
use k8s_openapi::api::core::v1::Pod;
use node_context::Context;
use pod_state::spec;
use tokio::sync::Semaphore;
use volumes::Volumes;

use manager::Pods;
use pleg::Pleg;
use statuses::Statuses;

/// Sandboxes made at once: the runtime gains nothing from more.
const SANDBOXES_AT_ONCE: usize = 4;

/// What the tasks around the node's pods share. Everything in here is safe to use from any task.
pub struct Lifecycle {
    pub context: Arc<Context>,
    pub images: Images,
    pub volumes: Volumes,
    pub pods: Pods,
    pub pleg: Pleg,
    pub statuses: Statuses,
    /// Full names of static pods whose mirrors are to be looked at.
    mirrors: WorkQueue<String>,
    sandbox_permits: Semaphore,
}

impl Lifecycle {
    /// A node that knows no pods yet. The tasks are the `run` of each module.
    pub fn new(context: Arc<Context>, images: Images, volumes: Volumes) -> Self {
        Self {
            context,
            images,
            volumes,
            pods: Pods::default(),
            pleg: Pleg::default(),
            statuses: Statuses::default(),
            mirrors: WorkQueue::new("mirror-pod"),
            sandbox_permits: Semaphore::new(SANDBOXES_AT_ONCE),
        }
    }

    /// The pod's primary address, "" if it has none.
    pub fn pod_ip(&self, pod: &Pod) -> String {
        self.statuses.get(spec::uid(pod)).and_then(|status| status.pod_ip).unwrap_or_default()
    }
}
