//! `KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1) and the flags that stand beside it.

use crate::rules::Local;
use anyhow::Context;
use component_base::cli::{self, GoDuration, LoggingFlags};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The Kubernetes network proxy runs on each node and keeps the packet rules of Services. With --config only the flags --master,
/// --hostname-override, --cleanup and --init-only count besides the file.
#[derive(clap::Parser, Debug)]
pub struct Flags {
    #[command(flatten)]
    pub logging: LoggingFlags,
    /// The path to the configuration file.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub config: PathBuf,
    /// If set, write the configuration values to this file and exit.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub write_config_to: PathBuf,
    /// Remove the rules and exit.
    #[arg(long)]
    pub cleanup: bool,
    /// Set what needs all of root's rights (limits of connection tracking), and exit.
    #[arg(long)]
    pub init_only: bool,
    /// Kubeconfig with access to Services, EndpointSlices and Nodes.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub kubeconfig: PathBuf,
    /// URL of the API server; overrides the kubeconfig's.
    #[arg(long, default_value = "")]
    pub master: String,
    /// Requests per second to the API server.
    #[arg(long, default_value_t = 5.0)]
    pub kube_api_qps: f32,
    /// Requests beyond the limit for a moment.
    #[arg(long, default_value_t = 10)]
    pub kube_api_burst: u32,
    /// Name of this node, if not the host name.
    #[arg(long, default_value = "")]
    pub hostname_override: String,
    /// How rules are made: nftables, also if empty. Others are refused.
    #[arg(long, default_value = "")]
    pub proxy_mode: String,
    /// How traffic of pods is told from other traffic: ClusterCIDR (also if empty), NodeCIDR, BridgeInterface or
    /// InterfaceNamePrefix.
    #[arg(long, default_value = "")]
    pub detect_local_mode: String,
    /// Addresses of pods, one range per IP family, for --detect-local-mode=ClusterCIDR.
    #[arg(long, default_value = "")]
    pub cluster_cidr: String,
    /// The bridge that pods are on, for --detect-local-mode=BridgeInterface.
    #[arg(long, default_value = "")]
    pub pod_bridge_interface: String,
    /// How names of pods' interfaces begin, for --detect-local-mode=InterfaceNamePrefix.
    #[arg(long, default_value = "")]
    pub pod_interface_name_prefix: String,
    /// Ranges whose addresses of this node take traffic to node ports; "primary" or nothing: the node's own addresses.
    #[arg(long, value_delimiter = ',')]
    pub nodeport_addresses: Vec<String>,
    /// Masquerade all traffic to cluster IPs.
    #[arg(long)]
    pub masquerade_all: bool,
    /// Address of /healthz; nobody is answered if empty.
    #[arg(long, default_value = "0.0.0.0:10256")]
    pub healthz_bind_address: String,
    /// Port of /healthz if the address has none; 0 answers nobody.
    #[arg(long, default_value_t = 10256)]
    pub healthz_port: u16,
    /// Address of /metrics; nobody is answered if empty.
    #[arg(long, default_value = "127.0.0.1:10249")]
    pub metrics_bind_address: String,
    /// Port of /metrics if the address has none; 0 answers nobody.
    #[arg(long, default_value_t = 10249)]
    pub metrics_port: u16,
    /// If true, a port of health or metrics that is taken ends the process; otherwise it is told of.
    #[arg(long)]
    pub bind_address_hard_fail: bool,
    /// The address of this node: its family decides where health and metrics are served, if nothing else is said.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: String,
    /// Longest time between two applications of all rules.
    #[arg(long)]
    pub iptables_sync_period: Option<GoDuration>,
    /// Shortest time between two changes of rules.
    #[arg(long)]
    pub iptables_min_sync_period: Option<GoDuration>,
    /// The oom-score-adj value of this process.
    #[arg(long, default_value_t = -999, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub oom_score_adj: i32,
    /// Tracked connections for each core (0 leaves what is).
    #[arg(long, default_value_t = 32 * 1024)]
    pub conntrack_max_per_core: u32,
    /// The least that --conntrack-max-per-core comes to.
    #[arg(long, default_value_t = 128 * 1024)]
    pub conntrack_min: u32,
    /// Idle timeout for established TCP connections (0 leaves what is).
    #[arg(long, default_value = "24h")]
    pub conntrack_tcp_timeout_established: GoDuration,
    /// Timeout for TCP connections in CLOSE_WAIT (0 leaves what is).
    #[arg(long, default_value = "1h")]
    pub conntrack_tcp_timeout_close_wait: GoDuration,
    /// Take TCP packets out of the window for part of their connection.
    #[arg(long)]
    pub conntrack_tcp_be_liberal: bool,
    /// Idle timeout for UDP connections without an answer (0 leaves what is).
    #[arg(long, default_value = "0s")]
    pub conntrack_udp_timeout: GoDuration,
    /// Idle timeout for UDP connections with answers (0 leaves what is).
    #[arg(long, default_value = "0s")]
    pub conntrack_udp_timeout_stream: GoDuration,
    #[command(flatten)]
    pub ignored: Ignored,
}

/// Accepted: what they speak of is not here, or is done otherwise.
#[derive(clap::Args, Debug)]
pub struct Ignored {
    /// Accepted: nftables has its own bit, in the configuration file.
    #[arg(long, default_value_t = 14)]
    pub iptables_masquerade_bit: u32,
    /// Accepted: nftables never takes node ports on loopback.
    #[arg(long, default_value_t = true)]
    pub iptables_localhost_nodeports: bool,
    /// Accepted: there is no ipvs.
    #[arg(long, default_value = "30s")]
    pub ipvs_sync_period: GoDuration,
    /// Accepted, see --ipvs-sync-period.
    #[arg(long, default_value = "1s")]
    pub ipvs_min_sync_period: GoDuration,
    /// Accepted, see --ipvs-sync-period.
    #[arg(long, default_value = "")]
    pub ipvs_scheduler: String,
    /// Accepted, see --ipvs-sync-period.
    #[arg(long, value_delimiter = ',')]
    pub ipvs_exclude_cidrs: Vec<String>,
    /// Accepted, see --ipvs-sync-period.
    #[arg(long)]
    pub ipvs_strict_arp: bool,
    /// Accepted, see --ipvs-sync-period.
    #[arg(long, default_value = "0s")]
    pub ipvs_tcp_timeout: GoDuration,
    /// Accepted, see --ipvs-sync-period.
    #[arg(long, default_value = "0s")]
    pub ipvs_tcpfin_timeout: GoDuration,
    /// Accepted, see --ipvs-sync-period.
    #[arg(long, default_value = "0s")]
    pub ipvs_udp_timeout: GoDuration,
    /// Accepted: watches keep up by themselves.
    #[arg(long, default_value = "15m")]
    pub config_sync_period: GoDuration,
    /// Accepted: JSON is spoken.
    #[arg(long, default_value = "application/vnd.kubernetes.protobuf")]
    pub kube_api_content_type: String,
    /// Accepted: there is no interface for profiles.
    #[arg(long)]
    pub profiling: bool,
    /// Accepted: no metric is hidden.
    #[arg(long, default_value = "")]
    pub show_hidden_metrics_for_version: String,
}

const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
const KIND: &str = "KubeProxyConfiguration";

/// The configuration file. Unknown members are ignored: newer files must start older programs.
#[derive(Debug, Deserialize, Serialize, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Configuration {
    pub api_version: String,
    pub kind: String,
    pub bind_address: String,
    pub bind_address_hard_fail: bool,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    pub client_connection: ClientConnection,
    pub conntrack: Conntrack,
    pub detect_local: DetectLocalNames,
    pub detect_local_mode: String,
    /// Not served if this is none; an empty text in a file is the preset.
    pub healthz_bind_address: Option<String>,
    pub metrics_bind_address: Option<String>,
    pub hostname_override: String,
    pub mode: String,
    pub nftables: Nftables,
    pub node_port_addresses: Option<Vec<String>>,
    pub oom_score_adj: Option<i32>,
}

#[derive(Debug, Deserialize, Serialize, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnection {
    pub kubeconfig: String,
    pub qps: f32,
    pub burst: u32,
}

/// Of the kernel's connection tracking; what is not said has upstream's preset.
#[derive(Debug, Deserialize, Serialize, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Conntrack {
    pub max_per_core: Option<u32>,
    pub min: Option<u32>,
    pub tcp_established_timeout: Option<GoDuration>,
    pub tcp_close_wait_timeout: Option<GoDuration>,
    pub tcp_be_liberal: bool,
    pub udp_timeout: Option<GoDuration>,
    pub udp_stream_timeout: Option<GoDuration>,
}

#[derive(Debug, Deserialize, Serialize, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct DetectLocalNames {
    pub bridge_interface: String,
    pub interface_name_prefix: String,
}

#[derive(Debug, Deserialize, Serialize, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Nftables {
    pub masquerade_bit: Option<u32>,
    pub masquerade_all: bool,
    pub sync_period: Option<GoDuration>,
    pub min_sync_period: Option<GoDuration>,
}

/// How traffic of pods is told from other traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DetectLocal {
    /// Ranges of pods, one per IP family.
    ClusterCidr(Vec<IpNet>),
    /// The range that this node has for its pods.
    NodeCidr,
    /// The name of an interface, or how one begins with `*` behind it.
    Interface(String),
}

impl DetectLocal {
    fn new(file: &Configuration) -> anyhow::Result<DetectLocal> {
        let interface = |name: &str, flag: &str, end: &str| {
            anyhow::ensure!(
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'*'),
                "the detect local mode {} needs the name of an interface in {flag}, not {name:?}",
                file.detect_local_mode
            );
            Ok(DetectLocal::Interface(format!("{name}{end}")))
        };
        match file.detect_local_mode.as_str() {
            "" | "ClusterCIDR" => {
                let texts: Vec<String> = file.cluster_cidr.split(',').map(str::to_owned).collect();
                Ok(DetectLocal::ClusterCidr(ranges(&texts)?))
            }
            "NodeCIDR" => Ok(DetectLocal::NodeCidr),
            "BridgeInterface" => interface(&file.detect_local.bridge_interface, "--pod-bridge-interface", ""),
            "InterfaceNamePrefix" => {
                interface(&file.detect_local.interface_name_prefix, "--pod-interface-name-prefix", "*")
            }
            mode => anyhow::bail!(
                "the detect local mode {mode:?} is not supported; use ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix"
            ),
        }
    }

    /// For the rules of a family, on a node with these ranges.
    pub fn local(&self, ipv6: bool, node: &[IpNet]) -> Local {
        let of_family = |ranges: &[IpNet]| {
            let range = ranges.iter().find(|range| range.addr().is_ipv6() == ipv6);
            range.map_or(Local::Unknown, |range| Local::From(*range))
        };
        match self {
            DetectLocal::ClusterCidr(ranges) => of_family(ranges),
            DetectLocal::NodeCidr => of_family(node),
            DetectLocal::Interface(name) => Local::Interface(name.clone()),
        }
    }
}

/// What flags and file come to.
#[derive(Debug, Clone)]
pub struct Settings {
    pub kubeconfig: Option<PathBuf>,
    pub master: Option<String>,
    pub qps: f32,
    pub burst: u32,
    pub node: String,
    pub detect_local: DetectLocal,
    pub masquerade_all: bool,
    pub masquerade_mark: u32,
    pub healthz: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    pub bind_address_hard_fail: bool,
    /// Ranges whose local addresses take node port traffic; none: the node's own addresses.
    pub node_port_addresses: Vec<IpNet>,
    pub sync_period: std::time::Duration,
    pub min_sync_period: std::time::Duration,
    pub conntrack: Conntrack,
    pub oom_score_adj: i32,
}

fn given(path: &Path) -> Option<&Path> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

impl Configuration {
    /// The file if there is one, else the flags.
    pub fn read(flags: &Flags) -> anyhow::Result<Configuration> {
        let mut file = match given(&flags.config) {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
                let mut file: Configuration =
                    serde_yaml_ng::from_str(&text).with_context(|| format!("in {}", path.display()))?;
                anyhow::ensure!(
                    file.kind == KIND && file.api_version == API_VERSION,
                    "{} is {} {}, not a {API_VERSION} {KIND}",
                    path.display(),
                    file.api_version,
                    file.kind
                );
                file.healthz_bind_address.get_or_insert_default();
                file.metrics_bind_address.get_or_insert_default();
                file
            }
            None => Configuration::of(flags),
        };
        if !flags.hostname_override.is_empty() {
            let name = flags.hostname_override.trim().to_lowercase();
            anyhow::ensure!(!name.is_empty(), "empty hostname-override is invalid");
            file.hostname_override = name;
        }
        Ok(file)
    }

    fn of(flags: &Flags) -> Configuration {
        // An address that is empty, or has no port of its own and gets 0, is not served.
        let address = |text: &str, port: u16| match (text.is_empty() || port == 0, text.parse::<IpAddr>()) {
            (true, _) => None,
            (false, Ok(ip)) => Some(SocketAddr::new(ip, port).to_string()),
            (false, Err(_)) => Some(text.to_owned()),
        };
        Configuration {
            api_version: API_VERSION.into(),
            kind: KIND.into(),
            bind_address: flags.bind_address.clone(),
            bind_address_hard_fail: flags.bind_address_hard_fail,
            cluster_cidr: flags.cluster_cidr.clone(),
            client_connection: ClientConnection {
                kubeconfig: flags.kubeconfig.display().to_string(),
                qps: flags.kube_api_qps,
                burst: flags.kube_api_burst,
            },
            conntrack: Conntrack {
                max_per_core: Some(flags.conntrack_max_per_core),
                min: Some(flags.conntrack_min),
                tcp_established_timeout: Some(flags.conntrack_tcp_timeout_established),
                tcp_close_wait_timeout: Some(flags.conntrack_tcp_timeout_close_wait),
                tcp_be_liberal: flags.conntrack_tcp_be_liberal,
                udp_timeout: Some(flags.conntrack_udp_timeout),
                udp_stream_timeout: Some(flags.conntrack_udp_timeout_stream),
            },
            detect_local: DetectLocalNames {
                bridge_interface: flags.pod_bridge_interface.clone(),
                interface_name_prefix: flags.pod_interface_name_prefix.clone(),
            },
            detect_local_mode: flags.detect_local_mode.clone(),
            healthz_bind_address: address(&flags.healthz_bind_address, flags.healthz_port),
            metrics_bind_address: address(&flags.metrics_bind_address, flags.metrics_port),
            hostname_override: String::new(),
            mode: flags.proxy_mode.clone(),
            nftables: Nftables {
                masquerade_bit: None,
                masquerade_all: flags.masquerade_all,
                sync_period: flags.iptables_sync_period,
                min_sync_period: flags.iptables_min_sync_period,
            },
            node_port_addresses: Some(flags.nodeport_addresses.clone()),
            oom_score_adj: Some(flags.oom_score_adj),
        }
    }

    /// Writes the configuration to a file, as `--write-config-to` asks.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, serde_yaml_ng::to_string(self)?).with_context(|| format!("writing {}", path.display()))
    }
}

impl Settings {
    pub fn new(flags: &Flags, file: Configuration) -> anyhow::Result<Settings> {
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
        let is_v6 = file.bind_address.parse().is_ok_and(|ip: IpAddr| ip.is_ipv6());
        let [any, loopback] = if is_v6 { ["[::]", "[::1]"] } else { ["0.0.0.0", "127.0.0.1"] };
        let served = |text: &Option<String>, port: u16, host: &str| match text {
            None => Ok(None),
            Some(text) => address(text, port, host).map(Some),
        };
        let oom_score_adj = file.oom_score_adj.unwrap_or(-999);
        anyhow::ensure!((-1000..=1000).contains(&oom_score_adj), "oomScoreAdj must be -1000 to 1000");
        let period = |given: Option<GoDuration>, preset: &str| -> anyhow::Result<std::time::Duration> {
            let given = given.filter(|given| !given.get().is_zero());
            Ok(given.map_or_else(|| preset.parse(), Ok).map_err(|e| anyhow::anyhow!("{e}"))?.get())
        };
        Ok(Settings {
            kubeconfig: given(Path::new(&file.client_connection.kubeconfig)).map(Path::to_owned),
            master: Some(flags.master.clone()).filter(|master| !master.is_empty()),
            qps: if file.client_connection.qps == 0.0 { 5.0 } else { file.client_connection.qps },
            burst: if file.client_connection.burst == 0 { 10 } else { file.client_connection.burst },
            node,
            detect_local: DetectLocal::new(&file)?,
            masquerade_all: file.nftables.masquerade_all,
            masquerade_mark: 1u32
                .checked_shl(file.nftables.masquerade_bit.unwrap_or(14))
                .context("masqueradeBit must be 0 to 31")?,
            healthz: served(&file.healthz_bind_address, 10256, any)?,
            metrics: served(&file.metrics_bind_address, 10249, loopback)?,
            bind_address_hard_fail: file.bind_address_hard_fail,
            node_port_addresses: ranges(&file.node_port_addresses.unwrap_or_default())?,
            sync_period: period(file.nftables.sync_period, "1h")?,
            min_sync_period: period(file.nftables.min_sync_period, "1s")?,
            conntrack: file.conntrack,
            oom_score_adj,
        })
    }
}

fn ranges(texts: &[String]) -> anyhow::Result<Vec<IpNet>> {
    let given = texts.iter().map(|t| t.trim()).filter(|t| !t.is_empty() && *t != "primary");
    given.map(|t| t.parse().with_context(|| format!("{t:?} is no range of addresses such as 10.244.0.0/16"))).collect()
}

fn address(text: &str, port: u16, host: &str) -> anyhow::Result<SocketAddr> {
    let text = match (text, text.parse::<IpAddr>()) {
        ("", _) => format!("{host}:{port}"),
        (_, Ok(ip)) => SocketAddr::new(ip, port).to_string(),
        (text, Err(_)) => text.to_owned(),
    };
    text.parse().with_context(|| format!("{text:?} is no address with a port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(words: &[&str]) -> Flags {
        let words = ["kube-proxy", "--hostname-override=n"].into_iter().chain(words.iter().copied());
        cli::try_parse("kube-proxy", words).unwrap()
    }

    fn settings(words: &[&str]) -> anyhow::Result<Settings> {
        let flags = flags(words);
        let file = Configuration::read(&flags)?;
        Settings::new(&flags, file)
    }

    #[test]
    fn local_traffic_is_told_as_the_mode_says() {
        let range = |text: &str| Local::From(text.parse().unwrap());
        let node = ["10.244.3.0/24".parse().unwrap(), "fd00:3::/64".parse().unwrap()];
        for (words, v4, v6) in [
            (&["--cluster-cidr=10.244.0.0/16"][..], range("10.244.0.0/16"), Local::Unknown),
            (&["--detect-local-mode=ClusterCIDR"], Local::Unknown, Local::Unknown),
            (
                &["--detect-local-mode=NodeCIDR", "--cluster-cidr=10.0.0.0/8"],
                range("10.244.3.0/24"),
                range("fd00:3::/64"),
            ),
            (
                &["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni0"],
                Local::Interface("cni0".into()),
                Local::Interface("cni0".into()),
            ),
            (
                &["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=veth"],
                Local::Interface("veth*".into()),
                Local::Interface("veth*".into()),
            ),
        ] {
            let detect = settings(words).unwrap().detect_local;
            assert_eq!((detect.local(false, &node), detect.local(true, &node)), (v4, v6), "{words:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (words, message) in [
            (&["--proxy-mode=ipvs"][..], "is not supported"),
            (&["--detect-local-mode=Guess"], "is not supported"),
            (&["--detect-local-mode=BridgeInterface"], "needs the name of an interface"),
            (&["--hostname-override= "], "empty hostname-override is invalid"),
            (&["--metrics-bind-address=here"], "is no address with a port"),
            (&["--nodeport-addresses=10.0.0.0/33"], "is no range"),
        ] {
            let error = settings(words).unwrap_err().to_string();
            assert!(error.contains(message), "{words:?}: {error}");
        }
    }

    #[test]
    fn where_health_and_metrics_are_served() {
        for (words, healthz, metrics) in [
            (&[][..], Some("0.0.0.0:10256"), Some("127.0.0.1:10249")),
            (&["--metrics-bind-address=", "--healthz-port=0"], None, None),
            (&["--metrics-bind-address=::1", "--metrics-port=1"], Some("0.0.0.0:10256"), Some("[::1]:1")),
            (&["--healthz-bind-address=10.0.0.1:7"], Some("10.0.0.1:7"), Some("127.0.0.1:10249")),
        ] {
            let settings = settings(words).unwrap();
            let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
            assert_eq!(text(settings.healthz).as_deref(), healthz, "{words:?}");
            assert_eq!(text(settings.metrics).as_deref(), metrics, "{words:?}");
        }
    }

    #[test]
    fn a_file_is_read_and_what_is_written_reads_as_the_same() {
        let folder = std::env::temp_dir().join(format!("proxy-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("config.yaml");
        let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: '::'
clusterCIDR: 10.244.0.0/16
conntrack: {maxPerCore: null, min: null, tcpEstablishedTimeout: 1h0m0s}
healthzBindAddress: ''
mode: nftables
nftables: {syncPeriod: 0s, minSyncPeriod: 2s, masqueradeBit: 15}
oomScoreAdj: -5
";
        std::fs::write(&path, text).unwrap();
        let config = format!("--config={}", path.display());
        let read = Configuration::read(&flags(&[&config, "--proxy-mode=ipvs"])).unwrap();
        let settings = Settings::new(&flags(&[]), read.clone()).unwrap();
        assert_eq!(settings.healthz.unwrap().to_string(), "[::]:10256");
        assert_eq!(settings.metrics.unwrap().to_string(), "[::1]:10249");
        assert_eq!((settings.sync_period.as_secs(), settings.min_sync_period.as_secs()), (3600, 2));
        assert_eq!((settings.masquerade_mark, settings.oom_score_adj), (1 << 15, -5));
        assert_eq!(settings.conntrack.tcp_established_timeout, "1h".parse().ok());

        let written = folder.join("written.yaml");
        read.write(&written).unwrap();
        let config = format!("--config={}", written.display());
        assert_eq!(Configuration::read(&flags(&[&config])).unwrap(), read);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
