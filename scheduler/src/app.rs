//! Putting the scheduler together.

use crate::binding::Binder;
use crate::config::{Configuration, Flags};
use crate::scheduler::Scheduler;
use component_base::client::{self, ClientFlags};
use component_base::events::Recorder;
use component_base::informer::Factory;
use component_base::serving::{Checks, Router};
use component_base::{leader, version};
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Of the secure port, if no other is given.
const PORT: u16 = 10259;

pub async fn run(mut flags: Flags, shutdown: CancellationToken) -> anyhow::Result<()> {
    let configuration = Configuration::read(&mut flags)?;
    if !flags.write_config_to.as_os_str().is_empty() {
        return configuration.write(&flags.write_config_to);
    }
    let connection = &configuration.client_connection;
    let client_flags = ClientFlags {
        kubeconfig: Some(PathBuf::from(&connection.kubeconfig)).filter(|path| !path.as_os_str().is_empty()),
        master: Some(flags.master.clone()).filter(|master| !master.is_empty()),
        qps: connection.qps,
        burst: if connection.burst == 0 { 100 } else { connection.burst },
    };
    let agent = version::user_agent("kube-scheduler");
    let client = client::connect(&client_flags, &agent).await?;
    let router = Router::new().with_health(Checks::default()).with_metrics().with_version();
    flags.serving.serve("kube-scheduler", PORT, router, client.clone(), shutdown.clone()).await?;
    let identity = leader::identity();
    // Its leases must not wait in line behind bindings.
    let unlimited = ClientFlags { qps: 0.0, ..client_flags };
    let leader_client = client::connect(&unlimited, &format!("{agent}/leader-election")).await?;
    leader::run(leader_client, &flags.leader, &identity, shutdown, |shutdown| {
        let (client, configuration) = (client.clone(), configuration.clone());
        async move {
            let recorder = Recorder::new(client.clone(), "default-scheduler", "", shutdown.clone());
            let factory = Factory::new(client.clone(), shutdown.clone());
            let scheduler = Scheduler::new(&configuration, &factory, Binder { client, recorder });
            tracing::info!(profiles = configuration.profiles.len(), "scheduling");
            scheduler.run(factory, shutdown).await;
            Ok(())
        }
    })
    .await?;
    Ok(())
}
