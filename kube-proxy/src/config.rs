//! `KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1) and the flags that stand beside it.

use anyhow::Context;
use component_base::cli::{GoDuration, LoggingFlags};
use ipnet::IpNet;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The Kubernetes network proxy runs on each node and keeps the packet rules of Services.
#[derive(clap::Parser, Debug)]
pub struct Flags {
    #[command(flatten)]
    pub logging: LoggingFlags,
    /// Configuration file; flags that it covers are ignored when it is given, as upstream does.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Kubeconfig with access to Services, EndpointSlices and Nodes.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// URL of the API server; overrides the kubeconfig's.
    #[arg(long)]
    pub master: Option<String>,
    /// Name of this node, if not the host name.
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// How rules are made: nftables.
    #[arg(long, default_value = "")]
    pub proxy_mode: String,
    /// Addresses of pods: traffic to cluster IPs from elsewhere is masqueraded.
    #[arg(long, default_value = "")]
    pub cluster_cidr: String,
    /// Masquerade all traffic to cluster IPs.
    #[arg(long)]
    pub masquerade_all: bool,
    /// Address of /healthz.
    #[arg(long, default_value = "0.0.0.0:10256")]
    pub healthz_bind_address: String,
    /// Address of /metrics.
    #[arg(long, default_value = "127.0.0.1:10249")]
    pub metrics_bind_address: String,
    /// Address to take for this node's; accepted for compatibility.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: String,
    /// Remove the rules and exit.
    #[arg(long)]
    pub cleanup: bool,
    /// Longest time between two applications of all rules.
    #[arg(long, default_value = "1h0m0s")]
    pub iptables_sync_period: GoDuration,
}

/// The configuration file. Unknown members are ignored: newer files must start older programs.
#[derive(Debug, Deserialize, Clone, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Configuration {
    pub api_version: String,
    pub kind: String,
    pub bind_address: String,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    pub client_connection: ClientConnection,
    pub healthz_bind_address: String,
    pub metrics_bind_address: String,
    pub hostname_override: String,
    pub mode: String,
    pub nftables: Nftables,
    pub node_port_addresses: Option<Vec<String>>,
}

#[derive(Debug, Deserialize, Clone, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnection {
    pub kubeconfig: String,
    pub qps: f32,
    pub burst: u32,
}

#[derive(Debug, Deserialize, Clone, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Nftables {
    pub masquerade_bit: Option<u32>,
    pub masquerade_all: bool,
    pub sync_period: Option<String>,
    pub min_sync_period: Option<String>,
}

/// What flags and file come to.
#[derive(Debug, Clone)]
pub struct Settings {
    pub kubeconfig: Option<PathBuf>,
    pub master: Option<String>,
    pub qps: f32,
    pub burst: u32,
    pub node: String,
    /// Ranges of pods, one per IP family.
    pub cluster_cidrs: Vec<IpNet>,
    pub masquerade_all: bool,
    pub masquerade_mark: u32,
    pub healthz: SocketAddr,
    pub metrics: SocketAddr,
    /// Ranges whose local addresses take node port traffic; none: the node's own addresses.
    pub node_port_addresses: Vec<IpNet>,
    pub sync_period: std::time::Duration,
    pub min_sync_period: std::time::Duration,
}

impl Settings {
    pub fn new(flags: &Flags) -> anyhow::Result<Settings> {
        let mut file = match &flags.config {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
                let file: Configuration =
                    serde_yaml_ng::from_str(&text).with_context(|| format!("in {}", path.display()))?;
                anyhow::ensure!(
                    file.kind == "KubeProxyConfiguration" && file.api_version == "kubeproxy.config.k8s.io/v1alpha1",
                    "{} is {} {}, not a kubeproxy.config.k8s.io/v1alpha1 KubeProxyConfiguration",
                    path.display(),
                    file.api_version,
                    file.kind
                );
                file
            }
            None => Configuration {
                cluster_cidr: flags.cluster_cidr.clone(),
                healthz_bind_address: flags.healthz_bind_address.clone(),
                metrics_bind_address: flags.metrics_bind_address.clone(),
                mode: flags.proxy_mode.clone(),
                nftables: Nftables { masquerade_all: flags.masquerade_all, ..Nftables::default() },
                ..Configuration::default()
            },
        };
        if let Some(node) = &flags.hostname_override {
            file.hostname_override = node.clone();
        }
        anyhow::ensure!(
            matches!(file.mode.as_str(), "" | "nftables"),
            "the proxy mode {:?} is not supported; use nftables",
            file.mode
        );
        let node = match file.hostname_override.as_str() {
            "" => std::fs::read_to_string("/proc/sys/kernel/hostname")
                .context("reading the host name")?
                .trim()
                .to_lowercase(),
            name => name.trim().to_lowercase(),
        };
        let duration = |text: &Option<String>, default: &str| -> anyhow::Result<std::time::Duration> {
            let text = text.as_deref().filter(|t| *t != "0s" && !t.is_empty()).unwrap_or(default);
            Ok(text.parse::<GoDuration>().map_err(|e| anyhow::anyhow!("{text:?}: {e}"))?.0)
        };
        let kubeconfig = match file.client_connection.kubeconfig.as_str() {
            "" => flags.kubeconfig.clone(),
            path => Some(PathBuf::from(path)),
        };
        Ok(Settings {
            kubeconfig,
            master: flags.master.clone(),
            qps: if file.client_connection.qps == 0.0 { 5.0 } else { file.client_connection.qps },
            burst: if file.client_connection.burst == 0 { 10 } else { file.client_connection.burst },
            node,
            cluster_cidrs: ranges(&file.cluster_cidr.split(',').map(str::to_owned).collect::<Vec<_>>())?,
            masquerade_all: file.nftables.masquerade_all,
            masquerade_mark: 1u32
                .checked_shl(file.nftables.masquerade_bit.unwrap_or(14))
                .context("masqueradeBit must be 0 to 31")?,
            healthz: address(&file.healthz_bind_address, 10256, "0.0.0.0")?,
            metrics: address(&file.metrics_bind_address, 10249, "127.0.0.1")?,
            node_port_addresses: ranges(&file.node_port_addresses.unwrap_or_default())?,
            sync_period: duration(&file.nftables.sync_period, "1h")?,
            min_sync_period: duration(&file.nftables.min_sync_period, "1s")?,
        })
    }
}

fn ranges(texts: &[String]) -> anyhow::Result<Vec<IpNet>> {
    let given = texts.iter().map(|t| t.trim()).filter(|t| !t.is_empty() && *t != "primary");
    given.map(|t| t.parse().with_context(|| format!("{t:?} is no range of addresses such as 10.244.0.0/16"))).collect()
}

fn address(text: &str, port: u16, host: &str) -> anyhow::Result<SocketAddr> {
    let text = match text {
        "" => format!("{host}:{port}"),
        text if text.parse::<std::net::IpAddr>().is_ok() => format!("{text}:{port}"),
        text => text.to_owned(),
    };
    text.parse().with_context(|| format!("{text:?} is no address with a port"))
}
