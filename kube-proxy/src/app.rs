//! Putting the proxy together.

use crate::config::{Configuration, Flags, Settings};
use crate::health::Health;
use crate::nft;
use crate::proxier::Proxier;
use crate::sysctl;
use component_base::client::{self, ClientFlags};
use component_base::informer::Factory;
use component_base::serving::{self, Router};
use component_base::version;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub async fn run(flags: Flags, shutdown: CancellationToken) -> anyhow::Result<()> {
    if flags.cleanup {
        return nft::cleanup().await;
    }
    let configuration = Configuration::read(&flags)?;
    if !flags.write_config_to.as_os_str().is_empty() {
        return configuration.write(&flags.write_config_to);
    }
    let settings = Settings::new(&flags, configuration)?;
    sysctl::apply(&settings.conntrack, settings.oom_score_adj);
    if flags.init_only {
        return Ok(());
    }
    let client_flags = ClientFlags {
        kubeconfig: settings.kubeconfig.clone(),
        master: settings.master.clone(),
        qps: settings.qps,
        burst: settings.burst,
    };
    let client = client::connect(&client_flags, &version::user_agent("kube-proxy")).await?;
    let factory = Factory::new(client, shutdown.clone());
    let health = Arc::new(Health::default());

    let healthz = {
        let health = health.clone();
        let answer = move |_| {
            let answer = health.answer();
            async move { answer }
        };
        Router::new().on("/healthz", answer.clone()).on("/livez", answer)
    };
    let metrics = Router::new()
        .with_metrics()
        .with_health(Default::default())
        .on("/proxyMode", |_| async { serving::text(http::StatusCode::OK, "nftables") });
    for (address, router) in [(settings.healthz, healthz), (settings.metrics, metrics)] {
        let Some(address) = address else { continue };
        match serving::bind(address).await {
            Ok(listener) => {
                tokio::spawn(serving::serve_http(listener, router.into_handler(), shutdown.clone()));
            }
            Err(error) if settings.bind_address_hard_fail => return Err(error.into()),
            Err(error) => tracing::error!(%error, "goes on without"),
        }
    }
    tracing::info!(node = settings.node, "Using nftables Proxier");
    Proxier::new(settings, &factory, health).run(factory, shutdown).await
}
