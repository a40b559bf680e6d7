//! Putting the proxy together.

use crate::config::{Flags, Settings};
use crate::health::Health;
use crate::nft;
use crate::proxier::Proxier;
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
    let settings = Settings::new(&flags)?;
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
        let listener = serving::bind(address).await?;
        tokio::spawn(serving::serve_http(listener, router.into_handler(), shutdown.clone()));
    }
    tracing::info!(node = settings.node, "Using nftables Proxier");
    Proxier::new(settings, &factory, health).run(factory, shutdown).await
}
