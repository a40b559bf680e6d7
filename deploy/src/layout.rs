//! Every path that is written, in one place: what `up` makes, `down` removes.

/// Certificates, kubeconfigs and static pod manifests, as kubeadm lays them out.
pub const KUBERNETES: &str = "/etc/kubernetes";
pub const PKI: &str = "/etc/kubernetes/pki";
pub const MANIFESTS: &str = "/etc/kubernetes/manifests";
pub const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";
/// Beyond what RBAC says; for this program.
pub const SUPER_ADMIN_CONF: &str = "/etc/kubernetes/super-admin.conf";
pub const CA_CERT: &str = "/etc/kubernetes/pki/ca.crt";
/// What a joining kubelet asks for its certificate with.
pub const BOOTSTRAP_CONF: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
pub const KUBELET_CONF: &str = "/etc/kubernetes/kubelet.conf";

/// Configuration of what runs beneath the cluster.
pub const ETC: &str = "/etc/ferrokube";
pub const CONTAINERD_CONFIG: &str = "/etc/ferrokube/containerd.toml";
pub const CNI_CONF_DIR: &str = "/etc/ferrokube/cni";
/// Debian puts the CNI plugins here.
pub const CNI_BIN_DIR: &str = "/usr/lib/cni";

pub const BIN: &str = "/usr/local/lib/ferrokube";
/// Persistent state of containerd.
pub const CONTAINERD_ROOT: &str = "/var/lib/ferrokube/containerd";
pub const VAR: &str = "/var/lib/ferrokube";
pub const RUN: &str = "/run/ferrokube";
pub const CONTAINERD_SOCKET: &str = "/run/ferrokube/containerd/containerd.sock";
pub const CONTAINERD_STATE: &str = "/run/ferrokube/containerd";
pub const SUPERVISOR_PID: &str = "/run/ferrokube/supervisor.pid";
pub const LOGS: &str = "/var/log/ferrokube";

pub const KUBELET_ROOT: &str = "/var/lib/kubelet";
pub const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
pub const ETCD_DATA: &str = "/var/lib/etcd-ferrokube";

/// Units, where systemd is PID 1.
pub const CONTAINERD_UNIT: &str = "ferrokube-containerd.service";
pub const KUBELET_UNIT: &str = "kubelet.service";
pub const UNITS: &str = "/etc/systemd/system";

/// Further nodes of this machine: the files of each, below a folder of its name.
pub const NODES: &str = "/var/lib/ferrokube/nodes";
/// Their namespaces, held by a mount each.
pub const NODE_NAMESPACES: &str = "/run/ferrokube/nodes";
/// What each of them has for itself of the machine's folders. Those below /run are empty after a start, as a machine's are.
pub const NODE_FOLDERS: &[&str] = &[
    KUBERNETES,
    ETC,
    VAR,
    RUN,
    LOGS,
    KUBELET_ROOT,
    ETCD_DATA,
    "/var/log/pods",
    "/var/log/containers",
    "/var/lib/cni",
    "/run/netns",
    "/run/containerd",
];

/// Folders that `down` removes whole, deepest purpose first.
pub const REMOVED: &[&str] = &[
    KUBERNETES,
    KUBELET_ROOT,
    ETCD_DATA,
    VAR,
    RUN,
    LOGS,
    ETC,
    BIN,
    "/var/log/pods",
    "/var/log/containers",
    "/var/lib/cni/networks/ferrokube",
    "/var/lib/cni/results",
];

/// Whether systemd runs this machine.
pub fn has_systemd() -> bool {
    std::path::Path::new("/run/systemd/system").exists()
}

/// Pods' name servers: behind systemd-resolved the real ones, since its own address means nothing in a pod.
pub fn resolv_conf() -> &'static str {
    let real = "/run/systemd/resolve/resolv.conf";
    if std::path::Path::new(real).exists() { real } else { "/etc/resolv.conf" }
}
