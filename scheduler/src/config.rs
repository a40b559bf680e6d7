//! `KubeSchedulerConfiguration` (kubescheduler.config.k8s.io/v1) and the flags beside it.

use crate::queue::UNSCHEDULABLE_MAX;
use anyhow::Context;
use component_base::cli::{self, GoDuration, InertFlags, LoggingFlags};
use component_base::leader::LeaderFlags;
use component_base::serving::secure::SecureServingFlags;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The Kubernetes scheduler assigns pods to nodes.
#[derive(clap::Parser, Debug)]
pub struct Flags {
    #[command(flatten)]
    pub logging: LoggingFlags,
    #[command(flatten)]
    pub leader: LeaderFlags,
    #[command(flatten)]
    pub serving: SecureServingFlags,
    /// Configuration file. What it says of the connection and of leader election holds where no flag says otherwise.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub config: PathBuf,
    /// If set, write the configuration values to this file and exit.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub write_config_to: PathBuf,
    /// Kubeconfig with the scheduler's rights; ignored if --config is given.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub kubeconfig: PathBuf,
    /// URL of the API server; overrides the kubeconfig's.
    #[arg(long, default_value = "")]
    pub master: String,
    /// Requests per second to the API server; no limit if not given. Ignored if --config is given.
    #[arg(long)]
    pub kube_api_qps: Option<f32>,
    /// Requests beyond the limit for a moment. Ignored if --config is given.
    #[arg(long, default_value_t = 100)]
    pub kube_api_burst: u32,
    /// How long a pod that found no node may stay aside before it is tried again without a reason.
    #[arg(long, default_value = "5m")]
    pub pod_max_in_unschedulable_pods_duration: GoDuration,
    /// Accepted: JSON is spoken.
    #[arg(long, default_value = "application/vnd.kubernetes.protobuf")]
    pub kube_api_content_type: String,
    /// Accepted: there is no interface for profiles.
    #[arg(long, default_value_t = true)]
    pub profiling: bool,
    /// Accepted, see --profiling.
    #[arg(long, default_value_t = true)]
    pub contention_profiling: bool,
    #[command(flatten)]
    pub inert: InertFlags,
}

/// The configuration file; members that are not read here are accepted.
#[derive(Debug, Deserialize, Serialize, Clone)]
#[serde(rename_all = "camelCase", default)]
pub struct Configuration {
    pub api_version: String,
    pub kind: String,
    pub client_connection: ClientConnection,
    pub leader_election: LeaderElection,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentage_of_nodes_to_score: Option<u32>,
    pub pod_initial_backoff_seconds: u64,
    pub pod_max_backoff_seconds: u64,
    pub profiles: Vec<Profile>,
    /// Only a flag says so.
    #[serde(skip)]
    pub unschedulable_max: Duration,
}

impl Default for Configuration {
    fn default() -> Self {
        Configuration {
            api_version: API_VERSION.into(),
            kind: KIND.into(),
            client_connection: ClientConnection::default(),
            leader_election: LeaderElection::default(),
            percentage_of_nodes_to_score: None,
            pod_initial_backoff_seconds: 1,
            pod_max_backoff_seconds: 10,
            profiles: vec![],
            unschedulable_max: UNSCHEDULABLE_MAX,
        }
    }
}

/// How to reach the API server.
#[derive(Debug, Deserialize, Serialize, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnection {
    pub kubeconfig: String,
    /// No limit if 0.
    pub qps: f32,
    pub burst: u32,
}

/// As `--leader-elect*`.
#[derive(Debug, Deserialize, Serialize, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaderElection {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader_elect: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_duration: Option<GoDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_deadline: Option<GoDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_period: Option<GoDuration>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_lock: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_namespace: String,
}

impl LeaderElection {
    /// The flags, where they differ from what holds without them, and else what the file says.
    fn beneath(&self, flags: &LeaderFlags) -> LeaderFlags {
        fn choose<T: PartialEq + Clone>(flag: &T, preset: &T, file: Option<T>) -> T {
            if flag == preset { file.unwrap_or_else(|| flag.clone()) } else { flag.clone() }
        }
        let preset = LeaderFlags::default();
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        LeaderFlags {
            leader_elect: choose(&flags.leader_elect, &preset.leader_elect, self.leader_elect),
            leader_elect_lease_duration: choose(
                &flags.leader_elect_lease_duration,
                &preset.leader_elect_lease_duration,
                self.lease_duration,
            ),
            leader_elect_renew_deadline: choose(
                &flags.leader_elect_renew_deadline,
                &preset.leader_elect_renew_deadline,
                self.renew_deadline,
            ),
            leader_elect_retry_period: choose(
                &flags.leader_elect_retry_period,
                &preset.leader_elect_retry_period,
                self.retry_period,
            ),
            leader_elect_resource_lock: flags.leader_elect_resource_lock.clone(),
            leader_elect_resource_name: choose(
                &flags.leader_elect_resource_name,
                &preset.leader_elect_resource_name,
                text(&self.resource_name),
            ),
            leader_elect_resource_namespace: choose(
                &flags.leader_elect_resource_namespace,
                &preset.leader_elect_resource_namespace,
                text(&self.resource_namespace),
            ),
        }
    }

    fn of(flags: &LeaderFlags) -> Self {
        Self {
            leader_elect: Some(flags.leader_elect),
            lease_duration: Some(flags.leader_elect_lease_duration),
            renew_deadline: Some(flags.leader_elect_renew_deadline),
            retry_period: Some(flags.leader_elect_retry_period),
            resource_lock: flags.leader_elect_resource_lock.clone(),
            resource_name: flags.leader_elect_resource_name.clone(),
            resource_namespace: flags.leader_elect_resource_namespace.clone(),
        }
    }
}

/// A scheduler that pods can ask for by `schedulerName`.
#[derive(Debug, Deserialize, Serialize, Clone, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Profile {
    pub scheduler_name: String,
    pub plugins: Plugins,
    pub plugin_config: Vec<PluginConfig>,
}

#[derive(Debug, Deserialize, Serialize, Clone, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Plugins {
    pub multi_point: PluginSet,
    pub filter: PluginSet,
    pub score: PluginSet,
}

#[derive(Debug, Deserialize, Serialize, Clone, Default)]
#[serde(default)]
pub struct PluginSet {
    pub enabled: Vec<PluginRef>,
    pub disabled: Vec<PluginRef>,
}

#[derive(Debug, Deserialize, Serialize, Clone, Default)]
#[serde(default)]
pub struct PluginRef {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
}

#[derive(Debug, Deserialize, Serialize, Clone, Default)]
#[serde(default)]
pub struct PluginConfig {
    pub name: String,
    pub args: serde_json::Value,
}

const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

fn given(path: &Path) -> Option<&Path> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

impl Configuration {
    /// What flags and file come to; the flags of leader election are changed to it too.
    pub fn read(flags: &mut Flags) -> anyhow::Result<Configuration> {
        let mut configuration: Configuration = match given(&flags.config) {
            None => Configuration {
                client_connection: ClientConnection {
                    kubeconfig: flags.kubeconfig.display().to_string(),
                    qps: flags.kube_api_qps.unwrap_or(0.0),
                    burst: flags.kube_api_burst,
                },
                ..Configuration::default()
            },
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
                serde_yaml_ng::from_str(&text).with_context(|| format!("in {}", path.display()))?
            }
        };
        configuration.unschedulable_max = flags.pod_max_in_unschedulable_pods_duration.get();
        flags.leader = configuration.leader_election.beneath(&flags.leader);
        if flags.leader.leader_elect_resource_name.is_empty() {
            flags.leader.leader_elect_resource_name = "kube-scheduler".into();
        }
        configuration.leader_election = LeaderElection::of(&flags.leader);
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

    /// Writes the configuration to a file, as `--write-config-to` asks.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_yaml_ng::to_string(self)?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(words: &[&str]) -> Flags {
        let words = std::iter::once("kube-scheduler").chain(words.iter().copied());
        cli::try_parse("kube-scheduler", words).unwrap()
    }

    #[test]
    fn a_file_holds_where_no_flag_says_otherwise() {
        let folder = std::env::temp_dir().join(format!("scheduler-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config.yaml");
        let text = "apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection: {kubeconfig: /file.conf, qps: 7}
leaderElection: {leaderElect: false, leaseDuration: 30s, resourceNamespace: other}
podMaxBackoffSeconds: 20
";
        std::fs::write(&file, text).unwrap();
        let config = format!("--config={}", file.display());
        let words = [config.as_str(), "--kubeconfig=/flag.conf", "--leader-elect-lease-duration=1m"];
        let mut flags_given = flags(&words);
        let read = Configuration::read(&mut flags_given).unwrap();
        assert_eq!((read.client_connection.kubeconfig.as_str(), read.client_connection.qps), ("/file.conf", 7.0));
        assert_eq!(read.pod_max_backoff_seconds, 20);
        let leader = &flags_given.leader;
        assert!(!leader.leader_elect);
        assert_eq!(leader.leader_elect_lease_duration, GoDuration::from_secs(60));
        assert_eq!(leader.leader_elect_resource_namespace, "other");

        // What is written is what is in effect, and reads as the same.
        let written = folder.join("written.yaml");
        read.write(&written).unwrap();
        let config = format!("--config={}", written.display());
        let again = Configuration::read(&mut flags(&[config.as_str()])).unwrap();
        assert_eq!(again.leader_election, read.leader_election);
        assert_eq!(again.client_connection, read.client_connection);
        assert_eq!(again.profiles[0].scheduler_name, DEFAULT_SCHEDULER);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn without_a_file_the_flags_hold() {
        let mut flags =
            flags(&["--kubeconfig=/flag.conf", "--kube-api-qps=5", "--pod-max-in-unschedulable-pods-duration=1m"]);
        let read = Configuration::read(&mut flags).unwrap();
        let expected = ClientConnection { kubeconfig: "/flag.conf".into(), qps: 5.0, burst: 100 };
        assert_eq!(read.client_connection, expected);
        assert_eq!(read.unschedulable_max, Duration::from_secs(60));
        assert_eq!(flags.leader.leader_elect_resource_name, "kube-scheduler");
    }
}
