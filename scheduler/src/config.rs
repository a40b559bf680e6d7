//! `KubeSchedulerConfiguration` (kubescheduler.config.k8s.io/v1) and the flags beside it.

use anyhow::Context;
use component_base::cli::LoggingFlags;
use component_base::leader::LeaderFlags;
use serde::Deserialize;
use std::net::IpAddr;
use std::path::PathBuf;

/// The Kubernetes scheduler assigns pods to nodes.
#[derive(clap::Parser, Debug)]
pub struct Flags {
    #[command(flatten)]
    pub logging: LoggingFlags,
    #[command(flatten)]
    pub leader: LeaderFlags,
    /// Configuration file.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Kubeconfig with the scheduler's rights.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// URL of the API server; overrides the kubeconfig's.
    #[arg(long)]
    pub master: Option<String>,
    /// Kubeconfig with which tokens of callers are reviewed.
    #[arg(long)]
    pub authentication_kubeconfig: Option<PathBuf>,
    /// Kubeconfig with which callers' rights are asked for.
    #[arg(long)]
    pub authorization_kubeconfig: Option<PathBuf>,
    /// Missing configuration of authentication in the cluster is no error; accepted for compatibility.
    #[arg(long, default_value_t = true)]
    pub authentication_tolerate_lookup_failure: bool,
    /// Paths that anybody may ask for.
    #[arg(long, value_delimiter = ',', default_value = "/healthz,/readyz,/livez")]
    pub authorization_always_allow_paths: Vec<String>,
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Port for /healthz and /metrics over HTTPS; 0 does not serve.
    #[arg(long, default_value_t = 10259)]
    pub secure_port: u16,
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    #[arg(long)]
    pub cert_dir: Option<PathBuf>,
    /// Requests per second to the API server.
    #[arg(long, default_value_t = 50.0)]
    pub kube_api_qps: f32,
    #[arg(long, default_value_t = 100)]
    pub kube_api_burst: u32,
    #[arg(long, default_value_t = true)]
    pub profiling: bool,
}

/// The configuration file; members that are not read here are accepted.
#[derive(Debug, Deserialize, Clone)]
#[serde(rename_all = "camelCase", default)]
pub struct Configuration {
    pub api_version: String,
    pub kind: String,
    pub percentage_of_nodes_to_score: Option<u32>,
    pub pod_initial_backoff_seconds: u64,
    pub pod_max_backoff_seconds: u64,
    pub profiles: Vec<Profile>,
}

impl Default for Configuration {
    fn default() -> Self {
        Configuration {
            api_version: API_VERSION.into(),
            kind: KIND.into(),
            percentage_of_nodes_to_score: None,
            pod_initial_backoff_seconds: 1,
            pod_max_backoff_seconds: 10,
            profiles: vec![],
        }
    }
}

/// A scheduler that pods can ask for by `schedulerName`.
#[derive(Debug, Deserialize, Clone, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Profile {
    pub scheduler_name: String,
    pub plugins: Plugins,
    pub plugin_config: Vec<PluginConfig>,
}

#[derive(Debug, Deserialize, Clone, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Plugins {
    pub multi_point: PluginSet,
    pub filter: PluginSet,
    pub score: PluginSet,
}

#[derive(Debug, Deserialize, Clone, Default)]
#[serde(default)]
pub struct PluginSet {
    pub enabled: Vec<PluginRef>,
    pub disabled: Vec<PluginRef>,
}

#[derive(Debug, Deserialize, Clone, Default)]
#[serde(default)]
pub struct PluginRef {
    pub name: String,
    pub weight: Option<i64>,
}

#[derive(Debug, Deserialize, Clone, Default)]
#[serde(default)]
pub struct PluginConfig {
    pub name: String,
    pub args: serde_json::Value,
}

const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

impl Configuration {
    pub fn read(flags: &Flags) -> anyhow::Result<Configuration> {
        let mut configuration = match &flags.config {
            None => Configuration::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
                serde_yaml_ng::from_str(&text).with_context(|| format!("in {}", path.display()))?
            }
        };
        anyhow::ensure!(
            configuration.api_version == API_VERSION && configuration.kind == KIND,
            "the configuration is {} {}, not {API_VERSION} {KIND}",
            configuration.api_version,
            configuration.kind
        );
        if configuration.profiles.is_empty() {
            configuration.profiles.push(Profile::default());
        }
        for profile in &mut configuration.profiles {
            if profile.scheduler_name.is_empty() {
                profile.scheduler_name = DEFAULT_SCHEDULER.into();
            }
        }
        Ok(configuration)
    }
}

impl Profile {
    /// Whether a plugin is switched off everywhere or at one of the points.
    pub fn disables(&self, name: &str, set: &PluginSet) -> bool {
        let off = |set: &PluginSet| {
            set.disabled.iter().any(|p| p.name == name || p.name == "*") && !set.enabled.iter().any(|p| p.name == name)
        };
        off(&self.plugins.multi_point) || off(set)
    }

    /// The weight that the file gives a plugin's scores.
    pub fn weight(&self, name: &str) -> Option<i64> {
        let named =
            |set: &PluginSet| set.enabled.iter().find(|p| p.name == name).and_then(|p| p.weight).filter(|w| *w > 0);
        named(&self.plugins.score).or_else(|| named(&self.plugins.multi_point))
    }

    pub fn args(&self, name: &str) -> Option<&serde_json::Value> {
        self.plugin_config.iter().find(|c| c.name == name).map(|c| &c.args)
    }
}
