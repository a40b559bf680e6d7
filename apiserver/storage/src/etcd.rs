//! etcd as a map from keys to bytes, with the few transactions that storage needs.

use super::{Revision, StorageError, metrics};
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, DeleteOptions, GetOptions, KvClient, LeaseClient, PutOptions, Txn,
    TxnOp, TxnOpResponse, WatchOptions, WatchStream,
};
use std::time::{Duration, Instant};

/// A key's bytes and the revision that wrote them.
#[derive(Debug, Clone)]
pub struct Stored {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub revision: Revision,
}

/// How a conditional write ended.
#[derive(Debug)]
pub enum Outcome {
    Done(Revision),
    /// Somebody else wrote in between: what is there now, or nothing.
    Lost(Option<Stored>),
}

/// A page of keys, all as of one revision.
#[derive(Debug)]
pub struct Page {
    pub items: Vec<Stored>,
    pub revision: Revision,
    pub more: bool,
}

/// A connection to etcd. Cheap to clone.
#[derive(Clone)]
pub struct Etcd {
    kv: KvClient,
    lease: LeaseClient,
    client: Client,
    /// Such as `/registry`, without a slash at the end.
    pub prefix: String,
}

/// How to reach etcd.
pub struct EtcdOptions {
    pub servers: Vec<String>,
    pub prefix: String,
    pub tls: Option<etcd_client::TlsOptions>,
}

/// Larger messages are refused on our side; etcd's own limit for a write is 1.5 MiB.
const MESSAGE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// An etcd that answers at all answers by then. Beyond it clients are better served by an error that they retry than by waiting.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Waits for an answer, but not for ever: without a connection the channel would wait for one.
async fn answer<T>(request: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, StorageError> {
    match tokio::time::timeout(ANSWER_TIME_MAX, request).await {
        Ok(answer) => answer.map_err(unavailable),
        Err(_) => Err(StorageError::Unavailable(format!("no answer in {} seconds", ANSWER_TIME_MAX.as_secs()))),
    }
}

impl Etcd {
    /// The same, counted as an operation on the resource that a key is of.
    async fn counted<T>(
        &self,
        operation: &str,
        key: &[u8],
        request: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, StorageError> {
        let (group, resource) = resource_of(&self.prefix, key);
        let labels = [operation, group, resource];
        let started = Instant::now();
        let result = answer(request).await;
        metrics::ETCD_REQUESTS.with_label_values(&labels).inc();
        metrics::ETCD_DURATION.with_label_values(&labels).observe(started.elapsed().as_secs_f64());
        if result.is_err() {
            metrics::ETCD_ERRORS.with_label_values(&labels).inc();
        }
        result
    }

    pub async fn connect(options: EtcdOptions) -> Result<Etcd, StorageError> {
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(Duration::from_secs(20))
            .with_keep_alive(Duration::from_secs(30), Duration::from_secs(10))
            .with_keep_alive_while_idle(true);
        if let Some(tls) = options.tls {
            connect = connect.with_tls(tls);
        }
        let client = Client::connect(&options.servers, Some(connect)).await.map_err(unavailable)?;
        Ok(Etcd {
            kv: client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX),
            lease: client.lease_client(),
            client,
            prefix: options.prefix.trim_end_matches('/').to_owned(),
        })
    }

    /// The revision that a read started now would see.
    pub async fn current_revision(&self) -> Result<Revision, StorageError> {
        let options = GetOptions::new().with_count_only();
        let key = format!("{}/", self.prefix);
        let answer = answer(self.kv.clone().get(key, Some(options))).await?;
        Ok(answer.header().map_or(0, |h| h.revision() as Revision))
    }

    pub async fn get(&self, key: &str) -> Result<Option<Stored>, StorageError> {
        let mut answer = self.counted("get", key.as_bytes(), self.kv.clone().get(key, None)).await?;
        Ok(answer.take_kvs().pop().map(stored))
    }

    /// Keys under `prefix` from `start` on, at `revision` (0: now).
    pub async fn page(&self, prefix: &str, start: &[u8], limit: i64, revision: Revision) -> Result<Page, StorageError> {
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let options = GetOptions::new().with_range(end).with_limit(limit).with_revision(revision as i64);
        let mut answer = self.counted("list", prefix.as_bytes(), self.kv.clone().get(start, Some(options))).await?;
        Ok(Page {
            revision: answer.header().map_or(0, |h| h.revision() as Revision),
            more: answer.more(),
            items: answer.take_kvs().into_iter().map(stored).collect(),
        })
    }

    /// Writes a key that must not exist; `lease` 0 is none.
    pub async fn create(&self, key: &str, value: Vec<u8>, lease: i64) -> Result<Outcome, StorageError> {
        self.put_if(key, 0, value, lease).await
    }

    /// Writes a key whose last change was at `expected` (0: that does not exist).
    pub async fn put_if(
        &self,
        key: &str,
        expected: Revision,
        value: Vec<u8>,
        lease: i64,
    ) -> Result<Outcome, StorageError> {
        let put = TxnOp::put(key, value, (lease != 0).then(|| PutOptions::new().with_lease(lease)));
        self.transact(if expected == 0 { "create" } else { "update" }, key, expected, put).await
    }

    pub async fn delete_if(&self, key: &str, expected: Revision) -> Result<Outcome, StorageError> {
        self.transact("delete", key, expected, TxnOp::delete(key, None::<DeleteOptions>)).await
    }

    async fn transact(
        &self,
        operation: &str,
        key: &str,
        expected: Revision,
        op: TxnOp,
    ) -> Result<Outcome, StorageError> {
        let txn = Txn::new()
            .when(vec![Compare::mod_revision(key, CompareOp::Equal, expected as i64)])
            .and_then(vec![op])
            .or_else(vec![TxnOp::get(key, None)]);
        let answer = self.counted(operation, key.as_bytes(), self.kv.clone().txn(txn)).await?;
        if answer.succeeded() {
            return Ok(Outcome::Done(answer.header().map_or(0, |h| h.revision() as Revision)));
        }
        let current = answer.op_responses().into_iter().find_map(|r| match r {
            TxnOpResponse::Get(mut get) => get.take_kvs().pop(),
            _ => None,
        });
        Ok(Outcome::Lost(current.map(stored)))
    }

    /// A lease that ends after `seconds`.
    pub async fn grant(&self, seconds: i64) -> Result<i64, StorageError> {
        Ok(answer(self.lease.clone().grant(seconds, None)).await?.id())
    }

    /// Every change of any key after `revision`.
    pub async fn watch(&self, revision: Revision) -> Result<WatchStream, StorageError> {
        let options = WatchOptions::new().with_all_keys().with_start_revision(revision as i64 + 1);
        let mut client = self.client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
        answer(client.watch(Vec::new(), Some(options))).await
    }

    /// Every change after `revision` with what was there before it, of the keys under `prefix` or of all; large messages in
    /// fragments.
    pub async fn watch_older(&self, prefix: Option<&str>, revision: Revision) -> Result<WatchStream, StorageError> {
        let options = WatchOptions::new().with_start_revision(revision as i64 + 1).with_prev_key().with_fragment();
        let options = if prefix.is_some() { options.with_prefix() } else { options.with_all_keys() };
        let mut client = self.client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
        answer(client.watch(prefix.unwrap_or_default(), Some(options))).await
    }

    pub async fn compact(&self, revision: Revision) -> Result<(), StorageError> {
        answer(self.kv.clone().compact(revision as i64, None)).await.map(|_| ())
    }

    /// Whether etcd answers at all.
    pub async fn healthy(&self) -> Result<(), StorageError> {
        answer(self.kv.clone().get("health", None)).await.map(|_| ())
    }
}

/// Group and resource of a key, as far as it tells: keys of custom resources and of two servers beside the core start with their
/// group; of old kinds two parts name the resource.
fn resource_of<'a>(prefix: &str, key: &'a [u8]) -> (&'a str, &'a str) {
    let text = std::str::from_utf8(key).unwrap_or("");
    let mut parts = text.strip_prefix(prefix).unwrap_or("").trim_start_matches('/').split('/');
    match (parts.next().unwrap_or(""), parts.next()) {
        (group, Some(resource)) if group.contains('.') => (group, resource),
        ("services", Some(of @ ("specs" | "endpoints"))) => ("", if of == "specs" { "services" } else { of }),
        (resource, _) => ("", resource),
    }
}

fn stored(kv: etcd_client::KeyValue) -> Stored {
    let revision = kv.mod_revision() as Revision;
    let (key, value) = kv.into_key_value();
    Stored { key, value, revision }
}

fn unavailable(e: etcd_client::Error) -> StorageError {
    if let etcd_client::Error::GRpcStatus(status) = &e {
        if status.message().contains("required revision has been compacted") {
            return StorageError::Compacted;
        }
        if status.message().contains("request is too large") {
            return StorageError::TooLarge(0);
        }
        return StorageError::Unavailable(status.message().to_owned());
    }
    StorageError::Unavailable(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_what_they_are_of() {
        for (key, group, resource) in [
            ("/registry/pods/a/b", "", "pods"),
            ("/registry/services/specs/a/b", "", "services"),
            ("/registry/example.com/things/a/b", "example.com", "things"),
            ("/registry/apiregistration.k8s.io/apiservices/v1.", "apiregistration.k8s.io", "apiservices"),
            ("elsewhere", "", ""),
        ] {
            assert_eq!(resource_of("/registry", key.as_bytes()), (group, resource), "{key}");
        }
    }
}
