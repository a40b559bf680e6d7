//! The flags, under upstream's names and with upstream's defaults.

use std::{net::IpAddr, path::PathBuf};

use clap::Parser;
use component_base::{
    cli::{GoDuration, LoggingFlags},
    client::ClientFlags,
    leader::LeaderFlags,
};

/// The Kubernetes controller manager is a daemon that embeds the core control loops shipped with Kubernetes.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    #[command(flatten)]
    pub logging: LoggingFlags,
    #[command(flatten)]
    pub leader: LeaderFlags,
    #[command(flatten)]
    pub client: ClientOptions,
    #[command(flatten)]
    pub serving: ServingOptions,
    #[command(flatten)]
    pub network: NetworkOptions,
    #[command(flatten)]
    pub mirroring: MirroringOptions,
    #[command(flatten)]
    pub nodes: NodeOptions,
    #[command(flatten)]
    pub credentials: CredentialOptions,
    #[command(flatten)]
    pub workers: WorkerOptions,
    #[command(flatten)]
    pub autoscaler: AutoscalerOptions,
    #[command(flatten)]
    pub resource_quota: ResourceQuotaOptions,
    #[command(flatten)]
    pub ignored: IgnoredOptions,

    /// A list of controllers to enable. '*' enables all on-by-default controllers, 'foo' enables the controller named
    /// 'foo', '-foo' disables the controller named 'foo'.
    #[arg(long, value_delimiter = ',', default_value = "*")]
    pub controllers: Vec<String>,

    /// Number of terminated pods that can exist before the terminated pod garbage collector starts deleting terminated
    /// pods. If <= 0, the terminated pod garbage collector is disabled.
    #[arg(long, default_value_t = 12500)]
    pub terminated_pod_gc_threshold: i32,

    /// Enables the generic garbage collector. MUST be synced with the corresponding flag of the kube-apiserver.
    #[arg(long, default_value_t = true)]
    pub enable_garbage_collector: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ClientOptions {
    /// Path to kubeconfig file with authorization and master location information.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The address of the Kubernetes API server (overrides any value in kubeconfig).
    #[arg(long)]
    pub master: Option<String>,
    /// QPS to use while talking with kubernetes apiserver.
    #[arg(long, default_value_t = 20.0)]
    pub kube_api_qps: f32,
    /// Burst to use while talking with kubernetes apiserver.
    #[arg(long, default_value_t = 30)]
    pub kube_api_burst: u32,
    /// If true, use individual service account credentials for each controller.
    #[arg(long)]
    pub use_service_account_credentials: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ServingOptions {
    /// The IP address on which to listen for the --secure-port port.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// The port on which to serve HTTPS with authentication and authorization. If 0, don't serve HTTPS at all.
    #[arg(long, default_value_t = 10257)]
    pub secure_port: u16,
    /// File containing the default x509 Certificate for HTTPS.
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// File containing the default x509 private key matching --tls-cert-file.
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// kubeconfig file pointing at the 'core' kubernetes server with enough rights to create tokenreviews.
    #[arg(long)]
    pub authentication_kubeconfig: Option<PathBuf>,
    /// kubeconfig file pointing at the 'core' kubernetes server with enough rights to create subjectaccessreviews.
    #[arg(long)]
    pub authorization_kubeconfig: Option<PathBuf>,
    /// A list of HTTP paths to skip during authorization, i.e. these are authorized without contacting the server.
    #[arg(long, value_delimiter = ',', default_value = "/healthz,/readyz,/livez")]
    pub authorization_always_allow_paths: Vec<String>,
    /// If set, any request presenting a client certificate signed by one of the authorities in the client-ca-file is
    /// authenticated with an identity corresponding to the CommonName of the client certificate.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Root certificate bundle to use to verify client certificates on incoming requests before trusting usernames in
    /// headers; requests of an aggregating proxy are not taken here.
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Enable profiling via web interface host:port/debug/pprof/; accepted, there is no such interface.
    #[arg(long, default_value_t = true)]
    pub profiling: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub struct NetworkOptions {
    /// CIDR Range for Pods in cluster; one per IP family.
    #[arg(long, value_delimiter = ',')]
    pub cluster_cidr: Vec<ipnet::IpNet>,
    /// CIDR Range for Services in cluster; one per IP family.
    #[arg(long, value_delimiter = ',')]
    pub service_cluster_ip_range: Vec<ipnet::IpNet>,
    /// Should CIDRs for Pods be allocated and set on the nodes.
    #[arg(long)]
    pub allocate_node_cidrs: bool,
    /// Mask size for node cidr in cluster. Default is 24 for IPv4 and 64 for IPv6.
    #[arg(long)]
    pub node_cidr_mask_size: Option<u8>,
    /// Mask size for IPv4 node cidr in dual-stack cluster.
    #[arg(long)]
    pub node_cidr_mask_size_ipv4: Option<u8>,
    /// Mask size for IPv6 node cidr in dual-stack cluster.
    #[arg(long)]
    pub node_cidr_mask_size_ipv6: Option<u8>,
    /// The maximum number of endpoints that will be added to an EndpointSlice.
    #[arg(long, default_value_t = 100)]
    pub max_endpoints_per_slice: usize,
    /// How long a change of a pod waits for others before EndpointSlices follow.
    #[arg(long, default_value = "0s")]
    pub endpointslice_updates_batch_period: GoDuration,
    /// How long a change of a pod waits for others before Endpoints follow.
    #[arg(long, default_value = "0s")]
    pub endpoint_updates_batch_period: GoDuration,
}

#[derive(Clone, Debug, clap::Args)]
pub struct MirroringOptions {
    /// How many Endpoints are mirrored at once.
    #[arg(long, default_value_t = 5, value_parser = at_most(1, 50))]
    pub mirroring_concurrent_service_endpoint_syncs: usize,
    /// How many addresses of one subset of Endpoints are mirrored at most.
    #[arg(long, default_value_t = 1000, value_parser = at_most(1, 1000))]
    pub mirroring_max_endpoints_per_subset: usize,
    /// How long a change of a mirrored slice waits for others before it is looked at.
    #[arg(long, default_value = "0s")]
    pub mirroring_endpointslice_updates_batch_period: GoDuration,
}

/// Whole numbers within bounds, refused with upstream's words.
fn at_most(least: usize, most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number: i64 = text.parse().map_err(|_| format!("parsing {text:?}: invalid syntax"))?;
        match usize::try_from(number) {
            Ok(number) if number > most => Err(format!("must not be more than {most}, but got {number}")),
            Ok(number) if number >= least => Ok(number),
            _ => Err(format!("must not be less than {least}, but got {number}")),
        }
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct NodeOptions {
    /// The period for syncing NodeStatus.
    #[arg(long, default_value = "5s")]
    pub node_monitor_period: GoDuration,
    /// Amount of time which we allow running Node to be unresponsive before marking it unhealthy.
    #[arg(long, default_value = "50s")]
    pub node_monitor_grace_period: GoDuration,
    /// Amount of time which we allow starting Node to be unresponsive before marking it unhealthy.
    #[arg(long, default_value = "1m")]
    pub node_startup_grace_period: GoDuration,
    /// Number of nodes per second on which pods are deleted in case of node failure when a zone is healthy.
    #[arg(long, default_value_t = 0.1)]
    pub node_eviction_rate: f32,
    /// Number of nodes per second on which pods are deleted in case of node failure when a zone is unhealthy.
    #[arg(long, default_value_t = 0.01)]
    pub secondary_node_eviction_rate: f32,
    /// Fraction of Nodes in a zone which needs to be not Ready for zone to be treated as unhealthy.
    #[arg(long, default_value_t = 0.55)]
    pub unhealthy_zone_threshold: f32,
    /// Number of nodes from which the controller treats the cluster as large for the eviction logic purposes.
    #[arg(long, default_value_t = 50)]
    pub large_cluster_size_threshold: usize,
}

#[derive(Clone, Debug, clap::Args)]
pub struct CredentialOptions {
    /// If set, this root certificate authority will be included in service account's token secret and published in every
    /// namespace.
    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    /// Filename containing a PEM-encoded private RSA or ECDSA key used to sign service account tokens.
    #[arg(long)]
    pub service_account_private_key_file: Option<PathBuf>,
    /// How long a token that the control plane once made must be unused before it is marked as invalid, and how long after
    /// that before it is deleted.
    #[arg(long, default_value = "8760h")]
    pub legacy_service_account_token_clean_up_period: GoDuration,
    /// Filename containing a PEM-encoded X509 CA certificate used to issue cluster-scoped certificates.
    #[arg(long)]
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// Filename containing a PEM-encoded RSA or ECDSA private key used to sign cluster-scoped certificates.
    #[arg(long)]
    pub cluster_signing_key_file: Option<PathBuf>,
    /// The max length of duration signed certificates will be given.
    #[arg(long, default_value = "8760h")]
    pub cluster_signing_duration: GoDuration,
}

#[derive(Clone, Debug, clap::Args)]
pub struct AutoscalerOptions {
    /// The period for syncing the number of pods in horizontal pod autoscaler.
    #[arg(long, default_value = "15s")]
    pub horizontal_pod_autoscaler_sync_period: GoDuration,
    /// For how long a target is not scaled down below anything that was recommended in this time.
    #[arg(long, default_value = "5m")]
    pub horizontal_pod_autoscaler_downscale_stabilization: GoDuration,
    /// How far the ratio of what is measured to what is wanted must lie from 1.0 for anything to be done.
    #[arg(long, default_value_t = 0.1)]
    pub horizontal_pod_autoscaler_tolerance: f64,
    /// The period after pod start when CPU samples might be skipped.
    #[arg(long, default_value = "5m")]
    pub horizontal_pod_autoscaler_cpu_initialization_period: GoDuration,
    /// The period after pod start during which readiness changes will be treated as initial readiness.
    #[arg(long, default_value = "30s")]
    pub horizontal_pod_autoscaler_initial_readiness_delay: GoDuration,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ResourceQuotaOptions {
    /// The period for syncing quota usage status in the system.
    #[arg(long, default_value = "5m")]
    pub resource_quota_sync_period: GoDuration,
}

/// How many objects of a kind are worked on at once.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkerOptions {
    #[arg(long, default_value_t = 5)]
    pub concurrent_deployment_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_replicaset_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_rc_syncs: usize,
    #[arg(long, default_value_t = 2)]
    pub concurrent_daemonset_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_statefulset_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_job_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_cron_job_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_endpoint_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_service_endpoint_syncs: usize,
    #[arg(long, default_value_t = 10)]
    pub concurrent_namespace_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_serviceaccount_token_syncs: usize,
    #[arg(long, default_value_t = 20)]
    pub concurrent_gc_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_ttl_after_finished_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_resource_quota_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_horizontal_pod_autoscaler_syncs: usize,
    #[arg(long, default_value_t = 8)]
    pub concurrent_node_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_validating_admission_policy_status_syncs: usize,
}

/// Accepted for the sake of existing manifests; there is nothing they would change here.
#[derive(Clone, Debug, clap::Args)]
pub struct IgnoredOptions {
    #[arg(long, hide = true)]
    pub cluster_name: Option<String>,
    #[arg(long, hide = true)]
    pub cert_dir: Option<PathBuf>,
    #[arg(long, hide = true)]
    pub flex_volume_plugin_dir: Option<PathBuf>,
    #[arg(long, hide = true)]
    pub cloud_provider: Option<String>,
    #[arg(long, hide = true)]
    pub configure_cloud_routes: bool,
    #[arg(long, hide = true)]
    pub kube_api_content_type: Option<String>,
    #[arg(long, hide = true)]
    pub min_resync_period: Option<GoDuration>,
    #[arg(long, hide = true)]
    pub contention_profiling: bool,
    #[arg(long, hide = true)]
    pub permit_port_sharing: bool,
    #[arg(long, hide = true)]
    pub tls_min_version: Option<String>,
    #[arg(long, hide = true)]
    pub tls_cipher_suites: Option<String>,
    #[arg(long, hide = true)]
    pub requestheader_allowed_names: Option<String>,
    #[arg(long, hide = true)]
    pub requestheader_username_headers: Option<String>,
    #[arg(long, hide = true)]
    pub requestheader_group_headers: Option<String>,
    #[arg(long, hide = true)]
    pub requestheader_extra_headers_prefix: Option<String>,
    #[arg(long, hide = true)]
    pub authentication_tolerate_lookup_failure: bool,
    #[arg(long, hide = true)]
    pub authentication_skip_lookup: bool,
}

impl Options {
    pub fn client_flags(&self) -> ClientFlags {
        ClientFlags {
            kubeconfig: self.client.kubeconfig.clone(),
            master: self.client.master.clone(),
            qps: self.client.kube_api_qps,
            burst: self.client.kube_api_burst,
        }
    }

    /// Whether `--controllers` turns a controller on; `aliases` are its older names. The first mention counts.
    pub fn enables(&self, name: &str, aliases: &[&str], on_by_default: bool) -> bool {
        let named = |given: &str| given == name || aliases.contains(&given);
        for given in &self.controllers {
            match given.strip_prefix('-') {
                Some(given) if named(given) => return false,
                None if named(given) => return true,
                _ => {}
            }
        }
        on_by_default && self.controllers.iter().any(|given| given == "*")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Options {
        let words = std::iter::once("kube-controller-manager").chain(words.iter().copied());
        component_base::cli::try_parse("kube-controller-manager", words).unwrap()
    }

    #[test]
    fn kubeadms_flags_are_understood() {
        let options = options(&[
            "--allocate-node-cidrs=true",
            "--authentication-kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--authorization-kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--bind-address=127.0.0.1",
            "--client-ca-file=/etc/kubernetes/pki/ca.crt",
            "--cluster-cidr=10.244.0.0/16",
            "--cluster-name=kubernetes",
            "--cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt",
            "--cluster-signing-key-file=/etc/kubernetes/pki/ca.key",
            "--controllers=*,bootstrapsigner,tokencleaner",
            "--kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--leader-elect=true",
            "--requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt",
            "--root-ca-file=/etc/kubernetes/pki/ca.crt",
            "--service-account-private-key-file=/etc/kubernetes/pki/sa.key",
            "--service-cluster-ip-range=10.96.0.0/12",
            "--use-service-account-credentials=true",
        ]);
        assert!(options.client.use_service_account_credentials);
        assert_eq!(options.network.cluster_cidr.len(), 1);
    }

    #[test]
    fn controllers_by_name_alias_and_star() {
        for (given, default, off_by_default) in [
            ("*", true, false),
            ("*,-deployment", false, false),
            ("*,-deployment-controller", false, false),
            ("deployment", true, false),
            ("*,bootstrapsigner", true, true),
            ("nothing", false, false),
        ] {
            let options = options(&[&format!("--controllers={given}")]);
            assert_eq!(options.enables("deployment-controller", &["deployment"], true), default, "{given}");
            assert_eq!(
                options.enables("bootstrap-signer-controller", &["bootstrapsigner"], false),
                off_by_default,
                "{given}"
            );
        }
    }
}
