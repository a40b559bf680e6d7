//! Leader election on a Lease, compatible with client-go's.
//!
//! ```no_run
//! use component_base::leader::{self, LeaderFlags};
//! # async fn demo(client: kube::Client, shutdown: tokio_util::sync::CancellationToken) -> anyhow::Result<()> {
//! let flags = LeaderFlags { leader_elect_resource_name: "kube-scheduler".into(), ..LeaderFlags::default() };
//! let identity = leader::identity();
//! leader::run(client, &flags, &identity, shutdown, |leading| async move {
//!     leading.cancelled().await;
//!     Ok(())
//! })
//! .await?;
//! # Ok(()) }
//! ```
//!
//! Clocks of different machines are never compared: a candidate measures on its own clock how long a Lease has not
//! changed.

use std::{future::Future, sync::LazyLock, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::GoDuration,
    client,
    metrics::{self, GaugeVec},
};

/// Upstream's `--leader-elect*` flags. A component sets `leader_elect_resource_name` if the flag is empty.
#[derive(Clone, Debug, clap::Args)]
pub struct LeaderFlags {
    /// Start a leader election client and gain leadership before executing the main loop.
    #[arg(long, default_value_t = true)]
    pub leader_elect: bool,

    /// How long non-leader candidates wait after observing a leadership renewal before trying to acquire it.
    #[arg(long, default_value = "15s")]
    pub leader_elect_lease_duration: GoDuration,

    /// How long the acting leader tries to renew its leadership before it stops leading.
    #[arg(long, default_value = "10s")]
    pub leader_elect_renew_deadline: GoDuration,

    /// How long to wait between attempts to acquire or renew leadership.
    #[arg(long, default_value = "2s")]
    pub leader_elect_retry_period: GoDuration,

    /// The type of resource object that is used for locking; only "leases" exists.
    #[arg(long, default_value = "leases", value_parser = ["leases"])]
    pub leader_elect_resource_lock: String,

    /// The name of the resource object that is used for locking.
    #[arg(long, default_value = "")]
    pub leader_elect_resource_name: String,

    /// The namespace of the resource object that is used for locking.
    #[arg(long, default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
}

impl Default for LeaderFlags {
    fn default() -> Self {
        Self {
            leader_elect: true,
            leader_elect_lease_duration: GoDuration::from_secs(15),
            leader_elect_renew_deadline: GoDuration::from_secs(10),
            leader_elect_retry_period: GoDuration::from_secs(2),
            leader_elect_resource_lock: "leases".into(),
            leader_elect_resource_name: String::new(),
            leader_elect_resource_namespace: "kube-system".into(),
        }
    }
}

/// Why leading ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("leader election lost: the lease {lease} could not be renewed within {deadline}; restart this process")]
    Lost { lease: String, deadline: GoDuration },
    #[error(transparent)]
    Led(#[from] anyhow::Error),
}

/// Who this process is among the candidates: host name and a random part, as upstream's.
pub fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:032x}", host.trim(), rand::random::<u128>())
}

/// Waits to become the leader, then runs `lead` with a token that ends with leadership or `shutdown`. Without
/// `--leader-elect` it leads at once. A lost lease is an error: the caller exits, so that nothing goes on as if.
pub async fn run<F, Fut>(
    client: Client,
    flags: &LeaderFlags,
    identity: &str,
    shutdown: CancellationToken,
    lead: F,
) -> Result<(), Error>
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    if !flags.leader_elect {
        return Ok(lead(shutdown).await?);
    }
    let mut candidate = Candidate::new(client, flags, identity);
    let status = STATUS.with_label_values(&[candidate.name.as_str()]);
    status.set(0.0);
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        () = candidate.acquire() => {}
    }
    tracing::info!(lease = candidate.name, identity, "Successfully acquired lease");
    status.set(1.0);
    let leading = shutdown.child_token();
    let result = tokio::select! {
        result = lead(leading.clone()) => result.map_err(Error::from),
        lost = candidate.renew() => Err(lost),
    };
    leading.cancel();
    status.set(0.0);
    if !matches!(result, Err(Error::Lost { .. })) {
        candidate.release().await;
    }
    result
}

struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
    /// The Lease as last seen, and when it was first seen so.
    seen: Option<(Lease, Instant)>,
}

impl Candidate {
    fn new(client: Client, flags: &LeaderFlags, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, &flags.leader_elect_resource_namespace),
            name: flags.leader_elect_resource_name.clone(),
            identity: identity.to_owned(),
            lease_duration: flags.leader_elect_lease_duration.get(),
            renew_deadline: flags.leader_elect_renew_deadline.get(),
            retry_period: flags.leader_elect_retry_period.get(),
            seen: None,
        }
    }

    async fn acquire(&mut self) {
        loop {
            match self.try_once().await {
                Ok(true) => return,
                Ok(false) => tracing::debug!(lease = self.name, "Another candidate leads"),
                Err(error) => tracing::warn!(
                    lease = self.name,
                    error = client::describe(&error),
                    "Cannot acquire the lease, will retry"
                ),
            }
            // Jitter keeps candidates that started together apart.
            tokio::time::sleep(self.retry_period.mul_f64(1.0 + 1.2 * rand::random::<f64>())).await;
        }
    }

    /// Renews until that fails for the whole deadline.
    async fn renew(&mut self) -> Error {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.retry_period).await;
            let left = self.renew_deadline.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.try_once()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return self.lost(),
                Ok(Err(error)) => tracing::warn!(
                    lease = self.name,
                    error = client::describe(&error),
                    "Cannot renew the lease, will retry"
                ),
                Err(_) => return self.lost(),
            }
        }
    }

    fn lost(&self) -> Error {
        Error::Lost { lease: self.name.clone(), deadline: self.renew_deadline.into() }
    }

    /// One attempt to hold the Lease from now on; false if somebody else holds it.
    async fn try_once(&mut self) -> kube::Result<bool> {
        let Some(current) = self.api.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(None)) };
            return self.written(self.api.create(&PostParams::default(), &lease).await);
        };
        let unchanged = self.seen.as_ref().filter(|(seen, _)| seen.spec == current.spec).map(|(_, since)| *since);
        let since = unchanged.unwrap_or_else(Instant::now);
        self.seen = Some((current.clone(), since));
        let spec = current.spec.clone().unwrap_or_default();
        if !may_take(&spec, &self.identity, since.elapsed()) {
            return Ok(false);
        }
        let lease = Lease { spec: Some(self.spec(Some(&spec))), ..current };
        self.written(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn written(&mut self, result: kube::Result<Lease>) -> kube::Result<bool> {
        match result {
            Ok(lease) => {
                self.seen = Some((lease, Instant::now()));
                Ok(true)
            }
            // Somebody was quicker; what they wrote is seen next time.
            Err(kube::Error::Api(status)) if status.code == 409 => Err(kube::Error::Api(status)),
            Err(error) => Err(error),
        }
    }

    /// The Lease's content when we hold it, after `before`.
    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let mine = before.is_some_and(|spec| spec.holder_identity.as_deref() == Some(&self.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.lease_duration.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: if mine { before.and_then(|spec| spec.acquire_time.clone()) } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if mine || before.is_none() { transitions } else { transitions + 1 }),
            ..before.cloned().unwrap_or_default()
        }
    }

    /// Gives the Lease up, so that the next candidate need not wait for it to run out.
    async fn release(&mut self) {
        let Some((lease, _)) = self.seen.take() else { return };
        let Some(spec) = lease.spec.filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity)) else {
            return;
        };
        let spec = LeaseSpec { holder_identity: Some(String::new()), lease_duration_seconds: Some(1), ..spec };
        let lease = Lease { metadata: lease.metadata, spec: Some(spec) };
        let params = PostParams::default();
        let replaced = self.api.replace(&self.name, &params, &lease);
        match tokio::time::timeout(Duration::from_secs(2), replaced).await {
            Ok(Ok(_)) => tracing::info!(lease = self.name, "Released lease"),
            Ok(Err(error)) => {
                tracing::warn!(lease = self.name, error = client::describe(&error), "Cannot release the lease")
            }
            Err(_) => tracing::warn!(lease = self.name, "Cannot release the lease: no answer"),
        }
    }
}

/// Whether `identity` may write itself into a Lease that has not changed for `unchanged`.
fn may_take(spec: &LeaseSpec, identity: &str, unchanged: Duration) -> bool {
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let duration_secs = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
    holder.is_empty() || holder == identity || unchanged >= Duration::from_secs(duration_secs)
}

static STATUS: LazyLock<GaugeVec> = LazyLock::new(|| {
    let help = "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates \
                master. 'name' is the string used to identify the lease.";
    metrics::gauge_vec("leader_election_master_status", help, &["name"])
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_take_a_lease() {
        for (holder, unchanged_secs, may) in [
            (None, 0, true),
            (Some(""), 0, true),
            (Some("me"), 0, true),
            (Some("other"), 14, false),
            (Some("other"), 15, true),
        ] {
            let spec = LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            };
            assert_eq!(may_take(&spec, "me", Duration::from_secs(unchanged_secs)), may, "{holder:?} {unchanged_secs}");
        }
    }
}
