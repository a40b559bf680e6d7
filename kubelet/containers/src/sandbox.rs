//! The sandbox configuration of a pod.

use std::collections::HashMap;

use cgroups::resources;
use cri_client::names;
use k8s_openapi::api::core::v1::Pod;
use node_context::Context;
use pod_state::spec;
use proto::cri::{
    DnsConfig, LinuxContainerResources, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping,
    Protocol,
};

use crate::{hosts, security};

/// What every sandbox and container of the pod is labelled with, over the pod's own labels.
pub fn labels(pod: &Pod) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> = pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    labels.insert(names::POD_NAME.into(), spec::name(pod).into());
    labels.insert(names::POD_NAMESPACE.into(), spec::namespace(pod).into());
    labels.insert(names::POD_UID.into(), spec::uid(pod).into());
    labels
}

/// The configuration for the `attempt`th sandbox of the pod.
pub fn config(context: &Context, pod: &Pod, attempt: u32, dns: DnsConfig) -> PodSandboxConfig {
    let pod_spec = spec::spec(pod);
    let hostname = match spec::host_network(pod) {
        true => String::new(),
        false => hosts::hostname(pod, &context.config.cluster_domain).0,
    };
    let security_context = pod_spec.security_context.as_ref();
    let sysctls = security_context.and_then(|context| context.sysctls.as_ref()).into_iter().flatten();
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: spec::name(pod).into(),
            uid: spec::uid(pod).into(),
            namespace: spec::namespace(pod).into(),
            attempt,
        }),
        hostname,
        log_directory: context.log_directory(pod),
        dns_config: Some(dns),
        port_mappings: if spec::host_network(pod) { Vec::new() } else { port_mappings(pod) },
        labels: labels(pod),
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: context.cgroups.parent_for_runtime(pod),
            security_context: Some(security::sandbox(pod, &context.root_dir, context.config.seccomp_default)),
            sysctls: sysctls.map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value.clone())).collect(),
            overhead: Some(LinuxContainerResources::default()),
            resources: Some(LinuxContainerResources {
                cpu_shares: resources::shares(spec::request(pod, "cpu")),
                cpu_quota: resources::quota(spec::limit(pod, "cpu").unwrap_or(0), context.resources.period_us),
                cpu_period: context.resources.period_us,
                memory_limit_in_bytes: spec::limit(pod, "memory").unwrap_or(0),
                ..Default::default()
            }),
        }),
    }
}

fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    let containers = spec::spec(pod).containers.iter();
    let containers = containers.chain(spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c)));
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .map(|port| PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            } as i32,
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}
