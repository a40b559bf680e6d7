//! What pods can't have because of their operating system (KEP-2802).

use apimachinery::validation::Cursor;

/// Members of a Windows pod's spec, and of its and its containers' security contexts, that only Linux understands.
const LINUX_SPEC: [&str; 4] = ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];
const LINUX_POD: [&str; 11] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
const LINUX_CONTAINER: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// Checks `os` of a pod and what of the spec does not go with it.
pub fn validate(os: &Cursor<'_>, spec: &Cursor<'_>) {
    let context = spec.field("securityContext");
    let containers = ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| spec.field(list).items())
        .map(|container| container.field("securityContext"));
    match os.field("name").str() {
        "" => os.field("name").missing(""),
        "linux" => {
            for context in containers.chain([context]) {
                context.field("windowsOptions").absent("windows options cannot be set for a linux pod");
            }
        }
        "windows" => {
            // False is what these mean when they are not set; upstream does not tell one from the other.
            let set = |c: &Cursor<'_>, name: &str| {
                c.exists() && (!name.starts_with("host") || name == "hostUsers" || c.bool())
            };
            let forbid = |owner: &Cursor<'_>, names: &[&'static str]| {
                for name in names.iter().filter(|name| set(&owner.field(name), name)) {
                    owner.field(name).forbid("cannot be set for a windows pod");
                }
            };
            forbid(spec, &LINUX_SPEC);
            forbid(&context, &LINUX_POD);
            containers.for_each(|context| forbid(&context, &LINUX_CONTAINER));
        }
        name => os.push(apimachinery::validation::FieldError::not_supported(os.path(), name, &["linux", "windows"])),
    }
}
