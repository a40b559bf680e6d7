//! Start-up: flags to clients, the secure port, leadership, and then every controller that is turned on.

use std::sync::Arc;

use component_base::{
    client,
    informer::Factory,
    leader,
    serving::{Check, Checks, Router},
    version,
};
use futures::{StreamExt, stream::FuturesUnordered};
use kube::Client;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    controllers::{self, ABSENT, CONTROLLERS, Controller},
    credentials::Identities,
    options::Options,
};

/// Of the secure port, if no other is given.
const PORT: u16 = 10257;

pub async fn run(mut options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    options.validate(controllers::is_known).map_err(anyhow::Error::msg)?;
    for (name, alias) in ABSENT {
        let named = |given: &String| given == name || !alias.is_empty() && given == alias;
        if options.controllers.iter().any(named) {
            tracing::warn!(controller = name, "This controller does not exist here, turning it on changes nothing");
        }
    }
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
        let interval = options.controller_start_interval.get();
        if !interval.is_zero() {
            tokio::select! { () = tokio::time::sleep(interval) => {}, () = shutdown.cancelled() => break }
        }
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
    let synced = move || match &*leading.lock() {
        Some(factory) if !factory.has_synced() => Err("informers have not synced yet".to_owned()),
        _ => Ok(()),
    };
    let router = Router::new()
        .with_health(Checks::default().with(Check::new("informer-sync", synced)))
        .with_metrics()
        .with_version()
        .with_configz("kubecontrollermanager.config.k8s.io", configz(options));
    options.serving.serve("kube-controller-manager", PORT, router, client, shutdown).await
}

/// The part of the configuration that operators look for.
fn configz(options: &Options) -> serde_json::Value {
    serde_json::json!({
        "kind": "KubeControllerManagerConfiguration",
        "apiVersion": "kubecontrollermanager.config.k8s.io/v1alpha1",
        "Generic": {
            "Address": options.serving.bind_address,
            "Port": options.serving.port(PORT).unwrap_or(0),
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
