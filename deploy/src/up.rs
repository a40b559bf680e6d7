//! `ferrokube up`: from nothing to a cluster that answers.

use crate::layout::*;
use crate::manifests::{self, Cluster};
use crate::pki::{self, Names, write};
use crate::progress::step;
use crate::{addons, image, images, kubeconfig, runtime};
use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct UpArgs {
    /// Name of this node; the machine's host name if not given.
    #[arg(long)]
    node_name: Option<String>,
    /// Address of this node; that of the default route if not given.
    #[arg(long)]
    node_ip: Option<IpAddr>,
    /// Addresses for services.
    #[arg(long, default_value = "10.96.0.0/16")]
    service_cidr: String,
    /// Addresses for pods.
    #[arg(long, default_value = "10.244.0.0/16")]
    pod_network_cidr: String,
    /// Domain of the cluster's DNS.
    #[arg(long, default_value = "cluster.local")]
    service_dns_domain: String,
    /// Leave ~/.kube/config alone.
    #[arg(long)]
    no_merge: bool,
    /// Leave out the sample images (nginx, busybox, redis, memcached).
    #[arg(long)]
    no_samples: bool,
    /// Longest wait for the cluster to become ready, in seconds.
    #[arg(long, default_value_t = 180)]
    timeout: u64,
}

pub async fn run(args: UpArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "this needs root: it makes network interfaces, cgroups and containers"
    );
    let started = Instant::now();
    let deadline = started + Duration::from_secs(args.timeout);
    let cluster = cluster(&args)?;
    println!("Starting a cluster on {} ({})", cluster.node, cluster.address);
    step("Programs and kernel settings", async { prepare() }).await?;
    step("Certificates and configuration", async { configure(&cluster) }).await?;
    let arguments = manifests::kubelet_arguments(&cluster.node, cluster.address);
    step("containerd and kubelet", async {
        runtime::start(&arguments)?;
        until(deadline, "containerd", async || runtime::ctr(&["version"]).map(|_| ())).await
    })
    .await?;
    step("Images", async { import(&args) }).await?;
    step("Control plane (etcd, API server, scheduler, controller manager)", async {
        // The kubelet reads the manifests once the images are there, so that no pod waits for a back-off.
        write_manifests(&cluster)?;
        until(deadline, "the API server", async || api_ready().await).await
    })
    .await?;
    let client = client().await?;
    step("kube-proxy, pod network and cluster DNS", async {
        until(deadline, "the addons", async || addons::apply(&client, &cluster).await).await
    })
    .await?;
    step("Node has joined", until(deadline, "the node", async || label_node(&client, &cluster.node).await)).await?;
    step("Node is Ready", until(deadline, "the node", async || node_ready(&client, &cluster.node).await)).await?;
    step("Cluster DNS answers", until(deadline, "cluster DNS", async || dns_ready(&client, &cluster).await)).await?;
    if !args.no_merge {
        let path = kubeconfig::merge_into_users()?;
        println!("  Your kubeconfig {} now points here.", path.display());
    }
    println!(
        "\nThe cluster is up after {:.0} s. Next, type:\n\n    kubectl get pods --all-namespaces\n",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn cluster(args: &UpArgs) -> anyhow::Result<Cluster> {
    let node = match &args.node_name {
        Some(name) => name.clone(),
        None => nix::unistd::gethostname()?.to_string_lossy().to_lowercase(),
    };
    let (base, _) =
        args.service_cidr.split_once('/').context("--service-cidr must be address/bits, such as 10.96.0.0/16")?;
    let base: Ipv4Addr = base.parse().context("--service-cidr must start with an IPv4 address")?;
    let nth = |n: u32| IpAddr::V4(Ipv4Addr::from(u32::from(base) + n));
    Ok(Cluster {
        node,
        address: args.node_ip.map_or_else(default_address, Ok)?,
        service_range: args.service_cidr.clone(),
        service_address: nth(1),
        dns_address: nth(10),
        pod_range: args.pod_network_cidr.clone(),
        domain: args.service_dns_domain.clone(),
    })
}

/// The address that this machine uses towards others.
fn default_address() -> anyhow::Result<IpAddr> {
    // Connecting a UDP socket sends nothing; it only picks the source address of the default route.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("192.0.2.1:9").context("this machine has no default route; give --node-ip")?;
    Ok(socket.local_addr()?.ip())
}

/// Programs where units and the supervisor find them, folders, and what the kernel must do for pods.
fn prepare() -> anyhow::Result<()> {
    for folder in [PKI, MANIFESTS, ETC, CNI_CONF_DIR, BIN, VAR, RUN, LOGS, KUBELET_ROOT, ETCD_DATA] {
        fs::create_dir_all(folder).with_context(|| format!("making {folder}"))?;
    }
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(ETCD_DATA, fs::Permissions::from_mode(0o700))?;
    let programs = images::programs()?;
    for program in ["ferrokube", "kubelet"] {
        let (from, to) = (programs.join(program), Path::new(BIN).join(program));
        if from == to {
            continue;
        }
        // A running program's file can't be written, but it can be replaced.
        let partial = to.with_extension("partial");
        fs::copy(&from, &partial)
            .with_context(|| format!("copying {}; build it with cargo build --release", from.display()))?;
        fs::rename(&partial, &to)?;
    }
    for module in ["overlay", "br_netfilter"] {
        let _ = runtime::run("modprobe", &[module]); // built in, or not there: what depends on it says so itself
    }
    sysctl("net/ipv4/ip_forward", "1")
}

fn sysctl(name: &str, value: &str) -> anyhow::Result<()> {
    let path = format!("/proc/sys/{name}");
    if fs::read_to_string(&path).is_ok_and(|v| v.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).with_context(|| format!("setting {path} to {value}"))
}

fn configure(cluster: &Cluster) -> anyhow::Result<()> {
    let names = Names {
        node: &cluster.node,
        address: cluster.address,
        service: cluster.service_address,
        domain: &cluster.domain,
    };
    let ca = pki::ensure(&names)?;
    kubeconfig::ensure(&ca, &cluster.server(), &cluster.node)?;
    let resolv_conf = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"]
        .into_iter()
        .find(|p| Path::new(p).exists())
        .unwrap_or("/etc/resolv.conf");
    write(KUBELET_CONFIG, &serde_yaml_ng::to_string(&cluster.kubelet_configuration(resolv_conf))?, 0o644)?;
    let snapshotter = if supports_overlay() { "overlayfs" } else { "native" };
    write(CONTAINERD_CONFIG, &manifests::containerd(!may_lower_oom_score(), snapshotter), 0o644)
}

/// Lowering an oom_score_adj takes CAP_SYS_RESOURCE, which a container may lack.
fn may_lower_oom_score() -> bool {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective =
        status.lines().find_map(|l| l.strip_prefix("CapEff:")).and_then(|v| u64::from_str_radix(v.trim(), 16).ok());
    effective.is_none_or(|caps| caps & CAP_SYS_RESOURCE != 0)
}

fn supports_overlay() -> bool {
    fs::read_to_string("/proc/filesystems")
        .is_ok_and(|f| f.lines().any(|l| l.split_whitespace().last() == Some("overlay")))
}

fn import(args: &UpArgs) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(VAR)?;
    for image in images::cluster()? {
        // Always: the programs may be newer than the images that are there.
        runtime::import(&image, folder.path())?;
    }
    if !args.no_samples {
        for image in images::samples().iter().filter(|i| !runtime::has_image(&image::canonical_name(&i.name))) {
            runtime::import(image, folder.path())?;
        }
    }
    Ok(())
}

fn write_manifests(cluster: &Cluster) -> anyhow::Result<()> {
    for (file, pod) in cluster.static_pods() {
        let (path, text) = (format!("{MANIFESTS}/{file}"), serde_yaml_ng::to_string(&pod)?);
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            continue;
        }
        // The kubelet takes every file in the folder for a manifest, so half a file must not stand there.
        let partial = format!("{KUBERNETES}/.{file}");
        write(&partial, &text, 0o600)?;
        fs::rename(&partial, &path)?;
    }
    Ok(())
}

async fn client() -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::read_from(format!("{KUBERNETES}/super-admin.conf"))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn api_ready() -> anyhow::Result<()> {
    let request = http::Request::get("/readyz").body(Vec::new())?;
    let text = client().await?.request_text(request).await?;
    anyhow::ensure!(text.trim() == "ok", "not ready: {text}");
    Ok(())
}

/// The node's role is written by us: a kubelet may not give itself one (NodeRestriction).
async fn label_node(client: &Client, node: &str) -> anyhow::Result<()> {
    let nodes = Api::<Node>::all(client.clone());
    let role = serde_json::json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
    nodes.patch(node, &PatchParams::default(), &Patch::Merge(role)).await?;
    Ok(())
}

async fn node_ready(client: &Client, node: &str) -> anyhow::Result<()> {
    let node = Api::<Node>::all(client.clone()).get(node).await?;
    let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
    let ready = conditions.iter().find(|c| c.type_ == "Ready").context("no condition Ready yet")?;
    anyhow::ensure!(ready.status == "True", "{}", ready.message.clone().unwrap_or_default());
    Ok(())
}

/// The deployment is available, and its service answers for the service `kubernetes`.
async fn dns_ready(client: &Client, cluster: &Cluster) -> anyhow::Result<()> {
    let dns = Api::<Deployment>::namespaced(client.clone(), "kube-system").get("cluster-dns").await?;
    let available = dns.status.and_then(|s| s.available_replicas).unwrap_or(0);
    anyhow::ensure!(available > 0, "the deployment cluster-dns has no available pod");
    let name = format!("kubernetes.default.svc.{}", cluster.domain);
    let address = crate::progress::ask_dns(cluster.dns_address, &name)?;
    anyhow::ensure!(address == cluster.service_address, "{name} is said to be {address}");
    Ok(())
}

/// Tries until it works; fails with the last error when time is up.
async fn until<T>(deadline: Instant, what: &str, attempt: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(e) if Instant::now() > deadline => {
                return Err(
                    e.context(format!("{what} did not become ready in time; look into {LOGS} and /var/log/pods"))
                );
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
