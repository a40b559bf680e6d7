//! One certificate, from the first to the last of its successors.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use component_base::metrics::{self as registry, Gauge, Histogram, IntCounter};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::NodeAddress;
use kube::Client;
use parking_lot::RwLock;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::pair::{Pair, Unusable};
use crate::store::{Request, Store};
use crate::{Error, Template, metrics, request};

/// Between two certificates, however short they live, and after the first failure.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// After many failures.
const PAUSE_MAX: Duration = Duration::from_secs(32);
/// The clock may be set, or the machine sleep: the time is looked at so often at least.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The client certificate has expired, and the API server, which is there, gives out no other. Only who starts the
/// kubelet anew, with credentials for its bootstrap, can help.
#[derive(Debug, thiserror::Error)]
#[error("the client certificate has expired or is missing, and the API server gives no new one: {0}")]
pub struct Expired(Error);

/// Where the certificate in use comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// It was asked for, or it lies in files that are used as if it had been.
    Store,
    /// It is written out in the kubeconfig, and possibly the certificate of many: a node's own replaces it at once.
    Kubeconfig,
}

/// What is counted.
struct Counters {
    renew_errors: &'static IntCounter,
    ttl_seconds: &'static Gauge,
    rotation_seconds: Option<&'static Histogram>,
}

/// Keeps one certificate: asks for it, stores it, replaces it in time. It is shown to servers and to clients as a resolver
/// of rustls.
pub struct Manager {
    signer: &'static str,
    usages: &'static [&'static str],
    /// What the certificate should say; `None` as long as nobody knows.
    template: watch::Receiver<Option<Template>>,
    store: Store,
    counters: Counters,
    current: RwLock<Option<(Arc<Pair>, Origin)>>,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager").field("signer", &self.signer).field("store", &self.store).finish_non_exhaustive()
    }
}

impl Manager {
    /// For the certificate with which the node is a client. The stored one is used if it is valid now and for this node.
    pub fn client(cert_dir: &Path, node_name: &str) -> Arc<Self> {
        let template = Template::client(node_name);
        let manager = Self {
            signer: "kubernetes.io/kube-apiserver-client-kubelet",
            // Those of upstream for a key on an elliptic curve: only RSA can encipher keys.
            usages: &["digital signature", "client auth"],
            template: watch::channel(Some(template.clone())).1,
            store: Store::new(cert_dir, "kubelet-client"),
            counters: Counters {
                renew_errors: &metrics::CLIENT_RENEW_ERRORS,
                ttl_seconds: &metrics::CLIENT_TTL_SECONDS,
                rotation_seconds: None,
            },
            current: RwLock::default(),
        };
        if let Some(pair) = manager.store.load() {
            let usable = pair.facts.valid(Timestamp::now()).and_then(|()| pair.facts.satisfies(&template));
            manager.adopt(usable.map(|()| pair), Origin::Store);
        }
        Arc::new(manager)
    }

    /// For the certificate with which the node is a server, under the addresses that the sender is told. A stored one is
    /// shown as long as it is valid; `configured` is what to begin with where none is stored.
    pub fn serving(
        cert_dir: &Path,
        configured: Option<(&Path, &Path)>,
    ) -> (Arc<Self>, watch::Sender<Option<Template>>) {
        let (sender, template) = watch::channel(None);
        let manager = Self {
            signer: "kubernetes.io/kubelet-serving",
            usages: &["digital signature", "server auth"],
            template,
            store: Store::new(cert_dir, "kubelet-server"),
            counters: Counters {
                renew_errors: &metrics::SERVER_RENEW_ERRORS,
                ttl_seconds: &metrics::SERVER_TTL_SECONDS,
                rotation_seconds: Some(&metrics::SERVER_ROTATION_SECONDS),
            },
            current: RwLock::default(),
        };
        let read = |(cert, key): (&Path, &Path)| Some((std::fs::read(cert).ok()?, std::fs::read(key).ok()?));
        let configured = || configured.and_then(read).and_then(|(cert, key)| Pair::from_pem(&cert, &key).ok());
        if let Some(pair) = manager.store.load().or_else(configured) {
            manager.adopt(pair.facts.valid(Timestamp::now()).map(|()| pair), Origin::Store);
        }
        (Arc::new(manager), sender)
    }

    fn adopt(&self, pair: Result<Pair, Unusable>, origin: Origin) {
        match pair {
            Ok(pair) => *self.current.write() = Some((Arc::new(pair), origin)),
            Err(error) => tracing::warn!(signer = self.signer, %error, "The certificate at hand is not used"),
        }
    }

    /// Begins with the certificate that a kubeconfig holds or names, if it is valid now.
    pub(crate) fn begin_with(&self, pair: Pair, written_out: bool) {
        let origin = if written_out { Origin::Kubeconfig } else { Origin::Store };
        self.adopt(pair.facts.valid(Timestamp::now()).map(|()| pair), origin);
    }

    /// The link to the stored certificate.
    pub fn current_path(&self) -> PathBuf {
        self.store.current_path()
    }

    /// The certificate in use, if it is valid now.
    pub fn current(&self) -> Option<Arc<Pair>> {
        let current = self.current.read().clone();
        current.map(|(pair, _)| pair).filter(|pair| pair.facts.valid(Timestamp::now()).is_ok())
    }

    /// When the next certificate is due; now, if there is none or not the right one.
    fn due(&self, template: &Template) -> Timestamp {
        match self.current.read().as_ref() {
            Some((pair, Origin::Store)) => match pair.facts.satisfies(template) {
                Ok(()) => pair.facts.rotation_deadline(rand::random()),
                Err(error) => {
                    tracing::info!(signer = self.signer, %error, "The certificate is replaced");
                    Timestamp::now()
                }
            },
            Some((_, Origin::Kubeconfig)) | None => Timestamp::now(),
        }
    }

    /// Asks for a certificate, and uses it from then on.
    async fn obtain(&self, client: &Client, template: &Template) -> Result<(), Error> {
        let kind = if self.current().is_some() { Request::Renewal } else { Request::First };
        let key = self.store.pending_key(kind)?;
        let obtained = async {
            let pem = request::certificate(client.clone(), self.signer, self.usages, template, &key).await?;
            let pair = Pair::from_pem(&pem, key.serialize_pem().as_bytes())?;
            // A request of long ago may have been found again, whose certificate is as old.
            pair.facts.valid(Timestamp::now())?;
            pair.facts.satisfies(template)?;
            self.store.save(&pem, &key.serialize_pem())
        };
        let obtained = obtained.await;
        if obtained.as_ref().err().is_none_or(Error::is_final) {
            self.store.forget_pending_key(kind);
        }
        let pair = obtained?;
        tracing::info!(signer = self.signer, expires = %pair.facts.not_after, "Got a certificate");
        let old = self.current.write().replace((Arc::new(pair), Origin::Store));
        if let (Some((old, _)), Some(histogram)) = (old, self.counters.rotation_seconds) {
            histogram.observe(Timestamp::now().duration_since(old.facts.not_before).as_secs_f64());
        }
        Ok(())
    }

    /// Gets the first certificate, with the credentials of a bootstrap; tries until it works.
    pub async fn bootstrap(&self, client: &Client) {
        let mut template = self.template.clone();
        let mut pause = PAUSE_MIN;
        loop {
            let wanted = wanted(&mut template).await;
            let Err(error) = self.obtain(client, &wanted).await else { return };
            tracing::warn!(signer = self.signer, %error, "Can't get the node's certificate yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Replaces the certificate whenever that is due. `over` is called when the one of before is over: it is replaced, or
    /// it has expired. Ends at the shutdown, or where a client has no valid certificate any more and is told that it gets
    /// none.
    pub async fn run(
        self: Arc<Self>,
        client: Client,
        over: impl Fn() + Send + Sync,
        shutdown: CancellationToken,
    ) -> Result<(), Expired> {
        self.publish_ttl();
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            expired = self.rotate(client, over) => Err(expired),
        }
    }

    async fn rotate(&self, client: Client, over: impl Fn() + Send + Sync) -> Expired {
        let mut templates = self.template.clone();
        let mut pause = PAUSE_MIN;
        loop {
            let template = wanted(&mut templates).await;
            let due = self.due(&template);
            tokio::select! {
                () = sleep_until(due) => {}
                () = other_than(&mut templates, &template) => continue,
            }
            let outcome = tokio::select! {
                outcome = self.obtain(&client, &template) => outcome,
                // What is being asked for is not what is wanted any more.
                () = other_than(&mut templates, &template) => continue,
                // The request waits on a connection of the certificate that has ended. Asking once more shows whether the
                // API server still gives anything to who comes without.
                () = self.expiry() => {
                    over();
                    continue;
                }
            };
            match outcome {
                Ok(()) => {
                    pause = PAUSE_MIN;
                    over();
                }
                Err(error) => {
                    self.counters.renew_errors.inc();
                    tracing::warn!(signer = self.signer, %error, "Can't replace the certificate yet");
                    if self.is_client() && error.answered() && self.current().is_none() {
                        return Expired(error);
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns when the certificate in use expires.
    async fn expiry(&self) {
        match self.current() {
            // Its last second is still its own.
            Some(pair) => {
                let after = pair.facts.not_after.checked_add(SignedDuration::from_secs(1));
                sleep_until(after.unwrap_or(Timestamp::MAX)).await;
            }
            None => std::future::pending().await,
        }
    }

    fn is_client(&self) -> bool {
        self.usages.contains(&"client auth")
    }

    /// Has the metrics tell how long the certificate lives.
    fn publish_ttl(self: &Arc<Self>) {
        let manager = Arc::downgrade(self);
        // They are there from the start, not from the first error on.
        self.counters.renew_errors.get();
        self.counters.rotation_seconds.map(Histogram::get_sample_count);
        registry::on_render(move || {
            let Some(manager) = manager.upgrade() else { return };
            let current = manager.current.read().clone();
            let ttl = current.map_or(f64::INFINITY, |(pair, _)| {
                pair.facts.not_after.duration_since(Timestamp::now()).as_secs() as f64
            });
            manager.counters.ttl_seconds.set(ttl);
        });
    }

    /// Shown by a server.
    pub fn server_resolver(self: &Arc<Self>) -> Arc<dyn ResolvesServerCert> {
        self.clone()
    }

    /// Shown by a client.
    pub fn client_resolver(self: &Arc<Self>) -> Arc<dyn ResolvesClientCert> {
        self.clone()
    }
}

impl ResolvesServerCert for Manager {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current();
        if current.is_none() {
            tracing::info!("TLS handshake error: no serving certificate available for the kubelet");
        }
        current.map(|pair| pair.certified.clone())
    }
}

impl ResolvesClientCert for Manager {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current().map(|pair| pair.certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Tells what the serving certificate should say under these addresses. Without any it stays as it is: a status that has
/// none for a moment is no reason to serve under none.
pub fn tell_addresses(sender: &watch::Sender<Option<Template>>, node_name: &str, addresses: &[NodeAddress]) {
    let Some(template) = Template::serving(node_name, addresses) else { return };
    sender.send_if_modified(|current| {
        let new = Some(template);
        let changed = *current != new;
        *current = new;
        changed
    });
}

/// The template, once there is one.
async fn wanted(templates: &mut watch::Receiver<Option<Template>>) -> Template {
    loop {
        if let Some(template) = templates.borrow_and_update().clone() {
            return template;
        }
        changed(templates).await;
    }
}

/// Returns when another template is wanted.
async fn other_than(templates: &mut watch::Receiver<Option<Template>>, template: &Template) {
    while templates.borrow_and_update().as_ref() == Some(template) {
        changed(templates).await;
    }
}

async fn changed(templates: &mut watch::Receiver<Option<Template>>) {
    // Without a sender the template is there to stay.
    if templates.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Sleeps by the clock on the wall, as certificates live by it.
async fn sleep_until(due: Timestamp) {
    while let Ok(left) = Duration::try_from(due.duration_since(Timestamp::now())) {
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK_EVERY)).await;
    }
}
