//! Security contexts of pods and containers.

use apimachinery::validation::{Cursor, names};

use crate::core::volume_source::descending_path;

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

const PROFILE_TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// A seccomp profile is a file below the kubelet's folder exactly when it is a local one.
fn seccomp(profile: &Cursor<'_>) {
    if !profile.exists() {
        return;
    }
    let (kind, name) = (profile.field("type"), profile.field("localhostProfile"));
    if kind.required_because("type is required when seccompProfile is set") {
        kind.one_of(&PROFILE_TYPES);
    }
    if kind.str() != "Localhost" {
        if name.exists() {
            name.invalid("can only be set when seccomp type is Localhost");
        }
    } else if name.exists() {
        descending_path(&name);
    } else {
        name.missing("must be set when seccomp type is Localhost");
    }
}

/// The path of an AppArmor profile, with its end.
const APP_ARMOR_BYTES_MAX: usize = 4095;

/// An AppArmor profile is named, as it is loaded on the node, exactly when it is a local one.
fn app_armor(profile: &Cursor<'_>) {
    if !profile.exists() {
        return;
    }
    let (kind, name) = (profile.field("type"), profile.field("localhostProfile"));
    if !kind.required_because("type is required when appArmorProfile is set") {
        return;
    }
    kind.one_of(&PROFILE_TYPES);
    match kind.str() {
        "Localhost" => {
            if name.str().trim() != name.str() {
                name.invalid("must not be padded with whitespace");
            } else {
                name.required_because("must be set when AppArmor type is Localhost");
            }
            name.bytes_max(APP_ARMOR_BYTES_MAX);
        }
        "RuntimeDefault" | "Unconfined" if name.exists() => {
            name.invalid("can only be set when AppArmor type is Localhost");
        }
        _ => {}
    }
}

/// Limits of Windows: https://learn.microsoft.com/troubleshoot/windows-server/active-directory/naming-conventions-for-computer-domain-site-ou
const CREDENTIAL_SPEC_BYTES_MAX: usize = 64 * 1024;
const DOMAIN_BYTES_MAX: usize = 255;
const USER_BYTES_MAX: usize = 104;

fn windows(options: &Cursor<'_>) {
    let (spec, spec_name) = (options.field("gmsaCredentialSpec"), options.field("gmsaCredentialSpecName"));
    if spec_name.exists() {
        spec_name.shape(names::dns1123_subdomain);
    }
    if spec.exists() && spec.is_empty() {
        spec.invalid("gmsaCredentialSpec cannot be an empty string");
    } else if spec.len() > CREDENTIAL_SPEC_BYTES_MAX {
        spec.invalid("gmsaCredentialSpec size must be under 64 KiB");
    }
    if options.field("runAsUserName").exists() {
        windows_user(&options.field("runAsUserName"));
    }
}

/// `DOMAIN\\user` or `user`.
fn windows_user(name: &Cursor<'_>) {
    if name.is_empty() {
        return name.invalid("runAsUserName cannot be an empty string");
    }
    if name.str().chars().any(char::is_control) {
        return name.invalid("runAsUserName cannot contain control characters");
    }
    let (domain, user) = match name.str().split('\\').collect::<Vec<_>>()[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return name.invalid("runAsUserName cannot contain more than one backslash"),
    };
    if domain.is_some_and(|domain| domain.len() > DOMAIN_BYTES_MAX) {
        name.invalid("runAsUserName's Domain length must be under 256 characters");
    }
    if domain.is_some_and(|domain| !is_net_bios_name(domain) && !is_dns_name(domain)) {
        name.invalid("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        name.invalid("runAsUserName's User cannot be empty");
    } else if user.len() > USER_BYTES_MAX {
        name.invalid("runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        name.invalid("runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        name.invalid("runAsUserName's User cannot contain any of the characters \"/\\:;|=,+*?<>@[]");
    }
}

fn is_net_bios_name(domain: &str) -> bool {
    let forbidden = |c: char| "\\/:*?\"<>|.".contains(c);
    (1..=15).contains(&domain.chars().count()) && !domain.starts_with('.') && !domain.contains(forbidden)
}

fn is_dns_name(domain: &str) -> bool {
    let label = |label: &str| {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(inside) && !label.starts_with('-') && !label.ends_with('-')
    };
    domain.split('.').all(label)
}
