//! `ferrokube join`: makes this machine a worker of a cluster. It finds the cluster by a token and the hash of its CA, gives the
//! kubelet what it asks for its certificate with, and waits until the cluster knows the node. (kubeadm's flags and files.)

use crate::cluster_info::{self, Found, Refusal};
use crate::layout::*;
use crate::pki::{self, write};
use crate::progress::{step, until};
use crate::token::Token;
use crate::{host, images, kubeconfig, manifests, runtime};
use anyhow::Context;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

const KUBELET_PORT: u16 = 10250;
/// How long a token may be unknown: the controller manager signs with a new one within moments.
const SIGNED_WITHIN: Duration = Duration::from_secs(15);
/// Further flags of the kubelet, separated by spaces, as kubeadm's unit reads them.
const EXTRA_ARGS: &str = "KUBELET_EXTRA_ARGS";

#[derive(clap::Args)]
pub struct JoinArgs {
    /// Where the API server is: address:port.
    #[arg(value_name = "API-SERVER")]
    endpoint: String,
    /// Bootstrap token, as `ferrokube token create` prints it.
    #[arg(long)]
    token: Token,
    /// Hash of the cluster's CA: sha256:<hex>. May be given several times.
    #[arg(long, required_unless_present = "discovery_token_unsafe_skip_ca_verification", value_parser = pin)]
    discovery_token_ca_cert_hash: Vec<String>,
    /// Believe the token alone: who knows it could then pass for the cluster.
    #[arg(long)]
    discovery_token_unsafe_skip_ca_verification: bool,
    /// Name of this node; the machine's host name if not given.
    #[arg(long)]
    node_name: Option<String>,
    /// Address of this node; that of the default route if not given.
    #[arg(long)]
    node_ip: Option<IpAddr>,
    /// Leave out the sample images (nginx, busybox, redis, memcached).
    #[arg(long)]
    no_samples: bool,
    /// Check everything that can be checked without changing anything, then stop.
    #[arg(long)]
    dry_run: bool,
    /// Longest wait for the cluster and for the node's certificate, in seconds.
    #[arg(long, default_value_t = 120)]
    timeout: u64,
}

fn pin(text: &str) -> Result<String, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    match hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("must be sha256: and 64 hexadecimal digits".into()),
    }
}

pub async fn run(args: JoinArgs) -> anyhow::Result<()> {
    host::ensure_root("it starts containers and makes cgroups and network interfaces")?;
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let name = args.node_name.clone().map_or_else(host::default_node_name, Ok)?;
    let address = args.node_ip.map_or_else(host::default_address, Ok)?;
    step("Checks of this machine", async { preflight() }).await?;
    let found = step("Cluster found, and it is the right one", discover(&args, deadline)).await?;
    let client = with_token(&found, &args.token)?;
    let kubelet = step("The node's configuration", read_configuration(&client, &name)).await?;
    if args.dry_run {
        println!("  Nothing was changed. {name} ({address}) would join {}.", found.server);
        return Ok(());
    }
    step("Programs and kernel settings", async { host::prepare() }).await?;
    step("Files", async { write_files(&found, &args.token, kubelet) }).await?;
    let arguments = arguments(&name, address);
    step("containerd", async {
        runtime::start(&arguments)?;
        until(deadline, "containerd", async || runtime::ctr(&["version"]).map(|_| ())).await
    })
    .await?;
    let samples = if args.no_samples { vec![] } else { images::samples() };
    step("Images", async { host::import(&images::node()?, &samples) }).await?;
    step("The node's certificate", async {
        until(deadline, "the node's certificate", async || {
            anyhow::ensure!(Path::new(KUBELET_CONF).exists(), "the cluster has not approved the node's request yet");
            Ok(())
        })
        .await
    })
    .await?;
    step("The cluster knows the node", until(deadline, "the node", async || registered(&name).await)).await?;
    // The kubelet has credentials of its own now.
    let _ = std::fs::remove_file(BOOTSTRAP_CONF);
    println!("\n{name} has joined the cluster. `kubectl get nodes` on a control plane node shows it.");
    Ok(())
}

/// What would make the rest fail halfway.
fn preflight() -> anyhow::Result<()> {
    anyhow::ensure!(
        !Path::new(KUBELET_CONF).exists(),
        "{KUBELET_CONF} is there: this machine is a node already. `ferrokube down` takes it out, then join again"
    );
    let running = runtime::is_running();
    let address = SocketAddr::from(([0, 0, 0, 0], KUBELET_PORT));
    anyhow::ensure!(
        running || std::net::TcpListener::bind(address).is_ok(),
        "port {KUBELET_PORT} is taken: another kubelet runs here. Stop it first (`ss -ltnp` shows whose it is)"
    );
    for program in ["containerd", "runc", "ip", "nft"] {
        runtime::run("sh", &["-c", &format!("PATH=$PATH:/usr/sbin:/sbin command -v {program}")])
            .map_err(|_| anyhow::anyhow!("the program {program} is missing; install it"))?;
    }
    Ok(())
}

async fn discover(args: &JoinArgs, deadline: Instant) -> anyhow::Result<Found> {
    let deadline = deadline.min(Instant::now() + SIGNED_WITHIN);
    loop {
        match cluster_info::discover(&args.endpoint, &args.token, &args.discovery_token_ca_cert_hash).await {
            Ok(found) => return Ok(found),
            Err(Refusal::Never(error)) => return Err(error),
            Err(Refusal::NotYet(error)) if Instant::now() > deadline => return Err(error),
            Err(Refusal::NotYet(_)) => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
}

/// A client that may do what the token's groups may.
fn with_token(found: &Found, token: &Token) -> anyhow::Result<Client> {
    let mut config = Config::new(found.server.parse().with_context(|| format!("{:?} is no address", found.server))?);
    config.root_cert = Some(pki::ders(&found.ca_pem)?);
    config.auth_info = AuthInfo { token: Some(token.to_string().into()), ..AuthInfo::default() };
    Ok(Client::try_from(config)?)
}

/// The cluster's KubeletConfiguration. Fails where a node of this name is at work already.
async fn read_configuration(client: &Client, name: &str) -> anyhow::Result<Value> {
    let node = Api::<Node>::all(client.clone()).get_opt(name).await.context("looking for a node of this name")?;
    let conditions = node.and_then(|n| n.status).and_then(|s| s.conditions).unwrap_or_default();
    anyhow::ensure!(
        !conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
        "the cluster has a node {name:?} that is Ready: give this one another name with --node-name, or delete the other first"
    );
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let map = maps.get("kubelet-config").await.context("reading the ConfigMap kubelet-config")?;
    let text = map.data.and_then(|d| d.get("kubelet").cloned()).context("the ConfigMap kubelet-config is empty")?;
    serde_yaml_ng::from_str(&text).context("parsing the ConfigMap kubelet-config")
}

fn write_files(found: &Found, token: &Token, mut kubelet: Value) -> anyhow::Result<()> {
    write(CA_CERT, &found.ca_pem, 0o644)?;
    let user = json!({"token": token.to_string()});
    let bootstrap =
        kubeconfig::kubeconfig(&found.ca_pem, &found.server, "kubernetes", "tls-bootstrap-token-user", user);
    write(BOOTSTRAP_CONF, &serde_yaml_ng::to_string(&bootstrap)?, 0o600)?;
    // The cluster's answer to this is that of the node that made it.
    kubelet["resolvConf"] = resolv_conf().into();
    write(KUBELET_CONFIG, &serde_yaml_ng::to_string(&kubelet)?, 0o644)?;
    host::write_containerd_config()
}

fn arguments(name: &str, address: IpAddr) -> Vec<String> {
    let mut arguments = manifests::kubelet_arguments(name, address);
    let extra = std::env::var(EXTRA_ARGS).unwrap_or_default();
    arguments.extend(extra.split_whitespace().map(str::to_owned));
    arguments
}

/// Whether the API server has the node, as the kubelet itself sees it.
async fn registered(name: &str) -> anyhow::Result<()> {
    let kubeconfig = Kubeconfig::read_from(KUBELET_CONF)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Api::<Node>::all(Client::try_from(config)?).get(name).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_pin_is_a_sha256() {
        let hex = "a".repeat(64);
        for (text, good) in [
            (format!("sha256:{hex}"), true),
            (format!("sha256:{}", hex.to_uppercase()), true),
            (hex.clone(), false),
            (format!("sha512:{hex}"), false),
            (format!("sha256:{}", &hex[1..]), false),
            (format!("sha256:{}g", &hex[1..]), false),
        ] {
            assert_eq!(super::pin(&text).is_ok(), good, "{text}");
        }
    }
}
