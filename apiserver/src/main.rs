//! kube-apiserver: the front of the cluster, on etcd.
//!
//! A request's way is [`server::pipeline`]; what is served is [`registry`]; where it is kept is [`storage`]. This crate depends on
//! the shared libraries only, never on another component.

mod allocation;

mod bootstrap;
mod component_status;
mod discovery;
mod escalation;
#[cfg(test)]
mod fuzz;

mod options;
mod review;
mod run;
mod server;
mod subresource;

use component_base::{cli, logs, runtime};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let options: options::Options = cli::parse("kube-apiserver");
    logs::init(&options.logging);
    options.logging.feature_gates.publish();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    runtime::run(threads, |shutdown| run::run(options, shutdown))
}
