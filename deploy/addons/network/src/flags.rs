//! The command line.

use component_base::cli;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Connects the pods of a cluster: routes between nodes, the CNI configuration, masquerading, NetworkPolicy.
#[derive(clap::Parser)]
pub struct Flags {
    #[command(flatten)]
    pub logging: cli::LoggingFlags,
    /// Name of this node's Node object.
    #[arg(long)]
    pub node_name: String,
    /// Kubeconfig; the pod's service account without it.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Address of the API server, in place of the kubeconfig's.
    #[arg(long, visible_alias = "server")]
    pub master: Option<String>,
    /// Ranges of all pods of the cluster, one or one per family. Packets to them are not masqueraded.
    #[arg(long, value_delimiter = ',', required = true)]
    pub cluster_cidr: Vec<IpNet>,
    /// Folder that the CNI configuration is written to.
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Folder of the CNI plugins: optional ones are used where they are there.
    #[arg(long, default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// UDP port of the tunnel to nodes that are on no common network; the same on all nodes.
    #[arg(long, default_value_t = 8472)]
    pub vxlan_port: u16,
    /// Address of /healthz, /livez and /readyz.
    #[arg(long, default_value = "127.0.0.1:10245")]
    pub healthz_bind_address: SocketAddr,
    /// Address of /metrics.
    #[arg(long, default_value = "127.0.0.1:10246")]
    pub metrics_bind_address: SocketAddr,
}
