//! Command line flags, under upstream's names. A flag that is given overrides the configuration file's field.

use std::collections::BTreeMap;
use std::path::PathBuf;

use component_base::cli::{GoDuration, KeyValues, LoggingFlags};
use component_base::feature_gates::FeatureGates;

use crate::config::{ConfigError, KubeletConfiguration, Taint};

/// Makes the flags that override a field of the configuration, and what applies them.
macro_rules! overrides {
    ($($(#[$doc:meta])* $flag:ident: $type:ty => $($field:ident).+;)*) => {
        /// Flags that stand for fields of the configuration file. Upstream deprecates them, and people use them.
        #[derive(Clone, Debug, Default, clap::Args)]
        pub struct Overrides {
            $($(#[$doc])* #[arg(long)] pub $flag: Option<$type>,)*
        }

        impl Overrides {
            fn apply(&self, config: &mut KubeletConfiguration) {
                $(if let Some(value) = &self.$flag { config.$($field).+ = value.clone().into(); })*
            }
        }
    };
}

overrides! {
    /// Address to serve on; 0.0.0.0 and :: mean all.
    address: String => address;
    /// Port to serve on with authentication.
    port: u16 => port;
    /// Port for /healthz on the healthz bind address, 0 to disable.
    healthz_port: u16 => healthz_port;
    /// Address for /healthz.
    healthz_bind_address: String => healthz_bind_address;
    /// Directory of static pod manifests.
    pod_manifest_path: String => static_pod_path;
    /// URL of static pod manifests.
    manifest_url: String => static_pod_url;
    /// Container runtime's socket.
    container_runtime_endpoint: String => container_runtime_endpoint;
    /// Image service's socket, where it differs from the runtime's.
    image_service_endpoint: String => image_service_endpoint;
    /// Domain of the cluster.
    cluster_domain: String => cluster_domain;
    /// cgroupfs or systemd; a runtime that knows its own driver is believed over this.
    cgroup_driver: String => cgroup_driver;
    /// Cgroup that pods' cgroups go into.
    cgroup_root: String => cgroup_root;
    /// Make a cgroup tree of QoS classes and pods.
    cgroups_per_qos: bool => cgroups_per_qos;
    /// Allow requests without credentials, as system:anonymous.
    anonymous_auth: bool => authentication.anonymous.enabled;
    /// Authenticate bearer tokens by TokenReview.
    authentication_token_webhook: bool => authentication.webhook.enabled;
    /// AlwaysAllow or Webhook.
    authorization_mode: String => authorization.mode;
    /// CA bundle that client certificates are verified with.
    client_ca_file: String => authentication.x509.client_ca_file;
    /// Certificate to serve with.
    tls_cert_file: String => tls_cert_file;
    /// Its private key.
    tls_private_key_file: String => tls_private_key_file;
    /// Most pods the node runs.
    max_pods: i64 => max_pods;
    /// Most processes per pod; -1: as many as the node allows.
    pod_max_pids: i64 => pod_pids_limit;
    /// resolv.conf that pods' DNS configuration is made from.
    resolv_conf: String => resolv_conf;
    /// How often pods are looked at without cause.
    sync_frequency: GoDuration => sync_frequency;
    /// How often static pod files are looked at without cause.
    file_check_frequency: GoDuration => file_check_frequency;
    /// How often the node's status is computed.
    node_status_update_frequency: GoDuration => node_status_update_frequency;
    /// Register the node with the API server.
    register_node: bool => register_node;
    /// Refuse to start while swap is on.
    fail_swap_on: bool => fail_swap_on;
    /// Pull one image at a time.
    serialize_image_pulls: bool => serialize_image_pulls;
    /// Use RuntimeDefault as the seccomp profile of pods that name none.
    seccomp_default: bool => seccomp_default;
    /// Requests per second to the API server.
    kube_api_qps: i32 => kube_api_qps;
    /// Requests to the API server at once beyond that.
    kube_api_burst: i32 => kube_api_burst;
    /// Enable the endpoints for exec, logs and so on.
    enable_debugging_handlers: bool => enable_debugging_handlers;
    /// Get a certificate for the client by rotation.
    rotate_certificates: bool => rotate_certificates;
    /// Root of pods' log directories.
    pod_logs_dir: String => pod_logs_dir;
    /// OOM score adjustment of the kubelet itself.
    oom_score_adj: i32 => oom_score_adj;
}

/// The kubelet runs on each node: it registers the node, runs the containers of the node's pods through a CRI runtime,
/// and reports on both.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "kubelet", rename_all = "kebab-case")]
pub struct Args {
    /// KubeletConfiguration file (kubelet.config.k8s.io/v1beta1).
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Directory of drop-in files (*.conf) that are merged over the configuration file in the order of their names.
    #[arg(long)]
    pub config_dir: Option<PathBuf>,
    /// How to reach the API server. Without it the kubelet runs static pods only.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// kubeconfig to get a client certificate with, where --kubeconfig doesn't exist yet.
    #[arg(long)]
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
    /// Taints to register the node with, as key=value:effect.
    #[arg(long, value_delimiter = ',')]
    pub register_with_taints: Vec<String>,
    /// Register the node as unschedulable.
    #[arg(long)]
    pub register_schedulable: Option<bool>,
    /// Provider ID to register the node with.
    #[arg(long)]
    pub provider_id: Option<String>,
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
    /// DNS servers of the cluster.
    #[arg(long, value_delimiter = ',')]
    pub cluster_dns: Vec<String>,
    /// Hard eviction thresholds, as signal<value.
    #[arg(long)]
    pub eviction_hard: Option<String>,
    /// Resources kept for the system, as cpu=500m,memory=1Gi.
    #[arg(long)]
    pub system_reserved: Option<KeyValues>,
    /// Resources kept for Kubernetes' own processes.
    #[arg(long)]
    pub kube_reserved: Option<KeyValues>,
    /// Accepted for upstream's sake, without effect: containers' runtime is always remote.
    #[arg(long, hide = true)]
    pub container_runtime: Option<String>,
    #[command(flatten)]
    pub overrides: Overrides,
    #[command(flatten)]
    pub logging: LoggingFlags,
}

impl Args {
    /// The configuration in effect: file, then drop-ins, then flags.
    pub fn configuration(&self) -> Result<KubeletConfiguration, ConfigError> {
        let mut config = match &self.config {
            Some(path) => KubeletConfiguration::load(path, self.config_dir.as_deref())?,
            None => KubeletConfiguration::default(),
        };
        self.overrides.apply(&mut config);
        if !self.cluster_dns.is_empty() {
            config.cluster_dns.clone_from(&self.cluster_dns);
        }
        if let Some(thresholds) = &self.eviction_hard {
            let pairs = thresholds.split(',').filter_map(|pair| pair.split_once('<'));
            config.eviction_hard = pairs.map(|(signal, value)| (signal.to_owned(), value.to_owned())).collect();
        }
        for (flag, field) in
            [(&self.system_reserved, &mut config.system_reserved), (&self.kube_reserved, &mut config.kube_reserved)]
        {
            if let Some(KeyValues(reserved)) = flag {
                field.clone_from(reserved);
            }
        }
        config.register_with_taints.extend(self.register_with_taints.iter().filter_map(|taint| parse_taint(taint)));
        config.feature_gates.extend(BTreeMap::clone(&self.logging.feature_gates.0));
        FeatureGates::new(config.feature_gates.clone()).map_err(ConfigError::FeatureGates)?.publish();
        if config.image_service_endpoint.is_empty() {
            config.image_service_endpoint.clone_from(&config.container_runtime_endpoint);
        }
        Ok(config)
    }
}

/// "key=value:Effect" or "key:Effect".
fn parse_taint(text: &str) -> Option<Taint> {
    let (pair, effect) = text.rsplit_once(':')?;
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    Some(Taint { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
}

#[cfg(test)]
mod tests {
    use component_base::cli;

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
}
