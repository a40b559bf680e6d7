//! Start-up: flags to clients, the secure port, leadership, and then every controller that is turned on.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

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
use futures::{StreamExt, stream::FuturesUnordered};
use kube::Client;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    controllers::{CONTROLLERS, Controller},
    credentials::Identities,
    options::Options,
};

pub async fn run(mut options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    if options.leader.leader_elect_resource_name.is_empty() {
        options.leader.leader_elect_resource_name = "kube-controller-manager".to_owned();
    }
    let options = Arc::new(options);
    let agent = version::user_agent("kube-controller-manager");
    // Watches, leases and tokens must not wait in line behind the controllers' writes: they are not limited.
    let unlimited = client::ClientFlags { qps: 0.0, ..options.client_flags() };
    let client = client::connect(&unlimited, &agent).await?;
    let leader_client = client::connect(&unlimited, &format!("{agent}/leader-election")).await?;

    let leading = Arc::new(Mutex::new(None));
    serve(&options, leader_client.clone(), leading.clone(), shutdown.clone()).await?;

    let identity = leader::identity();
    leader::run(leader_client, &options.leader, &identity, shutdown, |shutdown| {
        let options = options.clone();
        async move {
            let factory = Factory::new(client.clone(), shutdown.clone());
            *leading.lock() = Some(factory.clone());
            let identities = Identities::new(&options, client, shutdown.clone()).await?;
            run_controllers(options, &identities, factory, shutdown).await
        }
    })
    .await?;
    Ok(())
}

async fn run_controllers(
    options: Arc<Options>,
    identities: &Identities,
    factory: Factory,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let enabled =
        |controller: &&Controller| options.enables(controller.name, controller.aliases, controller.on_by_default);
    let mut running = FuturesUnordered::new();
    for controller in CONTROLLERS.iter().filter(enabled) {
        let context = Context {
            client: identities.client(controller.account).await?,
            factory: factory.clone(),
            options: options.clone(),
            shutdown: shutdown.clone(),
            name: controller.name,
        };
        tracing::info!(controller = controller.name, "Starting controller");
        running.push(tokio::spawn((controller.run)(context)));
    }
    while let Some(ended) = running.next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "A controller ended with a bug, the others go on");
        }
    }
    // Controllers that had nothing to do ended early: leadership lasts until the process is told to stop.
    shutdown.cancelled().await;
    Ok(())
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

    let review_client = |kubeconfig: &Option<PathBuf>| {
        kubeconfig.as_ref().map(|path| client::ClientFlags { kubeconfig: Some(path.clone()), ..Default::default() })
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
