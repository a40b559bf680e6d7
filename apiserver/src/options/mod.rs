//! Flags of kube-apiserver, under upstream's names.

mod accepted;

pub use accepted::Accepted;

use clap::Parser;
use component_base::cli::{GoDuration, KeyValues, LoggingFlags};
use std::net::IpAddr;
use std::path::PathBuf;
use storage::history::HISTORY_BYTES_MAX;
use streaming::KubeletFlags;

/// The Kubernetes API server validates and configures data for the API objects and serves them to everyone else in the cluster.
#[derive(Parser, Debug)]
pub struct Options {
    #[command(flatten)]
    pub logging: LoggingFlags,
    #[command(flatten)]
    pub serving: Serving,
    #[command(flatten)]
    pub etcd: EtcdFlags,
    #[command(flatten)]
    pub authn: AuthnFlags,
    #[command(flatten)]
    pub authz: AuthzFlags,
    #[command(flatten)]
    pub service: ServiceFlags,
    #[command(flatten)]
    pub kubelet: KubeletFlags,
    #[command(flatten)]
    pub accepted: Accepted,

    /// API groups and versions to switch on or off: api/all=true, api/beta=true, <group>/<version>[/<resource>]=true|false.
    #[arg(long, default_value = "")]
    pub runtime_config: KeyValues,
    /// Admission plugins to switch on besides those that are on by default.
    #[arg(long, value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    /// Admission plugins to switch off.
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    /// File with configuration of admission plugins.
    #[arg(long)]
    pub admission_control_config_file: Option<PathBuf>,
    /// How long pods stay on a node that is not ready, seconds, unless they say otherwise.
    #[arg(long, default_value_t = 300)]
    pub default_not_ready_toleration_seconds: i64,
    /// The same for a node that is unreachable.
    #[arg(long, default_value_t = 300)]
    pub default_unreachable_toleration_seconds: i64,
    /// Whether deletions leave dependents to the garbage collector. Must agree with kube-controller-manager's flag.
    #[arg(long, default_value_t = true)]
    pub enable_garbage_collector: bool,
    /// Whether containers may ask to be privileged.
    #[arg(long)]
    pub allow_privileged: bool,
    /// How long events are kept.
    #[arg(long, default_value = "1h0m0s")]
    pub event_ttl: GoDuration,
    /// Requests that change nothing and run at once, at most; with the next, the server's whole concurrency.
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// Requests that change something and run at once, at most.
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// How long a request other than a watch may take.
    #[arg(long, default_value = "1m0s")]
    pub request_timeout: GoDuration,
    /// Watches without a timeout of their own end after a random time of at least this many seconds.
    #[arg(long, default_value_t = 1800)]
    pub min_request_timeout: u64,
    /// Serve /debug/pprof; accepted for compatibility.
    #[arg(long, default_value_t = true)]
    pub profiling: bool,
    /// Give clients of aggregated and network-isolated clusters a way out; accepted for compatibility.
    #[arg(long)]
    pub egress_selector_config_file: Option<PathBuf>,
    /// How long /livez passes while the server starts, though not all of it has started; 0 does not wait.
    #[arg(long, default_value = "0s")]
    pub livez_grace_period: GoDuration,
    /// How long to keep serving after a signal before connections are told to go.
    #[arg(long, default_value = "0s")]
    pub shutdown_delay_duration: GoDuration,
    /// Chance that an HTTP/2 connection is closed after a request, to spread clients; accepted for compatibility.
    #[arg(long, default_value_t = 0.0)]
    pub goaway_chance: f64,
    /// Whether aggregated API servers are reached by endpoint instead of cluster IP.
    #[arg(long)]
    pub enable_aggregator_routing: bool,
    /// Certificate shown to aggregated API servers and webhooks.
    #[arg(long)]
    pub proxy_client_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub proxy_client_key_file: Option<PathBuf>,
    /// API servers that run beside this one; accepted for compatibility.
    #[arg(long, default_value_t = 1)]
    pub apiserver_count: usize,
    /// How the endpoints of the service `kubernetes` are kept: lease, master-count or none.
    #[arg(long, default_value = "lease")]
    pub endpoint_reconciler_type: String,
}

#[derive(clap::Args, Debug)]
pub struct Serving {
    /// Address that others in the cluster reach this server at.
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// Address to listen at.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Port to listen at.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// Certificate to serve with, its intermediates behind it. Without one, a self-signed certificate is made in --cert-dir.
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    #[arg(long, default_value = "/var/run/kubernetes")]
    pub cert_dir: PathBuf,
    /// Lowest TLS version: VersionTLS12 or VersionTLS13.
    #[arg(long, default_value = "")]
    pub tls_min_version: String,
    /// Cipher suites for TLS 1.2; accepted for compatibility, the safe ones are served.
    #[arg(long, value_delimiter = ',')]
    pub tls_cipher_suites: Vec<String>,
    /// Serve HTTP/1.1 only.
    #[arg(long)]
    pub disable_http2_serving: bool,
    /// Directives of Strict-Transport-Security, such as max-age=31536000,includeSubDomains; without them the header is not sent.
    #[arg(long, value_delimiter = ',')]
    pub strict_transport_security_directives: Vec<String>,
    /// Origins that browsers may call from, as regular expressions.
    #[arg(long, value_delimiter = ',')]
    pub cors_allowed_origins: Vec<String>,
    /// Host name of this server for others, if not that of the machine.
    #[arg(long)]
    pub external_hostname: Option<String>,
}

#[derive(clap::Args, Debug)]
pub struct EtcdFlags {
    /// etcd servers, as URLs.
    #[arg(long, value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    /// Prefix of every key.
    #[arg(long, default_value = "/registry")]
    pub etcd_prefix: String,
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,
    #[arg(long)]
    pub etcd_certfile: Option<PathBuf>,
    #[arg(long)]
    pub etcd_keyfile: Option<PathBuf>,
    /// How often old revisions are compacted away; 0 never.
    #[arg(long, default_value = "5m0s")]
    pub etcd_compaction_interval: GoDuration,
    /// How long etcd may take to answer a health check.
    #[arg(long, default_value = "2s")]
    pub etcd_healthcheck_timeout: GoDuration,
    /// The same for readiness.
    #[arg(long, default_value = "2s")]
    pub etcd_readycheck_timeout: GoDuration,
    /// How objects are written: application/vnd.kubernetes.protobuf or application/json, which empty means too.
    #[arg(long, default_value = "application/vnd.kubernetes.protobuf")]
    pub storage_media_type: String,
    /// Only etcd3 exists; accepted for compatibility.
    #[arg(long, default_value = "")]
    pub storage_backend: String,
    /// Reads are always served from a cache; accepted for compatibility.
    #[arg(long, default_value_t = true)]
    pub watch_cache: bool,
    /// What the changes that broken watches resume from may take in memory, all resources together; older changes are read from
    /// etcd. Not a flag of upstream, whose --watch-cache-sizes count changes whatever their size.
    #[arg(long, default_value_t = HISTORY_BYTES_MAX)]
    pub watch_history_bytes_max: usize,
}

#[derive(clap::Args, Debug)]
pub struct AuthnFlags {
    /// CA of client certificates: common name is the user, organizations are groups.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// CSV of token,user,uid,"group,group".
    #[arg(long)]
    pub token_auth_file: Option<PathBuf>,
    /// Whether requests without credentials are those of system:anonymous.
    #[arg(long, default_value_t = true)]
    pub anonymous_auth: bool,
    /// Let bootstrap tokens authenticate.
    #[arg(long)]
    pub enable_bootstrap_token_auth: bool,
    /// Issuer of service account tokens; the first signs, the others are accepted.
    #[arg(long)]
    pub service_account_issuer: Vec<String>,
    /// Public or private keys that service account tokens are verified with.
    #[arg(long)]
    pub service_account_key_file: Vec<PathBuf>,
    /// Private key that service account tokens are signed with.
    #[arg(long)]
    pub service_account_signing_key_file: Option<PathBuf>,
    /// Audiences of this server; the issuer if none.
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Vec<String>,
    /// Longest life of a token that is asked for.
    #[arg(long, default_value = "0s")]
    pub service_account_max_token_expiration: GoDuration,
    #[arg(long, default_value_t = true)]
    pub service_account_lookup: bool,
    #[arg(long, default_value_t = true)]
    pub service_account_extend_token_expiration: bool,
    /// URI where the token keys are published.
    #[arg(long)]
    pub service_account_jwks_uri: Option<String>,
    /// CA of front proxies.
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_allowed_names: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-User")]
    pub requestheader_username_headers: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Uid")]
    pub requestheader_uid_headers: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Group")]
    pub requestheader_group_headers: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Extra-")]
    pub requestheader_extra_headers_prefix: Vec<String>,
}

#[derive(clap::Args, Debug)]
pub struct AuthzFlags {
    /// Authorizers in order: AlwaysAllow, AlwaysDeny, Node, RBAC.
    #[arg(long, value_delimiter = ',', default_value = "AlwaysAllow")]
    pub authorization_mode: Vec<String>,
}

#[derive(clap::Args, Debug)]
pub struct ServiceFlags {
    /// Addresses for services, one range per IP family.
    #[arg(long, value_delimiter = ',', default_value = "10.0.0.0/24")]
    pub service_cluster_ip_range: Vec<ipnet::IpNet>,
    /// Ports for NodePort services, as first-last.
    #[arg(long, default_value = "30000-32767")]
    pub service_node_port_range: String,
    /// Makes the service `kubernetes` a NodePort on this port; 0 does not.
    #[arg(long, default_value_t = 0)]
    pub kubernetes_service_node_port: u16,
}

impl Options {
    /// Whether requests without credentials are let in. Where everything is allowed they are not, whatever the flag says: nobody
    /// would be kept out.
    pub fn allows_anonymous(&self) -> bool {
        self.authn.anonymous_auth && !self.authz.authorization_mode.iter().any(|mode| mode == "AlwaysAllow")
    }

    /// What is wrong with the flags taken together.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.etcd.etcd_servers.is_empty(), "--etcd-servers must be specified");
        anyhow::ensure!(
            self.serving.tls_cert_file.is_some() == self.serving.tls_private_key_file.is_some(),
            "--tls-cert-file and --tls-private-key-file go together"
        );
        anyhow::ensure!(
            self.proxy_client_cert_file.is_some() == self.proxy_client_key_file.is_some(),
            "--proxy-client-cert-file and --proxy-client-key-file go together"
        );
        let cbor = self.logging.feature_gates.enabled("CBORServingAndStorage").then_some("application/cbor");
        let media: Vec<&str> =
            ["application/json", "application/vnd.kubernetes.protobuf"].into_iter().chain(cbor).collect();
        let given = self.etcd.storage_media_type.as_str();
        anyhow::ensure!(
            given.is_empty() || media.contains(&given),
            "--storage-media-type {given:?} invalid, allowed values: {}",
            media.join(", ")
        );
        for directive in &self.serving.strict_transport_security_directives {
            let known = directive.starts_with("max-age=") || ["includeSubDomains", "preload"].contains(&&**directive);
            anyhow::ensure!(
                known,
                "--strict-transport-security-directives: {directive:?} is not one of max-age=<seconds>, includeSubDomains, preload"
            );
        }
        let known = ["AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook", "ABAC"];
        for mode in &self.authz.authorization_mode {
            anyhow::ensure!(known.contains(&&**mode), "--authorization-mode: {mode:?} is not one of {known:?}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_anonymous_where_everything_is_allowed() {
        for (flags, allowed) in [
            (&["--authorization-mode=Node,RBAC"][..], true),
            (&["--authorization-mode=Node,RBAC", "--anonymous-auth=false"], false),
            (&["--authorization-mode=RBAC,AlwaysAllow"], false),
            (&[], false),
        ] {
            let flags = ["kube-apiserver", "--etcd-servers=http://127.0.0.1:2379"].iter().chain(flags);
            // Flags are Go's: a boolean takes its value behind an equals sign.
            let options: Options = component_base::cli::try_parse("kube-apiserver", flags).unwrap();
            assert_eq!(options.allows_anonymous(), allowed);
        }
    }

    #[test]
    fn what_starts_upstreams_server_starts_this_one() {
        let flags = "--watch-cache-sizes=pods#100,nodes#10 --enable-priority-and-fairness=false --storage-initialization-timeout=2m \
            --delete-collection-workers=5 --livez-grace-period=10s --strict-transport-security-directives=max-age=3,includeSubDomains \
            --goaway-chance=0.001 --etcd-healthcheck-timeout=3s --show-hidden-metrics-for-version=";
        let flags = flags.split_ascii_whitespace();
        let flags = ["kube-apiserver", "--etcd-servers=http://127.0.0.1:2379"].into_iter().chain(flags);
        let options: Options = component_base::cli::try_parse("kube-apiserver", flags).unwrap();
        assert!(options.check().is_ok());
        assert_eq!(options.etcd.etcd_healthcheck_timeout.0.as_secs(), 3);
        let unsafe_ones = ["--audit-log-path=/x", "--encryption-provider-config=/x", "--oidc-issuer-url=https://x"];
        for flag in unsafe_ones {
            let flags = ["kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", flag];
            let parsed = component_base::cli::try_parse::<Options, _, _>("kube-apiserver", flags);
            assert!(parsed.is_err(), "{flag} protects nobody here and must not look as if it did");
        }
    }

    #[test]
    fn groups_are_switched_on_by_their_name() {
        let given: KeyValues = "api/v1,batch/v1=false".parse().unwrap();
        assert_eq!((given.0["api/v1"].as_str(), given.0["batch/v1"].as_str()), ("true", "false"));
        assert!("=true".parse::<KeyValues>().is_err());
    }
}
