//! An etcd and a server of one's own, and where a test wants it a controller manager: the built programs, over TLS, on free
//! ports, in a temporary folder that goes with the test. For tests only: what fails here panics.

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a slow machine is given to get ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// The token of a member of `system:masters`.
pub const TOKEN: &str = "the-token-of-an-administrator";

/// The token of `system:kube-controller-manager`, which has the rights that the bootstrap policy gives it.
const CONTROLLER_MANAGER_TOKEN: &str = "the-token-of-the-controller-manager";

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server and its etcd.
pub struct Stand {
    // Dropped in this order: clients before their server, the server before its etcd, the folder last.
    controller_manager: Option<Process>,
    server: Option<Process>,
    etcd: Option<Process>,
    pub port: u16,
    etcd_ports: [u16; 2],
    folder: tempfile::TempDir,
    /// Flags of this server besides those that all have; `FOLDER` stands for the folder with the certificates.
    flags: Vec<String>,
    /// For [`Stand::send`]: one connection for all its requests.
    client: tokio::sync::OnceCell<Client>,
}

impl Stand {
    pub async fn start() -> Stand {
        Stand::start_with(&[]).await
    }

    pub async fn start_with(flags: &[&str]) -> Stand {
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path());
        let tokens =
            format!("{TOKEN},admin,1,system:masters\n{CONTROLLER_MANAGER_TOKEN},system:kube-controller-manager,2,\n");
        std::fs::write(folder.path().join("tokens.csv"), tokens).unwrap();
        let [port, a, b] = free_ports();
        let mut stand = Stand {
            controller_manager: None,
            server: None,
            etcd: None,
            port,
            etcd_ports: [a, b],
            folder,
            flags: flags.iter().map(|f| (*f).to_owned()).collect(),
            client: Default::default(),
        };
        stand.start_etcd();
        stand.start_server().await;
        stand
    }

    /// Another server on the same etcd, with the same certificates. It must not outlive this stand.
    pub async fn beside(&self, flags: &[&str]) -> Stand {
        let folder = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(self.folder.path()).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_file() {
                std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
            }
        }
        let mut stand = Stand {
            controller_manager: None,
            server: None,
            etcd: None,
            port: free_ports::<1>()[0],
            etcd_ports: self.etcd_ports,
            folder,
            flags: flags.iter().map(|f| (*f).to_owned()).collect(),
            client: Default::default(),
        };
        stand.start_server().await;
        stand
    }

    /// The server's process.
    pub fn pid(&self) -> i32 {
        self.server.as_ref().unwrap().0.id() as i32
    }

    /// Tells the server to stop, as systemd does.
    pub fn terminate(&self) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    /// Waits for the end of a server that was told to stop; whether it ended well.
    pub async fn ended(&mut self) -> bool {
        let mut process = self.server.take().unwrap();
        tokio::task::spawn_blocking(move || process.0.wait().unwrap().success()).await.unwrap()
    }

    /// Memory that the server's process has in RAM, in MiB: now, and the most there ever was.
    pub fn memory_mib(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// A TLS connection that speaks one of `protocols`, for bytes of one's own.
    pub async fn connect(&self, protocols: &[&str]) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        let pem = std::fs::read(self.path("ca.crt")).unwrap();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).map(Result::unwrap));
        let mut config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        let tcp = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
        tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, tcp).await.unwrap()
    }

    /// Puts a new certificate of the server, by a new CA, in the place of the one there is; the clients' CA too.
    pub fn replace_certificates(&self) {
        certificates(self.folder.path());
    }

    pub fn start_etcd(&mut self) {
        let [clients, peers] = self.etcd_ports.map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(self.path("etcd"));
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}"), "--log-level", "error"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.etcd = Some(Process(command.spawn().expect("etcd is installed (Debian: etcd-server)")));
    }

    /// Has etcd forget what was before a revision.
    pub async fn compact(&self, revision: i64) {
        let server = format!("http://127.0.0.1:{}", self.etcd_ports[0]);
        let mut client = etcd_client::Client::connect([server], None).await.unwrap();
        client.compact(revision, None).await.unwrap();
    }

    /// What lies in etcd under a key.
    pub async fn stored(&self, key: &str) -> Vec<u8> {
        let server = format!("http://127.0.0.1:{}", self.etcd_ports[0]);
        let mut client = etcd_client::Client::connect([server], None).await.unwrap();
        let answer = client.get(key, None).await.unwrap();
        answer.kvs().first().map(|kv| kv.value().to_vec()).unwrap_or_default()
    }

    /// Ends etcd as a power cut would.
    pub fn kill_etcd(&mut self) {
        self.etcd = None;
    }

    pub fn kill_server(&mut self) {
        self.server = None;
    }

    /// Starts the server and returns when it says that it is ready.
    pub async fn start_server(&mut self) {
        let mut command = Command::new(program("apiserver", "kube-apiserver"));
        command.arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_ports[0]));
        command.arg(format!("--secure-port={}", self.port)).arg("--bind-address=127.0.0.1");
        command.args(["--authorization-mode=Node,RBAC", "--service-cluster-ip-range=10.96.0.0/16"]);
        command.args(["--service-account-issuer=https://kubernetes.default.svc.cluster.local"]);
        command.arg("--disable-admission-plugins=ServiceAccount");
        for (flag, file) in [
            ("token-auth-file", "tokens.csv"),
            ("tls-cert-file", "server.crt"),
            ("tls-private-key-file", "server.key"),
            ("client-ca-file", "ca.crt"),
            ("service-account-key-file", "sa.key"),
            ("service-account-signing-key-file", "sa.key"),
        ] {
            command.arg(format!("--{flag}={}", self.path(file).display()));
        }
        let folder = self.folder.path().display().to_string();
        command.args(self.flags.iter().map(|flag| flag.replace("FOLDER", &folder)));
        command.stdout(Stdio::null()).stderr(std::fs::File::create(self.path("server.log")).unwrap());
        self.server = Some(Process(command.spawn().unwrap()));
        self.until_ready().await;
    }

    /// Starts the controller manager, each controller with its own ServiceAccount's rights.
    pub fn start_controller_manager(&mut self, flags: &[&str]) {
        let kubeconfig = self.path("controller-manager.conf");
        std::fs::write(&kubeconfig, self.kubeconfig(&format!("token: {CONTROLLER_MANAGER_TOKEN}"))).unwrap();
        let mut command = Command::new(program("controller-manager", "kube-controller-manager"));
        command.arg(format!("--kubeconfig={}", kubeconfig.display()));
        command.arg(format!("--root-ca-file={}", self.path("ca.crt").display()));
        command.args(["--leader-elect=false", "--secure-port=0", "--use-service-account-credentials=true"]);
        command.args(["--kube-api-qps=200", "--kube-api-burst=400"]).args(flags);
        command.stdout(Stdio::null()).stderr(std::fs::File::create(self.path("controller-manager.log")).unwrap());
        self.controller_manager = Some(Process(command.spawn().unwrap()));
    }

    /// What the controller manager has said so far.
    pub fn controller_manager_log(&self) -> String {
        std::fs::read_to_string(self.path("controller-manager.log")).unwrap_or_default()
    }

    /// Waits until `/readyz` says yes.
    pub async fn until_ready(&self) {
        let client = self.admin().await;
        let started = Instant::now();
        loop {
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            match client.request_text(request).await {
                Ok(_) => return,
                Err(e) if started.elapsed() > PATIENCE => {
                    let log = std::fs::read_to_string(self.path("server.log")).unwrap_or_default();
                    panic!("the server is not ready: {e}; its log:\n{log}");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// A client that may do anything.
    pub async fn admin(&self) -> Client {
        self.client(&format!("token: {TOKEN}")).await
    }

    /// A client with the certificate of a user whom no binding names.
    pub async fn alice(&self) -> Client {
        let [cert, key] = ["alice.crt", "alice.key"].map(|file| self.path(file));
        self.client(&format!("client-certificate: {}\n    client-key: {}", cert.display(), key.display())).await
    }

    /// A kubeconfig with these credentials of its user.
    pub fn kubeconfig(&self, user: &str) -> String {
        format!(
            "apiVersion: v1
kind: Config
current-context: c
clusters:
- name: c
  cluster: {{server: 'https://127.0.0.1:{}', certificate-authority: '{}'}}
users:
- name: u
  user:
    {user}
contexts:
- name: c
  context: {{cluster: c, user: u}}
",
            self.port,
            self.path("ca.crt").display()
        )
    }

    /// A client with these credentials, written as those of a user in a kubeconfig.
    pub async fn client(&self, user: &str) -> Client {
        let config = Kubeconfig::from_yaml(&self.kubeconfig(user)).unwrap();
        let mut config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        // The tests want to see what goes wrong.
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    /// A request of the administrator, as bytes on the wire; what comes back, whatever its code.
    pub async fn send(&self, request: http::Request<Vec<u8>>) -> http::Response<Vec<u8>> {
        let (parts, body) = self.open(request).await.into_parts();
        let bytes = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
        http::Response::from_parts(parts, bytes.into())
    }

    /// The same, its body not read yet.
    pub async fn open(&self, request: http::Request<Vec<u8>>) -> http::Response<kube::client::Body> {
        let client = self.client.get_or_init(|| self.admin()).await.clone();
        client.send(request.map(kube::client::Body::from)).await.unwrap()
    }

    /// The first event of a watch.
    pub async fn first_event(&self, path: &str) -> Value {
        let mut body = self.open(http::Request::get(path).body(Vec::new()).unwrap()).await.into_body();
        let mut seen = Vec::new();
        while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
            seen.extend_from_slice(frame.unwrap().data_ref().unwrap());
            if let Some(end) = seen.iter().position(|b| *b == b'\n') {
                return serde_json::from_slice(&seen[..end]).unwrap();
            }
        }
        Value::Null
    }

    /// The same in JSON: code and body. `accept` and `content` may be empty.
    pub async fn call(&self, method: &str, path: &str, content: &str, accept: &str, body: &Value) -> (u16, Value) {
        let mut request = http::Request::builder().method(method).uri(path);
        if !content.is_empty() {
            request = request.header("content-type", content);
        }
        if !accept.is_empty() {
            request = request.header("accept", accept);
        }
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let response = self.send(request.body(bytes).unwrap()).await;
        let code = response.status().as_u16();
        let text = response.into_body();
        (code, serde_json::from_slice(&text).unwrap_or_else(|_| String::from_utf8_lossy(&text).into()))
    }

    /// What is at `path`, or becomes of it by a JSON request; anything but success fails the test.
    async fn succeed(&self, method: &str, path: &str, content: &str, body: &Value) -> Value {
        let (code, answer) = self.call(method, path, content, "", body).await;
        assert!((200..300).contains(&code), "{method} {path}: {code} {answer}");
        answer
    }

    pub async fn get(&self, path: &str) -> Value {
        self.succeed("GET", path, "", &Value::Null).await
    }

    pub async fn create(&self, path: &str, object: Value) -> Value {
        self.succeed("POST", path, "application/json", &object).await
    }

    pub async fn update(&self, path: &str, object: Value) -> Value {
        self.succeed("PUT", path, "application/json", &object).await
    }

    pub async fn merge(&self, path: &str, patch: Value) -> Value {
        self.succeed("PATCH", path, "application/merge-patch+json", &patch).await
    }

    /// With DeleteOptions, or null.
    pub async fn delete(&self, path: &str, options: Value) -> Value {
        self.succeed("DELETE", path, "application/json", &options).await
    }

    /// Asks for `path` until code and body are as they should become, which they must within a minute.
    pub async fn until(&self, path: &str, done: impl Fn(u16, &Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let (code, body) = self.call("GET", path, "", "", &Value::Null).await;
            if done(code, &body) {
                return body;
            }
            assert!(started.elapsed() < PATIENCE, "{path} did not become so: {code} {body}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn until_gone(&self, path: &str) {
        self.until(path, |code, _| code == 404).await;
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }
}

/// A folder of recordings and facts about upstream, where one stands beside the repository or above it.
pub fn shared(folder: &str) -> Option<PathBuf> {
    let found =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|a| a.join("shared").join(folder)).find(|f| f.is_dir());
    if found.is_none() {
        eprintln!("skipped: there is no folder shared/{folder} beside the repository");
    }
    found
}

/// A program of this workspace, where the running test was built too. That of the package under test is there already, any
/// other is built first.
fn program(package: &str, name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/<profile>/deps/<test>
    let folder = test.ancestors().nth(2).unwrap();
    if std::env::var("CARGO_PKG_NAME").as_deref() != Ok(package) {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", package, "--bin", name]);
        let release = folder.file_name().is_some_and(|profile| profile == "release");
        build.args(release.then_some("--release")).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(build.status().unwrap().success(), "cannot build {name}");
    }
    folder.join(name)
}

/// Ports nobody listens on now; held together so that they differ.
fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// A CA and its key, the server's certificate, alice's certificate and a key that signs tokens.
fn certificates(folder: &Path) {
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "test-ca");
    let ca_key = KeyPair::generate().unwrap();
    write("ca.crt", ca.self_signed(&ca_key).unwrap().pem());
    write("ca.key", ca_key.serialize_pem());
    let issuer = Issuer::new(ca, ca_key);
    for (file, name, usage) in [
        ("server", "kube-apiserver", ExtendedKeyUsagePurpose::ServerAuth),
        ("alice", "alice", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        write(&format!("{file}.crt"), params.signed_by(&key, &issuer).unwrap().pem());
        write(&format!("{file}.key"), key.serialize_pem());
    }
    write("sa.key", KeyPair::generate().unwrap().serialize_pem());
}
