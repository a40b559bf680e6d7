//! The server under load: one that runs already, or an etcd and a server of our own.

use crate::Options;
use crate::client::Target;
use anyhow::{Context, bail};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that ends with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Server {
    pub target: Target,
    pub pid: Option<u32>,
    // Dropped in this order.
    _server: Option<Process>,
    _etcd: Option<Process>,
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    pub async fn start(options: &Options) -> anyhow::Result<Server> {
        if let Some(url) = &options.server {
            let address = url.trim_start_matches("https://").trim_end_matches('/');
            let target = Target::new(address, &options.token)?;
            return Ok(Server { target, pid: options.pid, _server: None, _etcd: None, _folder: None });
        }
        let folder = tempfile::tempdir()?;
        let [port, clients, peers] = free_ports()?;
        let [clients, peers] = [clients, peers].map(|port| format!("http://127.0.0.1:{port}"));
        let mut etcd = Command::new("etcd");
        etcd.arg("--data-dir").arg(folder.path().join("etcd"));
        etcd.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        etcd.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        etcd.args(["--initial-cluster", &format!("default={peers}"), "--log-level", "error"]);
        etcd.args(["--quota-backend-bytes", "8589934592"]);
        etcd.stdout(Stdio::null()).stderr(Stdio::null());
        let etcd = Process(etcd.spawn().context("starting etcd (Debian: etcd-server)")?);

        let program = match &options.kube_apiserver {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("kube-apiserver"),
        };
        let tokens = folder.path().join("tokens.csv");
        std::fs::write(&tokens, format!("{},load,1,system:masters\n", options.token))?;
        let mut command = Command::new(&program);
        command.arg(format!("--etcd-servers={clients}")).arg(format!("--token-auth-file={}", tokens.display()));
        command.args(["--bind-address=127.0.0.1", "--authorization-mode=Node,RBAC"]);
        command.args(["--service-cluster-ip-range=10.96.0.0/16", "--disable-admission-plugins=ServiceAccount"]);
        command.arg(format!("--secure-port={port}")).args(&options.server_flag);
        let log = folder.path().join("server.log");
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&log)?);
        let server = Process(command.spawn().with_context(|| format!("starting {}", program.display()))?);
        let pid = server.0.id();
        let target = Target::new(&format!("127.0.0.1:{port}"), &options.token)?;
        until_ready(&target).await.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Server { target, pid: Some(pid), _server: Some(server), _etcd: Some(etcd), _folder: Some(folder) })
    }
}

async fn until_ready(target: &Target) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let attempt = async { target.connect().await?.get("/readyz").await };
        match attempt.await {
            Ok(_) => return Ok(()),
            Err(e) if started.elapsed() > Duration::from_secs(60) => {
                bail!("the server is not ready after a minute: {e:#}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Ports nobody listens on now; held together so that they differ.
fn free_ports() -> anyhow::Result<[u16; 3]> {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(held.iter()) {
        *port = listener.as_ref().map_err(|e| anyhow::anyhow!("no free port: {e}"))?.local_addr()?.port();
    }
    Ok(ports)
}
