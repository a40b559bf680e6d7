//! The spec of a pod, as pods and all kinds with a template of pods share it: its defaults and its rules.
//!
//! Rules of updates are not here: what of a pod may change is [`super::pod`]'s matter, templates are replaced as a whole.

pub mod affinity;
pub mod annotations;
pub mod container;
pub mod defaults;
pub mod env;
mod operating_system;
pub mod probe;
pub mod resources;
pub mod security;
pub mod template;
pub mod volume;
pub mod warnings;

use apimachinery::validation::{Cursor, FieldError, names};

use container::Scope;

/// Priority classes that only Kubernetes itself makes.
const SYSTEM_PREFIX: &str = "system-";

/// Checks the spec of a pod, which in a template has no name yet. The order is upstream's, so that errors come in the order clients know.
pub fn validate(spec: &Cursor<'_>, pod_name: Option<&str>) {
    let field = |name| spec.field(name);
    let volumes = volume::volumes(&field("volumes"), pod_name);
    resource_claims(&field("resourceClaims"));
    let scope = Scope::of(spec, &volumes);
    container::regular(&scope);
    container::init(&scope);
    container::ephemeral(&scope);
    if field("resources").exists() {
        resources::pod_level(&field("resources"));
    }
    container::host_network_ports(spec);
    field("restartPolicy").required_one_of(&["Always", "OnFailure", "Never"]);
    dns_policy(&field("dnsPolicy"));
    affinity::node_labels(&field("nodeSelector"));
    security::pod(&field("securityContext"), spec);
    affinity::affinity(&field("affinity"));
    dns_config(&field("dnsConfig"), field("dnsPolicy").str());
    readiness_gates(&field("readinessGates"));
    scheduling_gates(&field("schedulingGates"));
    affinity::topology_spread(&field("topologySpreadConstraints"));
    host_users(spec);
    field("serviceAccountName").optional_shape(names::dns1123_subdomain);
    field("nodeName").optional_shape(names::dns1123_subdomain);
    field("activeDeadlineSeconds").range(1, i32::MAX.into());
    field("hostname").optional_shape(names::dns1123_label);
    field("subdomain").optional_shape(names::dns1123_label);
    affinity::tolerations(&field("tolerations"));
    host_aliases(&field("hostAliases"));
    field("priorityClassName").optional_shape(names::dns1123_subdomain);
    field("runtimeClassName").optional_shape(names::dns1123_subdomain);
    field("preemptionPolicy").one_of(&["Never", "PreemptLowerPriority"]);
    if field("overhead").exists() {
        resources::list(&field("overhead"));
    }
    let os = field("os");
    if os.exists() {
        operating_system::validate(&os, spec);
    }
    if !field("hostnameOverride").is_empty() {
        field("hostnameOverride").shape(names::dns1123_subdomain);
    }
    let workload = field("workloadRef");
    if workload.exists() {
        workload.field("name").required_shape(names::dns1123_subdomain);
        workload.field("podGroup").required_shape(names::dns1123_label);
        workload.field("podGroupReplicaKey").optional_shape(names::dns1123_label);
    }
}

fn dns_policy(policy: &Cursor<'_>) {
    policy.required_one_of(&["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]);
}

/// All search paths together, with a space between.
const SEARCH_BYTES_MAX: usize = 2048;

fn dns_config(config: &Cursor<'_>, policy: &str) {
    let (servers, searches) = (config.field("nameservers"), config.field("searches"));
    if policy == "None" {
        if !config.exists() {
            config.missing("must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            servers.missing("must provide at least one DNS nameserver when `dnsPolicy` is None");
            return;
        }
    }
    if servers.len() > 3 {
        servers.invalid("must not have more than 3 nameservers");
    }
    for server in servers.items() {
        server.shape(names::ip);
    }
    if searches.len() > 32 {
        searches.invalid("must not have more than 32 search paths");
    }
    let bytes = searches.items().map(|search| search.len() + 1).sum::<usize>();
    if bytes > SEARCH_BYTES_MAX + 1 {
        searches.invalid(format!(
            "must not have more than {SEARCH_BYTES_MAX} characters (including spaces) in the search list"
        ));
    }
    for search in searches.items() {
        let name = search.str().strip_suffix('.').unwrap_or(search.str());
        let labels = || name.split('.').all(|l| names::dns1123_label(&l.replace('_', "-")).is_empty());
        if search.str() != "." && !labels() {
            search.invalid("must be a domain name");
        }
    }
    for option in config.field("options").items() {
        if option.field("name").is_empty() {
            option.missing("must not be empty");
        }
    }
}

fn readiness_gates(list: &Cursor<'_>) {
    for gate in list.items() {
        gate.field("conditionType").shape(names::qualified_name);
    }
}

fn scheduling_gates(list: &Cursor<'_>) {
    let mut seen = Vec::new();
    for gate in list.items() {
        // The error is at the gate itself, as upstream's.
        names::qualified_name(gate.field("name").str())
            .into_iter()
            .for_each(|p| gate.invalid_value(gate.field("name").str(), p));
        if seen.contains(&gate.field("name").str()) {
            gate.push(FieldError::duplicate(gate.path(), gate.field("name").str()));
        }
        seen.push(gate.field("name").str());
    }
}

/// A user namespace can't be had together with a namespace of the host.
fn host_users(spec: &Cursor<'_>) {
    let host_users = spec.field("hostUsers");
    if !host_users.exists() || host_users.bool() {
        return;
    }
    for name in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec.field(name).bool() {
            // Upstream names these two after its own types.
            let path = match name {
                "hostPID" => "HostPID",
                "hostIPC" => "HostIPC",
                name => name,
            };
            spec.field(path).forbid("when `hostUsers` is false");
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for devices in spec.field(list).items().map(|container| container.field("volumeDevices")) {
            if !devices.is_empty() {
                devices.forbid("when `hostUsers` is false");
            }
        }
    }
}

fn host_aliases(list: &Cursor<'_>) {
    for alias in list.items() {
        alias.field("ip").shape(names::ip);
        for host in alias.field("hostnames").items() {
            host.shape(names::dns1123_subdomain);
        }
    }
}

fn resource_claims(list: &Cursor<'_>) {
    let mut seen = Vec::new();
    for claim in list.items() {
        let name = claim.field("name");
        if name.required() {
            if seen.contains(&name.str()) {
                name.duplicate();
            }
            name.shape(names::dns1123_label);
            seen.push(name.str());
        }
        let sources = [claim.field("resourceClaimName"), claim.field("resourceClaimTemplateName")];
        match sources.iter().filter(|s| s.exists()).count() {
            0 => claim.invalid("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
            1 => {}
            _ => claim.invalid("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"),
        }
        for source in sources.iter().filter(|s| s.exists()) {
            source.shape(names::dns1123_subdomain);
        }
    }
}

/// Whether a priority class is one that only Kubernetes makes.
pub fn is_system_priority_class(name: &str) -> bool {
    name.starts_with(SYSTEM_PREFIX)
}
