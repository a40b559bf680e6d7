//! kube-scheduler: gives every pod a node.
//!
//! | place | what |
//! |---|---|
//! | [`cluster`] | nodes and the pods on them, laid out for scanning; kept up to date change by change |
//! | [`queue`] | pods that wait: to be tried, for their back-off, or for the cluster to change |
//! | [`framework`] | extension points, what passes between them, and profiles |
//! | [`plugins`] | one file per plugin |
//! | [`cycle`] | one pod through filter and score; serial |
//! | [`binding`] | telling the API server; concurrent |
//! | [`preemption`] | making room by ending pods of lower priority |
//! | [`scheduler`] | the loop that joins them |
//!
//! The loop owns all state, so a cycle takes no lock and copies nothing: watches only mark what changed, and the marks are
//! worked off between two cycles.

mod app;
mod binding;
mod cluster;
mod config;
mod cycle;
mod framework;
mod plugins;
mod preemption;
mod queue;
mod scheduler;

use component_base::{cli, logs, runtime};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let flags: config::Flags = cli::parse("kube-scheduler");
    logs::init(&flags.logging);
    flags.logging.feature_gates.publish();
    // One thread for the cycle, one for watches and bindings.
    runtime::run(2, |shutdown| app::run(flags, shutdown))
}
