//! Security contexts of pods and containers.

use apimachinery::validation::Cursor;

/// Ids of users and groups are Linux' 32 bits, kept in 31.
const ID_MAX: i64 = i32::MAX as i64;

/// Checks a container's security context.
pub fn container(context: &Cursor<'_>, host_users: Option<bool>) {
    if !context.exists() {
        return;
    }
    context.field("runAsUser").range(0, ID_MAX);
    context.field("runAsGroup").range(0, ID_MAX);
    let proc_mount = context.field("procMount");
    proc_mount.one_of(&["Default", "Unmasked"]);
    if proc_mount.str() == "Unmasked" && host_users != Some(false) {
        proc_mount.invalid("`hostUsers` must be false to use `Unmasked`");
    }
    seccomp(&context.field("seccompProfile"));
    app_armor(&context.field("appArmorProfile"));
    let escalation = context.field("allowPrivilegeEscalation");
    if escalation.exists() && !escalation.bool() {
        if context.field("privileged").bool() {
            context.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        for added in context.field("capabilities").field("add").items() {
            if added.str() == "CAP_SYS_ADMIN" {
                context.invalid("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
            }
        }
    }
    windows(&context.field("windowsOptions"));
}

/// Checks a pod's security context.
pub fn pod(context: &Cursor<'_>, spec: &Cursor<'_>) {
    context.field("fsGroup").range(0, ID_MAX);
    context.field("runAsUser").range(0, ID_MAX);
    context.field("runAsGroup").range(0, ID_MAX);
    for group in context.field("supplementalGroups").items() {
        group.range(0, ID_MAX);
    }
    if spec.field("shareProcessNamespace").bool() && spec.field("hostPID").bool() {
        spec.field("shareProcessNamespace").invalid("ShareProcessNamespace and HostPID cannot both be enabled");
    }
    sysctls(&context.field("sysctls"), spec);
    context.field("fsGroupChangePolicy").one_of(&["Always", "OnRootMismatch"]);
    seccomp(&context.field("seccompProfile"));
    windows(&context.field("windowsOptions"));
    app_armor(&context.field("appArmorProfile"));
    context.field("supplementalGroupsPolicy").one_of(&["Merge", "Strict"]);
    context.field("seLinuxChangePolicy").one_of(&["MountOption", "Recursive"]);
}

fn sysctls(list: &Cursor<'_>, spec: &Cursor<'_>) {
    let part = |s: &str| {
        let ends = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        ends(s.as_bytes().first())
            && ends(s.as_bytes().last())
            && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    let mut seen = Vec::new();
    for sysctl in list.items() {
        let name = sysctl.field("name");
        if name.str().is_empty() {
            name.missing("");
        } else if name.len() > 253 || !name.str().split(['.', '/']).all(part) {
            name.invalid("must be a name of a sysctl, such as kernel.shm_rmid_forced, of no more than 253 characters");
        } else if seen.contains(&name.str()) {
            name.duplicate();
        }
        seen.push(name.str());
        let host_net = spec.field("hostNetwork").bool() && name.str().starts_with("net");
        let host_ipc = spec.field("hostIPC").bool()
            && (name.str().starts_with("kernel.shm") || name.str().starts_with("kernel.msg"));
        if host_net {
            name.invalid("may not be specified when 'hostNetwork' is true");
        }
        if host_ipc {
            name.invalid("may not be specified when 'hostIPC' is true");
        }
    }
}

fn seccomp(profile: &Cursor<'_>) {
    profile_type(profile, &["Localhost", "RuntimeDefault", "Unconfined"]);
}

fn app_armor(profile: &Cursor<'_>) {
    profile_type(profile, &["Localhost", "RuntimeDefault", "Unconfined"]);
}

/// A profile is named exactly when it is a local one.
fn profile_type(profile: &Cursor<'_>, types: &[&str]) {
    if !profile.exists() {
        return;
    }
    let (kind, name) = (profile.field("type"), profile.field("localhostProfile"));
    if !kind.required_because("type is required when a profile is set") {
        return;
    }
    if !types.contains(&kind.str()) {
        kind.not_supported(types);
    } else if kind.str() == "Localhost" {
        if name.required_because("must be set when the profile's type is Localhost")
            && (name.str().starts_with('/') || name.str().split('/').any(|part| part == ".."))
        {
            name.invalid("must be a relative path without '..'");
        }
    } else if name.exists() {
        name.invalid("can only be set when the profile's type is Localhost");
    }
}

fn windows(options: &Cursor<'_>) {
    options.field("gmsaCredentialSpec").bytes_max(64 * 1024);
    if options.field("gmsaCredentialSpecName").exists() {
        options.field("gmsaCredentialSpecName").shape(apimachinery::validation::names::dns1123_subdomain);
    }
    let user = options.field("runAsUserName");
    if user.exists() && user.str().chars().any(char::is_control) {
        user.invalid("runAsUserName cannot contain control characters");
    } else if user.exists() && user.str().trim().is_empty() {
        user.invalid("runAsUserName cannot be an empty string");
    }
}
