//! The flags, under upstream's names and with upstream's defaults.

use std::path::PathBuf;

use clap::Parser;
use component_base::{
    cli::{self, GoDuration, InertFlags, LoggingFlags},
    client::ClientFlags,
    leader::LeaderFlags,
    serving::secure::SecureServingFlags,
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
    pub serving: SecureServingFlags,
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

    /// Interval between starting controller managers.
    #[arg(long, default_value = "0s")]
    pub controller_start_interval: GoDuration,

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
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub kubeconfig: PathBuf,
    /// The address of the Kubernetes API server (overrides any value in kubeconfig).
    #[arg(long, default_value = "")]
    pub master: String,
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
pub struct NetworkOptions {
    /// CIDR Range for Pods in cluster; one per IP family.
    #[arg(long, value_delimiter = ',')]
    pub cluster_cidr: Vec<ipnet::IpNet>,
    /// CIDR Range for Services in cluster; one per IP family.
    #[arg(long, value_delimiter = ',')]
    pub service_cluster_ip_range: Vec<ipnet::IpNet>,
    /// Type of CIDR allocator to use.
    #[arg(long, default_value = "RangeAllocator", value_parser = ["RangeAllocator"])]
    pub cidr_allocator_type: String,
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
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub root_ca_file: PathBuf,
    /// Filename containing a PEM-encoded private RSA or ECDSA key used to sign service account tokens.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub service_account_private_key_file: PathBuf,
    /// How long a token that the control plane once made must be unused before it is marked as invalid, and how long after
    /// that before it is deleted.
    #[arg(long, default_value = "8760h")]
    pub legacy_service_account_token_clean_up_period: GoDuration,
    /// Filename containing a PEM-encoded X509 CA certificate used to issue cluster-scoped certificates.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub cluster_signing_cert_file: PathBuf,
    /// Filename containing a PEM-encoded RSA or ECDSA private key used to sign cluster-scoped certificates.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub cluster_signing_key_file: PathBuf,
    /// The same for kubernetes.io/kubelet-serving only. If any flag for one signer is given, the others sign nothing.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub cluster_signing_kubelet_serving_cert_file: PathBuf,
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub cluster_signing_kubelet_serving_key_file: PathBuf,
    /// The same for kubernetes.io/kube-apiserver-client-kubelet only.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub cluster_signing_kubelet_client_cert_file: PathBuf,
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub cluster_signing_kubelet_client_key_file: PathBuf,
    /// The same for kubernetes.io/kube-apiserver-client only.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub cluster_signing_kube_apiserver_client_cert_file: PathBuf,
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub cluster_signing_kube_apiserver_client_key_file: PathBuf,
    /// The same for kubernetes.io/legacy-unknown only.
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub cluster_signing_legacy_unknown_cert_file: PathBuf,
    #[arg(long, default_value = "", value_parser = cli::path)]
    pub cluster_signing_legacy_unknown_key_file: PathBuf,
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
    pub concurrent_ephemeralvolume_syncs: usize,
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

/// Accepted for the sake of existing manifests: what they speak of is not here, or is done otherwise.
#[derive(Clone, Debug, clap::Args)]
pub struct IgnoredOptions {
    /// Accepted: there is no cloud provider, and nothing of a cloud is named after the cluster.
    #[arg(long, default_value = "kubernetes")]
    pub cluster_name: String,
    /// Accepted: only "" and "external" mean anything, and both mean that there is none here.
    #[arg(long, default_value = "")]
    pub cloud_provider: String,
    /// Accepted, see --cloud-provider.
    #[arg(long, default_value = "")]
    pub cloud_config: String,
    /// Accepted, see --cloud-provider.
    #[arg(long, default_value = "")]
    pub external_cloud_volume_plugin: String,
    /// Accepted, see --cloud-provider.
    #[arg(long)]
    pub allow_untagged_cloud: bool,
    /// Accepted, see --cloud-provider.
    #[arg(long, default_value_t = true)]
    pub configure_cloud_routes: bool,
    /// Accepted, see --cloud-provider.
    #[arg(long, default_value = "10s")]
    pub route_reconciliation_period: GoDuration,
    /// Accepted, see --cloud-provider.
    #[arg(long, default_value = "0s")]
    pub node_sync_period: GoDuration,
    /// Accepted: there is no cloud whose controllers would be moved.
    #[arg(long)]
    pub enable_leader_migration: bool,
    /// Accepted, see --enable-leader-migration.
    #[arg(long, default_value = "")]
    pub leader_migration_config: String,
    /// Accepted: JSON is spoken.
    #[arg(long, default_value = "application/vnd.kubernetes.protobuf")]
    pub kube_api_content_type: String,
    /// Accepted: stores are followed by watches and never resynchronized.
    #[arg(long, default_value = "12h")]
    pub min_resync_period: GoDuration,
    /// Accepted: a namespace that is being deleted is looked at until it is gone.
    #[arg(long, default_value = "5m")]
    pub namespace_sync_period: GoDuration,
    /// Accepted: claims are bound as they and volumes change.
    #[arg(long, default_value = "15s")]
    pub pvclaimbinder_sync_period: GoDuration,
    /// Accepted: writes that are under way when the process is told to stop are waited for without a limit of their own.
    #[arg(long, default_value = "10s")]
    pub controller_shutdown_timeout: GoDuration,
    /// Accepted: there is no interface for profiles.
    #[arg(long, default_value_t = true)]
    pub profiling: bool,
    /// Accepted, see --profiling.
    #[arg(long)]
    pub contention_profiling: bool,
    #[command(flatten)]
    pub inert: InertFlags,
    /// Accepted: volumes are attached by CSI's own controllers only.
    #[arg(long, default_value = "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/")]
    pub flex_volume_plugin_dir: String,
    /// Accepted: volumes are provisioned by external provisioners only.
    #[arg(long)]
    pub enable_hostpath_provisioner: bool,
    /// Accepted, see --enable-hostpath-provisioner.
    #[arg(long, default_value_t = true)]
    pub enable_dynamic_provisioning: bool,
    /// Accepted: volumes are not recycled.
    #[arg(long, default_value = "")]
    pub pv_recycler_pod_template_filepath_nfs: String,
    /// Accepted, see --pv-recycler-pod-template-filepath-nfs.
    #[arg(long, default_value = "")]
    pub pv_recycler_pod_template_filepath_hostpath: String,
    /// Accepted, see --pv-recycler-pod-template-filepath-nfs.
    #[arg(long, default_value_t = 300)]
    pub pv_recycler_minimum_timeout_nfs: i32,
    /// Accepted, see --pv-recycler-pod-template-filepath-nfs.
    #[arg(long, default_value_t = 60)]
    pub pv_recycler_minimum_timeout_hostpath: i32,
    /// Accepted, see --pv-recycler-pod-template-filepath-nfs.
    #[arg(long, default_value_t = 30)]
    pub pv_recycler_increment_timeout_nfs: i32,
    /// Accepted, see --pv-recycler-pod-template-filepath-nfs.
    #[arg(long, default_value_t = 30)]
    pub pv_recycler_timeout_increment_hostpath: i32,
    /// Accepted: there is no attach-detach controller.
    #[arg(long)]
    pub disable_attach_detach_reconcile_sync: bool,
    /// Accepted, see --disable-attach-detach-reconcile-sync.
    #[arg(long, default_value = "1m")]
    pub attach_detach_reconcile_sync_period: GoDuration,
    /// Accepted, see --disable-attach-detach-reconcile-sync.
    #[arg(long)]
    pub disable_force_detach_on_timeout: bool,
}

/// A flag's path; none if it is empty, as upstream's flags are.
fn given(path: &PathBuf) -> Option<&PathBuf> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

impl CredentialOptions {
    pub fn root_ca(&self) -> Option<&PathBuf> {
        given(&self.root_ca_file)
    }

    pub fn service_account_key(&self) -> Option<&PathBuf> {
        given(&self.service_account_private_key_file)
    }

    /// Certificate and key of the CA of each signer that signs.
    pub fn signers(&self) -> Result<Vec<(&'static str, &PathBuf, &PathBuf)>, String> {
        let all = ["kubelet-serving", "kube-apiserver-client-kubelet", "kube-apiserver-client", "legacy-unknown"];
        let names = ["kubelet-serving", "kubelet-client", "kube-apiserver-client", "legacy-unknown"];
        let files = [
            (&self.cluster_signing_kubelet_serving_cert_file, &self.cluster_signing_kubelet_serving_key_file),
            (&self.cluster_signing_kubelet_client_cert_file, &self.cluster_signing_kubelet_client_key_file),
            (
                &self.cluster_signing_kube_apiserver_client_cert_file,
                &self.cluster_signing_kube_apiserver_client_key_file,
            ),
            (&self.cluster_signing_legacy_unknown_cert_file, &self.cluster_signing_legacy_unknown_key_file),
        ];
        let pair = |name: &str, (cert, key): (_, _)| match (given(cert), given(key)) {
            (Some(cert), Some(key)) => Ok(Some((cert, key))),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(format!("\"cluster-signing{name}\": cannot specify key without cert")),
            (Some(_), None) => Err(format!("\"cluster-signing{name}\": cannot specify cert without key")),
        };
        let common = pair("", (&self.cluster_signing_cert_file, &self.cluster_signing_key_file))?;
        let mut own = Vec::new();
        for ((signer, name), files) in all.into_iter().zip(names).zip(files) {
            own.extend(pair(&format!("-{name}"), files)?.map(|(cert, key)| (signer, cert, key)));
        }
        match common {
            None => Ok(own),
            Some((cert, key)) if own.is_empty() => Ok(all.map(|signer| (signer, cert, key)).to_vec()),
            Some(_) => Err("cannot specify --cluster-signing-{cert,key}-file and other --cluster-signing-*-file flags at the same time".into()),
        }
    }
}

impl Options {
    /// What upstream refuses to start with; `is_known` says of a name whether upstream has a controller of it.
    pub fn validate(&self, is_known: impl Fn(&str) -> bool) -> Result<(), String> {
        self.credentials.signers()?;
        for given in self.controllers.iter().filter(|given| !given.is_empty() && *given != "*") {
            let name = given.strip_prefix('-').unwrap_or(given);
            if !is_known(name) {
                return Err(format!("{name:?} is not in the list of known controllers"));
            }
        }
        Ok(())
    }

    pub fn client_flags(&self) -> ClientFlags {
        ClientFlags {
            kubeconfig: given(&self.client.kubeconfig).cloned(),
            master: Some(self.client.master.clone()).filter(|master| !master.is_empty()),
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
        cli::try_parse("kube-controller-manager", words).unwrap()
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

    #[test]
    fn controllers_that_nobody_knows_are_refused() {
        for (given, refused) in [
            ("*,bootstrapsigner,-deployment", None),
            ("", None),
            ("attachdetach", None),
            ("-persistentvolume-expander-controller", None),
            ("*,nothing", Some("\"nothing\" is not in the list of known controllers")),
            ("-*x", Some("\"*x\" is not in the list of known controllers")),
        ] {
            let options = options(&[&format!("--controllers={given}")]);
            assert_eq!(options.validate(crate::controllers::is_known).err().as_deref(), refused, "{given}");
        }
    }

    #[test]
    fn signers_have_the_clusters_ca_or_their_own() {
        for (words, signers) in [
            (&[][..], Ok(0)),
            (&["--cluster-signing-cert-file=a", "--cluster-signing-key-file=b"], Ok(4)),
            (&["--cluster-signing-kubelet-client-cert-file=a", "--cluster-signing-kubelet-client-key-file=b"], Ok(1)),
            (&["--cluster-signing-cert-file=a"], Err("cannot specify cert without key")),
            (&["--cluster-signing-legacy-unknown-key-file=a"], Err("cannot specify key without cert")),
            (
                &[
                    "--cluster-signing-cert-file=a",
                    "--cluster-signing-key-file=b",
                    "--cluster-signing-kubelet-client-cert-file=a",
                    "--cluster-signing-kubelet-client-key-file=b",
                ],
                Err("at the same time"),
            ),
        ] {
            match (options(words).credentials.signers(), signers) {
                (Ok(found), Ok(count)) => assert_eq!(found.len(), count, "{words:?}"),
                (Err(error), Err(message)) => assert!(error.contains(message), "{error}"),
                (found, wanted) => panic!("{words:?}: {found:?}, not {wanted:?}"),
            }
        }
    }

    #[test]
    fn what_is_empty_is_not_given() {
        let options =
            options(&["--root-ca-file=", "--kubeconfig=", "--master=", "--service-account-private-key-file="]);
        assert_eq!((options.credentials.root_ca(), options.credentials.service_account_key()), (None, None));
        let flags = options.client_flags();
        assert_eq!((flags.kubeconfig, flags.master), (None, None));
    }
}
