//! The kubelet: makes the containers of this node's pods be as their specs say.
//!
//! Here are the flags ([`options`]) and how the parts are put together ([`run`]); each part is a crate of its own beside this
//! one, and docs/ARCHITECTURE.md shows which may know which. The kubelet talks to the API server and to the runtime, to no
//! other component. What decides is pure; what acts is in the pods' workers.

mod options;
mod run;

use std::process::ExitCode;

use component_base::{cli, logs, runtime};

use options::Args;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args: Args = cli::parse("kubelet");
    logs::init(&args.logging);
    runtime::run(2, |shutdown| run::run(args, shutdown))
}
