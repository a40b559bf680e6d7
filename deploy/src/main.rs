//! ferrokube: makes a cluster on this machine and takes it away again. What kubeadm, kind and k3s users know as `init` and
//! `reset`; `deploy/up` and `deploy/down` are this program with the build in front.
//!
//! | file | what |
//! |---|---|
//! | [`up`], [`down`], [`join`] | the steps, in order |
//! | [`node`] | further nodes on this machine |
//! | [`token`], [`cluster_info`] | what a joining node shows, and how it knows the cluster |
//! | [`host`] | what a machine needs to be a node |
//! | [`cluster`] | the cluster of this machine |
//! | [`layout`] | every path that is written |
//! | [`pki`], [`kubeconfig`] | certificates and kubeconfigs as kubeadm lays them out |
//! | [`manifests`] | static pods, and the configuration of kubelet, containerd and CNI |
//! | [`image`], [`images`] | OCI images without Docker, and which ones |
//! | [`supervise`] | containerd and kubelet where systemd is not PID 1 |
//! | [`addons`] | what runs on top: kube-proxy, DNS |

mod addons;
mod cluster;
mod cluster_info;
mod down;
mod host;
mod image;
mod images;
mod join;
mod kubeconfig;
mod layout;
mod manifests;
mod node;
mod pki;
mod progress;
mod runtime;
mod supervise;
mod token;
mod up;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Makes a Kubernetes cluster on this machine, and takes it away again.
#[derive(Parser)]
#[command(name = "ferrokube", version = component_base::version::GIT_VERSION)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a one-node cluster and returns when it is ready. Can be run again at any time.
    Up(up::UpArgs),
    /// Makes this machine a worker of a cluster.
    Join(join::JoinArgs),
    /// Bootstrap tokens, which let nodes join.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Further nodes on this machine, for trying out what a cluster of several does.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Stops the cluster and removes everything that `up` made, and nothing else.
    Down,
    /// Writes the images as OCI archives into a folder.
    Images {
        /// Where to write them.
        #[arg(default_value = "images")]
        folder: PathBuf,
    },
    /// Runs containerd and the kubelet and starts them again when they end. `up` uses it where there is no systemd.
    #[command(hide = true)]
    Supervise,
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Up(args) => tokio(up::run(args)),
        Command::Join(args) => tokio(join::run(args)),
        Command::Token(command) => tokio(token::run(command)),
        Command::Node(command) => tokio(node::run(command)),
        Command::Down => down::run(),
        Command::Images { folder } => images::write_all(&folder),
        Command::Supervise => supervise::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("ferrokube: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn tokio(task: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task)
}
