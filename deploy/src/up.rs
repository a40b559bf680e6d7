//! `ferrokube up`: from nothing to a cluster that answers.

use crate::layout::*;
use crate::manifests::{self, Cluster};
use crate::pki::{self, Names, write};
use crate::progress::{step, until};
use crate::{addons, cluster, host, images, kubeconfig, node, runtime};
use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct UpArgs {
    /// Name of this node; the machine's host name if not given.
    #[arg(long)]
    node_name: Option<String>,
    /// Address of this node; that of the default route if not given.
    #[arg(long)]
    node_ip: Option<IpAddr>,
    /// How many nodes; those after the first are made on this machine too, in namespaces of their own (worker1, worker2, ...).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=250))]
    nodes: u8,
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
    host::ensure_root("it makes network interfaces, cgroups and containers")?;
    let started = Instant::now();
    let deadline = started + Duration::from_secs(args.timeout);
    let cluster = cluster(&args)?;
    println!("Starting a cluster on {} ({})", cluster.node, cluster.address);
    step("Programs and kernel settings", async { host::prepare() }).await?;
    step("Certificates and configuration", async { configure(&cluster) }).await?;
    let arguments = manifests::kubelet_arguments(&cluster.node, cluster.address);
    step("containerd and kubelet", async {
        runtime::start(&arguments)?;
        until(deadline, "containerd", async || runtime::ctr(&["version"]).map(|_| ())).await
    })
    .await?;
    let samples = if args.no_samples { vec![] } else { images::samples() };
    step("Images", async { host::import(&images::cluster()?, &samples) }).await?;
    step("Control plane (etcd, API server, scheduler, controller manager)", async {
        // The kubelet reads the manifests once the images are there, so that no pod waits for a back-off.
        write_manifests(&cluster)?;
        until(deadline, "the API server", async || api_ready().await).await
    })
    .await?;
    let client = cluster::client().await?;
    step("kube-proxy, pod network and cluster DNS", async {
        until(deadline, "the addons", async || addons::apply(&client, &cluster).await).await
    })
    .await?;
    step("Node has joined", until(deadline, "the node", async || mark(&client, &cluster.node, args.nodes > 1).await))
        .await?;
    step("Node is Ready", until(deadline, "the node", async || cluster::node_ready(&client, &cluster.node).await))
        .await?;
    step("Cluster DNS answers", until(deadline, "cluster DNS", async || dns_ready(&client, &cluster).await)).await?;
    for index in 1..args.nodes {
        let name = format!("worker{index}");
        step(&format!("Node {name}"), async {
            node::add(&client, &name).await?;
            until(deadline, &name, async || cluster::node_ready(&client, &name).await).await
        })
        .await?;
    }
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
        None => host::default_node_name()?,
    };
    let (base, _) =
        args.service_cidr.split_once('/').context("--service-cidr must be address/bits, such as 10.96.0.0/16")?;
    let base: Ipv4Addr = base.parse().context("--service-cidr must start with an IPv4 address")?;
    let nth = |n: u32| IpAddr::V4(Ipv4Addr::from(u32::from(base) + n));
    Ok(Cluster {
        node,
        address: address(args)?,
        service_range: args.service_cidr.clone(),
        service_address: nth(1),
        dns_address: nth(10),
        pod_range: args.pod_network_cidr.clone(),
        domain: args.service_dns_domain.clone(),
    })
}

/// The node's address: as given, as before, on the network of several nodes, or towards others.
fn address(args: &UpArgs) -> anyhow::Result<IpAddr> {
    if let Some(address) = args.node_ip {
        return Ok(address);
    }
    let before = cluster::endpoint().ok().and_then(|(server, _)| {
        let host = server.trim_start_matches("https://").rsplit_once(':')?.0.to_owned();
        host.trim_matches(['[', ']']).parse().ok()
    });
    match before {
        Some(address) => Ok(address),
        None if args.nodes > 1 => {
            node::network::ensure_bridge()?;
            Ok(node::network::first_address().into())
        }
        None => host::default_address(),
    }
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
    write(KUBELET_CONFIG, &serde_yaml_ng::to_string(&cluster.kubelet_configuration())?, 0o644)?;
    host::write_containerd_config()
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

async fn api_ready() -> anyhow::Result<()> {
    let request = http::Request::get("/readyz").body(Vec::new())?;
    let text = cluster::client().await?.request_text(request).await?;
    anyhow::ensure!(text.trim() == "ok", "not ready: {text}");
    Ok(())
}

/// The node's role is written by us: a kubelet may not give itself one (NodeRestriction). Where there are other nodes, pods go
/// there unless they tolerate this one.
async fn mark(client: &Client, node: &str, tainted: bool) -> anyhow::Result<()> {
    let nodes = Api::<Node>::all(client.clone());
    let mut patch = json!({"metadata": {"labels": {
        "node-role.kubernetes.io/control-plane": "",
        "node.kubernetes.io/exclude-from-external-load-balancers": "",
    }}});
    if tainted {
        patch["spec"] = json!({"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]});
    }
    nodes.patch(node, &PatchParams::default(), &Patch::Strategic(patch)).await?;
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
