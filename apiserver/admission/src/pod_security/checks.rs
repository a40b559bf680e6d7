//! The rules of the Pod Security Standards, one row each, in the order in which violations are told.

use apimachinery::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    const ALL: [(&str, Level); 3] =
        [("privileged", Level::Privileged), ("baseline", Level::Baseline), ("restricted", Level::Restricted)];

    pub fn parse(word: &str) -> Option<Level> {
        Level::ALL.iter().find(|(name, _)| *name == word).map(|(_, level)| *level)
    }

    pub fn name(self) -> &'static str {
        Level::ALL[self as usize].0
    }
}

/// A pod, or the pod that a template will make.
pub struct Pod<'a> {
    pub metadata: &'a Value,
    pub spec: &'a Value,
}

pub struct Check {
    pub level: Level,
    /// The minor version that brought it.
    pub since: u32,
    /// From this level on another row is stricter about the same.
    pub replaced_at: Option<Level>,
    pub what: &'static str,
    /// What is wrong, in words.
    pub find: fn(&Pod) -> Option<String>,
}

const fn check(level: Level, since: u32, what: &'static str, find: fn(&Pod) -> Option<String>) -> Check {
    Check { level, since, replaced_at: None, what, find }
}

const fn weaker(since: u32, what: &'static str, find: fn(&Pod) -> Option<String>) -> Check {
    Check { level: Level::Baseline, since, replaced_at: Some(Level::Restricted), what, find }
}

use Level::{Baseline, Restricted};

pub const CHECKS: &[Check] = &[
    check(Baseline, 0, "forbidden AppArmor profile", app_armor),
    weaker(0, "non-default capabilities", |pod| forbidden_capabilities(pod, CAPABILITIES)),
    check(Baseline, 0, "host namespaces", host_namespaces),
    weaker(0, "hostPath volumes", host_paths),
    check(Baseline, 0, "hostPort", host_ports),
    check(Baseline, 0, "privileged", |pod| {
        let set = containers(pod).filter(|c| c["securityContext"]["privileged"] == true);
        told(set, "must not set securityContext.privileged=true")
    }),
    check(Baseline, 0, "procMount", |pod| {
        let set =
            containers(pod).filter(|c| c["securityContext"]["procMount"].as_str().is_some_and(|m| m != "Default"));
        told(set, "must not set securityContext.procMount to \"Unmasked\"")
    }),
    check(Baseline, 0, "seLinuxOptions", se_linux),
    weaker(19, "seccompProfile", unconfined),
    check(Baseline, 0, "forbidden sysctls", sysctls),
    check(Baseline, 0, "hostProcess", |pod| {
        let hosts = |holder: &Value| holder["securityContext"]["windowsOptions"]["hostProcess"] == true;
        let of_pod = hosts(pod.spec).then(|| "pod".to_owned());
        let who = joined(of_pod, subject(containers(pod).filter(|c| hosts(c))), " and ")?;
        Some(format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
    }),
    check(Restricted, 8, "allowPrivilegeEscalation != false", |pod| {
        let open = containers(pod).filter(|c| c["securityContext"]["allowPrivilegeEscalation"] != false);
        told(open.filter(|_| !is_windows(pod)), "must set securityContext.allowPrivilegeEscalation=false")
    }),
    check(Restricted, 22, "unrestricted capabilities", capabilities),
    check(Restricted, 0, "restricted volume types", volume_types),
    check(Restricted, 0, "runAsNonRoot != true", non_root),
    check(Restricted, 23, "runAsUser=0", |pod| {
        let root = |holder: &Value| holder["securityContext"]["runAsUser"] == 0;
        let of_pod = root(pod.spec).then(|| "pod".to_owned());
        let who = joined(of_pod, subject(containers(pod).filter(|c| root(c))), " and ")?;
        Some(format!("{who} must not set runAsUser=0"))
    }),
    check(Restricted, 19, "seccompProfile", seccomp),
];

/// Capabilities that container runtimes give by default.
const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Sysctls that belong to the pod's own namespaces.
const SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
const SE_LINUX_TYPES: &[&str] = &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
/// Volumes that show nothing of the node.
const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn containers<'a>(pod: &Pod<'a>) -> impl Iterator<Item = &'a Value> {
    let spec = pod.spec;
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists.into_iter().flat_map(move |list| spec[list].as_array().into_iter().flatten())
}

fn is_windows(pod: &Pod) -> bool {
    pod.spec["os"]["name"] == "windows"
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// `container "a"` or `containers "a", "b"`; none without any.
fn subject<'a>(found: impl Iterator<Item = &'a Value>) -> Option<String> {
    let names: Vec<&str> = found.map(|c| c["name"].as_str().unwrap_or("")).collect();
    match names.as_slice() {
        [] => None,
        [one] => Some(format!("container \"{one}\"")),
        many => Some(format!("containers {}", quoted(many.iter().copied()))),
    }
}

fn told<'a>(found: impl Iterator<Item = &'a Value>, must: &str) -> Option<String> {
    subject(found).map(|who| format!("{who} {must}"))
}

fn joined(a: Option<String>, b: Option<String>, between: &str) -> Option<String> {
    match (a, b) {
        (Some(a), Some(b)) => Some(format!("{a}{between}{b}")),
        (a, b) => a.or(b),
    }
}

fn app_armor(pod: &Pod) -> Option<String> {
    let bad = |holder: &Value| holder["securityContext"]["appArmorProfile"]["type"] == "Unconfined";
    let of_pod = bad(pod.spec).then(|| "pod".to_owned());
    let who = joined(of_pod, subject(containers(pod).filter(|c| bad(c))), " and ");
    let set = who.map(|who| format!("{who} must not set securityContext.appArmorProfile.type to \"Unconfined\""));
    let annotated = pod.metadata["annotations"].as_object().into_iter().flatten().filter_map(|(key, value)| {
        let value = value.as_str()?;
        let allowed = value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
        let about = key.starts_with("container.apparmor.security.beta.kubernetes.io/");
        (about && !allowed).then(|| format!("annotation \"{key}\" must not be \"{value}\""))
    });
    let annotated: Vec<String> = annotated.collect();
    joined(set, (!annotated.is_empty()).then(|| annotated.join(", ")), "; ")
}

/// Who adds capabilities beyond those allowed, and which.
fn forbidden_capabilities(pod: &Pod, allowed: &[&str]) -> Option<String> {
    let added = |c: &Value| -> Vec<String> {
        let add = c["securityContext"]["capabilities"]["add"].as_array().cloned().unwrap_or_default();
        add.iter().filter_map(Value::as_str).filter(|name| !allowed.contains(name)).map(str::to_owned).collect()
    };
    let who = subject(containers(pod).filter(|c| !added(c).is_empty()))?;
    let mut names: Vec<String> = containers(pod).flat_map(added).collect();
    names.sort();
    names.dedup();
    Some(format!(
        "{who} must not include {} in securityContext.capabilities.add",
        quoted(names.iter().map(String::as_str))
    ))
}

fn capabilities(pod: &Pod) -> Option<String> {
    if is_windows(pod) {
        return None;
    }
    let drops_all = |c: &Value| {
        c["securityContext"]["capabilities"]["drop"].as_array().is_some_and(|drop| drop.iter().any(|d| d == "ALL"))
    };
    let keeps = told(containers(pod).filter(|c| !drops_all(c)), "must set securityContext.capabilities.drop=[\"ALL\"]");
    joined(keeps, forbidden_capabilities(pod, &["NET_BIND_SERVICE"]), "; ")
}

fn host_namespaces(pod: &Pod) -> Option<String> {
    let names = ["hostNetwork", "hostPID", "hostIPC"];
    let set: Vec<String> =
        names.iter().filter(|name| pod.spec[**name] == true).map(|name| format!("{name}=true")).collect();
    (!set.is_empty()).then(|| set.join(", "))
}

fn host_paths(pod: &Pod) -> Option<String> {
    let volumes = pod.spec["volumes"].as_array().into_iter().flatten();
    let names: Vec<&str> =
        volumes.filter(|v| !v["hostPath"].is_null()).map(|v| v["name"].as_str().unwrap_or("")).collect();
    let word = if names.len() == 1 { "volume" } else { "volumes" };
    (!names.is_empty()).then(|| format!("{word} {}", quoted(names)))
}

fn host_ports(pod: &Pod) -> Option<String> {
    let ports = |c: &Value| -> Vec<i64> {
        let ports = c["ports"].as_array().cloned().unwrap_or_default();
        ports.iter().filter_map(|p| p["hostPort"].as_i64()).filter(|p| *p != 0).collect()
    };
    let mut all: Vec<i64> = containers(pod).flat_map(ports).collect();
    let who = subject(containers(pod).filter(|c| !ports(c).is_empty()))?;
    all.sort_unstable();
    all.dedup();
    let verb = if who.starts_with("containers") { "use" } else { "uses" };
    let word = if all.len() == 1 { "hostPort" } else { "hostPorts" };
    let shown: Vec<String> = all.iter().map(i64::to_string).collect();
    Some(format!("{who} {verb} {word} {}", shown.join(", ")))
}

fn se_linux(pod: &Pod) -> Option<String> {
    let bad = |holder: &Value| {
        let options = &holder["securityContext"]["seLinuxOptions"];
        let text = |name: &str| options[name].as_str().unwrap_or("");
        !SE_LINUX_TYPES.contains(&text("type")) || !text("user").is_empty() || !text("role").is_empty()
    };
    let of_pod = bad(pod.spec).then(|| "pod".to_owned());
    let who = joined(of_pod, subject(containers(pod).filter(|c| bad(c))), " and ")?;
    Some(format!("{who} set forbidden securityContext.seLinuxOptions"))
}

fn unconfined(pod: &Pod) -> Option<String> {
    let bad = |holder: &Value| holder["securityContext"]["seccompProfile"]["type"] == "Unconfined";
    let of_pod = bad(pod.spec).then(|| "pod".to_owned());
    let who = joined(of_pod, subject(containers(pod).filter(|c| bad(c))), " and ")?;
    Some(format!("{who} must not set securityContext.seccompProfile.type to \"Unconfined\""))
}

fn sysctls(pod: &Pod) -> Option<String> {
    let list = pod.spec["securityContext"]["sysctls"].as_array().into_iter().flatten();
    let bad: Vec<&str> = list.filter_map(|s| s["name"].as_str()).filter(|name| !SYSCTLS.contains(name)).collect();
    (!bad.is_empty()).then(|| bad.join(", "))
}

fn volume_types(pod: &Pod) -> Option<String> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for volume in pod.spec["volumes"].as_array().into_iter().flatten() {
        let source = volume.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).find(|key| *key != "name");
        if let Some(source) = source.filter(|source| !VOLUMES.contains(source)) {
            found.push((volume["name"].as_str().unwrap_or(""), source));
        }
    }
    let mut types: Vec<&str> = found.iter().map(|(_, source)| *source).collect();
    types.sort_unstable();
    types.dedup();
    let (names, word) = (quoted(found.iter().map(|(name, _)| *name)), if types.len() == 1 { "type" } else { "types" });
    match found.len() {
        0 => None,
        1 => Some(format!("volume {names} uses restricted volume {word} {}", quoted(types))),
        _ => Some(format!("volumes {names} use restricted volume {word} {}", quoted(types))),
    }
}

fn non_root(pod: &Pod) -> Option<String> {
    let says = |holder: &Value| holder["securityContext"]["runAsNonRoot"].as_bool();
    let may = containers(pod).filter(|c| says(c) == Some(false));
    let mut problems: Vec<String> = Vec::new();
    // The pod's word counts for containers that say nothing.
    let silent: Vec<&Value> = containers(pod).filter(|c| says(c).is_none()).collect();
    if says(pod.spec) == Some(false) && !silent.is_empty() {
        problems.push("pod must not set securityContext.runAsNonRoot=false".into());
    }
    problems.extend(told(may, "must not set securityContext.runAsNonRoot=false"));
    if says(pod.spec).is_none()
        && let Some(who) = subject(silent.into_iter())
    {
        problems.push(format!("pod or {who} must set securityContext.runAsNonRoot=true"));
    }
    (!problems.is_empty()).then(|| problems.join("; "))
}

fn seccomp(pod: &Pod) -> Option<String> {
    if is_windows(pod) {
        return None;
    }
    fn kind(holder: &Value) -> Option<&str> {
        holder["securityContext"]["seccompProfile"]["type"].as_str()
    }
    let confined = |kind: &str| matches!(kind, "RuntimeDefault" | "Localhost");
    let bad = unconfined(pod);
    let silent = containers(pod).filter(|c| kind(c).is_none());
    let open = if kind(pod.spec).is_some_and(confined) { None } else { subject(silent) };
    let must = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
    joined(bad, open.map(|who| format!("pod or {who} {must}")), "; ")
}
