//! cluster-network: the pod network of a node. Any other CNI can take its place.
//!
//! | file | what |
//! |---|---|
//! | [`flags`] | the command line |
//! | [`state`] | the pure part: nodes and links to routes and tunnel, and the steps that lead there |
//! | [`kernel`] | netlink: what is there, and doing the steps |
//! | [`masquerade`], [`nft`] | rules for packets to the outside, and how they are applied |
//! | [`cni`], [`sysctl`] | the CNI configuration; forwarding |
//! | [`agent`] | follows Nodes and the kernel, and applies what changed |
//! | [`policy`] | NetworkPolicy |
//! | [`health`] | what the probes are told |
//!
//! `docs/network.md` has the design.

mod agent;
mod cni;
mod flags;
mod health;
mod kernel;
mod masquerade;
mod nft;
mod policy;
mod state;
mod sysctl;
#[cfg(test)]
mod testing;

use component_base::client::{self, ClientFlags};
use component_base::informer::Factory;
use component_base::serving::{self, Checks, Router};
use component_base::{cli, logs, runtime, version};
use flags::Flags;
use health::Health;
use std::process::ExitCode;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let flags: Flags = cli::parse("cluster-network");
    logs::init(&flags.logging);
    // One thread is plenty: rules are computed rarely, packets are the kernel's.
    runtime::run(1, |shutdown| run(flags, shutdown))
}

async fn run(flags: Flags, shutdown: CancellationToken) -> anyhow::Result<()> {
    let client_flags =
        ClientFlags { kubeconfig: flags.kubeconfig.clone(), master: flags.master.clone(), ..ClientFlags::default() };
    let client = client::connect(&client_flags, &version::user_agent("cluster-network")).await?;
    let factory = Factory::new(client, shutdown.clone());
    let (health, policy_health) = (Arc::new(Health::default()), Arc::new(Health::default()));
    let live = Checks::default().with(health.live("network")).with(policy_health.live("policies"));
    let probes = Router::new().with_health(live).on("/readyz", {
        let health = health.clone();
        move |_| {
            let ready = health.ready();
            async move {
                match ready {
                    Ok(()) => serving::text(http::StatusCode::OK, "ok"),
                    Err(reason) => serving::text(http::StatusCode::SERVICE_UNAVAILABLE, reason),
                }
            }
        }
    });
    let metrics = Router::new().with_metrics();
    for (address, router) in [(flags.healthz_bind_address, probes), (flags.metrics_bind_address, metrics)] {
        let listener = serving::bind(address).await?;
        tokio::spawn(serving::serve_http(listener, router.into_handler(), shutdown.clone()));
    }
    tracing::info!(node = flags.node_name, "Following nodes");
    let policies = policy::Controller::new(&flags.node_name, &factory, policy_health);
    let agent = agent::Agent::new(flags, &factory, health)?;
    let applied = agent.policies_applied();
    tokio::try_join!(policies.run(factory.clone(), applied, shutdown.clone()), agent.run(factory, shutdown))?;
    Ok(())
}
