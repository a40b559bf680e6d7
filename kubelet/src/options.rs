//! Command line flags, under upstream's names. A flag that is given overrides the configuration file's field.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use component_base::cli::{self, GoDuration, KeyValues, LoggingFlags};
use component_base::feature_gates::FeatureGates;
use configuration::{ConfigError, KubeletConfiguration, Taint};

/// Makes the flags that override a field of the configuration, and what applies them: switches, which are true where they
/// stand alone; lists, separated by commas; and other values.
macro_rules! overrides {
    (
        switches { $($(#[$switch_doc:meta])* $switch:ident => $($switch_field:ident).+;)* }
        lists { $($(#[$list_doc:meta])* $list:ident => $($list_field:ident).+;)* }
        values { $($(#[$doc:meta])* $flag:ident: $type:ty => $($field:ident).+;)* }
    ) => {
        /// Flags that stand for fields of the configuration file. Upstream deprecates them, and people use them.
        #[derive(Clone, Debug, Default, clap::Args)]
        pub struct Overrides {
            $(
                $(#[$switch_doc])*
                #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, value_name = "bool")]
                pub $switch: Option<bool>,
            )*
            $(
                $(#[$list_doc])*
                #[arg(long, value_delimiter = ',', value_name = "strings")]
                pub $list: Option<Vec<String>>,
            )*
            $($(#[$doc])* #[arg(long, value_name = <$type as Named>::NAME)] pub $flag: Option<$type>,)*
        }

        impl Overrides {
            fn apply(&self, config: &mut KubeletConfiguration) {
                $(if let Some(value) = self.$switch { config.$($switch_field).+ = value; })*
                $(if let Some(value) = &self.$list {
                    config.$($list_field).+ = value.iter().filter(|item| !item.is_empty()).cloned().collect();
                })*
                $(if let Some(value) = &self.$flag { config.$($field).+ = value.clone().into(); })*
            }
        }
    };
}

/// What upstream's help calls a flag's value.
trait Named {
    const NAME: &'static str;
}

macro_rules! named {
    ($($type:ty => $name:literal;)*) => {
        $(impl Named for $type {
            const NAME: &'static str = $name;
        })*
    };
}

named! {
    String => "string";
    i32 => "int32";
    i64 => "int";
    GoDuration => "duration";
    Ip => "ip";
    Pairs => "mapStringString";
    Thresholds => "mapStringString";
    Headers => "colonSeparatedMultimapStringString";
    Taints => "[]v1.Taint";
}

/// What Go's ParseBool takes.
fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// A map flag: `a=1,b=2`.
#[derive(Clone, Debug, Default)]
pub struct Pairs(BTreeMap<String, String>);

impl FromStr for Pairs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        pairs(text, '=', "string=string").map(Self)
    }
}

impl From<Pairs> for BTreeMap<String, String> {
    fn from(pairs: Pairs) -> Self {
        pairs.0
    }
}

/// Eviction thresholds: `memory.available<1Gi,nodefs.available<10%`.
#[derive(Clone, Debug, Default)]
pub struct Thresholds(BTreeMap<String, String>);

impl FromStr for Thresholds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        pairs(text, '<', "string<string").map(Self)
    }
}

impl From<Thresholds> for BTreeMap<String, String> {
    fn from(thresholds: Thresholds) -> Self {
        thresholds.0
    }
}

/// Pairs separated by commas; nothing is no pair.
fn pairs(text: &str, separator: char, form: &str) -> Result<BTreeMap<String, String>, String> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (key, value) = part.split_once(separator).ok_or_else(|| format!("malformed pair, expect {form}"))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    parts.map(pair).collect()
}

/// Headers: `a:1,a:2,b:3`.
#[derive(Clone, Debug, Default)]
pub struct Headers(BTreeMap<String, Vec<String>>);

impl FromStr for Headers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once(':').ok_or("malformed pair, expect string:string")?;
            headers.entry(key.trim().to_owned()).or_default().push(value.trim().to_owned());
        }
        Ok(Self(headers))
    }
}

impl From<Headers> for BTreeMap<String, Vec<String>> {
    fn from(headers: Headers) -> Self {
        headers.0
    }
}

/// An IP address, kept as it was written.
#[derive(Clone, Debug)]
pub struct Ip(String);

impl FromStr for Ip {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<IpAddr>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(format!("{text:?} is not a valid IP address")),
        }
    }
}

impl From<Ip> for String {
    fn from(ip: Ip) -> Self {
        ip.0
    }
}

/// Taints: `key=value:Effect,key:Effect`.
#[derive(Clone, Debug, Default)]
pub struct Taints(Vec<Taint>);

impl FromStr for Taints {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').filter(|part| !part.is_empty()).map(parse_taint).collect::<Result<_, _>>().map(Self)
    }
}

impl From<Taints> for Vec<Taint> {
    fn from(taints: Taints) -> Self {
        taints.0
    }
}

fn parse_taint(text: &str) -> Result<Taint, String> {
    let invalid = |why: &str| format!("invalid taint spec: {text}, {why}");
    let (pair, effect) = text.rsplit_once(':').ok_or_else(|| invalid("it has no effect"))?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(format!("invalid taint effect: {effect}, unsupported taint effect"));
    }
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    if key.is_empty() {
        return Err(invalid("it has no key"));
    }
    Ok(Taint { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
}

overrides! {
    switches {
        /// Allow requests without credentials, as system:anonymous.
        anonymous_auth => authentication.anonymous.enabled;
        /// Authenticate bearer tokens by TokenReview.
        authentication_token_webhook => authentication.webhook.enabled;
        /// Make a cgroup tree of QoS classes and pods.
        cgroups_per_qos => cgroups_per_qos;
        /// Accepted, without effect: there is no Go profiler.
        contention_profiling => enable_contention_profiling;
        /// Hold containers to their CPU limits.
        cpu_cfs_quota => cpu_cfs_quota;
        /// Leave attaching to the controller manager. It always is.
        enable_controller_attach_detach => enable_controller_attach_detach;
        /// Enable the endpoints for exec, logs and so on.
        enable_debugging_handlers => enable_debugging_handlers;
        /// Serve at all.
        enable_server => enable_server;
        /// Refuse to start on cgroup v1.
        fail_cgroupv1 => fail_cgroup_v1;
        /// Refuse to start while swap is on.
        fail_swap_on => fail_swap_on;
        /// Accepted, without effect: memory is looked at every 10 s.
        kernel_memcg_notification => kernel_memcg_notification;
        /// Hold pods to their limits of ephemeral storage.
        local_storage_capacity_isolation => local_storage_capacity_isolation;
        /// Accepted, without effect: iptables is kube-proxy's.
        make_iptables_util_chains => make_iptables_util_chains;
        /// Accepted, without effect: kernel settings are left as they are.
        protect_kernel_defaults => protect_kernel_defaults;
        /// Register the node with the API server.
        register_node => register_node;
        /// Ask for a new client certificate before the one in use ends.
        rotate_certificates => rotate_certificates;
        /// Ask the cluster for the serving certificate, and for the next before it ends.
        rotate_server_certificates => server_tls_bootstrap;
        /// Refused: a kubelet that runs its pods once is no more.
        runonce => run_once;
        /// Use RuntimeDefault as the seccomp profile of pods that name none.
        seccomp_default => seccomp_default;
        /// Pull one image at a time.
        serialize_image_pulls => serialize_image_pulls;
    }
    lists {
        /// Sysctls (or patterns that end in *) that pods may set although they are not safe.
        allowed_unsafe_sysctls => allowed_unsafe_sysctls;
        /// DNS servers of the cluster.
        cluster_dns => cluster_dns;
        /// What is held to its reservation: pods, system-reserved, kube-reserved, or none.
        enforce_node_allocatable => enforce_node_allocatable;
        /// Cipher suites to serve with.
        tls_cipher_suites => tls_cipher_suites;
    }
    values {
        /// Address to serve on; 0.0.0.0 and :: mean all.
        address: Ip => address;
        /// Accepted, without effect: an answer of TokenReview is good for a fixed time.
        authentication_token_webhook_cache_ttl: GoDuration => authentication.webhook.cache_ttl;
        /// AlwaysAllow or Webhook.
        authorization_mode: String => authorization.mode;
        /// Accepted, without effect: a yes of SubjectAccessReview is good for a fixed time.
        authorization_webhook_cache_authorized_ttl: GoDuration => authorization.webhook.cache_authorized_ttl;
        /// Accepted, without effect: a no of SubjectAccessReview is good for a fixed time.
        authorization_webhook_cache_unauthorized_ttl: GoDuration => authorization.webhook.cache_unauthorized_ttl;
        /// cgroupfs or systemd; a runtime that knows its own driver is believed over this.
        cgroup_driver: String => cgroup_driver;
        /// Cgroup that pods' cgroups go into.
        cgroup_root: String => cgroup_root;
        /// CA bundle that client certificates are verified with.
        client_ca_file: String => authentication.x509.client_ca_file;
        /// Domain of the cluster.
        cluster_domain: String => cluster_domain;
        /// Logs kept per container, the current one among them.
        container_log_max_files: i32 => container_log_max_files;
        /// Size at which a container's log is rotated.
        container_log_max_size: String => container_log_max_size;
        /// Container runtime's socket.
        container_runtime_endpoint: String => container_runtime_endpoint;
        /// Period of CPU quotas, 1ms to 1s.
        cpu_cfs_quota_period: GoDuration => cpu_cfs_quota_period;
        /// Accepted, without effect: CPUs are not pinned.
        cpu_manager_policy: String => cpu_manager_policy;
        /// Accepted, without effect: CPUs are not pinned.
        cpu_manager_policy_options: Pairs => cpu_manager_policy_options;
        /// Accepted, without effect: CPUs are not pinned.
        cpu_manager_reconcile_period: GoDuration => cpu_manager_reconcile_period;
        /// Accepted, without effect: events have a bound of their own.
        event_burst: i32 => event_burst;
        /// Accepted, without effect: events have a bound of their own.
        event_qps: i32 => event_record_qps;
        /// Thresholds that evict at once, as signal<value.
        eviction_hard: Thresholds => eviction_hard;
        /// Most seconds a pod has to end when a soft threshold evicts it.
        eviction_max_pod_grace_period: i64 => eviction_max_pod_grace_period;
        /// What has to be won back beyond a threshold, as signal=value.
        eviction_minimum_reclaim: Pairs => eviction_minimum_reclaim;
        /// How long a pressure condition outlasts its cause.
        eviction_pressure_transition_period: GoDuration => eviction_pressure_transition_period;
        /// Thresholds that evict after a grace period, as signal<value.
        eviction_soft: Thresholds => eviction_soft;
        /// Grace periods of the soft thresholds, as signal=duration.
        eviction_soft_grace_period: Pairs => eviction_soft_grace_period;
        /// How often static pod files are looked at without cause.
        file_check_frequency: GoDuration => file_check_frequency;
        /// Accepted, without effect: the network is CNI's.
        hairpin_mode: String => hairpin_mode;
        /// Address for /healthz.
        healthz_bind_address: Ip => healthz_bind_address;
        /// Port for /healthz on the healthz bind address, 0 to disable.
        healthz_port: i32 => healthz_port;
        /// How often the URL of static pods is asked.
        http_check_frequency: GoDuration => http_check_frequency;
        /// Use of the image file system, in percent, above which unused images are removed.
        image_gc_high_threshold: i32 => image_gc_high_threshold_percent;
        /// Use down to which they are removed.
        image_gc_low_threshold: i32 => image_gc_low_threshold_percent;
        /// Image service's socket, where it differs from the runtime's.
        image_service_endpoint: String => image_service_endpoint;
        /// Requests to the API server at once beyond --kube-api-qps.
        kube_api_burst: i32 => kube_api_burst;
        /// Accepted, without effect: requests are JSON.
        kube_api_content_type: String => content_type;
        /// Requests per second to the API server.
        kube_api_qps: i32 => kube_api_qps;
        /// Resources kept for Kubernetes' own processes.
        kube_reserved: Pairs => kube_reserved;
        /// Accepted, without effect: its cgroup is left as it is.
        kube_reserved_cgroup: String => kube_reserved_cgroup;
        /// Accepted, without effect: the kubelet stays in its cgroup.
        kubelet_cgroups: String => kubelet_cgroups;
        /// URL of static pod manifests.
        manifest_url: String => static_pod_url;
        /// Headers for that URL, as name:value.
        manifest_url_header: Headers => static_pod_url_header;
        /// Accepted, without effect: the limit of the process holds.
        max_open_files: i64 => max_open_files;
        /// Most pods the node runs.
        max_pods: i64 => max_pods;
        /// Accepted, without effect: memory is not pinned.
        memory_manager_policy: String => memory_manager_policy;
        /// How long an unused image is kept at least.
        minimum_image_ttl_duration: GoDuration => image_minimum_gc_age;
        /// Most images in the node's status; -1: all.
        node_status_max_images: i32 => node_status_max_images;
        /// How often the node's status is computed.
        node_status_update_frequency: GoDuration => node_status_update_frequency;
        /// OOM score adjustment of the kubelet itself.
        oom_score_adj: i32 => oom_score_adj;
        /// Range of pods' addresses, for a kubelet without API server.
        pod_cidr: String => pod_cidr;
        /// Root of pods' log directories.
        pod_logs_dir: String => pod_logs_dir;
        /// Directory of static pod manifests.
        pod_manifest_path: String => static_pod_path;
        /// Most processes per pod; -1: as many as the node allows.
        pod_max_pids: i64 => pod_pids_limit;
        /// Most pods per CPU, where that is less than --max-pods; 0: no such bound.
        pods_per_core: i64 => pods_per_core;
        /// Port to serve on with authentication.
        port: i32 => port;
        /// Provider ID to register the node with.
        provider_id: String => provider_id;
        /// Accepted, without effect.
        qos_reserved: Pairs => qos_reserved;
        /// Port to serve on without authentication, read only; 0: none.
        read_only_port: i32 => read_only_port;
        /// Taints to register the node with, as key=value:effect.
        register_with_taints: Taints => register_with_taints;
        /// Accepted, without effect: pulls are bounded by their number.
        registry_burst: i32 => registry_burst;
        /// Accepted, without effect: pulls are bounded by their number.
        registry_qps: i32 => registry_pull_qps;
        /// Accepted, without effect: CPUs are not pinned.
        reserved_cpus: String => reserved_system_cpus;
        /// resolv.conf that pods' DNS configuration is made from; empty: none.
        resolv_conf: String => resolv_conf;
        /// How long the runtime may take to answer.
        runtime_request_timeout: GoDuration => runtime_request_timeout;
        /// Accepted, without effect: the runtime ends idle streams.
        streaming_connection_idle_timeout: GoDuration => streaming_connection_idle_timeout;
        /// How often pods are looked at without cause.
        sync_frequency: GoDuration => sync_frequency;
        /// Accepted, without effect: other processes stay in their cgroups.
        system_cgroups: String => system_cgroups;
        /// Resources kept for the system, as cpu=500m,memory=1Gi.
        system_reserved: Pairs => system_reserved;
        /// Accepted, without effect: its cgroup is left as it is.
        system_reserved_cgroup: String => system_reserved_cgroup;
        /// Certificate to serve with.
        tls_cert_file: String => tls_cert_file;
        /// Least version of TLS to serve: VersionTLS12 or VersionTLS13.
        tls_min_version: String => tls_min_version;
        /// The serving certificate's private key.
        tls_private_key_file: String => tls_private_key_file;
        /// Accepted, without effect: nothing is aligned to NUMA nodes.
        topology_manager_policy: String => topology_manager_policy;
        /// Accepted, without effect: nothing is aligned to NUMA nodes.
        topology_manager_policy_options: Pairs => topology_manager_policy_options;
        /// Accepted, without effect: nothing is aligned to NUMA nodes.
        topology_manager_scope: String => topology_manager_scope;
        /// Accepted, without effect: there are no exec plugins for volumes.
        volume_plugin_dir: String => volume_plugin_dir;
        /// How long a measurement of volumes is good.
        volume_stats_agg_period: GoDuration => volume_stats_agg_period;
    }
}

/// The kubelet runs on each node: it registers the node, runs the containers of the node's pods through a CRI runtime,
/// and reports on both.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "kubelet", rename_all = "kebab-case")]
pub struct Args {
    /// KubeletConfiguration file (kubelet.config.k8s.io/v1beta1).
    #[arg(long, value_parser = cli::path)]
    pub config: Option<PathBuf>,
    /// Directory of drop-in files (*.conf) that are merged over the configuration file in the order of their names.
    #[arg(long, value_parser = cli::path)]
    pub config_dir: Option<PathBuf>,
    /// How to reach the API server. Without it the kubelet runs static pods only.
    #[arg(long, value_parser = cli::path)]
    pub kubeconfig: Option<PathBuf>,
    /// kubeconfig to get a client certificate with, where --kubeconfig doesn't exist yet or its certificate has expired.
    #[arg(long, value_parser = cli::path)]
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Name of the node; default: the host name.
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// Addresses of the node, one per family; default: that of the default route.
    #[arg(long)]
    pub node_ip: Option<String>,
    /// Labels to register the node with.
    #[arg(long, default_value = "")]
    pub node_labels: KeyValues,
    /// false registers the node as unschedulable.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub register_schedulable: Option<bool>,
    /// "external" leaves addresses to the cloud controller manager.
    #[arg(long)]
    pub cloud_provider: Option<String>,
    /// Directory of pods' volumes and the kubelet's own state.
    #[arg(long, default_value = "/var/lib/kubelet")]
    pub root_dir: PathBuf,
    /// Directory of the kubelet's certificates.
    #[arg(long, default_value = "/var/lib/kubelet/pki")]
    pub cert_dir: PathBuf,
    /// Image of the pod sandbox: image collection leaves it alone. The runtime has its own setting.
    #[arg(long)]
    pub pod_infra_container_image: Option<String>,
    /// Accepted for upstream's sake, without effect: containers' runtime is always remote.
    #[arg(long, hide = true)]
    pub container_runtime: Option<String>,
    #[command(flatten)]
    pub ineffective: Ineffective,
    #[command(flatten)]
    pub overrides: Overrides,
    #[command(flatten)]
    pub logging: LoggingFlags,
}

/// Upstream's flags that have no effect here, so that a command line made for it works.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Ineffective {
    /// Accepted, without effect: nothing is locked.
    #[arg(long)]
    pub exit_on_lock_contention: Option<String>,
    /// Accepted, without effect.
    #[arg(long)]
    pub experimental_allocatable_ignore_eviction: Option<String>,
    /// Accepted, without effect: mounts are made by the kubelet itself.
    #[arg(long)]
    pub experimental_mounter_path: Option<String>,
    /// Accepted, without effect: credential providers are not asked; pull secrets are used.
    #[arg(long)]
    pub image_credential_provider_bin_dir: Option<String>,
    /// Accepted, without effect: see --image-credential-provider-bin-dir.
    #[arg(long)]
    pub image_credential_provider_config: Option<String>,
    /// Accepted, without effect: nothing is locked; do not start two kubelets on one node.
    #[arg(long)]
    pub lock_file: Option<String>,
    /// Accepted, without effect: the kubelet decides by itself which dead containers it keeps.
    #[arg(long)]
    pub maximum_dead_containers: Option<i32>,
    /// Accepted, without effect, see --maximum-dead-containers.
    #[arg(long)]
    pub maximum_dead_containers_per_container: Option<i32>,
    /// Accepted, without effect: see --maximum-dead-containers.
    #[arg(long)]
    pub minimum_container_ttl_duration: Option<GoDuration>,
    /// Accepted, without effect: memory is not pinned.
    #[arg(long)]
    pub reserved_memory: Option<String>,
    /// Accepted, without effect: the runtime stays in its cgroup.
    #[arg(long)]
    pub runtime_cgroups: Option<String>,
}

impl Args {
    /// The configuration in effect: file, then drop-ins, then flags.
    pub fn configuration(&self) -> Result<KubeletConfiguration, ConfigError> {
        let given = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        let (file, drop_ins) = (given(&self.config), given(&self.config_dir));
        let mut config = KubeletConfiguration::load(file.as_deref(), drop_ins.as_deref())?;
        for unknown in config.unknown() {
            tracing::warn!("Using lenient decoding as strict decoding failed: unknown field {unknown:?}");
        }
        self.overrides.apply(&mut config);
        config.feature_gates.extend(BTreeMap::clone(&self.logging.feature_gates.0));
        FeatureGates::new(config.feature_gates.clone()).map_err(ConfigError::FeatureGates)?.publish();
        if config.image_service_endpoint.is_empty() {
            config.image_service_endpoint.clone_from(&config.container_runtime_endpoint);
        }
        config.validate()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_override_the_file_and_upstreams_spelling_works() {
        let args: Args = cli::try_parse(
            "kubelet",
            [
                "kubelet",
                "--pod_manifest_path=/m",
                "--max-pods=7",
                "--cluster-dns=10.96.0.10",
                "--node-labels=a=b",
                "--register-with-taints=k=v:NoSchedule,x:NoExecute",
                "--fail-swap-on=false",
                "--eviction-hard=memory.available<5%",
                "--v=2",
            ],
        )
        .expect("parses");
        let config = args.configuration().expect("a configuration");
        assert_eq!((config.static_pod_path.as_str(), config.max_pods, config.fail_swap_on), ("/m", 7, false));
        assert_eq!(config.cluster_dns, ["10.96.0.10"]);
        assert_eq!(config.eviction_hard, BTreeMap::from([("memory.available".into(), "5%".into())]));
        assert_eq!(config.register_with_taints.len(), 2);
    }

    fn parse(flags: &[&str]) -> Result<KubeletConfiguration, String> {
        let args = std::iter::once("kubelet").chain(flags.iter().copied());
        let args: Args = cli::try_parse("kubelet", args).map_err(|error| error.to_string())?;
        args.configuration().map_err(|error| error.to_string())
    }

    #[test]
    fn switches_stand_alone_and_empty_values_clear() {
        let config = parse(&[
            "--fail-swap-on",
            "--cpu-cfs-quota=f",
            "--eviction-hard=",
            "--cluster-dns=",
            "--resolv-conf=",
            "--config=",
            "--kubeconfig=",
            "--manifest-url-header=a:1,a:2",
            "--maximum-dead-containers=5",
            "--kube-reserved=cpu=1,memory=1Gi",
            "--allowed-unsafe-sysctls=a,b",
            "--allowed-unsafe-sysctls=c",
        ])
        .expect("a configuration");
        assert!(config.fail_swap_on && !config.cpu_cfs_quota);
        assert!(config.eviction_hard.is_empty() && config.cluster_dns.is_empty());
        assert_eq!(config.resolv_conf.as_deref(), Some(""));
        assert_eq!(config.static_pod_url_header["a"], ["1", "2"]);
        assert_eq!(config.kube_reserved["memory"], "1Gi");
        assert_eq!(config.allowed_unsafe_sysctls, ["a", "b", "c"]);
    }

    #[test]
    fn odd_values_are_refused() {
        for (flag, message) in [
            ("--no-such-flag", "--no-such-flag"),
            ("--address=localhost", "is not a valid IP address"),
            ("--max-pods=many", "invalid digit"),
            ("--max-pods=-1", "maxPods (--max-pods) -1 must not be a negative number"),
            ("--fail-swap-on=perhaps", "strconv.ParseBool"),
            ("--eviction-hard=memory.available", "malformed pair, expect string<string"),
            ("--kube-reserved=cpu", "malformed pair, expect string=string"),
            ("--register-with-taints=a=b", "invalid taint spec"),
            ("--register-with-taints=a=b:Never", "unsupported taint effect"),
            ("--port=0", "port (--port) 0 must be between 1 and 65535"),
            ("--sync-frequency=1", "1"),
        ] {
            let error = parse(&[flag]).expect_err(flag);
            assert!(error.contains(message), "{flag}: {error}");
        }
    }
}
