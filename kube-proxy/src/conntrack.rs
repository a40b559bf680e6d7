//! Flows of UDP services live on in the kernel after their endpoint is gone, and packets would go nowhere until they time
//! out; they are deleted when endpoints go, and when the first one comes.

use crate::model::{Endpoint, Protocol, ServicePort};
use std::collections::BTreeSet;
use std::net::IpAddr;
use tokio::process::Command;

/// Flows to end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stale {
    /// Where the client sent to.
    pub destination: IpAddr,
    /// Where it was rewritten to; none: wherever.
    pub endpoint: Option<IpAddr>,
}

/// The flows that a change of a port's endpoints leaves behind.
pub fn stale(port: &ServicePort, old: &[Endpoint], new: &[Endpoint]) -> BTreeSet<Stale> {
    let mut stale = BTreeSet::new();
    if port.protocol != Protocol::Udp {
        return stale;
    }
    let there: BTreeSet<IpAddr> = new.iter().filter(|e| e.ready || e.serving).map(|e| e.ip).collect();
    let gone: BTreeSet<IpAddr> = old.iter().map(|e| e.ip).filter(|ip| !there.contains(ip)).collect();
    let first = old.is_empty() && !new.is_empty();
    for destination in port.cluster_ips.iter().chain(&port.external_ips) {
        stale.extend(gone.iter().map(|ip| Stale { destination: *destination, endpoint: Some(*ip) }));
        if first {
            // Packets sent before there was an endpoint made flows that lead nowhere.
            stale.insert(Stale { destination: *destination, endpoint: None });
        }
    }
    stale
}

/// Deletes flows; that there were none is no error.
pub async fn delete(stale: &BTreeSet<Stale>) {
    for flow in stale {
        let mut command = Command::new("conntrack");
        command.args(["-D", "-p", "udp", "--orig-dst", &flow.destination.to_string()]);
        if let Some(endpoint) = flow.endpoint {
            command.args(["--dst-nat", &endpoint.to_string()]);
        }
        match command.kill_on_drop(true).output().await {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                if !text.contains("0 flow entries") {
                    tracing::debug!(?flow, text, "deleting stale flows");
                }
            }
            Err(e) => {
                tracing::warn!(error = %e, "conntrack cannot be run; UDP flows to gone endpoints end by their timeout only");
                return;
            }
        }
    }
}
