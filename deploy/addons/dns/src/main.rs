//! cluster-dns: names of services and pods, as "Kubernetes DNS-Based Service Discovery" 1.1 specifies them; everything else is
//! asked of the node's own name servers.
//!
//! [`zone`] is the pure part: a name and a type to records, from the stores. [`handler`] speaks DNS.

mod handler;
mod zone;

use clap::Parser;
use component_base::client::{self, ClientFlags};
use component_base::informer::{Factory, Scope};
use component_base::serving::{self, Check, Checks, Router};
use component_base::{cli, logs, runtime, version};
use hickory_server::Server;
use hickory_server::resolver::TokioResolver;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Answers DNS queries for the services and pods of a cluster.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    logging: cli::LoggingFlags,
    /// Domain of the cluster.
    #[arg(long, default_value = "cluster.local")]
    domain: String,
    /// Address to answer at.
    #[arg(long, default_value = "0.0.0.0")]
    bind_address: IpAddr,
    #[arg(long, default_value_t = 53)]
    port: u16,
    /// Seconds that answers may be kept.
    #[arg(long, default_value_t = 30)]
    ttl: u32,
    /// Address of /health and /ready.
    #[arg(long, default_value = "0.0.0.0:8080")]
    health_address: SocketAddr,
    /// Address of /metrics.
    #[arg(long, default_value = "0.0.0.0:9153")]
    metrics_address: SocketAddr,
    /// Kubeconfig; the pod's service account without it.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
}

fn main() -> ExitCode {
    let flags: Flags = cli::parse("cluster-dns");
    logs::init(&flags.logging);
    runtime::run(1, |shutdown| run(flags, shutdown))
}

async fn run(flags: Flags, shutdown: CancellationToken) -> anyhow::Result<()> {
    let client_flags = ClientFlags { kubeconfig: flags.kubeconfig.clone(), ..ClientFlags::default() };
    let client = client::connect(&client_flags, &version::user_agent("cluster-dns")).await?;
    let factory = Factory::new(client, shutdown.clone());
    let zone = zone::Zone::new(
        &flags.domain,
        flags.ttl,
        factory.store_with::<Service>(Scope::all(), |s| s.metadata.annotations = None),
        factory.store_with::<EndpointSlice>(Scope::all(), |s| s.metadata.owner_references = None),
        factory.store_with::<Namespace>(Scope::all(), |n| n.metadata.annotations = None),
    )?;

    let ready = {
        let factory = factory.clone();
        Check::new("kubernetes", move || {
            if factory.has_synced() { Ok(()) } else { Err("the first lists are not here yet".into()) }
        })
    };
    let answer = |code, text: &'static str| move |_| async move { serving::text(code, text) };
    let health = Router::new().on("/health", answer(http::StatusCode::OK, "OK")).on("/ready", {
        let factory = factory.clone();
        move |_| {
            let synced = factory.has_synced();
            async move {
                if synced {
                    serving::text(http::StatusCode::OK, "OK")
                } else {
                    serving::text(http::StatusCode::SERVICE_UNAVAILABLE, "kubernetes")
                }
            }
        }
    });
    let metrics = Router::new().with_metrics().with_health(Checks::default().with(ready));
    for (address, router) in [(flags.health_address, health), (flags.metrics_address, metrics)] {
        let listener = serving::bind(address).await?;
        tokio::spawn(serving::serve_http(listener, router.into_handler(), shutdown.clone()));
    }

    // Half an answer is worse than none: names that exist must not be denied while the lists are on their way.
    tokio::select! { () = factory.synced() => {}, () = shutdown.cancelled() => return Ok(()) }
    let upstream = TokioResolver::builder_tokio().and_then(|mut builder| {
        let options = builder.options_mut();
        // Who asks gives up after five seconds by default, and tries the next name. One try is in time for that.
        options.timeout = handler::UPSTREAM_TIMEOUT;
        options.attempts = 0; // the tries after the first
        builder.build()
    });
    let upstream = match upstream {
        Ok(resolver) => Some(resolver),
        Err(error) => {
            tracing::warn!(%error, "no name servers in /etc/resolv.conf; only names of the cluster are answered");
            None
        }
    };
    let mut server = Server::new(handler::Handler::new(zone, upstream));
    let address = SocketAddr::new(flags.bind_address, flags.port);
    server.register_socket(tokio::net::UdpSocket::bind(address).await?);
    server.register_listener(serving::bind(address).await?, Duration::from_secs(10), 32);
    tracing::info!(%address, domain = flags.domain, "answering");
    tokio::select! {
        result = server.block_until_done() => result?,
        () = shutdown.cancelled() => server.shutdown_gracefully().await?,
    }
    Ok(())
}
