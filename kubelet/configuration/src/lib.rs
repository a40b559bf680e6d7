//! `KubeletConfiguration` (kubelet.config.k8s.io/v1beta1): the file behind `--config`, with upstream's defaults.
//!
//! Fields the kubelet does not act on are kept in `extra`, so that a file made for upstream loads, and `/configz` shows
//! it whole. Durations are Go durations ("1m30s").
//!
//! Beside it stands what the file's texts mean: eviction's signals and thresholds (`eviction`), and amounts (`quantity`).
//! Nothing here looks at the machine, the runtime or the API server.

pub mod eviction;
pub mod quantity;
mod validation;

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
    #[error("failed to validate kubelet configuration, error: {0}")]
    Invalid(String),
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
    pub port: i32,
    pub read_only_port: i32,
    pub tls_cert_file: String,
    pub tls_private_key_file: String,
    pub tls_cipher_suites: Vec<String>,
    pub tls_min_version: String,
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
    pub enable_contention_profiling: bool,
    pub healthz_port: i32,
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
    pub image_gc_high_threshold_percent: i32,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: i32,
    pub volume_stats_agg_period: GoDuration,
    pub kubelet_cgroups: String,
    pub system_cgroups: String,
    pub cgroup_root: String,
    pub cgroups_per_qos: bool,
    pub cgroup_driver: String,
    pub cpu_manager_policy: String,
    pub cpu_manager_policy_options: BTreeMap<String, String>,
    pub cpu_manager_reconcile_period: GoDuration,
    pub memory_manager_policy: String,
    pub topology_manager_policy: String,
    pub topology_manager_scope: String,
    pub topology_manager_policy_options: BTreeMap<String, String>,
    pub qos_reserved: BTreeMap<String, String>,
    pub runtime_request_timeout: GoDuration,
    pub hairpin_mode: String,
    pub max_pods: i64,
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    pub pod_pids_limit: i64,
    #[serde(rename = "resolvConf")]
    pub resolv_conf: Option<String>,
    pub run_once: bool,
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
    /// Where the file says nothing: unless `maxParallelImagePulls` allows several.
    pub serialize_image_pulls: bool,
    pub max_parallel_image_pulls: Option<i32>,
    pub eviction_hard: BTreeMap<String, String>,
    pub eviction_soft: BTreeMap<String, String>,
    pub eviction_soft_grace_period: BTreeMap<String, String>,
    pub eviction_pressure_transition_period: GoDuration,
    pub eviction_max_pod_grace_period: i64,
    pub eviction_minimum_reclaim: BTreeMap<String, String>,
    pub merge_default_eviction_settings: bool,
    pub pods_per_core: i64,
    pub enable_controller_attach_detach: bool,
    pub protect_kernel_defaults: bool,
    #[serde(rename = "makeIPTablesUtilChains")]
    pub make_iptables_util_chains: bool,
    pub feature_gates: BTreeMap<String, bool>,
    pub fail_swap_on: bool,
    pub container_log_max_size: String,
    pub container_log_max_files: i32,
    pub container_log_max_workers: i32,
    pub container_log_monitor_interval: GoDuration,
    pub config_map_and_secret_change_detection_strategy: String,
    pub system_reserved: BTreeMap<String, String>,
    pub kube_reserved: BTreeMap<String, String>,
    #[serde(rename = "reservedSystemCPUs")]
    pub reserved_system_cpus: String,
    pub system_reserved_cgroup: String,
    pub kube_reserved_cgroup: String,
    pub enforce_node_allocatable: Vec<String>,
    pub allowed_unsafe_sysctls: Vec<String>,
    pub volume_plugin_dir: String,
    #[serde(rename = "providerID")]
    pub provider_id: String,
    pub kernel_memcg_notification: bool,
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
    #[serde(rename = "failCgroupV1")]
    pub fail_cgroup_v1: bool,
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

/// Fields of upstream's that mean nothing here.
const WITHOUT_EFFECT: [&str; 13] = [
    "imagePullCredentialsVerificationPolicy",
    "iptablesDropBit",
    "iptablesMasqueradeBit",
    "logging",
    "memorySwap",
    "memoryThrottlingFactor",
    "preloadedImagesVerificationAllowlist",
    "reservedMemory",
    "showHiddenMetricsForVersion",
    "shutdownGracePeriodByPodPriority",
    "singleProcessOOMKill",
    "tracing",
    "userNamespaces",
];

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
            tls_cipher_suites: Vec::new(),
            tls_min_version: String::new(),
            rotate_certificates: false,
            server_tls_bootstrap: false,
            authentication: Authentication::default(),
            authorization: Authorization::default(),
            registry_pull_qps: 5,
            registry_burst: 10,
            event_record_qps: 50,
            event_burst: 100,
            enable_debugging_handlers: true,
            enable_contention_profiling: false,
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
            cpu_manager_policy_options: BTreeMap::new(),
            cpu_manager_reconcile_period: GoDuration::from_secs(10),
            memory_manager_policy: "None".into(),
            topology_manager_policy: "none".into(),
            topology_manager_scope: "container".into(),
            topology_manager_policy_options: BTreeMap::new(),
            qos_reserved: BTreeMap::new(),
            runtime_request_timeout: GoDuration::from_secs(120),
            hairpin_mode: "promiscuous-bridge".into(),
            max_pods: 110,
            pod_cidr: String::new(),
            pod_pids_limit: -1,
            resolv_conf: None,
            run_once: false,
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
            merge_default_eviction_settings: false,
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
            system_reserved_cgroup: String::new(),
            kube_reserved_cgroup: String::new(),
            enforce_node_allocatable: vec!["pods".into()],
            allowed_unsafe_sysctls: Vec::new(),
            volume_plugin_dir: "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/".into(),
            provider_id: String::new(),
            kernel_memcg_notification: false,
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
            fail_cgroup_v1: false,
            pod_logs_dir: "/var/log/pods".into(),
            crash_loop_back_off: CrashLoopBackOff::default(),
            extra: BTreeMap::new(),
        }
    }
}

impl KubeletConfiguration {
    /// Reads the YAML or JSON file at `path`, if there is one, and the `*.conf` files of `drop_ins` over it, in the order of
    /// their names. Fields they omit have upstream's defaults.
    pub fn load(path: Option<&Path>, drop_ins: Option<&Path>) -> Result<Self, ConfigError> {
        let mut merged = match path {
            Some(path) => read(path)?,
            None => serde_json::json!({"apiVersion": API_VERSION, "kind": KIND}),
        };
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
        let name = path.or(drop_ins).map(|path| path.display().to_string()).unwrap_or_default();
        Self::from_value(&name, merged)
    }

    fn from_value(name: &str, mut value: serde_json::Value) -> Result<Self, ConfigError> {
        strip_nulls(&mut value);
        let set = |field: &str| value.get(field).is_some();
        let (serialize_set, evict_set) = (set("serializeImagePulls"), set("evictionHard"));
        let status_update_set = set("nodeStatusUpdateFrequency");
        let mut config: Self = serde_json::from_value(value)
            .map_err(|source| ConfigError::Parse { path: name.to_owned(), message: source.to_string() })?;
        if config.api_version != API_VERSION || config.kind != KIND {
            let found = format!("{} {}", config.api_version, config.kind);
            return Err(ConfigError::Kind { path: name.to_owned(), found });
        }
        let report_set = !config.node_status_report_frequency.0.is_zero()
            && config.node_status_report_frequency != Self::default().node_status_report_frequency;
        config.default_zeroes();
        if !serialize_set {
            config.serialize_image_pulls = config.max_parallel_image_pulls.is_none_or(|pulls| pulls < 2);
        }
        if status_update_set && !report_set {
            // Who sets how often the status is computed wants to see it as often.
            config.node_status_report_frequency = config.node_status_update_frequency;
        }
        if evict_set && config.merge_default_eviction_settings {
            for (signal, value) in EVICTION_HARD {
                config.eviction_hard.entry(signal.into()).or_insert_with(|| value.into());
            }
        }
        Ok(config)
    }

    /// Upstream's defaulting takes what is empty or zero for unset; kubeadm writes "0s" and 0 for what it leaves to the
    /// kubelet.
    fn default_zeroes(&mut self) {
        let base = Self::default();
        macro_rules! default {
            ($is_unset:expr; $($($field:ident).+),* $(,)?) => {
                $(if $is_unset(&self.$($field).+) { self.$($field).+ = base.$($field).+.clone(); })*
            };
        }
        default!(|duration: &GoDuration| duration.0.is_zero();
            sync_frequency, file_check_frequency, http_check_frequency, streaming_connection_idle_timeout,
            node_status_report_frequency, node_status_update_frequency, image_minimum_gc_age, volume_stats_agg_period,
            runtime_request_timeout, eviction_pressure_transition_period, authentication.webhook.cache_ttl,
            authorization.webhook.cache_authorized_ttl, authorization.webhook.cache_unauthorized_ttl,
            cpu_manager_reconcile_period,
        );
        default!(|number: &i32| *number == 0;
            port, registry_burst, event_burst, node_lease_duration_seconds, kube_api_burst,
        );
        default!(|number: &i64| *number == 0; max_pods, max_open_files);
        default!(String::is_empty;
            address, authorization.mode, healthz_bind_address, cgroup_driver, cpu_manager_policy,
            memory_manager_policy, topology_manager_policy, topology_manager_scope, hairpin_mode, content_type,
            container_log_max_size, config_map_and_secret_change_detection_strategy, volume_plugin_dir,
            container_runtime_endpoint, pod_logs_dir,
        );
        self.pod_pids_limit = self.pod_pids_limit.max(-1);
        if self.image_service_endpoint.is_empty() {
            self.image_service_endpoint.clone_from(&self.container_runtime_endpoint);
        }
    }

    /// Names in the file that are nobody's: misspelt, perhaps. Upstream says so and goes on.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.extra.keys().map(String::as_str).filter(|name| !WITHOUT_EFFECT.contains(name))
    }

    /// Checks what no single field's type can; all that is wrong, in one error.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let problems = validation::problems(self);
        match problems.as_slice() {
            [] => Ok(()),
            [one] => Err(ConfigError::Invalid(one.clone())),
            many => Err(ConfigError::Invalid(format!("[{}]", many.join(", ")))),
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

/// Null is as good as absent.
fn strip_nulls(value: &mut serde_json::Value) {
    if let serde_json::Value::Object(fields) = value {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(strip_nulls);
    }
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

    fn read(fields: &str) -> KubeletConfiguration {
        let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{fields}");
        KubeletConfiguration::from_value("test", serde_yaml_ng::from_str(&text).expect("YAML")).expect("loads")
    }

    #[test]
    fn what_is_empty_zero_or_null_is_unset() {
        let config = read(
            "{maxPods: 0, port: 0, address: '', cgroupDriver: '', authorization: {mode: ''}, enableServer: null, \
             podPidsLimit: -7, healthzPort: 0, kubeAPIBurst: 0, evictionHard: null}"
                .trim_matches(['{', '}'])
                .replace(", ", "\n")
                .as_str(),
        );
        let base = KubeletConfiguration::default();
        assert_eq!((config.max_pods, config.port, config.kube_api_burst), (110, 10250, 100));
        assert_eq!((config.address.as_str(), config.cgroup_driver.as_str()), ("0.0.0.0", "cgroupfs"));
        assert_eq!((config.authorization.mode.as_str(), config.pod_pids_limit), ("Webhook", -1));
        assert!(config.enable_server && config.eviction_hard == base.eviction_hard);
        assert_eq!(config.healthz_port, 0, "0 disables this one");
    }

    #[test]
    fn some_defaults_follow_other_fields() {
        assert!(read("").serialize_image_pulls && read("maxParallelImagePulls: 1").serialize_image_pulls);
        assert!(!read("maxParallelImagePulls: 4").serialize_image_pulls);
        let report = |fields: &str| read(fields).node_status_report_frequency;
        assert_eq!(report(""), GoDuration::from_secs(300));
        assert_eq!(report("nodeStatusUpdateFrequency: 20s"), GoDuration::from_secs(20));
        let hard = |fields: &str| read(fields).eviction_hard.len();
        assert_eq!(hard("evictionHard: {memory.available: 1Gi}"), 1);
        assert_eq!(hard("evictionHard: {memory.available: 1Gi}\nmergeDefaultEvictionSettings: true"), 5);
        assert_eq!(hard("evictionHard: {}"), 0);
    }

    #[test]
    fn drop_ins_go_over_the_file_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, fields: &str| {
            let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{fields}");
            std::fs::write(dir.path().join(name), text).expect("written");
        };
        write("10-a.conf", "maxPods: 5\nclusterDNS: [a, b]\nevictionHard: {memory.available: 1Gi}");
        write("20-b.conf", "maxPods: 6\nclusterDNS: [c]\nevictionHard: {pid.available: '5'}");
        write("30-c.yaml", "maxPods: 7");
        let config = KubeletConfiguration::load(None, Some(dir.path())).expect("loads");
        assert_eq!((config.max_pods, config.cluster_dns.as_slice()), (6, &["c".to_owned()][..]));
        assert_eq!(config.eviction_hard.len(), 2);
        assert!(KubeletConfiguration::load(None, Some(Path::new("/no/such/directory"))).is_err());
    }

    #[test]
    fn misspelt_fields_are_told_from_those_without_effect() {
        let config = read("logging: {format: text}\nmaxPod: 3");
        assert_eq!(config.unknown().collect::<Vec<_>>(), ["maxPod"]);
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod"});
        assert!(matches!(KubeletConfiguration::from_value("t", pod), Err(ConfigError::Kind { .. })));
    }
}
