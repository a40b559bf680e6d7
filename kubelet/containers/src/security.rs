//! securityContext of pod and container in CRI's terms. A container's own setting wins over the pod's.

use std::path::Path;

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
};
use pod_state::spec;
use proto::cri::{
    self, Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, SecurityProfile, SupplementalGroupsPolicy, security_profile::ProfileType,
};

use crate::ContainerConfigError;

/// Paths hidden from containers under the default procMount, and those they can only read; the same as upstream and
/// Docker choose.
const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn pod_context(pod: &Pod) -> PodSecurityContext {
    spec::spec(pod).security_context.clone().unwrap_or_default()
}

/// The container asks for all of the host's powers.
pub fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|context| context.privileged).unwrap_or(false)
}

/// Network, PID and IPC namespaces as the pod wants them.
pub fn namespaces(pod: &Pod) -> NamespaceOption {
    let spec = spec::spec(pod);
    let mode = |host: Option<bool>, own: NamespaceMode| if host == Some(true) { NamespaceMode::Node } else { own };
    let pid = match spec.share_process_namespace {
        Some(true) => NamespaceMode::Pod,
        _ => NamespaceMode::Container,
    };
    NamespaceOption {
        network: mode(spec.host_network, NamespaceMode::Pod) as i32,
        pid: mode(spec.host_pid, pid) as i32,
        ipc: mode(spec.host_ipc, NamespaceMode::Pod) as i32,
        ..Default::default()
    }
}

fn selinux(options: &SELinuxOptions) -> cri::SeLinuxOption {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    cri::SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    }
}

fn seccomp(profile: Option<&SeccompProfile>, root: &Path, default: bool) -> SecurityProfile {
    let (profile_type, localhost_ref) = match profile.map(|profile| profile.type_.as_str()) {
        Some("RuntimeDefault") => (ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let name = profile.and_then(|profile| profile.localhost_profile.as_deref()).unwrap_or_default();
            (ProfileType::Localhost, root.join("seccomp").join(name).display().to_string())
        }
        Some(_) => (ProfileType::Unconfined, String::new()),
        None if default => (ProfileType::RuntimeDefault, String::new()),
        None => (ProfileType::Unconfined, String::new()),
    };
    SecurityProfile { profile_type: profile_type as i32, localhost_ref }
}

fn apparmor(profile: &AppArmorProfile) -> SecurityProfile {
    let profile_type = match profile.type_.as_str() {
        "RuntimeDefault" => ProfileType::RuntimeDefault,
        "Localhost" => ProfileType::Localhost,
        _ => ProfileType::Unconfined,
    };
    SecurityProfile {
        profile_type: profile_type as i32,
        localhost_ref: profile.localhost_profile.clone().unwrap_or_default(),
    }
}

fn groups_policy(context: &PodSecurityContext) -> i32 {
    match context.supplemental_groups_policy.as_deref() {
        Some("Strict") => SupplementalGroupsPolicy::Strict as i32,
        _ => SupplementalGroupsPolicy::Merge as i32,
    }
}

fn groups(context: &PodSecurityContext) -> Vec<i64> {
    let mut groups = context.supplemental_groups.clone().unwrap_or_default();
    groups.extend(context.fs_group);
    groups.dedup();
    groups
}

fn value(value: Option<i64>) -> Option<Int64Value> {
    value.map(|value| Int64Value { value })
}

/// The sandbox's context. `root`: the kubelet's root directory, for seccomp profiles of the node.
pub fn sandbox(pod: &Pod, root: &Path, seccomp_default: bool) -> LinuxSandboxSecurityContext {
    let context = pod_context(pod);
    let spec = spec::spec(pod);
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        selinux_options: context.se_linux_options.as_ref().map(selinux),
        run_as_user: value(context.run_as_user),
        // CRI refuses a group without a user.
        run_as_group: value(context.run_as_group.filter(|_| context.run_as_user.is_some())),
        supplemental_groups: groups(&context),
        supplemental_groups_policy: groups_policy(&context),
        privileged: spec.containers.iter().chain(spec::init_containers(pod)).any(is_privileged),
        // The pause process always runs confined, whatever the containers ask for.
        seccomp: Some(match &context.seccomp_profile {
            Some(profile) => seccomp(Some(profile), root, seccomp_default),
            None => SecurityProfile { profile_type: ProfileType::RuntimeDefault as i32, ..Default::default() },
        }),
        apparmor: context.app_armor_profile.as_ref().map(apparmor),
        ..Default::default()
    }
}

/// The container's context. `image_user`: uid or name that the image runs as, for runAsNonRoot.
pub fn container(
    pod: &Pod,
    container: &Container,
    image_user: ImageUser<'_>,
    root: &Path,
    seccomp_default: bool,
) -> Result<LinuxContainerSecurityContext, ContainerConfigError> {
    let outer = pod_context(pod);
    let empty = SecurityContext::default();
    let own = container.security_context.as_ref().unwrap_or(&empty);
    let run_as_user = own.run_as_user.or(outer.run_as_user);
    let run_as_group = own.run_as_group.or(outer.run_as_group);
    if own.run_as_non_root.or(outer.run_as_non_root) == Some(true) {
        verify_non_root(pod, container, run_as_user, &image_user)?;
    }
    // A group alone is legal in the API; CRI then wants the image's user spelled out.
    let (user, username) = match (run_as_user, run_as_group, image_user) {
        (Some(uid), ..) => (Some(uid), String::new()),
        (None, Some(_), ImageUser::Uid(uid)) => (Some(uid), String::new()),
        (None, Some(_), ImageUser::Name(name)) => (None, name.to_owned()),
        (None, None, ImageUser::Uid(uid)) => (Some(uid), String::new()),
        (None, None, ImageUser::Name(name)) => (None, name.to_owned()),
    };
    let privileged = own.privileged.unwrap_or(false);
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked") || privileged;
    let paths = |paths: &[&str]| if unmasked { Vec::new() } else { paths.iter().map(|p| (*p).to_owned()).collect() };
    Ok(LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|capabilities| Capability {
            add_capabilities: capabilities.add.clone().unwrap_or_default(),
            drop_capabilities: capabilities.drop.clone().unwrap_or_default(),
            ..Default::default()
        }),
        privileged,
        namespace_options: Some(namespaces(pod)),
        selinux_options: own.se_linux_options.as_ref().or(outer.se_linux_options.as_ref()).map(selinux),
        run_as_user: value(user),
        run_as_username: username,
        run_as_group: value(run_as_group),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(&outer),
        supplemental_groups_policy: groups_policy(&outer),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED_PATHS),
        readonly_paths: paths(&READONLY_PATHS),
        seccomp: Some(seccomp(own.seccomp_profile.as_ref().or(outer.seccomp_profile.as_ref()), root, seccomp_default)),
        apparmor: own.app_armor_profile.as_ref().or(outer.app_armor_profile.as_ref()).map(apparmor),
        ..Default::default()
    })
}

/// Whom an image runs as.
#[derive(Clone, Copy, Debug)]
pub enum ImageUser<'a> {
    Uid(i64),
    Name(&'a str),
}

impl<'a> From<&'a cri::Image> for ImageUser<'a> {
    fn from(image: &'a cri::Image) -> Self {
        match &image.uid {
            Some(uid) => Self::Uid(uid.value),
            None if image.username.is_empty() => Self::Uid(0),
            None => Self::Name(&image.username),
        }
    }
}

fn verify_non_root(
    pod: &Pod,
    container: &Container,
    run_as_user: Option<i64>,
    image_user: &ImageUser<'_>,
) -> Result<(), ContainerConfigError> {
    let place = format!(
        "(pod: \"{}_{}({})\", container: {})",
        spec::name(pod),
        spec::namespace(pod),
        spec::uid(pod),
        container.name
    );
    let message = match (run_as_user, image_user) {
        (Some(0), _) => format!("container's runAsUser breaks non-root policy {place}"),
        (Some(_), _) => return Ok(()),
        (None, ImageUser::Uid(0)) => {
            format!("container has runAsNonRoot and image will run as root {place}")
        }
        (None, ImageUser::Uid(_)) => return Ok(()),
        (None, ImageUser::Name(name)) => {
            format!(
                "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {place}"
            )
        }
    };
    Err(ContainerConfigError::Invalid { container: container.name.clone(), message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(
        pod: serde_json::Value,
        own: serde_json::Value,
        user: ImageUser<'_>,
    ) -> Result<LinuxContainerSecurityContext, ContainerConfigError> {
        let pod: Pod = serde_json::from_value(
            serde_json::json!({"spec": {"securityContext": pod, "containers": [{"name": "c", "securityContext": own}]}}),
        )
        .expect("a pod");
        container(&pod, &spec::spec(&pod).containers[0], user, Path::new("/var/lib/kubelet"), false)
    }

    #[test]
    fn run_as_non_root_is_checked_against_spec_and_image() {
        let non_root = serde_json::json!({"runAsNonRoot": true});
        for (own, user, allowed) in [
            (serde_json::json!({}), ImageUser::Uid(0), false),
            (serde_json::json!({}), ImageUser::Uid(1000), true),
            (serde_json::json!({}), ImageUser::Name("web"), false),
            (serde_json::json!({"runAsUser": 7}), ImageUser::Uid(0), true),
            (serde_json::json!({"runAsUser": 0}), ImageUser::Uid(5), false),
            (serde_json::json!({"runAsNonRoot": false}), ImageUser::Uid(0), true),
        ] {
            assert_eq!(context(non_root.clone(), own.clone(), user).is_ok(), allowed, "{own} {user:?}");
        }
    }

    #[test]
    fn the_container_wins_over_the_pod() {
        let made = context(
            serde_json::json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]}),
            serde_json::json!({"runAsUser": 9, "allowPrivilegeEscalation": false}),
            ImageUser::Uid(0),
        )
        .expect("made");
        assert_eq!(made.run_as_user.map(|v| v.value), Some(9));
        assert_eq!(made.run_as_group.map(|v| v.value), Some(2));
        assert_eq!(made.supplemental_groups, [4, 3]);
        assert!(made.no_new_privs && made.masked_paths.contains(&"/proc/kcore".to_owned()));
    }
}
