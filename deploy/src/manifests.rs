//! Configuration files: static pods of the control plane, kubelet, containerd. Made from what [`Cluster`] says.

use crate::images::{VERSION, name};
use crate::layout::*;
use serde_json::{Value, json};
use std::net::IpAddr;

/// What is particular about a cluster.
pub struct Cluster {
    pub node: String,
    pub address: IpAddr,
    pub service_range: String,
    /// First address of the service range: the service `kubernetes`.
    pub service_address: IpAddr,
    /// Address of the service `kube-dns`.
    pub dns_address: IpAddr,
    pub pod_range: String,
    pub domain: String,
}

pub const API_PORT: u16 = 6443;

impl Cluster {
    /// Where clients on this machine and others reach the API server.
    pub fn server(&self) -> String {
        match self.address {
            IpAddr::V4(ip) => format!("https://{ip}:{API_PORT}"),
            IpAddr::V6(ip) => format!("https://[{ip}]:{API_PORT}"),
        }
    }

    /// The static pods, by file name.
    pub fn static_pods(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("etcd.yaml", self.etcd()),
            ("kube-apiserver.yaml", self.apiserver()),
            ("kube-controller-manager.yaml", self.controller_manager()),
            ("kube-scheduler.yaml", self.scheduler()),
        ]
    }

    fn etcd(&self) -> Value {
        let (address, node) = (self.address, &self.node);
        let pki = |file: &str| format!("{PKI}/etcd/{file}");
        let command = vec![
            "etcd".to_owned(),
            format!("--name={node}"),
            format!("--data-dir={ETCD_DATA}"),
            format!("--listen-client-urls=https://127.0.0.1:2379,https://{address}:2379"),
            format!("--advertise-client-urls=https://{address}:2379"),
            format!("--listen-peer-urls=https://{address}:2380"),
            format!("--initial-advertise-peer-urls=https://{address}:2380"),
            format!("--initial-cluster={node}=https://{address}:2380"),
            "--listen-metrics-urls=http://127.0.0.1:2381".into(),
            format!("--cert-file={}", pki("server.crt")),
            format!("--key-file={}", pki("server.key")),
            format!("--trusted-ca-file={}", pki("ca.crt")),
            "--client-cert-auth=true".into(),
            format!("--peer-cert-file={}", pki("peer.crt")),
            format!("--peer-key-file={}", pki("peer.key")),
            format!("--peer-trusted-ca-file={}", pki("ca.crt")),
            "--peer-client-cert-auth=true".into(),
            "--snapshot-count=10000".into(),
            "--quota-backend-bytes=8589934592".into(),
        ];
        let probe = http_get("127.0.0.1", 2381, "/health", "HTTP");
        static_pod(
            "etcd",
            command,
            "100m",
            probe,
            &[("etcd-data", ETCD_DATA, false), ("etcd-certs", &pki_folder("etcd"), true)],
        )
    }

    fn apiserver(&self) -> Value {
        let pki = |file: &str| format!("{PKI}/{file}");
        let command = vec![
            "kube-apiserver".to_owned(),
            format!("--advertise-address={}", self.address),
            "--allow-privileged=true".into(),
            "--authorization-mode=Node,RBAC".into(),
            format!("--client-ca-file={}", pki("ca.crt")),
            "--enable-admission-plugins=NodeRestriction".into(),
            "--enable-bootstrap-token-auth=true".into(),
            format!("--etcd-cafile={}", pki("etcd/ca.crt")),
            format!("--etcd-certfile={}", pki("apiserver-etcd-client.crt")),
            format!("--etcd-keyfile={}", pki("apiserver-etcd-client.key")),
            "--etcd-servers=https://127.0.0.1:2379".into(),
            format!("--kubelet-client-certificate={}", pki("apiserver-kubelet-client.crt")),
            format!("--kubelet-client-key={}", pki("apiserver-kubelet-client.key")),
            "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname".into(),
            format!("--proxy-client-cert-file={}", pki("front-proxy-client.crt")),
            format!("--proxy-client-key-file={}", pki("front-proxy-client.key")),
            "--requestheader-allowed-names=front-proxy-client".into(),
            format!("--requestheader-client-ca-file={}", pki("front-proxy-ca.crt")),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
            "--requestheader-group-headers=X-Remote-Group".into(),
            "--requestheader-username-headers=X-Remote-User".into(),
            format!("--secure-port={API_PORT}"),
            format!("--service-account-issuer=https://kubernetes.default.svc.{}", self.domain),
            format!("--service-account-key-file={}", pki("sa.pub")),
            format!("--service-account-signing-key-file={}", pki("sa.key")),
            format!("--service-cluster-ip-range={}", self.service_range),
            format!("--tls-cert-file={}", pki("apiserver.crt")),
            format!("--tls-private-key-file={}", pki("apiserver.key")),
        ];
        let probe = http_get(&self.address.to_string(), API_PORT, "/livez", "HTTPS");
        let mut pod = static_pod("kube-apiserver", command, "250m", probe, &[("k8s-certs", PKI, true)]);
        pod["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": http_get(&self.address.to_string(), API_PORT, "/readyz", "HTTPS"), "periodSeconds": 1, "timeoutSeconds": 15, "failureThreshold": 3});
        pod
    }

    fn controller_manager(&self) -> Value {
        let conf = format!("{KUBERNETES}/controller-manager.conf");
        let pki = |file: &str| format!("{PKI}/{file}");
        let command = vec![
            "kube-controller-manager".to_owned(),
            "--allocate-node-cidrs=true".into(),
            format!("--authentication-kubeconfig={conf}"),
            format!("--authorization-kubeconfig={conf}"),
            "--bind-address=127.0.0.1".into(),
            format!("--client-ca-file={}", pki("ca.crt")),
            format!("--cluster-cidr={}", self.pod_range),
            "--cluster-name=kubernetes".into(),
            format!("--cluster-signing-cert-file={}", pki("ca.crt")),
            format!("--cluster-signing-key-file={}", pki("ca.key")),
            "--controllers=*,bootstrapsigner,tokencleaner".into(),
            format!("--kubeconfig={conf}"),
            "--leader-elect=true".into(),
            format!("--requestheader-client-ca-file={}", pki("front-proxy-ca.crt")),
            format!("--root-ca-file={}", pki("ca.crt")),
            format!("--service-account-private-key-file={}", pki("sa.key")),
            format!("--service-cluster-ip-range={}", self.service_range),
            "--use-service-account-credentials=true".into(),
        ];
        let probe = http_get("127.0.0.1", 10257, "/healthz", "HTTPS");
        static_pod(
            "kube-controller-manager",
            command,
            "200m",
            probe,
            &[("k8s-certs", PKI, true), ("kubeconfig", &conf, true)],
        )
    }

    fn scheduler(&self) -> Value {
        let conf = format!("{KUBERNETES}/scheduler.conf");
        let command = vec![
            "kube-scheduler".to_owned(),
            format!("--authentication-kubeconfig={conf}"),
            format!("--authorization-kubeconfig={conf}"),
            "--bind-address=127.0.0.1".into(),
            format!("--kubeconfig={conf}"),
            "--leader-elect=true".into(),
        ];
        let probe = http_get("127.0.0.1", 10259, "/livez", "HTTPS");
        static_pod("kube-scheduler", command, "100m", probe, &[("kubeconfig", &conf, true)])
    }

    /// kubeadm's description of the cluster, for those who join and for `kubeadm` itself.
    pub fn cluster_configuration(&self) -> Value {
        json!({
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "caCertificateValidityPeriod": "87600h0m0s",
            "certificateValidityPeriod": "8760h0m0s",
            "certificatesDir": PKI,
            "clusterName": "kubernetes",
            "controlPlaneEndpoint": self.server().trim_start_matches("https://"),
            "etcd": {"local": {"dataDir": ETCD_DATA}},
            "kubernetesVersion": VERSION,
            "networking": {"dnsDomain": self.domain, "podSubnet": self.pod_range, "serviceSubnet": self.service_range},
        })
    }

    /// `/var/lib/kubelet/config.yaml` of every node.
    pub fn kubelet_configuration(&self) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true, "cacheTTL": "2m0s"},
                "x509": {"clientCAFile": format!("{PKI}/ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "clusterDNS": [self.dns_address.to_string()],
            "clusterDomain": self.domain,
            "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
            // The disk is shared with whatever else this machine does: a share of it that is free says nothing, so amounts
            // count. Images were put here by hand and can't be pulled again, so none is collected before the disk is full.
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1Gi",
                "nodefs.inodesFree": "1%",
                "imagefs.available": "1Gi",
                "imagefs.inodesFree": "1%",
            },
            "failSwapOn": false,
            "healthzBindAddress": "127.0.0.1",
            "healthzPort": 10248,
            "imageGCHighThresholdPercent": 100,
            "resolvConf": resolv_conf(),
            "rotateCertificates": true,
            "staticPodPath": MANIFESTS,
        })
    }
}

fn pki_folder(sub: &str) -> String {
    format!("{PKI}/{sub}")
}

fn http_get(host: &str, port: u16, path: &str, scheme: &str) -> Value {
    json!({"host": host, "port": port, "path": path, "scheme": scheme})
}

/// A static pod of one container on the host's network; `mounts` are (name, path, read only), the same inside and outside.
fn static_pod(component: &str, command: Vec<String>, cpu: &str, probe: Value, mounts: &[(&str, &str, bool)]) -> Value {
    let volumes: Vec<Value> = mounts
        .iter()
        .map(|(name, path, _)| {
            let kind = if path.ends_with(".conf") { "FileOrCreate" } else { "DirectoryOrCreate" };
            json!({"name": name, "hostPath": {"path": path, "type": kind}})
        })
        .collect();
    let volume_mounts: Vec<Value> = mounts
        .iter()
        .map(|(name, path, read_only)| json!({"name": name, "mountPath": path, "readOnly": read_only}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": component, "namespace": "kube-system", "labels": {"component": component, "tier": "control-plane"}},
        "spec": {
            "hostNetwork": true,
            "priorityClassName": "system-node-critical",
            "priority": 2_000_001_000,
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": component,
                "image": name(component),
                "imagePullPolicy": "IfNotPresent",
                "command": command,
                "resources": {"requests": {"cpu": cpu}},
                "livenessProbe": {"httpGet": probe, "initialDelaySeconds": 10, "timeoutSeconds": 15, "periodSeconds": 10, "failureThreshold": 8},
                "startupProbe": {"httpGet": probe, "timeoutSeconds": 15, "periodSeconds": 1, "failureThreshold": 120},
                "volumeMounts": volume_mounts,
            }],
            "volumes": volumes,
        },
    })
}

/// Configuration of our own containerd: its own socket, state and root, so that another one on this machine is not touched.
pub fn containerd(restrict_oom: bool, snapshotter: &str) -> String {
    format!(
        r#"version = 2
root = "{CONTAINERD_ROOT}"
state = "{CONTAINERD_STATE}"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/{pause}"
  restrict_oom_score_adj = {restrict_oom}
  # As later versions have it by default, and other runtimes: images that do not run as root listen on port 80 and ping.
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_BIN_DIR}"
    conf_dir = "{CNI_CONF_DIR}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
        pause = name("pause"),
    )
}

/// Arguments of the kubelet.
pub fn kubelet_arguments(node: &str, address: IpAddr) -> Vec<String> {
    vec![
        format!("--config={KUBELET_CONFIG}"),
        format!("--bootstrap-kubeconfig={BOOTSTRAP_CONF}"),
        format!("--kubeconfig={KUBELET_CONF}"),
        format!("--hostname-override={node}"),
        format!("--node-ip={address}"),
        format!("--root-dir={KUBELET_ROOT}"),
        format!("--cert-dir={KUBELET_ROOT}/pki"),
        format!("--pod-infra-container-image={}", name("pause")),
    ]
}
