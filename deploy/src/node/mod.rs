//! `ferrokube node`: further nodes on this machine, for trying out what a cluster of several does. Each is a machine of its own as
//! far as the kernel lets it be: a network namespace with a link to a common bridge, a mount namespace in which the node's folders
//! are its own, a host name, a cgroup; with its own containerd, kubelet and what runs on them. It joins as any other machine
//! does, with `ferrokube join`.
//!
//! | file | what |
//! |---|---|
//! | [`namespaces`] | making them, and running programs in them |
//! | [`network`] | bridge and links |
//! | [`processes`] | which processes are a node's, and signals for all of them |

pub mod namespaces;
pub mod network;
pub mod processes;

use crate::layout::*;
use crate::token::{self, Token};
use crate::{cluster, host, pki, runtime};
use anyhow::Context;
use k8s_openapi::api::core::v1 as core;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the token of a node that is being made is good for: it is deleted when the node has joined.
const TOKEN_LIFE: jiff::SignedDuration = jiff::SignedDuration::from_mins(15);
/// Time for all processes of a node to go away.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

#[derive(clap::Subcommand)]
pub enum NodeCommand {
    /// Makes a node on this machine and lets it join the cluster.
    Add { name: String },
    /// Ends a node, and takes it out of the cluster. Drain it first to move its pods in peace.
    Remove { name: String },
    /// Lists the nodes of this machine that `add` or `up --nodes` made.
    List,
    /// Ends everything on a node at once, as pulling the plug does.
    Stop { name: String },
    /// Starts a node that was stopped, or lets a paused one go on.
    Start { name: String },
    /// Stands a node still: nothing in it runs, everything is kept.
    Pause { name: String },
    /// Cuts a node off the network; what runs on it goes on.
    Cut { name: String },
    /// Connects a node that was cut off.
    Heal { name: String },
    /// Runs a program in a node's namespaces.
    Exec {
        name: String,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// The first thing that runs in a node's new namespaces. `add` and `start` use it.
    #[command(hide = true)]
    Enter { name: String },
    /// Starts containerd and kubelet as they were last started. `start` uses it, inside the node.
    #[command(hide = true)]
    Boot,
}

pub async fn run(command: NodeCommand) -> anyhow::Result<()> {
    host::ensure_root("it works with namespaces, links and other users' processes")?;
    match command {
        NodeCommand::Add { name } => {
            add(&cluster::client().await?, &name).await?;
            println!("node {name} has joined");
        }
        NodeCommand::Remove { name } => {
            let node = LocalNode::find(&name)?;
            let nodes: Api<core::Node> = Api::all(cluster::client().await?);
            node.remove()?;
            if let Err(error) = nodes.delete(&name, &DeleteParams::default()).await
                && !matches!(&error, kube::Error::Api(status) if status.code == 404)
            {
                return Err(error).with_context(|| format!("deleting the Node {name}"));
            }
            println!("node {name} is gone");
        }
        NodeCommand::List => {
            println!("{:<24}{:<16}STATE", "NAME", "ADDRESS");
            for node in LocalNode::all() {
                println!("{:<24}{:<16}{}", node.name, node.address().to_string(), node.state());
            }
        }
        NodeCommand::Stop { name } => LocalNode::find(&name)?.stop()?,
        NodeCommand::Start { name } => LocalNode::find(&name)?.start()?,
        NodeCommand::Pause { name } => processes::signal(&LocalNode::find(&name)?, Signal::SIGSTOP)?,
        NodeCommand::Cut { name } => network::set_link(&LocalNode::find(&name)?, false)?,
        NodeCommand::Heal { name } => network::set_link(&LocalNode::find(&name)?, true)?,
        NodeCommand::Exec { name, command } => {
            let mut exec = namespaces::command(&LocalNode::find(&name)?, &command);
            use std::os::unix::process::CommandExt;
            return Err(exec.exec()).with_context(|| format!("running {}", command[0]));
        }
        NodeCommand::Enter { name } => namespaces::enter(&LocalNode::find(&name)?)?,
        NodeCommand::Boot => runtime::boot()?,
    }
    Ok(())
}

/// A node that shares this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalNode {
    /// The Node's name, and the namespaces'.
    pub name: String,
    /// 1 to 250: its place in the nodes' network.
    pub index: u8,
}

impl LocalNode {
    fn find(name: &str) -> anyhow::Result<LocalNode> {
        let node = Self::all().into_iter().find(|node| node.name == name);
        node.with_context(|| {
            format!("no node {name:?} was made on this machine; `ferrokube node list` lists those there are")
        })
    }

    /// All of them, in the order of their addresses.
    pub fn all() -> Vec<LocalNode> {
        let files = fs::read_dir(NODES).into_iter().flatten().flatten().map(|entry| entry.path().join("node.json"));
        let mut nodes: Vec<LocalNode> =
            files.filter_map(|file| serde_json::from_slice(&fs::read(file).ok()?).ok()).collect();
        nodes.sort_by_key(|node| node.index);
        nodes
    }

    /// The node of this name, written down with the next free place if there is none.
    fn ensure(name: &str) -> anyhow::Result<LocalNode> {
        let fits = !name.is_empty()
            && name.len() <= 63
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        anyhow::ensure!(fits, "a node's name must be lower-case letters, digits and '-', at most 63");
        let all = Self::all();
        if let Some(node) = all.iter().find(|node| node.name == name) {
            return Ok(node.clone());
        }
        let free = next_free(&all).context("this machine has 250 nodes already")?;
        let node = LocalNode { name: name.to_owned(), index: free };
        fs::create_dir_all(node.files()).with_context(|| format!("making {}", node.files().display()))?;
        let path = node.files().join("node.json");
        pki::write(&path.to_string_lossy(), &serde_json::to_string(&node)?, 0o644)?;
        Ok(node)
    }

    /// Where its folders lie.
    pub fn files(&self) -> PathBuf {
        Path::new(NODES).join(&self.name)
    }

    pub fn address(&self) -> Ipv4Addr {
        network::address(self.index)
    }

    /// Below the root of each hierarchy.
    pub fn cgroup(&self) -> String {
        format!("/ferrokube/{}", self.name)
    }

    fn state(&self) -> &'static str {
        match processes::of(self) {
            running if running.is_empty() => "stopped",
            running if running.iter().all(|pid| processes::is_stopped(*pid)) => "paused",
            _ if !network::is_up(self) => "cut off",
            _ => "running",
        }
    }

    /// Ends all that runs on it, and its namespaces but for the network's, which is the cable.
    fn stop(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + ENDS_WITHIN;
        while !processes::of(self).is_empty() {
            anyhow::ensure!(
                Instant::now() < deadline,
                "processes {:?} of {} do not end",
                processes::of(self),
                self.name
            );
            processes::signal(self, Signal::SIGKILL)?;
            std::thread::sleep(Duration::from_millis(50));
        }
        namespaces::drop(self)
    }

    fn start(&self) -> anyhow::Result<()> {
        let running = processes::of(self);
        if running.is_empty() {
            namespaces::drop(self)?;
            network::connect(self)?;
            namespaces::create(self)?;
            return namespaces::run(self, &["node", "boot"], &[]).map(|_| ());
        }
        processes::signal(self, Signal::SIGCONT)
    }

    /// Everything of it goes away but for what the cluster knows of it.
    pub fn remove(&self) -> anyhow::Result<()> {
        self.stop()?;
        network::disconnect(self)?;
        fs::remove_dir_all(self.files()).with_context(|| format!("removing {}", self.files().display()))
    }
}

/// The first place that no node has.
fn next_free(nodes: &[LocalNode]) -> Option<u8> {
    (1..=250).find(|index| nodes.iter().all(|node| node.index != *index))
}

/// Makes a node that joins, or finishes one that was begun; does nothing to one that runs.
pub async fn add(client: &Client, name: &str) -> anyhow::Result<()> {
    let node = LocalNode::ensure(name)?;
    network::ensure_bridge()?;
    network::connect(&node)?;
    namespaces::create(&node)?;
    if !node.files().join(&KUBELET_CONF[1..]).exists() {
        let token = Token::random()?;
        let all = ["signing", "authentication"].map(String::from);
        let description = format!("for {name}");
        let spec = token::Spec {
            token: &token,
            ttl: TOKEN_LIFE,
            description: Some(&description),
            groups: &[token::DEFAULT_GROUP.to_owned()],
            usages: &all,
        };
        token::create(client, &spec).await?;
        let joined = join(&node, &token);
        token::delete(client, &token.id).await?;
        joined?;
    } else if processes::of(&node).is_empty() {
        node.start()?;
    }
    label(client, name).await
}

fn join(node: &LocalNode, token: &Token) -> anyhow::Result<()> {
    let (server, ca) = cluster::endpoint()?;
    let hashes = pki::hashes(&ca)?;
    let (token, address) = (token.to_string(), node.address().to_string());
    let mut arguments = vec!["join", server.trim_start_matches("https://"), "--token", &token];
    for hash in &hashes {
        arguments.extend(["--discovery-token-ca-cert-hash", hash]);
    }
    arguments.extend(["--node-name", &node.name, "--node-ip", &address]);
    let cgroup = format!("--cgroup-root={}", node.cgroup());
    namespaces::run(node, &arguments, &[("KUBELET_EXTRA_ARGS", &cgroup)]).map(|_| ())
}

/// A role to be shown by `kubectl get nodes`: a kubelet may not give itself one (NodeRestriction).
async fn label(client: &Client, name: &str) -> anyhow::Result<()> {
    let role = serde_json::json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": ""}}});
    let nodes: Api<core::Node> = Api::all(client.clone());
    nodes
        .patch(name, &PatchParams::default(), &Patch::Merge(role))
        .await
        .with_context(|| format!("labelling {name}"))?;
    Ok(())
}

/// Takes all nodes of this machine but the first away.
pub fn remove_all() -> anyhow::Result<()> {
    for node in LocalNode::all() {
        node.remove().with_context(|| format!("removing the node {}", node.name))?;
    }
    network::remove()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_free_again_is_given_first() {
        let node = |index| LocalNode { name: format!("n{index}"), index };
        assert_eq!(next_free(&[]), Some(1));
        assert_eq!(next_free(&[node(1), node(3)]), Some(2));
        assert_eq!(next_free(&(1..=250).map(node).collect::<Vec<_>>()), None);
    }
}
