//! Who serves: a Lease in `kube-system` for each API server, renewed while it runs and taken away some time after it is gone.
//! (KEP-1965.)

use crate::server::Server;
use apimachinery::Value;
use handlers::api::Api;
use handlers::decode::finish;
use handlers::write::update::Preconditions;
use handlers::write::{Write, meta_text};
use request::User;
use request::options::DeleteOptions;
use request::status::Result;
use serde_json::json;
use sha2::Digest;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const LABEL: &str = "apiserver.kubernetes.io/identity";
const LEASE_SECONDS: i64 = 3600;
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Leases of servers that are gone are looked for this seldom.
const TIDY_EVERY_ROUNDS: u32 = 360;
/// RFC 4648's alphabet in lower case, which names of objects allow.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The name of the server on this host, the same at every start.
fn identity(hostname: &str) -> String {
    format!("apiserver-{}", base32(&sha2::Sha256::digest(hostname)[..16]))
}

fn base32(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(5) {
        let mut group = [0u8; 8];
        group[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(group);
        let letters = (chunk.len() * 8).div_ceil(5);
        text.extend((0..letters).map(|i| BASE32[(bits >> (35 - 5 * i)) as usize & 31] as char));
    }
    text
}

/// This server among those of its cluster.
pub struct Identity {
    name: String,
    holder: String,
    hostname: String,
}

impl Identity {
    pub fn of_this_host() -> Identity {
        let hostname = nix::unistd::gethostname().map(|h| h.to_string_lossy().into_owned()).unwrap_or_default();
        let name = identity(&hostname);
        Identity { holder: format!("{name}_{}", uuid::Uuid::new_v4()), name, hostname }
    }

    /// Keeps the lease until `shutdown`, and takes away those of servers that are gone.
    pub async fn keep(&self, server: Arc<Server>, shutdown: CancellationToken) {
        for round in 0u32.. {
            if let Err(status) = self.renew(&server.api).await {
                tracing::debug!(error = status.message, "could not renew the lease of this server");
            }
            if round % TIDY_EVERY_ROUNDS == 0
                && let Err(status) = tidy(&server.api).await
            {
                tracing::warn!(error = status.message, "could not take away leases of servers that are gone");
            }
            tokio::select! { () = tokio::time::sleep(RENEW_EVERY) => {}, () = shutdown.cancelled() => return }
        }
    }

    pub async fn renew(&self, api: &Api) -> Result<()> {
        let endpoint = api.builtin("coordination.k8s.io", "v1", "leases")?;
        let user = User::apiserver();
        let mut write = Write::internal(api, &endpoint, &user, "kube-system", &self.name);
        let spec = json!({"holderIdentity": self.holder, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now()});
        let mut set = |current: &Value| {
            let mut lease = current.clone();
            lease["spec"] = spec.clone();
            Ok(lease)
        };
        match write.update(&Preconditions::default(), &mut Vec::new(), &mut set).await {
            Err(status) if status.reason == "NotFound" => {
                let labels = json!({LABEL: "kube-apiserver", "kubernetes.io/hostname": self.hostname});
                let lease = json!({"metadata": {"name": self.name, "namespace": "kube-system", "labels": labels}, "spec": spec});
                let row = &endpoint.row;
                let lease = finish(lease, Vec::new(), &row.kind, &row.form, Default::default())?.object;
                write.create(lease, Vec::new()).await.map(|_| ())
            }
            result => result.map(|_| ()),
        }
    }
}

/// Takes away the leases of servers that have not renewed them for their time.
async fn tidy(api: &Api) -> Result<()> {
    let endpoint = api.builtin("coordination.k8s.io", "v1", "leases")?;
    let leases: Vec<Value> = endpoint
        .cache()?
        .snapshot()
        .range("kube-system/", "")
        .filter(|o| o.label(LABEL).is_some())
        .map(|o| o.tree())
        .collect();
    let now = jiff::Timestamp::now().as_second();
    for lease in leases {
        let renewed = apimachinery::codec::timestamp::to_unix(lease["spec"]["renewTime"].as_str().unwrap_or(""));
        let seconds = lease["spec"]["leaseDurationSeconds"].as_i64().unwrap_or(0);
        if renewed.is_none_or(|(at, _)| at + seconds < now) {
            let user = User::apiserver();
            let write = Write::internal(api, &endpoint, &user, "kube-system", meta_text(&lease, "name"));
            // What was renewed meanwhile is alive after all.
            let version = Some(meta_text(&lease, "resourceVersion").to_owned());
            let options = DeleteOptions { resource_version: version, ..DeleteOptions::default() };
            match write.delete(&options, &mut Vec::new()).await {
                Err(status) if !matches!(&*status.reason, "NotFound" | "Conflict") => return Err(status),
                _ => {}
            }
        }
    }
    Ok(())
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_name() {
        // RFC 4648 §10, in lower case and without padding.
        for (bytes, text) in [("f", "my"), ("foo", "mzxw6"), ("foobar", "mzxw6ytboi")] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
        assert_eq!(identity("a").len(), "apiserver-".len() + 26);
    }
}
