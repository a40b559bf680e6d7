//! Putting the scheduler together.

use crate::binding::Binder;
use crate::config::{Configuration, Flags};
use crate::scheduler::Scheduler;
use anyhow::Context;
use component_base::client::{self, ClientFlags};
use component_base::events::Recorder;
use component_base::informer::Factory;
use component_base::serving::auth::{Attributes, Authenticator, Authorizer, Delegated};
use component_base::serving::{self, Checks, Router};
use component_base::tls::{self, CaBundle, CertifiedFiles, ServerTls};
use component_base::{leader, version};
use std::net::SocketAddr;
use tokio_util::sync::CancellationToken;

pub async fn run(mut flags: Flags, shutdown: CancellationToken) -> anyhow::Result<()> {
    if flags.leader.leader_elect_resource_name.is_empty() {
        flags.leader.leader_elect_resource_name = "kube-scheduler".into();
    }
    let configuration = Configuration::read(&flags)?;
    let client_flags =
        ClientFlags { kubeconfig: flags.kubeconfig.clone(), master: flags.master.clone(), qps: 0.0, burst: 0 };
    let agent = version::user_agent("kube-scheduler");
    let client = client::connect(&client_flags, &agent).await?;
    if flags.secure_port != 0 {
        serve(&flags, client.clone(), shutdown.clone()).await?;
    }
    let identity = leader::identity();
    let leader_client = client::connect(&client_flags, &format!("{agent}/leader-election")).await?;
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

/// Serves health, metrics and version on the secure port, in a task that ends with `shutdown`.
async fn serve(flags: &Flags, client: kube::Client, shutdown: CancellationToken) -> anyhow::Result<()> {
    let agent = version::user_agent("kube-scheduler");
    let reviewer = async |kubeconfig: &Option<std::path::PathBuf>| match kubeconfig {
        Some(path) => {
            client::connect(&ClientFlags { kubeconfig: Some(path.clone()), ..ClientFlags::default() }, &agent).await
        }
        None => Ok(client.clone()),
    };
    let client_ca = flags.client_ca_file.as_ref().map(CaBundle::from_file).transpose()?;
    let auth = Delegated {
        authenticator: Authenticator::new(Some(reviewer(&flags.authentication_kubeconfig).await?), client_ca, true),
        authorizer: Authorizer::new(reviewer(&flags.authorization_kubeconfig).await?),
        always_allow: flags.authorization_always_allow_paths.clone(),
    };
    let router = Router::new().with_health(Checks::default()).with_metrics().with_version();
    let handler = auth.layer(router.into_handler(), Attributes::non_resource);
    let cert = match (&flags.tls_cert_file, &flags.tls_private_key_file) {
        (Some(cert), Some(key)) => tls::from_files(CertifiedFiles { cert: cert.clone(), key: key.clone() })?,
        (None, None) => tls::self_signed(&["localhost".to_owned(), "127.0.0.1".to_owned()])?,
        _ => anyhow::bail!("--tls-cert-file and --tls-private-key-file must be given together"),
    };
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    let listener = serving::bind(address).await.context("cannot serve --secure-port")?;
    tokio::spawn(serving::serve_https(listener, tls::server_config(ServerTls::new(cert))?, handler, shutdown));
    Ok(())
}
