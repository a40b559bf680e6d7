//! The kubelet's process.

use std::process::ExitCode;

use component_base::{cli, logs, runtime};
use kubelet::options::Args;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args: Args = cli::parse("kubelet");
    logs::init(&args.logging);
    runtime::run(2, |shutdown| kubelet::kubelet::run(args, shutdown))
}
