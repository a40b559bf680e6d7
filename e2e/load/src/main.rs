//! Measures an API server under load: requests per second, latency, the server's CPU per request, its memory.
//!
//! Without `--server` it starts an etcd and a `kube-apiserver` of its own on loopback, in a temporary folder, and stops them at
//! the end; any server with upstream's flags can be put under `--kube-apiserver`. Load is bounded: every step makes a fixed
//! number of requests.

#![forbid(unsafe_code)]

mod client;
mod memory;
mod objects;
mod process;
mod server;
mod steps;

use clap::Parser;
use std::path::PathBuf;

/// Measures an API server under load.
#[derive(Parser, Debug)]
#[command(version)]
pub struct Options {
    /// Address of a running API server (https://host:port) instead of one of its own; needs --token, and --pid for CPU and memory.
    #[arg(long)]
    pub server: Option<String>,
    /// Bearer token of a member of system:masters.
    #[arg(long, default_value = "load")]
    pub token: String,
    /// Process of the running API server.
    #[arg(long)]
    pub pid: Option<u32>,
    /// The server to start; beside this program by default.
    #[arg(long)]
    pub kube_apiserver: Option<PathBuf>,
    /// More flags for the server to start.
    #[arg(long, allow_hyphen_values = true)]
    pub server_flag: Vec<String>,
    /// Requests in flight, each on a connection of its own.
    #[arg(long, default_value_t = 64)]
    pub in_flight: usize,
    /// Requests of each step that creates, patches or gets.
    #[arg(long, default_value_t = 10_000)]
    pub requests: usize,
    /// Pods that there are when lists are measured.
    #[arg(long, default_value_t = 22_000)]
    pub pods: usize,
    /// Watchers of the fan-out step, each on a connection of its own.
    #[arg(long, default_value_t = 1000)]
    pub watchers: usize,
    /// Pods created while the watchers watch.
    #[arg(long, default_value_t = 1000)]
    pub watched_pods: usize,
    /// Connections that say nothing after one request, in the step of idle ones. Each is an open file here and there.
    #[arg(long, default_value_t = 10_000)]
    pub idle: usize,
    /// Objects that there are when full memory is read.
    #[arg(long, default_value_t = 35_000)]
    pub objects: usize,
    /// Measure memory over time instead, and print it every few seconds.
    #[arg(long)]
    pub memory: bool,
    /// Objects of 8 KB that come and go, in five resources.
    #[arg(long, default_value_t = 60_000)]
    pub churn_objects: usize,
    /// Changes of 500 objects.
    #[arg(long, default_value_t = 3_000_000)]
    pub revisions: usize,
    /// Pods that are deleted by one request.
    #[arg(long, default_value_t = 10_000)]
    pub collection_pods: usize,
    /// Seconds between two readings of memory.
    #[arg(long, default_value_t = 5)]
    pub sample_seconds: u64,
    /// Seconds after which memory is read the last time: by then the history has aged.
    #[arg(long, default_value_t = 330)]
    pub settle_seconds: u64,
    /// Only steps whose name contains this.
    #[arg(long, default_value = "")]
    pub only: String,
    /// Print JSON lines instead of a table.
    #[arg(long)]
    pub json: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?;
    runtime.block_on(async {
        let server = server::Server::start(&options).await?;
        match options.memory {
            true => memory::run(&options, &server).await,
            false => steps::run(&options, &server).await,
        }
    })
}
