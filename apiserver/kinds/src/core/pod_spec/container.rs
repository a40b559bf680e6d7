//! Containers of a pod: regular, init and ephemeral.

use apimachinery::validation::{Cursor, FieldError, names};

use super::{env, probe, resources, security, volume};

/// What containers are checked against.
pub struct Scope<'a> {
    pub spec: &'a Cursor<'a>,
    pub volumes: &'a [volume::Volume<'a>],
    pub claims: Vec<&'a str>,
    pub grace: Option<i64>,
    pub host_users: Option<bool>,
}

impl<'a> Scope<'a> {
    pub fn of(spec: &'a Cursor<'a>, volumes: &'a [volume::Volume<'a>]) -> Self {
        let claims = spec.field("resourceClaims").array().iter().filter_map(|c| c["name"].as_str()).collect();
        let host_users = spec.field("hostUsers").value().and_then(|v| v.as_bool());
        Scope { spec, volumes, claims, grace: spec.field("terminationGracePeriodSeconds").i64(), host_users }
    }
}

/// Checks `containers`.
pub fn regular(scope: &Scope<'_>) {
    let list = scope.spec.field("containers");
    if !list.required() {
        return;
    }
    let mut seen = Vec::new();
    for container in list.items() {
        common(&container, scope);
        unique(&container, &mut seen);
        probe::lifecycle(&container.field("lifecycle"), scope.grace);
        probes(&container, scope);
        if container.field("restartPolicy").exists() {
            restart_policy(&container.field("restartPolicy"), &["Always", "Never", "OnFailure"]);
        }
    }
    port_conflicts(&list);
}

/// Checks `initContainers`. One that restarts always is a sidecar and may have what regular containers have (KEP-753).
pub fn init(scope: &Scope<'_>) {
    let list = scope.spec.field("initContainers");
    let mut seen: Vec<&str> =
        scope.spec.field("containers").array().iter().filter_map(|c| c["name"].as_str()).collect();
    for container in list.items() {
        common(&container, scope);
        unique(&container, &mut seen);
        let policy = container.field("restartPolicy");
        if !policy.is_empty() {
            restart_policy(&policy, &["Always", "Never", "OnFailure"]);
        }
        if policy.str() == "Always" {
            probe::lifecycle(&container.field("lifecycle"), scope.grace);
            probes(&container, scope);
        } else {
            for name in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                container.field(name).absent("may not be set for init containers without restartPolicy=Always");
            }
        }
    }
    port_conflicts(&list);
}

/// Checks `ephemeralContainers`, which can't be restarted, counted or found through a Service.
pub fn ephemeral(scope: &Scope<'_>) {
    const FORBIDDEN: [&str; 6] =
        ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resizePolicy"];
    let spec = scope.spec;
    let names_of =
        |list: &'static str| spec.field(list).array().iter().filter_map(|c| c["name"].as_str()).collect::<Vec<_>>();
    let targets = [names_of("containers"), names_of("initContainers")].concat();
    let mut seen = targets.clone();
    for container in spec.field("ephemeralContainers").items() {
        common(&container, scope);
        unique(&container, &mut seen);
        let target = container.field("targetContainerName");
        if !target.is_empty() && !targets.contains(&target.str()) {
            target.not_found();
        }
        for name in FORBIDDEN.into_iter().filter(|n| !container.field(n).is_empty()) {
            container.field(name).forbid("cannot be set for an Ephemeral Container");
        }
        if container.field("resources").object().is_some_and(|r| !r.is_empty()) {
            container.field("resources").forbid("cannot be set for an Ephemeral Container");
        }
        if container.field("restartPolicy").exists() {
            container.field("restartPolicy").forbid("cannot be set for an Ephemeral Container");
        }
        for mount in container.field("volumeMounts").items() {
            for name in ["subPath", "subPathExpr"].into_iter().filter(|n| !mount.field(n).is_empty()) {
                mount.field(name).forbid("cannot be set for an Ephemeral Container");
            }
        }
    }
}

fn unique<'a>(container: &Cursor<'a>, seen: &mut Vec<&'a str>) {
    let name = container.field("name");
    if !name.is_empty() && seen.contains(&name.str()) {
        name.duplicate();
    }
    seen.push(name.str());
}

fn restart_policy(policy: &Cursor<'_>, allowed: &[&str]) {
    policy.one_of(allowed);
}

fn probes(container: &Cursor<'_>, scope: &Scope<'_>) {
    let (liveness, startup) = (container.field("livenessProbe"), container.field("startupProbe"));
    probe::probe(&liveness, scope.grace);
    probe::one_success(&liveness);
    let readiness = container.field("readinessProbe");
    probe::probe(&readiness, scope.grace);
    if readiness.field("terminationGracePeriodSeconds").exists() {
        readiness.field("terminationGracePeriodSeconds").invalid("must not be set for readinessProbes");
    }
    probe::probe(&startup, scope.grace);
    probe::one_success(&startup);
}

fn common(container: &Cursor<'_>, scope: &Scope<'_>) {
    let field = |name| container.field(name);
    field("name").required_shape(names::dns1123_label);
    field("image").required();
    field("terminationMessagePolicy").required_one_of(&["FallbackToLogsOnError", "File"]);
    ports(&field("ports"));
    env::variables(&field("env"));
    env::sources(&field("envFrom"));
    volume::mounts(container, scope.volumes);
    volume::devices(container, scope.volumes);
    field("imagePullPolicy").required_one_of(&["Always", "IfNotPresent", "Never"]);
    resources::requirements(&field("resources"), &scope.claims);
    resources::resize_policy(&field("resizePolicy"), scope.spec.field("restartPolicy").str());
    security::container(&field("securityContext"), scope.host_users);
}

fn ports(list: &Cursor<'_>) {
    let mut seen = Vec::new();
    for port in list.items() {
        let (name, number, host) = (port.field("name"), port.field("containerPort"), port.field("hostPort"));
        if !name.is_empty() {
            if !names::port_name(name.str()).is_empty() {
                name.shape(names::port_name);
            } else if seen.contains(&name.str()) {
                name.duplicate();
            } else {
                seen.push(name.str());
            }
        }
        match number.i64().unwrap_or_default() {
            0 => number.missing(""),
            _ => {
                number.port();
            }
        }
        if host.i64().is_some_and(|h| h != 0) {
            host.port();
        }
        port.field("protocol").required_one_of(&["SCTP", "TCP", "UDP"]);
    }
}

/// On the host's network a container's port is the host's. A pod's is set to it by defaults; a template may leave that to its pods (0).
pub fn host_network_ports(spec: &Cursor<'_>) {
    if !spec.field("hostNetwork").bool() {
        return;
    }
    for port in spec.field("containers").items().flat_map(|container| container.field("ports").items()) {
        let [host, container] = ["hostPort", "containerPort"].map(|name| port.field(name).i64().unwrap_or_default());
        if host != 0 && host != container {
            port.field("hostPort").invalid_value(host, "must match `containerPort` when `hostNetwork` is true");
        }
    }
}

/// Checks what holds for containers of pods, and not of templates, which had been taken before the rule was made.
pub fn of_pods(spec: &Cursor<'_>) {
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for image in spec.field(list).items().map(|container| container.field("image")) {
            if image.str().trim() != image.str() {
                image.invalid("must not have leading or trailing whitespace");
            }
        }
    }
}

/// Two containers can't have the same port of the host.
fn port_conflicts(list: &Cursor<'_>) {
    let mut taken = Vec::new();
    for container in list.items() {
        for port in container.field("ports").items() {
            let Some(number) = port.field("hostPort").i64().filter(|n| *n != 0) else { continue };
            let key = format!("{}/{}/{}", port.field("protocol").str(), port.field("hostIP").str(), number);
            if taken.contains(&key) {
                port.push(FieldError::duplicate(port.field("hostPort").path(), key.as_str()));
            }
            taken.push(key);
        }
    }
}
