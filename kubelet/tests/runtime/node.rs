//! A node of its own for a test: a private containerd, an image of busybox, and the real kubelet on them. All of it is
//! below one temporary directory and one cgroup, and gone when the value is dropped.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// How long anything in here may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "docker.io/library/busybox:test";

/// The running node.
pub struct TestNode {
    dir: tempfile::TempDir,
    containerd: Child,
    kubelet: Option<Child>,
    port: u16,
    cgroup: String,
}

/// What a machine lacks to run a real node, if anything.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("root".into());
    }
    let tools = ["containerd", "ctr", "runc", "busybox"];
    tools.into_iter().find(|tool| find(tool).is_none()).map(str::to_owned)
}

fn find(tool: &str) -> Option<PathBuf> {
    ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .into_iter()
        .map(|dir| Path::new(dir).join(tool))
        .find(|path| path.exists())
}

/// Waits until `look` finds something.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} has not come true");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl TestNode {
    /// Starts containerd, imports the image, starts the kubelet.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path();
        for sub in ["manifests", "root", "cni", "logs"] {
            fs::create_dir(path.join(sub)).expect("a directory");
        }
        let socket = path.join("containerd.sock");
        let config = format!(
            "version = 2\nroot = \"{0}/containerd\"\nstate = \"{0}/containerd-state\"\n\
             [grpc]\naddress = \"{0}/containerd.sock\"\n[ttrpc]\naddress = \"{0}/containerd.sock.ttrpc\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nrestrict_oom_score_adj = true\ndisable_apparmor = true\n\
             sandbox_image = \"{IMAGE}\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nconf_dir = \"{0}/cni\"\n",
            path.display()
        );
        fs::write(path.join("containerd.toml"), config).expect("written");
        let containerd = Command::new("containerd")
            .arg("-c")
            .arg(path.join("containerd.toml"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(path.join("containerd.log")).expect("a log"))
            .process_group(0)
            .spawn()
            .expect("containerd starts");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let cgroup = format!("kubelet-test-{port}");
        let mut node = Self { containerd, kubelet: None, port, cgroup, dir };
        eventually("containerd's socket", || socket.exists().then_some(()));
        write_image(&node.path("image.tar"));
        let image = node.path("image.tar").display().to_string();
        eventually("the image", || node.ctr(&["image", "import", &image]).is_some().then_some(()));
        node.write_config();
        node.start_kubelet();
        node
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    fn write_config(&self) {
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "staticPodPath": self.path("manifests"),
            "podLogsDir": self.path("logs"),
            "containerRuntimeEndpoint": format!("unix://{}", self.path("containerd.sock").display()),
            "cgroupRoot": format!("/{}", self.cgroup),
            "enableServer": false,
            "readOnlyPort": self.port,
            "address": "127.0.0.1",
            "healthzPort": 0,
            "failSwapOn": false,
            "volumeStatsAggPeriod": "100ms",
            "evictionHard": {"memory.available": "1Mi"},
        });
        fs::write(self.path("kubelet.json"), config.to_string()).expect("written");
    }

    /// Starts the kubelet, which must not run.
    pub fn start_kubelet(&mut self) {
        let kubelet = Command::new(env!("CARGO_BIN_EXE_kubelet"))
            .arg("--config")
            .arg(self.path("kubelet.json"))
            .arg("--root-dir")
            .arg(self.path("root"))
            .arg("--cert-dir")
            .arg(self.path("pki"))
            .args(["--hostname-override=n1", "--node-ip=127.0.0.1"])
            .stderr(fs::OpenOptions::new().create(true).append(true).open(self.path("kubelet.log")).expect("a log"))
            .spawn()
            .expect("the kubelet starts");
        self.kubelet = Some(kubelet);
    }

    /// Kills the kubelet with SIGKILL.
    pub fn kill_kubelet(&mut self) {
        if let Some(mut kubelet) = self.kubelet.take() {
            kubelet.kill().and_then(|()| kubelet.wait()).expect("killed");
        }
    }

    /// Writes a static pod manifest.
    pub fn apply(&self, name: &str, pod: &Value) {
        fs::write(self.path(&format!("manifests/{name}.json")), pod.to_string()).expect("written");
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(&format!("manifests/{name}.json"))).expect("removed");
    }

    /// What the kubelet answers.
    pub fn get(&self, path: &str) -> Option<String> {
        get(self.port, path)
    }

    /// The pods as the kubelet shows them.
    pub fn pods(&self) -> Vec<Value> {
        let body = self.get("/pods").unwrap_or_default();
        let list: Value = serde_json::from_str(&body).unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// The pod of that name.
    pub fn pod(&self, name: &str) -> Option<Value> {
        self.pods().into_iter().find(|pod| pod["metadata"]["name"] == format!("{name}-n1").as_str())
    }

    /// The status of a pod's container.
    pub fn container(&self, pod: &str, container: &str) -> Option<Value> {
        let statuses = self.pod(pod)?["status"]["containerStatuses"].as_array()?.clone();
        statuses.into_iter().find(|status| status["name"] == container)
    }

    /// Runs ctr; its output, if it succeeds.
    pub fn ctr(&self, args: &[&str]) -> Option<String> {
        let output = Command::new("ctr")
            .arg("--address")
            .arg(self.path("containerd.sock"))
            .args(["--namespace", "k8s.io"])
            .args(args)
            .output()
            .ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Kills the process that holds a pod's namespaces.
    pub fn kill_sandbox(&self, uid: &str) {
        let sandbox = "labels.\"io.cri-containerd.kind\"==sandbox";
        let filter = format!("{sandbox},labels.\"io.kubernetes.pod.uid\"=={uid}");
        let id = self.ctr(&["containers", "list", "-q", &filter]).expect("a list");
        self.ctr(&["tasks", "kill", "--signal", "SIGKILL", id.trim()]).expect("killed");
    }

    /// Ids of all containers, sandboxes among them.
    pub fn containers(&self) -> Vec<String> {
        let list = self.ctr(&["containers", "list", "-q"]).unwrap_or_default();
        list.lines().map(str::to_owned).collect()
    }

    /// The pod's cgroup exists, in whatever hierarchy.
    pub fn has_pod_cgroup(&self, uid: &str) -> bool {
        let mut todo: Vec<PathBuf> = self.cgroup_dirs();
        while let Some(dir) = todo.pop() {
            if dir.file_name().is_some_and(|name| name.to_string_lossy() == format!("pod{uid}")) {
                return true;
            }
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            todo.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
        false
    }

    fn cgroup_dirs(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let trees = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        trees.chain([root.to_path_buf()]).map(|tree| tree.join(&self.cgroup)).filter(|dir| dir.exists()).collect()
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["kubelet.log", "containerd.log"] {
                let text = fs::read_to_string(self.path(log)).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(40).collect();
                eprintln!("--- {log}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
        self.kill_kubelet();
        for task in self.ctr(&["tasks", "list", "-q"]).unwrap_or_default().lines() {
            self.ctr(&["tasks", "delete", "--force", task]);
        }
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.containerd.id().cast_signed()),
            nix::sys::signal::Signal::SIGTERM,
        );
        let _ = self.containerd.wait();
        unmount_below(self.dir.path());
        for dir in self.cgroup_dirs() {
            remove_cgroup(&dir);
        }
    }
}

fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
    for point in points.filter(|point| Path::new(point).starts_with(dir)) {
        let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn remove_cgroup(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_cgroup(&entry.path());
    }
    let _ = fs::remove_dir(dir);
}

/// A GET without ceremony.
pub fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

/// Writes an OCI image with a static busybox. Its entrypoint sleeps, so that it serves as sandbox image too.
fn write_image(path: &Path) {
    let mut layer = tar::Builder::new(Vec::new());
    layer.append_path_with_name(find("busybox").expect("busybox"), "bin/busybox").expect("added");
    for applet in ["sh", "sleep", "cat", "test", "touch", "dd", "env"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer.append_link(&mut header, format!("bin/{applet}"), "busybox").expect("added");
    }
    let layer = layer.into_inner().expect("a layer");
    let digest = |bytes: &[u8]| {
        let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    };
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Entrypoint": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    })
    .to_string();
    let describe = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(bytes), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("config.v1+json", config.as_bytes()),
        "layers": [describe("layer.v1.tar", &layer)],
    })
    .to_string();
    let mut entry = describe("manifest.v1+json", manifest.as_bytes());
    entry["annotations"] = json!({"io.containerd.image.name": IMAGE});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();

    let mut image = tar::Builder::new(fs::File::create(path).expect("a file"));
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        image.append_data(&mut header, name, bytes).expect("added");
    };
    add("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#);
    add("index.json", index.as_bytes());
    for blob in [layer.as_slice(), config.as_bytes(), manifest.as_bytes()] {
        add(&format!("blobs/{}", digest(blob).replace(':', "/")), blob);
    }
    image.finish().expect("written");
}
