//! How the kubelet is put together and run.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use certificates::{Manager, bootstrap};
use cgroups::{Cgroups, Driver, Version, resources};
use component_base::client::{ClientFlags, Connections};
use component_base::events::Recorder;
use component_base::informer::{Factory, Scope};
use configuration::KubeletConfiguration;
use configuration::quantity;
use cri_client::Cri;
use images::{Images, auth, gc};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Client;
use machine::Machine;
use node::Registration;
use node_context::objects::Objects;
use node_context::{ApiStores, ClusterDns, Context, Pressure};
use parking_lot::RwLock;
use pod_lifecycle::{Lifecycle, manager, mirror, pleg, statuses};
use tokio::sync::{Notify, SetOnce, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use volumes::Volumes;

use crate::options::Args;

/// How often the runtime is asked for its name at the start, until it answers.
const RUNTIME_RETRY: Duration = Duration::from_millis(500);
/// The same for the API server. This kubelet may be the one that starts it, and everything else waits for both.
const API_RETRY: Duration = Duration::from_millis(500);
/// Where systemd-resolved keeps the servers it really asks: its stub address means nothing inside a pod.
const RESOLVED_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// Runs a kubelet with these flags until `shutdown`. Pods go on running after it.
pub async fn run(mut args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    // The runtime, which mounts from it, has a working directory of its own.
    args.root_dir = std::path::absolute(&args.root_dir).context("finding --root-dir")?;
    let config = args.configuration()?;
    check_machine(&config)?;
    let started = Instant::now();
    let cri = Cri::connect(
        &config.container_runtime_endpoint,
        &config.image_service_endpoint,
        config.runtime_request_timeout.get(),
    )?;
    let version = tokio::select! {
        version = await_runtime(&cri) => version,
        () = shutdown.cancelled() => return Ok(()),
    };
    let node_name = node_name(args.hostname_override.as_deref())?;
    let ApiAccess { client, rotation } = client(&args, &config, &node_name, &shutdown).await?;
    make_root_dir(&args.root_dir)?;
    node::protect_self(config.oom_score_adj);

    let mut cgroups = Cgroups::new(&config);
    if let Ok(Some(driver)) = cri.cgroup_driver().await {
        cgroups.set_driver(match driver {
            proto::cri::CgroupDriver::Systemd => Driver::Systemd,
            proto::cri::CgroupDriver::Cgroupfs => Driver::Cgroupfs,
        });
    }
    let context = Arc::new(make_context(
        &args,
        config,
        NodeParts { node_name, started, cri, version, cgroups, client },
        &shutdown,
    ));
    context.cgroups.setup_root(
        context.machine.memory_for_pods(&context.config),
        quantity::of(Some(&context.allocatable()), "cpu"),
    );
    tracing::info!(
        node = context.node_name,
        runtime = context.runtime_name,
        version = context.runtime_version,
        cgroups = ?context.cgroups.version(),
        standalone = context.client.is_none(),
        "Kubelet starts"
    );
    run_parts(context, args, rotation, shutdown).await
}

/// What is found out about the node before the rest of it can be told.
struct NodeParts {
    node_name: String,
    started: Instant,
    cri: Cri,
    version: proto::cri::VersionResponse,
    cgroups: Cgroups,
    client: Option<Client>,
}

/// Puts together what the node is.
fn make_context(args: &Args, config: KubeletConfiguration, parts: NodeParts, shutdown: &CancellationToken) -> Context {
    let NodeParts { node_name, started, cri, version, cgroups, client } = parts;
    let machine = Machine::read(&args.root_dir);
    Context {
        node_ips: node::address::node_ips(args.node_ip.as_deref()),
        resources: resources::Policy {
            cfs_quota: config.cpu_cfs_quota,
            period_us: i64::try_from(config.cpu_cfs_quota_period.get().as_micros()).unwrap_or(100_000),
            memory_capacity: machine.memory_bytes,
            cgroup_v2: cgroups.version() == Version::V2,
        },
        dns: ClusterDns {
            servers: config.cluster_dns.clone(),
            domain: config.cluster_domain.clone(),
            resolv_conf: config.resolv_conf.clone().unwrap_or_else(default_resolv_conf),
        },
        pod_infra_image: args.pod_infra_container_image.clone().unwrap_or_default(),
        objects: Objects::new(client.clone()),
        api: SetOnce::new(),
        events: client
            .clone()
            .map_or_else(Recorder::none, |client| Recorder::new(client, "kubelet", &node_name, shutdown.clone())),
        runtime: RwLock::default(),
        pressure: Pressure::new(config.eviction_pressure_transition_period.get()),
        node_changed: Notify::new(),
        started_at: Timestamp::now(),
        started,
        root_dir: args.root_dir.clone(),
        node_labels: args.node_labels.0.clone(),
        runtime_name: version.runtime_name,
        runtime_version: version.runtime_version,
        machine,
        cgroups,
        cri,
        client,
        node_name,
        config,
    }
}

/// Pulls at once.
fn parallel_pulls(config: &KubeletConfiguration) -> usize {
    match config.serialize_image_pulls {
        true => 1,
        false => config.max_parallel_image_pulls.and_then(|max| usize::try_from(max).ok()).unwrap_or(16).max(1),
    }
}

/// Runs every part of the kubelet until the shutdown, or until it has no certificate to go on with.
async fn run_parts(
    context: Arc<Context>,
    args: Args,
    rotation: Option<Rotation>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let images =
        Images::new(context.cri.clone(), parallel_pulls(&context.config), auth::Keyring::of_node(&context.root_dir));
    let volumes = Volumes::new(context.client.clone());
    let lifecycle = Arc::new(Lifecycle::new(context.clone(), images, volumes));
    let (static_sender, statics) = watch::channel(None::<Vec<Arc<Pod>>>);
    // Adopting what runs comes before anything new: admission and orphans depend on knowing it.
    while let Err(error) = lifecycle.pleg.relist(&lifecycle).await {
        tracing::warn!(%error, "Can't list what the container runtime has yet");
        tokio::select! {
            () = tokio::time::sleep(RUNTIME_RETRY) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
    node::runtime::update(&lifecycle).await;
    let requested = serving_certificate(&context, &args.cert_dir);
    let resolver = requested.as_ref().map(|(manager, _)| manager.server_resolver());
    let serving = server::serve(lifecycle.clone(), &args.cert_dir, resolver, shutdown.clone()).await?;
    let registration = Registration {
        external_cloud_provider: args.cloud_provider.as_deref() == Some("external"),
        unschedulable: args.register_schedulable == Some(false),
    };

    let mut parts = JoinSet::new();
    parts.spawn(serving);
    parts.spawn(sources::run(context.clone(), static_sender, shutdown.clone()));
    parts.spawn(node::runtime::run(lifecycle.clone(), shutdown.clone()));
    parts.spawn(pleg::run(lifecycle.clone(), shutdown.clone()));
    parts.spawn(connect(context.clone(), requested, shutdown.clone()));
    parts.spawn(manager::run(lifecycle.clone(), statics, shutdown.clone()));
    parts.spawn(statuses::run(lifecycle.clone(), shutdown.clone()));
    parts.spawn(mirror::run(lifecycle.clone(), shutdown.clone()));
    parts.spawn(node::run(lifecycle.clone(), registration, shutdown.clone()));
    parts.spawn(node::lease::run(context.clone(), shutdown.clone()));
    parts.spawn(container_logs::rotate::run(context.clone(), shutdown.clone()));
    parts.spawn(gc::run(context.clone(), shutdown.clone()));
    parts.spawn(eviction::run(lifecycle, shutdown.clone()));
    let result = rotate(rotation, &context, &shutdown).await;
    shutdown.cancel();
    while parts.join_next().await.is_some() {}
    result
}

/// Replaces the client certificate, where that is asked for, until the shutdown.
async fn rotate(rotation: Option<Rotation>, context: &Context, shutdown: &CancellationToken) -> anyhow::Result<()> {
    if let (Some(Rotation { manager, connections }), Some(client)) = (rotation, context.client.clone()) {
        // Connections know the kubelet by the certificate of before.
        manager.run(client, || connections.close_all(), shutdown.clone()).await?;
    }
    shutdown.cancelled().await;
    Ok(())
}

/// What is told the addresses to ask a serving certificate for.
type Addresses = watch::Sender<Option<certificates::Template>>;

/// The serving certificate, where the cluster is to sign it (`serverTLSBootstrap`).
fn serving_certificate(context: &Context, cert_dir: &Path) -> Option<(Arc<Manager>, Addresses)> {
    let config = &context.config;
    let configured = (Path::new(&config.tls_cert_file), Path::new(&config.tls_private_key_file));
    (config.server_tls_bootstrap && config.enable_server)
        .then(|| Manager::serving(cert_dir, (!config.tls_cert_file.is_empty()).then_some(configured)))
}

/// Replaces the serving certificate in time, and when the addresses of the node's status change.
async fn rotate_serving(
    requested: Option<(Arc<Manager>, Addresses)>,
    context: &Context,
    client: Client,
    shutdown: CancellationToken,
) {
    let (Some((manager, addresses)), Some(api)) = (requested, context.api.get()) else { return };
    let node_name = context.node_name.clone();
    api.node.on_change(move |change| {
        let status = change.object().and_then(|node| node.status.as_ref());
        if let Some(list) = status.and_then(|status| status.addresses.as_deref()) {
            certificates::tell_addresses(&addresses, &node_name, list);
        }
    });
    // It ends at the shutdown only: what a server lacks is no reason to end.
    let _ = manager.run(client, || {}, shutdown).await;
}

/// Begins the watches when the API server answers. Watches that began earlier would by then wait half a minute between
/// their tries.
async fn connect(context: Arc<Context>, requested: Option<(Arc<Manager>, Addresses)>, shutdown: CancellationToken) {
    let Some(client) = context.client.clone() else { return };
    // Any answer will do, "unauthorized" too: that is for the watches to complain about.
    while !matches!(client.apiserver_version().await, Ok(_) | Err(kube::Error::Api(_))) {
        tokio::select! {
            () = tokio::time::sleep(API_RETRY) => {}
            () = shutdown.cancelled() => return,
        }
    }
    tracing::info!("The API server answers");
    let factory = Factory::new(client.clone(), shutdown.clone());
    let node_name = &context.node_name;
    let stores = ApiStores {
        pods: factory.store(Scope::fields(format!("spec.nodeName={node_name}"))),
        node: factory.store(Scope::fields(format!("metadata.name={node_name}"))),
        services: factory.store_with(Scope::all(), trim_service),
    };
    // Set here and nowhere else.
    let _ = context.api.set(stores);
    rotate_serving(requested, &context, client, shutdown).await;
}

/// Refuses machines that the configuration says are not to be run on.
fn check_machine(config: &KubeletConfiguration) -> anyhow::Result<()> {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    anyhow::ensure!(
        !config.fail_swap_on || swaps.lines().count() <= 1,
        "running with swap on is not supported, please disable swap or set --fail-swap-on flag to false. /proc/swaps contained: {:?}",
        swaps.lines().collect::<Vec<_>>()
    );
    anyhow::ensure!(
        !config.fail_cgroup_v1 || Cgroups::new(config).version() == Version::V2,
        "kubelet is configured to not run on a host using cgroup v1"
    );
    Ok(())
}

async fn await_runtime(cri: &Cri) -> proto::cri::VersionResponse {
    let mut said = false;
    loop {
        match cri.version().await {
            Ok(version) => return version,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, "The container runtime does not answer yet; is it running, and is containerRuntimeEndpoint its socket?");
                }
                tokio::time::sleep(RUNTIME_RETRY).await;
            }
        }
    }
}

/// The way to the API server.
struct ApiAccess {
    /// `None`: standalone.
    client: Option<Client>,
    rotation: Option<Rotation>,
}

/// The client certificate that is replaced before it ends, and the connections that were made with it.
struct Rotation {
    manager: Arc<Manager>,
    connections: Connections,
}

async fn client(
    args: &Args,
    config: &KubeletConfiguration,
    node_name: &str,
    shutdown: &CancellationToken,
) -> anyhow::Result<ApiAccess> {
    let Some(kubeconfig) = args.kubeconfig.as_deref().filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(ApiAccess { client: None, rotation: None });
    };
    let manager = Manager::client(&args.cert_dir, node_name);
    if let Some(from) = args.bootstrap_kubeconfig.as_deref().filter(|path| !path.as_os_str().is_empty()) {
        bootstrap::ensure(from, kubeconfig, &manager, shutdown).await?;
    }
    let flags = ClientFlags {
        kubeconfig: Some(kubeconfig.to_path_buf()),
        master: None,
        qps: config.kube_api_qps as f32,
        burst: u32::try_from(config.kube_api_burst).unwrap_or(0),
    };
    if !config.rotate_certificates || !bootstrap::take_over(&manager, kubeconfig) {
        let client = component_base::client::connect(&flags, "kubelet").await?;
        return Ok(ApiAccess { client: Some(client), rotation: None });
    }
    let connections = Connections::default();
    let identity = manager.client_resolver();
    let client = component_base::client::connect_as(&flags, identity, connections.clone(), "kubelet").await?;
    Ok(ApiAccess { client: Some(client), rotation: Some(Rotation { manager, connections }) })
}

fn node_name(given: Option<&str>) -> anyhow::Result<String> {
    let name = match given.filter(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => nix::unistd::gethostname().context("reading the host name")?.to_string_lossy().into_owned(),
    };
    Ok(name.trim().to_lowercase())
}

fn make_root_dir(root: &Path) -> anyhow::Result<()> {
    for dir in [root.to_path_buf(), root.join("pods"), root.join("plugins"), root.join("plugins_registry")] {
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("making {}; is --root-dir on a writable disk?", dir.display()))?;
    }
    Ok(())
}

fn default_resolv_conf() -> String {
    let resolved = Path::new(RESOLVED_CONF).exists();
    if resolved { RESOLVED_CONF.to_owned() } else { "/etc/resolv.conf".to_owned() }
}

/// Environment variables need addresses and ports only.
fn trim_service(service: &mut Service) {
    service.metadata.annotations = None;
    service.metadata.labels = None;
    service.status = None;
}
