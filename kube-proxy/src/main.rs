//! kube-proxy: keeps this node's packet rules as Services and EndpointSlices say.
//!
//! | file | what |
//! |---|---|
//! | [`config`] | KubeProxyConfiguration and flags |
//! | [`model`] | what of a Service and its endpoints matters to packets |
//! | [`rules`] | the pure function from a service to its piece of the rules |
//! | [`ruleset`] | pieces, and the script that leads from one set of pieces to the next |
//! | [`nft`] | nftables: the base of the rules, and how scripts are applied |
//! | [`proxier`] | follows the API and applies what changed |
//! | [`sysctl`] | limits of the kernel's connection tracking |
//! | [`health`], [`conntrack`] | health of nodes for load balancers; flows that outlive their endpoint |
//!
//! A change costs the services it touches, not all of them; a packet costs the same however many services there are.

mod app;
mod config;
mod conntrack;
mod health;
mod model;
mod nft;
mod proxier;
mod rules;
mod ruleset;
mod sysctl;

use component_base::{cli, logs, runtime};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let flags: config::Flags = cli::parse("kube-proxy");
    logs::init(&flags.logging);
    flags.logging.feature_gates.publish();
    // One thread is plenty: rules are computed rarely, packets are the kernel's.
    runtime::run(1, |shutdown| app::run(flags, shutdown))
}
