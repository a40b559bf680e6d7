//! `KubeletConfiguration` (kubelet.config.k8s.io/v1beta1): the file behind `--config`, with upstream's defaults.
//!
//! Fields the kubelet does not act on are kept in `extra`, so that a file made for upstream loads, and `/configz` shows
//! it whole. Durations are Go durations ("1m30s").

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use component_base::cli::GoDuration;
use serde::{Deserialize, Serialize};

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading kubelet configuration {path}: {source}; does --config name the right file?")]
    Read { path: String, source: std::io::Error },
    #[error("parsing kubelet configuration {path}: {message}")]
    Parse { path: String, message: String },
    #[error("{path} is {found}, not kubelet.config.k8s.io/v1beta1 KubeletConfiguration")]
    Kind { path: String, found: String },
    #[error("failed to set feature gates: {0}")]
    FeatureGates(String),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct X509Authentication {
    #[serde(rename = "clientCAFile", skip_serializing_if = "String::is_empty")]
    pub client_ca_file: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WebhookAuthentication {
    pub enabled: bool,
    #[serde(rename = "cacheTTL")]
    pub cache_ttl: GoDuration,
}

impl Default for WebhookAuthentication {
    fn default() -> Self {
        Self { enabled: true, cache_ttl: GoDuration::from_secs(120) }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AnonymousAuthentication {
    pub enabled: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authentication {
    pub x509: X509Authentication,
    pub webhook: WebhookAuthentication,
    pub anonymous: AnonymousAuthentication,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WebhookAuthorization {
    #[serde(rename = "cacheAuthorizedTTL")]
    pub cache_authorized_ttl: GoDuration,
    #[serde(rename = "cacheUnauthorizedTTL")]
    pub cache_unauthorized_ttl: GoDuration,
}

impl Default for WebhookAuthorization {
    fn default() -> Self {
        Self { cache_authorized_ttl: GoDuration::from_secs(300), cache_unauthorized_ttl: GoDuration::from_secs(30) }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authorization {
    pub mode: String,
    pub webhook: WebhookAuthorization,
}

impl Default for Authorization {
    fn default() -> Self {
        Self { mode: "Webhook".into(), webhook: WebhookAuthorization::default() }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Taint {
    pub key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    pub effect: String,
}

/// The configuration. Field names are upstream's; see kubelet-config.v1beta1 in the Kubernetes reference.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeletConfiguration {
    pub api_version: String,
    pub kind: String,
    pub enable_server: bool,
    pub static_pod_path: String,
    pub sync_frequency: GoDuration,
    pub file_check_frequency: GoDuration,
    #[serde(rename = "httpCheckFrequency")]
    pub http_check_frequency: GoDuration,
    #[serde(rename = "staticPodURL")]
    pub static_pod_url: String,
    #[serde(rename = "staticPodURLHeader")]
    pub static_pod_url_header: BTreeMap<String, Vec<String>>,
    pub address: String,
    pub port: u16,
    pub read_only_port: u16,
    pub tls_cert_file: String,
    pub tls_private_key_file: String,
    #[serde(rename = "rotateCertificates")]
    pub rotate_certificates: bool,
    #[serde(rename = "serverTLSBootstrap")]
    pub server_tls_bootstrap: bool,
    pub authentication: Authentication,
    pub authorization: Authorization,
    #[serde(rename = "registryPullQPS")]
    pub registry_pull_qps: i32,
    pub registry_burst: i32,
    #[serde(rename = "eventRecordQPS")]
    pub event_record_qps: i32,
    pub event_burst: i32,
    pub enable_debugging_handlers: bool,
    pub healthz_port: u16,
    pub healthz_bind_address: String,
    pub oom_score_adj: i32,
    pub cluster_domain: String,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Vec<String>,
    pub streaming_connection_idle_timeout: GoDuration,
    pub node_status_update_frequency: GoDuration,
    pub node_status_report_frequency: GoDuration,
    pub node_lease_duration_seconds: i32,
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: GoDuration,
    #[serde(rename = "imageMaximumGCAge")]
    pub image_maximum_gc_age: GoDuration,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u32,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u32,
    pub volume_stats_agg_period: GoDuration,
    pub kubelet_cgroups: String,
    pub system_cgroups: String,
    pub cgroup_root: String,
    pub cgroups_per_qos: bool,
    pub cgroup_driver: String,
    pub cpu_manager_policy: String,
    pub memory_manager_policy: String,
    pub topology_manager_policy: String,
    pub runtime_request_timeout: GoDuration,
    pub hairpin_mode: String,
    pub max_pods: i64,
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    pub pod_pids_limit: i64,
    #[serde(rename = "resolvConf")]
    pub resolv_conf: Option<String>,
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    #[serde(rename = "cpuCFSQuotaPeriod")]
    pub cpu_cfs_quota_period: GoDuration,
    pub node_status_max_images: i32,
    pub max_open_files: i64,
    pub content_type: String,
    #[serde(rename = "kubeAPIQPS")]
    pub kube_api_qps: i32,
    #[serde(rename = "kubeAPIBurst")]
    pub kube_api_burst: i32,
    pub serialize_image_pulls: bool,
    pub max_parallel_image_pulls: Option<i32>,
    pub eviction_hard: BTreeMap<String, String>,
    pub eviction_soft: BTreeMap<String, String>,
    pub eviction_soft_grace_period: BTreeMap<String, String>,
    pub eviction_pressure_transition_period: GoDuration,
    pub eviction_max_pod_grace_period: i64,
    pub eviction_minimum_reclaim: BTreeMap<String, String>,
    pub pods_per_core: i64,
    pub enable_controller_attach_detach: bool,
    pub protect_kernel_defaults: bool,
    #[serde(rename = "makeIPTablesUtilChains")]
    pub make_iptables_util_chains: bool,
    pub feature_gates: BTreeMap<String, bool>,
    pub fail_swap_on: bool,
    pub container_log_max_size: String,
    pub container_log_max_files: u32,
    pub container_log_max_workers: u32,
    pub container_log_monitor_interval: GoDuration,
    pub config_map_and_secret_change_detection_strategy: String,
    pub system_reserved: BTreeMap<String, String>,
    pub kube_reserved: BTreeMap<String, String>,
    #[serde(rename = "reservedSystemCPUs")]
    pub reserved_system_cpus: String,
    pub enforce_node_allocatable: Vec<String>,
    pub allowed_unsafe_sysctls: Vec<String>,
    pub enable_system_log_handler: bool,
    pub enable_system_log_query: bool,
    pub shutdown_grace_period: GoDuration,
    pub shutdown_grace_period_critical_pods: GoDuration,
    pub enable_profiling_handler: bool,
    pub enable_debug_flags_handler: bool,
    pub seccomp_default: bool,
    pub register_with_taints: Vec<Taint>,
    pub register_node: bool,
    pub local_storage_capacity_isolation: bool,
    pub container_runtime_endpoint: String,
    pub image_service_endpoint: String,
    #[serde(rename = "podLogsDir")]
    pub pod_logs_dir: String,
    pub crash_loop_back_off: CrashLoopBackOff,
    /// What the file holds and nothing here acts on.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CrashLoopBackOff {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_container_restart_period: Option<GoDuration>,
}

pub const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
pub const KIND: &str = "KubeletConfiguration";

/// Eviction thresholds that hold when the file names none.
const EVICTION_HARD: [(&str, &str); 5] = [
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];

impl Default for KubeletConfiguration {
    fn default() -> Self {
        Self {
            api_version: API_VERSION.into(),
            kind: KIND.into(),
            enable_server: true,
            static_pod_path: String::new(),
            sync_frequency: GoDuration::from_secs(60),
            file_check_frequency: GoDuration::from_secs(20),
            http_check_frequency: GoDuration::from_secs(20),
            static_pod_url: String::new(),
            static_pod_url_header: BTreeMap::new(),
            address: "0.0.0.0".into(),
            port: 10250,
            read_only_port: 0,
            tls_cert_file: String::new(),
            tls_private_key_file: String::new(),
            rotate_certificates: false,
            server_tls_bootstrap: false,
            authentication: Authentication::default(),
            authorization: Authorization::default(),
            registry_pull_qps: 5,
            registry_burst: 10,
            event_record_qps: 50,
            event_burst: 100,
            enable_debugging_handlers: true,
            healthz_port: 10248,
            healthz_bind_address: "127.0.0.1".into(),
            oom_score_adj: -999,
            cluster_domain: String::new(),
            cluster_dns: Vec::new(),
            streaming_connection_idle_timeout: GoDuration::from_secs(4 * 3600),
            node_status_update_frequency: GoDuration::from_secs(10),
            node_status_report_frequency: GoDuration::from_secs(300),
            node_lease_duration_seconds: 40,
            image_minimum_gc_age: GoDuration::from_secs(120),
            image_maximum_gc_age: GoDuration::from_secs(0),
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            volume_stats_agg_period: GoDuration::from_secs(60),
            kubelet_cgroups: String::new(),
            system_cgroups: String::new(),
            cgroup_root: String::new(),
            cgroups_per_qos: true,
            cgroup_driver: "cgroupfs".into(),
            cpu_manager_policy: "none".into(),
            memory_manager_policy: "None".into(),
            topology_manager_policy: "none".into(),
            runtime_request_timeout: GoDuration::from_secs(120),
            hairpin_mode: "promiscuous-bridge".into(),
            max_pods: 110,
            pod_cidr: String::new(),
            pod_pids_limit: -1,
            resolv_conf: None,
            cpu_cfs_quota: true,
            cpu_cfs_quota_period: GoDuration::from_millis(100),
            node_status_max_images: 50,
            max_open_files: 1_000_000,
            content_type: "application/vnd.kubernetes.protobuf".into(),
            kube_api_qps: 50,
            kube_api_burst: 100,
            serialize_image_pulls: true,
            max_parallel_image_pulls: None,
            eviction_hard: EVICTION_HARD.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            eviction_soft: BTreeMap::new(),
            eviction_soft_grace_period: BTreeMap::new(),
            eviction_pressure_transition_period: GoDuration::from_secs(300),
            eviction_max_pod_grace_period: 0,
            eviction_minimum_reclaim: BTreeMap::new(),
            pods_per_core: 0,
            enable_controller_attach_detach: true,
            protect_kernel_defaults: false,
            make_iptables_util_chains: true,
            feature_gates: BTreeMap::new(),
            fail_swap_on: true,
            container_log_max_size: "10Mi".into(),
            container_log_max_files: 5,
            container_log_max_workers: 1,
            container_log_monitor_interval: GoDuration::from_secs(10),
            config_map_and_secret_change_detection_strategy: "Watch".into(),
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            reserved_system_cpus: String::new(),
            enforce_node_allocatable: vec!["pods".into()],
            allowed_unsafe_sysctls: Vec::new(),
            enable_system_log_handler: true,
            enable_system_log_query: false,
            shutdown_grace_period: GoDuration::from_secs(0),
            shutdown_grace_period_critical_pods: GoDuration::from_secs(0),
            enable_profiling_handler: true,
            enable_debug_flags_handler: true,
            seccomp_default: false,
            register_with_taints: Vec::new(),
            register_node: true,
            local_storage_capacity_isolation: true,
            container_runtime_endpoint: "unix:///run/containerd/containerd.sock".into(),
            image_service_endpoint: String::new(),
            pod_logs_dir: "/var/log/pods".into(),
            crash_loop_back_off: CrashLoopBackOff::default(),
            extra: BTreeMap::new(),
        }
    }
}

impl KubeletConfiguration {
    /// Reads the YAML or JSON file at `path` and the `*.conf` files of `drop_ins` over it. Fields they omit, and
    /// durations they give as zero where upstream treats zero as unset, have upstream's defaults.
    pub fn load(path: &Path, drop_ins: Option<&Path>) -> Result<Self, ConfigError> {
        let mut merged = read(path)?;
        let mut more: Vec<PathBuf> = Vec::new();
        if let Some(dir) = drop_ins {
            let entries = std::fs::read_dir(dir)
                .map_err(|source| ConfigError::Read { path: dir.display().to_string(), source })?;
            more.extend(entries.flatten().map(|entry| entry.path()));
            more.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
            more.sort();
        }
        for path in more {
            merge(&mut merged, read(&path)?);
        }
        Self::from_value(&path.display().to_string(), merged)
    }

    fn from_value(name: &str, value: serde_json::Value) -> Result<Self, ConfigError> {
        let mut config: Self = serde_json::from_value(value)
            .map_err(|source| ConfigError::Parse { path: name.to_owned(), message: source.to_string() })?;
        if config.api_version != API_VERSION || config.kind != KIND {
            let found = format!("{} {}", config.api_version, config.kind);
            return Err(ConfigError::Kind { path: name.to_owned(), found });
        }
        config.default_zeroes();
        Ok(config)
    }

    /// kubeadm writes "0s" and 0 for what it leaves to the kubelet; upstream's defaulting treats them as unset.
    fn default_zeroes(&mut self) {
        let base = Self::default();
        for (value, default) in [
            (&mut self.sync_frequency, base.sync_frequency),
            (&mut self.file_check_frequency, base.file_check_frequency),
            (&mut self.http_check_frequency, base.http_check_frequency),
            (&mut self.streaming_connection_idle_timeout, base.streaming_connection_idle_timeout),
            (&mut self.node_status_report_frequency, base.node_status_report_frequency),
            (&mut self.node_status_update_frequency, base.node_status_update_frequency),
            (&mut self.image_minimum_gc_age, base.image_minimum_gc_age),
            (&mut self.volume_stats_agg_period, base.volume_stats_agg_period),
            (&mut self.runtime_request_timeout, base.runtime_request_timeout),
            (&mut self.eviction_pressure_transition_period, base.eviction_pressure_transition_period),
            (&mut self.authentication.webhook.cache_ttl, base.authentication.webhook.cache_ttl),
            (&mut self.authorization.webhook.cache_authorized_ttl, base.authorization.webhook.cache_authorized_ttl),
            (&mut self.authorization.webhook.cache_unauthorized_ttl, base.authorization.webhook.cache_unauthorized_ttl),
            (&mut self.cpu_cfs_quota_period, base.cpu_cfs_quota_period),
            (&mut self.container_log_monitor_interval, base.container_log_monitor_interval),
        ] {
            if value.0.is_zero() {
                *value = default;
            }
        }
        if self.image_service_endpoint.is_empty() {
            self.image_service_endpoint.clone_from(&self.container_runtime_endpoint);
        }
    }

    /// Upper bound of CrashLoopBackOff.
    pub fn max_restart_backoff(&self) -> Duration {
        self.crash_loop_back_off.max_container_restart_period.map_or(Duration::from_secs(300), |d| d.0)
    }
}

fn read(path: &Path) -> Result<serde_json::Value, ConfigError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: name.clone(), source })?;
    serde_yaml_ng::from_str(&text).map_err(|source| ConfigError::Parse { path: name, message: source.to_string() })
}

/// Objects merge field by field; anything else is replaced.
fn merge(into: &mut serde_json::Value, from: serde_json::Value) {
    match (into, from) {
        (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeadm_file_loads_with_zeroes_defaulted() {
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nsyncFrequency: 0s\n\
             clusterDNS: [10.96.0.10]\nauthentication: {x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}}\n\
             logging: {format: text}\n";
        let value = serde_yaml_ng::from_str(text).expect("YAML");
        let config = KubeletConfiguration::from_value("test", value).expect("loads");
        assert_eq!(config.sync_frequency, GoDuration::from_secs(60));
        assert_eq!(config.cluster_dns, ["10.96.0.10"]);
        assert_eq!(config.authentication.x509.client_ca_file, "/etc/kubernetes/pki/ca.crt");
        assert!(config.authentication.webhook.enabled);
        assert!(config.extra.contains_key("logging"));
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod"});
        assert!(matches!(KubeletConfiguration::from_value("t", pod), Err(ConfigError::Kind { .. })));
    }
}
