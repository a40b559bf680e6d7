//! Flags of upstream's that change nothing here, each with its reason: what starts upstream's server starts ours. A flag whose silent
//! neglect would let somebody believe in a protection that is not there is none of these: it is unknown, which ends the start.

use component_base::cli::{GoDuration, InertFlags};
use std::path::PathBuf;

/// Accepted, without effect.
#[derive(clap::Args, Debug)]
pub struct Accepted {
    /// Accepted: redirects of aggregated servers are never followed, and always handed on.
    #[arg(long, default_value_t = true)]
    pub aggregator_reject_forwarding_redirect: bool,
    /// Accepted: there are no goroutines to profile.
    #[arg(long)]
    pub contention_profiling: bool,
    /// Accepted: there is no profiler behind a socket.
    #[arg(long, default_value = "")]
    pub debug_socket_path: String,
    /// Accepted: components elect their leaders among themselves.
    #[arg(long, default_value = "15s")]
    pub coordinated_leadership_lease_duration: GoDuration,
    /// Accepted, as --coordinated-leadership-lease-duration.
    #[arg(long, default_value = "10s")]
    pub coordinated_leadership_renew_deadline: GoDuration,
    /// Accepted, as --coordinated-leadership-lease-duration.
    #[arg(long, default_value = "2s")]
    pub coordinated_leadership_retry_period: GoDuration,
    /// Accepted: the deletions of a collection are always many at once.
    #[arg(long, default_value_t = 1)]
    pub delete_collection_workers: u32,
    /// Accepted: every resource has a cache of one size, bounded by --watch-history-bytes-max.
    #[arg(long, default_value_t = 100)]
    pub default_watch_cache_size: i64,
    /// Accepted, as --default-watch-cache-size: resource[.group]#size.
    #[arg(long, value_delimiter = ',')]
    pub watch_cache_sizes: Vec<String>,
    /// Accepted: there is no handler of /logs.
    #[arg(long)]
    pub enable_logs_handler: bool,
    /// Accepted: requests share the concurrency of --max-requests-inflight and --max-mutating-requests-inflight.
    #[arg(long, default_value_t = true)]
    pub enable_priority_and_fairness: bool,
    /// Accepted: the caches know how many objects there are at any time.
    #[arg(long, default_value = "1m0s")]
    pub etcd_count_metric_poll_period: GoDuration,
    /// Accepted: the size of the database is asked when metrics are.
    #[arg(long, default_value = "30s")]
    pub etcd_db_metric_poll_interval: GoDuration,
    /// Accepted: the server's own limit of streams holds.
    #[arg(long, default_value_t = 0)]
    pub http2_max_streams_per_connection: u32,
    /// Accepted: leases of events are shared by events that end together.
    #[arg(long, default_value_t = 60)]
    pub lease_reuse_duration_seconds: i64,
    /// Accepted: a slow reader slows its own connection only.
    #[arg(long, default_value_t = 0)]
    pub max_connection_bytes_per_sec: i64,
    /// Accepted: addresses of sockets that are closing are always shared.
    #[arg(long)]
    pub permit_address_sharing: bool,
    /// Accepted: the port is never shared.
    #[arg(long)]
    pub permit_port_sharing: bool,
    /// Accepted: requests are not passed on to servers of other versions.
    #[arg(long, default_value = "")]
    pub peer_advertise_ip: String,
    /// Accepted, as --peer-advertise-ip.
    #[arg(long, default_value = "")]
    pub peer_advertise_port: String,
    /// Accepted, as --peer-advertise-ip.
    #[arg(long)]
    pub peer_ca_file: Option<PathBuf>,
    #[command(flatten)]
    pub inert: InertFlags,
    /// Accepted: a server that is told to go closes idle connections and lets those that are busy end.
    #[arg(long)]
    pub shutdown_send_retry_after: bool,
    /// Accepted: watches end at once when a server goes, and resume at another.
    #[arg(long, default_value = "0s")]
    pub shutdown_watch_termination_grace_period: GoDuration,
    /// Accepted: readiness waits for storage as long as it takes.
    #[arg(long, default_value = "1m0s")]
    pub storage_initialization_timeout: GoDuration,
}
