//! The configuration of one container: command, environment, mounts, resources, security, and the labels and annotations
//! by which it is known again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cgroups::resources;
use cri_client::names;
use k8s_openapi::api::core::v1::{Container, Pod};
use node_context::Context;
use pod_state::{field, spec};
use proto::cri::{
    self, ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, Mount, MountPropagation,
};
use volumes::{self, MountedVolumes, subpath};

use crate::env::{self, Environment};
use crate::{ContainerConfigError, expansion, hash, hosts, security, service_env};

const DEFAULT_TERMINATION_LOG: &str = "/dev/termination-log";

/// What making a container needs beside its spec.
pub struct Request<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    /// How many instances there were before.
    pub restart_count: u32,
    /// The image as the runtime knows it.
    pub image: &'a cri::Image,
    /// What of volumes may be mounted.
    pub volumes: &'a MountedVolumes,
    /// The primary address first; empty on a sandbox without a network.
    pub pod_ips: &'a [String],
    /// Id of the container whose PID namespace an ephemeral container joins.
    pub target: Option<&'a str>,
}

/// Builds the configuration; writes the files that are mounted into the container (hosts, termination log) first.
pub async fn make(context: &Context, request: &Request<'_>) -> Result<ContainerConfig, ContainerConfigError> {
    let Request { pod, container, image, .. } = *request;
    let facts = context.node_facts(request.pod_ips.to_vec());
    let environment = environment(context, pod, container, &facts).await?;
    let expand = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| expansion::expand(text, |name| environment.get(name))).collect()
    };
    let root = &context.root_dir;
    let mut security = security::container(pod, container, image.into(), root, context.config.seccomp_default)?;
    if let (Some(target), Some(namespaces)) = (request.target, &mut security.namespace_options) {
        namespaces.pid = cri::NamespaceMode::Target as i32;
        namespaces.target_id = target.to_owned();
    }
    let mounts = mounts(context, request, &environment).await?;
    let restart_count = request.restart_count;
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: restart_count }),
        image: Some(ImageSpec {
            image: image.id.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command: expand(&container.command),
        args: expand(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: environment.iter().map(|(k, v)| KeyValue { key: k.to_owned(), value: v.to_owned() }).collect(),
        mounts,
        labels: labels(pod, container),
        annotations: annotations(pod, container, restart_count),
        log_path: format!("{}/{restart_count}.log", container.name),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources::of(pod, container, &context.resources)),
            security_context: Some(security),
        }),
        stop_signal: stop_signal(container) as i32,
        ..Default::default()
    })
}

async fn environment(
    context: &Context,
    pod: &Pod,
    container: &Container,
    facts: &field::NodeFacts,
) -> Result<Environment, ContainerConfigError> {
    let links = spec::spec(pod).enable_service_links.unwrap_or(true);
    let services = context.services(pod).await;
    let services = service_env::variables(services.iter().map(AsRef::as_ref), spec::namespace(pod), links);
    env::make(&context.objects, pod, container, services, facts).await
}

fn stop_signal(container: &Container) -> cri::Signal {
    let wanted = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    wanted
        .and_then(|name| cri::Signal::from_str_name(&name.replace('+', "PLUS").replace('-', "MINUS")))
        .unwrap_or_default()
}

fn labels(pod: &Pod, container: &Container) -> HashMap<String, String> {
    [
        (names::POD_NAME, spec::name(pod)),
        (names::POD_NAMESPACE, spec::namespace(pod)),
        (names::POD_UID, spec::uid(pod)),
        (names::CONTAINER_NAME, &container.name),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

fn annotations(pod: &Pod, container: &Container, restart_count: u32) -> HashMap<String, String> {
    let mut annotations = HashMap::from([
        (names::CONTAINER_HASH.to_owned(), format!("{:x}", hash::of(container))),
        (names::CONTAINER_RESTART_COUNT.to_owned(), restart_count.to_string()),
        (names::CONTAINER_TERMINATION_MESSAGE_PATH.to_owned(), termination_log(container).to_owned()),
        (
            names::CONTAINER_TERMINATION_MESSAGE_POLICY.to_owned(),
            container.termination_message_policy.clone().unwrap_or_else(|| "File".into()),
        ),
    ]);
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            annotations.insert(key.to_owned(), value);
        }
    };
    set(names::POD_DELETION_GRACE_PERIOD, pod.metadata.deletion_grace_period_seconds.map(|s| s.to_string()));
    let grace = spec::spec(pod).termination_grace_period_seconds;
    set(names::POD_TERMINATION_GRACE_PERIOD, grace.map(|s| s.to_string()));
    let pre_stop = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    set(names::CONTAINER_PRE_STOP_HANDLER, pre_stop.and_then(|handler| serde_json::to_string(handler).ok()));
    let ports = container.ports.as_ref().filter(|ports| !ports.is_empty());
    set(names::CONTAINER_PORTS, ports.and_then(|ports| serde_json::to_string(ports).ok()));
    annotations
}

fn termination_log(container: &Container) -> &str {
    container.termination_message_path.as_deref().filter(|path| !path.is_empty()).unwrap_or(DEFAULT_TERMINATION_LOG)
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ContainerConfigError {
    let path = path.display().to_string();
    move |source| ContainerConfigError::Io { what, path, source }
}

async fn mounts(
    context: &Context,
    request: &Request<'_>,
    environment: &Environment,
) -> Result<Vec<Mount>, ContainerConfigError> {
    let Request { pod, container, .. } = *request;
    let pod_dir = context.pod_dir(spec::uid(pod));
    let mut mounts = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let volume = request.volumes.get(&mount.name).ok_or_else(|| {
            ContainerConfigError::Volume(format!(
                "volume {:?} of mount {} is not mounted",
                mount.name, mount.mount_path
            ))
        })?;
        let expanded = mount
            .sub_path_expr
            .as_deref()
            .filter(|expr| !expr.is_empty())
            .map(|expr| expansion::expand(expr, |name| environment.get(name)));
        let sub_path = expanded.as_deref().or(mount.sub_path.as_deref()).filter(|path| !path.is_empty());
        let host_path = match sub_path {
            None => volume.path.clone(),
            Some(sub_path) => {
                let target =
                    pod_dir.join("volume-subpaths").join(&mount.name).join(&container.name).join(index.to_string());
                subpath::bind(volume, sub_path, &target)
                    .await
                    .map_err(|error| ContainerConfigError::Volume(error.to_string()))?
            }
        };
        mounts.push(Mount {
            container_path: absolute(&mount.mount_path),
            host_path: host_path.display().to_string(),
            readonly: mount.read_only.unwrap_or(false) || volume.read_only,
            propagation: match mount.mount_propagation.as_deref() {
                Some("Bidirectional") => MountPropagation::PropagationBidirectional,
                Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
                _ => MountPropagation::PropagationPrivate,
            } as i32,
            selinux_relabel: volume.selinux_relabel,
            ..Default::default()
        });
    }
    let takes = |path: &str, mounts: &[Mount]| mounts.iter().any(|mount| mount.container_path == path);
    if !takes("/etc/hosts", &mounts) {
        let path = pod_dir.join("etc-hosts");
        let node_hosts = match spec::host_network(pod) {
            true => tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default(),
            false => String::new(),
        };
        let text = hosts::hosts_file(pod, request.pod_ips, &context.config.cluster_domain, &node_hosts);
        tokio::fs::write(&path, text).await.map_err(io("writing the hosts file", &path))?;
        mounts.push(file_mount("/etc/hosts", &path));
    }
    let termination_log = termination_log(container);
    if !takes(termination_log, &mounts) {
        let path = new_termination_log(&pod_dir, container).await?;
        mounts.push(file_mount(termination_log, &path));
    }
    Ok(mounts)
}

/// An empty file of this instance alone, writable by whatever user the container runs as.
async fn new_termination_log(pod_dir: &Path, container: &Container) -> Result<PathBuf, ContainerConfigError> {
    let dir = pod_dir.join("containers").join(&container.name);
    tokio::fs::create_dir_all(&dir).await.map_err(io("creating", &dir))?;
    let path = dir.join(format!("{:08x}", rand::random::<u32>()));
    tokio::fs::write(&path, b"").await.map_err(io("creating the termination log", &path))?;
    volumes::set_mode(&path, 0o666).map_err(io("opening to all", &path))?;
    Ok(path)
}

fn file_mount(container_path: &str, host_path: &Path) -> Mount {
    Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.display().to_string(),
        selinux_relabel: true,
        ..Default::default()
    }
}

/// A relative mount path counts from the root.
fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}
