//! Start-up: flags to clients, the secure port, leadership, and then every controller that is turned on.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use component_base::{
    client,
    informer::Factory,
    leader,
    serving::{
        self, Check, Checks, Router,
        auth::{Attributes, Authenticator, Authorizer, Delegated},
    },
    tls::{self, CaBundle, CertifiedFiles, ServerTls},
    version,
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use kube::Client;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{context::Context, options::Options};

/// A controller: it runs until its context's shutdown.
struct Controller {
    name: &'static str,
    /// Names it had before; `--controllers` still takes them.
    aliases: &'static [&'static str],
    on_by_default: bool,
    run: fn(Context) -> BoxFuture<'static, ()>,
}

macro_rules! controllers {
    ($($name:literal, $aliases:expr, $on:expr, $run:path;)*) => {
        &[$(Controller { name: $name, aliases: &$aliases, on_by_default: $on, run: |context| Box::pin($run(context)) }),*]
    };
}

/// Every controller there is, with upstream's names.
const CONTROLLERS: &[Controller] = controllers! {
    "daemonset-controller", ["daemonset"], true, crate::daemonset::run;
    "deployment-controller", ["deployment"], true, crate::deployment::run;
    "endpoints-controller", ["endpoint"], true, crate::endpoints::run;
    "endpointslice-controller", ["endpointslice"], true, crate::endpointslice::run;
    "garbage-collector-controller", ["garbagecollector"], true, crate::garbagecollector::run;
    "namespace-controller", ["namespace"], true, crate::namespace::run;
    "node-ipam-controller", ["nodeipam"], true, crate::nodeipam::run;
    "node-lifecycle-controller", ["nodelifecycle"], true, crate::nodelifecycle::run;
    "pod-garbage-collector-controller", ["podgc"], true, crate::podgc::run;
    "replicaset-controller", ["replicaset"], true, crate::replicaset::run_replica_sets;
    "replicationcontroller-controller", ["replicationcontroller"], true, crate::replicaset::run_replication_controllers;
    "root-ca-certificate-publisher-controller", ["root-ca-cert-publisher"], true, crate::root_ca::run;
    "serviceaccount-controller", ["serviceaccount"], true, crate::serviceaccount::run;
    "taint-eviction-controller", [], true, crate::taint_eviction::run;
};

pub async fn run(mut options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    if options.leader.leader_elect_resource_name.is_empty() {
        options.leader.leader_elect_resource_name = "kube-controller-manager".to_owned();
    }
    let options = Arc::new(options);
    let agent = version::user_agent("kube-controller-manager");
    let client = client::connect(&options.client_flags(), &agent).await?;

    // Renewing the lease must not wait in line behind the controllers' writes.
    let unlimited = client::ClientFlags { qps: 0.0, ..options.client_flags() };
    let leader_client = client::connect(&unlimited, &format!("{agent}/leader-election")).await?;

    let leading = Arc::new(Mutex::new(None));
    serve(&options, leader_client.clone(), leading.clone(), shutdown.clone()).await?;

    let identity = leader::identity();
    leader::run(leader_client, &options.leader, &identity, shutdown, |shutdown| {
        let options = options.clone();
        async move {
            let factory = Factory::new(client.clone(), shutdown.clone());
            *leading.lock() = Some(factory.clone());
            run_controllers(options, client, factory, shutdown).await;
            Ok(())
        }
    })
    .await?;
    Ok(())
}

async fn run_controllers(options: Arc<Options>, client: Client, factory: Factory, shutdown: CancellationToken) {
    let mut running: FuturesUnordered<_> = CONTROLLERS
        .iter()
        .filter(|controller| options.enables(controller.name, controller.aliases, controller.on_by_default))
        .map(|controller| {
            let context = Context {
                client: client.clone(),
                factory: factory.clone(),
                options: options.clone(),
                shutdown: shutdown.clone(),
                name: controller.name,
            };
            tracing::info!(controller = controller.name, "Starting controller");
            tokio::spawn((controller.run)(context))
        })
        .collect();
    while let Some(ended) = running.next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "A controller ended with a bug, the others go on");
        }
    }
    // Controllers that had nothing to do ended early: leadership lasts until the process is told to stop.
    shutdown.cancelled().await;
}

/// Serves health, metrics and version on the secure port, in a task that ends with `shutdown`.
async fn serve(
    options: &Options,
    client: Client,
    leading: Arc<Mutex<Option<Factory>>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let serving = &options.serving;
    if serving.secure_port == 0 {
        return Ok(());
    }
    let synced = move || match &*leading.lock() {
        Some(factory) if !factory.has_synced() => Err("informers have not synced yet".to_owned()),
        _ => Ok(()),
    };
    let router = Router::new()
        .with_health(Checks::default().with(Check::new("informer-sync", synced)))
        .with_metrics()
        .with_version()
        .with_configz("kubecontrollermanager.config.k8s.io", configz(options));

    let review_client = |kubeconfig: &Option<std::path::PathBuf>| match kubeconfig {
        Some(path) => Some(client::ClientFlags { kubeconfig: Some(path.clone()), ..Default::default() }),
        None => None,
    };
    let agent = version::user_agent("kube-controller-manager");
    let authentication = match review_client(&serving.authentication_kubeconfig) {
        Some(flags) => client::connect(&flags, &agent).await?,
        None => client.clone(),
    };
    let authorization = match review_client(&serving.authorization_kubeconfig) {
        Some(flags) => client::connect(&flags, &agent).await?,
        None => client,
    };
    let client_ca = serving.client_ca_file.as_ref().map(CaBundle::from_file).transpose()?;
    let auth = Delegated {
        authenticator: Authenticator::new(Some(authentication), client_ca, true),
        authorizer: Authorizer::new(authorization),
        always_allow: serving.authorization_always_allow_paths.clone(),
    };
    let handler = auth.layer(router.into_handler(), Attributes::non_resource);

    let cert = match (&serving.tls_cert_file, &serving.tls_private_key_file) {
        (Some(cert), Some(key)) => tls::from_files(CertifiedFiles { cert: cert.clone(), key: key.clone() })?,
        (None, None) => tls::self_signed(&["localhost".to_owned(), "127.0.0.1".to_owned()])?,
        _ => anyhow::bail!("--tls-cert-file and --tls-private-key-file must be given together"),
    };
    let address = SocketAddr::new(serving.bind_address, serving.secure_port);
    let listener = serving::bind(address).await.context("cannot serve --secure-port")?;
    tracing::info!(%address, "Serving securely");
    tokio::spawn(serving::serve_https(listener, tls::server_config(ServerTls::new(cert))?, handler, shutdown));
    Ok(())
}

/// The part of the configuration that operators look for.
fn configz(options: &Options) -> serde_json::Value {
    serde_json::json!({
        "kind": "KubeControllerManagerConfiguration",
        "apiVersion": "kubecontrollermanager.config.k8s.io/v1alpha1",
        "Generic": {
            "Address": options.serving.bind_address,
            "Port": options.serving.secure_port,
            "Controllers": options.controllers,
            "LeaderElection": {
                "LeaderElect": options.leader.leader_elect,
                "LeaseDuration": options.leader.leader_elect_lease_duration,
                "RenewDeadline": options.leader.leader_elect_renew_deadline,
                "RetryPeriod": options.leader.leader_elect_retry_period,
            },
        },
    })
}
