//! What all parts of the kubelet share, and how it is put together and run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use component_base::events::{Recorder, Type};
use component_base::informer::{Factory, Scope, Store};
use component_base::queue::WorkQueue;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::{Client, Resource};
use parking_lot::RwLock;
use tokio::sync::{Notify, Semaphore, SetOnce, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cm::{Cgroups, Driver, Version};
use crate::config::KubeletConfiguration;
use crate::container::dns::ClusterDns;
use crate::container::field::NodeFacts;
use crate::container::resources;
use crate::cri::Cri;
use crate::eviction::Eviction;
use crate::images::{Images, auth, gc};
use crate::objects::Objects;
use crate::options::Args;
use crate::pod::manager::Pods;
use crate::pod::pleg::Pleg;
use crate::pod::{manager, mirror, pleg, spec};
use crate::quantity::ResourceList;
use crate::statuses::{self, Statuses};
use crate::volumes::tokens::Tokens;
use crate::volumes::usage::Usages;
use crate::{eviction, logs, node, server, sources};

/// Sandboxes made at once: the runtime gains nothing from more.
const SANDBOXES_AT_ONCE: usize = 4;
/// How often the runtime is asked for its name at the start, until it answers.
const RUNTIME_RETRY: Duration = Duration::from_millis(500);
/// The same for the API server. This kubelet may be the one that starts it, and everything else waits for both.
const API_RETRY: Duration = Duration::from_millis(500);
/// Where systemd-resolved keeps the servers it really asks: its stub address means nothing inside a pod.
const RESOLVED_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// The shared parts. Everything in here is safe to use from any task.
pub struct Kubelet {
    pub config: KubeletConfiguration,
    pub node_name: String,
    /// Those of `--node-labels`.
    pub node_labels: BTreeMap<String, String>,
    pub root_dir: PathBuf,
    pub started_at: Timestamp,
    pub started: Instant,
    pub client: Option<Client>,
    pub cri: Cri,
    /// "containerd", with its version.
    pub runtime_name: String,
    pub runtime_version: String,
    pub cgroups: Cgroups,
    pub resources: resources::Policy,
    pub dns: ClusterDns,
    pub images: Images,
    /// The sandbox image, which is never collected.
    pub pod_infra_image: String,
    pub objects: Objects,
    pub tokens: Tokens,
    /// What is mounted for pods.
    pub volumes: Usages,
    pub pods: Pods,
    pub pleg: Pleg,
    pub statuses: Statuses,
    pub eviction: Eviction,
    pub machine: node::machine::Machine,
    pub mirrors: WorkQueue<String>,
    pub sandbox_permits: Semaphore,
    /// What the API server has, once it has answered for the first time.
    pub api: SetOnce<ApiStores>,
    events: Recorder,
    node_ips: RwLock<Vec<String>>,
    /// The runtime's conditions, as last asked.
    pub runtime: RwLock<node::runtime::RuntimeState>,
    /// Notified when the node's status should be looked at before its time.
    pub node_changed: Notify,
}

/// Watched objects of the API server.
pub struct ApiStores {
    /// The pods of this node, mirrors among them.
    pub pods: Store<Pod>,
    node: Store<Node>,
    services: Store<Service>,
}

impl Kubelet {
    /// The directory of a pod's volumes and files.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }

    /// This node's object, as last seen.
    pub fn node(&self) -> Option<Arc<Node>> {
        self.api.get()?.node.list().into_iter().next()
    }

    /// Waits until this node's object has been looked for.
    pub async fn node_synced(&self) {
        self.api.wait().await.node.synced().await;
    }

    /// All Services of the cluster. A pod of the API server waits for them: its environment is made once. A static pod
    /// doesn't: it may be what the API server needs.
    pub async fn services(&self, pod: &Pod) -> Vec<Arc<Service>> {
        match self.api.get() {
            Some(api) if !spec::is_static(pod) => {
                api.services.synced().await;
                api.services.list()
            }
            Some(api) => api.services.list(),
            None => Vec::new(),
        }
    }

    /// Addresses of the node, the primary one first.
    pub fn node_ips(&self) -> Vec<String> {
        self.node_ips.read().clone()
    }

    /// The pod's primary address, "" if it has none.
    pub fn pod_ip(&self, pod: &Pod) -> String {
        self.statuses.get(spec::uid(pod)).and_then(|status| status.pod_ip).unwrap_or_default()
    }

    /// What pods may use of the node.
    pub fn allocatable(&self) -> ResourceList {
        self.machine.allocatable(&self.config)
    }

    /// What the downward API adds to a pod's own fields.
    pub fn node_facts(&self, pod_ips: Vec<String>) -> NodeFacts {
        NodeFacts {
            node_name: self.node_name.clone(),
            host_ips: self.node_ips(),
            pod_ips,
            allocatable: self.allocatable(),
        }
    }

    /// Whether pods can have a network; if not, why.
    pub fn network_ready(&self) -> Result<(), String> {
        self.runtime.read().network.clone()
    }

    /// Records an event on a pod, or on one of its containers. A static pod's go to its mirror.
    pub fn event(&self, pod: &Pod, container: Option<&str>, kind: &str, reason: &str, message: &str) {
        let mirror = spec::is_static(pod).then(|| mirror::of(self, &spec::full_name(pod))).flatten();
        let mut object: ObjectReference = mirror.as_deref().unwrap_or(pod).object_ref(&());
        object.field_path = container.map(|name| {
            let init = spec::init_containers(pod).iter().any(|container| container.name == name);
            format!("spec.{}{{{name}}}", if init { "initContainers" } else { "containers" })
        });
        self.events.event_on(object, event_type(kind), reason, message);
    }

    /// Records an event on the node.
    pub fn node_event(&self, kind: &str, reason: &str, message: &str) {
        let object = ObjectReference {
            kind: Some("Node".into()),
            name: Some(self.node_name.clone()),
            uid: Some(self.node_name.clone()),
            ..Default::default()
        };
        self.events.event_on(object, event_type(kind), reason, message);
    }

    /// The runtime's handler of a RuntimeClass.
    pub async fn runtime_handler(&self, class: &str) -> Result<String, String> {
        let client = self.client.clone().ok_or("RuntimeClasses need an API server; this kubelet has none")?;
        let class: RuntimeClass = kube::Api::all(client).get(class).await.map_err(|error| error.to_string())?;
        Ok(class.handler)
    }
}

fn event_type(kind: &str) -> Type {
    if kind == "Normal" { Type::Normal } else { Type::Warning }
}

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
    let client = client(&args, &config, &node_name, &shutdown).await?;
    make_root_dir(&args.root_dir)?;
    node::protect_self(config.oom_score_adj);

    let mut cgroups = Cgroups::new(&config);
    if let Ok(Some(driver)) = cri.cgroup_driver().await {
        cgroups.set_driver(match driver {
            proto::cri::CgroupDriver::Systemd => Driver::Systemd,
            proto::cri::CgroupDriver::Cgroupfs => Driver::Cgroupfs,
        });
    }
    let machine = node::machine::Machine::read(&args.root_dir);
    let (static_sender, statics) = watch::channel(None);
    let parallel_pulls = match config.serialize_image_pulls {
        true => 1,
        false => config.max_parallel_image_pulls.and_then(|max| usize::try_from(max).ok()).unwrap_or(16).max(1),
    };
    let kubelet = Arc::new(Kubelet {
        node_ips: RwLock::new(node::address::node_ips(args.node_ip.as_deref())),
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
        images: Images::new(cri.clone(), parallel_pulls, auth::Keyring::of_node(&args.root_dir)),
        pod_infra_image: args.pod_infra_container_image.clone().unwrap_or_default(),
        objects: Objects::new(client.clone()),
        tokens: Tokens::new(client.clone()),
        volumes: Usages::default(),
        pods: Pods::default(),
        pleg: Pleg::default(),
        statuses: Statuses::default(),
        eviction: Eviction::new(&config),
        mirrors: WorkQueue::new("mirror-pod"),
        sandbox_permits: Semaphore::new(SANDBOXES_AT_ONCE),
        api: SetOnce::new(),
        events: client
            .clone()
            .map_or_else(Recorder::none, |client| Recorder::new(client, "kubelet", &node_name, shutdown.clone())),
        runtime: RwLock::default(),
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
    });
    kubelet.cgroups.setup_root(
        kubelet.machine.memory_for_pods(&kubelet.config),
        crate::quantity::of(Some(&kubelet.allocatable()), "cpu"),
    );
    tracing::info!(
        node = kubelet.node_name,
        runtime = kubelet.runtime_name,
        version = kubelet.runtime_version,
        cgroups = ?kubelet.cgroups.version(),
        standalone = kubelet.client.is_none(),
        "Kubelet starts"
    );
    run_parts(kubelet, args, static_sender, statics, shutdown).await
}

/// Runs every part of the kubelet; the end of the servers is the end of all.
async fn run_parts(
    kubelet: Arc<Kubelet>,
    args: Args,
    static_sender: watch::Sender<Option<Vec<Arc<Pod>>>>,
    statics: watch::Receiver<Option<Vec<Arc<Pod>>>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    // Adopting what runs comes before anything new: admission and orphans depend on knowing it.
    while let Err(error) = kubelet.pleg.relist(&kubelet).await {
        tracing::warn!(%error, "Can't list what the container runtime has yet");
        tokio::select! {
            () = tokio::time::sleep(RUNTIME_RETRY) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
    node::runtime::update(&kubelet).await;
    let serving = server::serve(kubelet.clone(), &args, shutdown.clone()).await?;

    let mut parts = JoinSet::new();
    parts.spawn(serving);
    parts.spawn(sources::run(kubelet.clone(), static_sender, shutdown.clone()));
    parts.spawn(node::runtime::run(kubelet.clone(), shutdown.clone()));
    parts.spawn(pleg::run(kubelet.clone(), shutdown.clone()));
    parts.spawn(connect(kubelet.clone(), shutdown.clone()));
    parts.spawn(manager::run(kubelet.clone(), statics, shutdown.clone()));
    parts.spawn(statuses::run(kubelet.clone(), shutdown.clone()));
    parts.spawn(mirror::run(kubelet.clone(), shutdown.clone()));
    parts.spawn(node::run(kubelet.clone(), args, shutdown.clone()));
    parts.spawn(node::lease::run(kubelet.clone(), shutdown.clone()));
    parts.spawn(logs::rotate::run(kubelet.clone(), shutdown.clone()));
    parts.spawn(gc::run(kubelet.clone(), shutdown.clone()));
    parts.spawn(eviction::run(kubelet.clone(), shutdown.clone()));
    shutdown.cancelled().await;
    while parts.join_next().await.is_some() {}
    Ok(())
}

/// Begins the watches when the API server answers. Watches that began earlier would by then wait half a minute between
/// their tries.
async fn connect(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    let Some(client) = kubelet.client.clone() else { return };
    // Any answer will do, "unauthorized" too: that is for the watches to complain about.
    while !matches!(client.apiserver_version().await, Ok(_) | Err(kube::Error::Api(_))) {
        tokio::select! {
            () = tokio::time::sleep(API_RETRY) => {}
            () = shutdown.cancelled() => return,
        }
    }
    tracing::info!("The API server answers");
    let factory = Factory::new(client, shutdown);
    let node_name = &kubelet.node_name;
    let stores = ApiStores {
        pods: factory.store(Scope::fields(format!("spec.nodeName={node_name}"))),
        node: factory.store(Scope::fields(format!("metadata.name={node_name}"))),
        services: factory.store_with(Scope::all(), trim_service),
    };
    // Set here and nowhere else.
    let _ = kubelet.api.set(stores);
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

async fn client(
    args: &Args,
    config: &KubeletConfiguration,
    node_name: &str,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<Client>> {
    let Some(kubeconfig) = args.kubeconfig.as_deref().filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(None);
    };
    if let Some(bootstrap) =
        args.bootstrap_kubeconfig.as_deref().filter(|path| !path.as_os_str().is_empty() && !kubeconfig.exists())
    {
        node::bootstrap::client_certificate(bootstrap, kubeconfig, &args.cert_dir, node_name, shutdown).await?;
    }
    let flags = component_base::client::ClientFlags {
        kubeconfig: Some(kubeconfig.to_path_buf()),
        master: None,
        qps: config.kube_api_qps as f32,
        burst: u32::try_from(config.kube_api_burst).unwrap_or(0),
    };
    Ok(Some(component_base::client::connect(&flags, "kubelet").await?))
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
