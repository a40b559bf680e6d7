//! What is measured, in order: each step is a function below, and the table of them is [`run`].

use crate::Options;
use crate::client::{Connection, Target};
use crate::objects;
use crate::process::{Usage, usage};
use crate::server::Server;
use anyhow::{Context, bail};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub const JSON: &str = "application/json";
pub const NAMESPACE: &str = "load";
/// Lists are repeated so often; each by itself, one after the other.
const LISTS: usize = 10;
/// Events that do not come within this time are lost.
const FAN_OUT_MAX: Duration = Duration::from_secs(120);

pub struct Run<'a> {
    pub options: &'a Options,
    pub target: &'a Target,
    pub pid: Option<u32>,
    /// Pods that have been created so far; their names are numbered.
    pods: AtomicUsize,
}

/// Runs the steps and prints a line for each.
pub async fn run(options: &Options, server: &Server) -> anyhow::Result<()> {
    let run = Run::new(options, server);
    let wanted = |name: &str| name.contains(&options.only);
    let mut connection = run.target.connect().await?;
    connection.create("/api/v1/namespaces", objects::namespace(NAMESPACE)).await?;
    run.memory("memory idle").await;
    let pods = &format!("/api/v1/namespaces/{NAMESPACE}/pods");
    if wanted("create pods") {
        run.create_pods("create pods", options.requests).await?;
    }
    if wanted("create config maps") {
        let path = Arc::new(format!("/api/v1/namespaces/{NAMESPACE}/configmaps"));
        run.requests("create config maps", options.requests, move |connection, n| {
            let path = path.clone();
            async move {
                let (mut connection, body) = (connection, objects::config_map(&format!("c-{n}")));
                connection.send(Method::POST, &path, JSON, body).await.map(|_| connection)
            }
        })
        .await?;
    }
    if wanted("patch leases") {
        run.patch_leases().await?;
    }
    if wanted("get pod") {
        run.create_pods("", 1).await?;
        let path = Arc::new(format!("{pods}/p-0"));
        run.requests("get pod", options.requests * 5, move |mut connection, _| {
            let path = path.clone();
            async move { connection.get(&path).await.map(|_| connection) }
        })
        .await?;
    }
    if wanted("list") {
        let there = run.pods.load(Ordering::Relaxed);
        run.create_pods("", options.pods.saturating_sub(there)).await?;
        run.list("list pods", "/api/v1/pods").await?;
        run.list("list pods, cached", "/api/v1/pods?resourceVersion=0").await?;
        run.list("list pods by label", "/api/v1/pods?labelSelector=rare%3Dyes").await?;
        run.list("list pods, pages of 500", "/api/v1/pods?limit=500").await?;
    }
    if wanted("watch") {
        run.watch().await?;
    }
    if wanted("memory") {
        let there = run.pods.load(Ordering::Relaxed);
        run.create_pods("", options.objects.saturating_sub(there)).await?;
        run.memory("memory full").await;
    }
    if wanted("idle") {
        run.idle().await?;
    }
    Ok(())
}

impl<'a> Run<'a> {
    pub fn new(options: &'a Options, server: &'a Server) -> Run<'a> {
        Run { options, target: &server.target, pid: server.pid, pods: AtomicUsize::new(0) }
    }
}

impl Run<'_> {
    fn usage(&self) -> Usage {
        self.pid.and_then(usage).unwrap_or_default()
    }

    pub fn print(&self, name: &str, figures: Value) {
        if self.options.json {
            println!("{}", json!({"step": name, "figures": figures}));
            return;
        }
        let figures = figures.as_object().into_iter().flatten();
        let figures: Vec<String> = figures.map(|(k, v)| format!("{k} {v}")).collect();
        println!("{name:<26} {}", figures.join(", "));
    }

    /// Resident memory, once the server has been left alone for a moment.
    pub async fn memory(&self, name: &str) {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = self.usage();
        self.print(name, json!({"resident_mb": now.resident / 1024, "peak_mb": now.peak / 1024, "pods": self.pods.load(Ordering::Relaxed)}));
    }

    /// Makes `count` requests, so many in flight as the options say. An unnamed step only prepares another.
    pub async fn requests<F, Fut>(&self, name: &str, count: usize, request: F) -> anyhow::Result<()>
    where
        F: Fn(Connection, usize) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<Connection>> + Send,
    {
        let mut connections = Vec::new();
        for _ in 0..self.options.in_flight.min(count) {
            connections.push(self.target.connect().await?);
        }
        let next = Arc::new(AtomicUsize::new(0));
        let progress = ProgressBar::new(count as u64);
        let (before, started) = (self.usage(), Instant::now());
        let workers: Vec<_> = connections
            .into_iter()
            .map(|mut connection| {
                let (next, request, progress) = (next.clone(), request.clone(), progress.clone());
                tokio::spawn(async move {
                    let mut latencies = Vec::new();
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= count {
                            return anyhow::Ok(latencies);
                        }
                        let sent = Instant::now();
                        connection = request(connection, n).await?;
                        latencies.push(sent.elapsed());
                        if n % 1000 == 0 {
                            progress.set_position(n as u64);
                        }
                    }
                })
            })
            .collect();
        let mut latencies = Vec::with_capacity(count);
        for worker in workers {
            latencies.extend(worker.await??);
        }
        let (elapsed, after) = (started.elapsed(), self.usage());
        progress.finish_and_clear();
        if !name.is_empty() {
            latencies.sort();
            let ms = |share: f64| {
                let at = ((latencies.len() - 1) as f64 * share) as usize;
                latencies.get(at).map_or(0.0, |l| round(l.as_secs_f64() * 1e3))
            };
            let cpu = (after.cpu - before.cpu).as_secs_f64() * 1e3 / count as f64;
            self.print(
                name,
                json!({"per_second": (count as f64 / elapsed.as_secs_f64()) as u64, "cpu_ms": round(cpu), "p50_ms": ms(0.5), "p99_ms": ms(0.99)}),
            );
        }
        Ok(())
    }

    pub async fn create_pods(&self, name: &str, count: usize) -> anyhow::Result<()> {
        let first = self.pods.fetch_add(count, Ordering::Relaxed);
        let path = Arc::new(format!("/api/v1/namespaces/{NAMESPACE}/pods"));
        self.requests(name, count, move |connection, n| {
            let path = path.clone();
            async move {
                let mut connection = connection;
                let number = first + n;
                let body = objects::pod(&format!("p-{number}"), number);
                connection.send(Method::POST, &path, JSON, body).await.map(|_| connection)
            }
        })
        .await
    }

    async fn patch_leases(&self) -> anyhow::Result<()> {
        let path = Arc::new(format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"));
        let leases = self.options.in_flight;
        let mut connection = self.target.connect().await?;
        for n in 0..leases {
            connection.create(&path, objects::lease(&format!("l-{n}"))).await?;
        }
        self.requests("patch leases", self.options.requests, move |mut connection, n| {
            let path = format!("{path}/l-{}", n % leases);
            async move {
                connection.send(Method::PATCH, &path, "application/merge-patch+json", objects::renewal(n)).await?;
                Ok(connection)
            }
        })
        .await
    }

    async fn list(&self, name: &str, path: &str) -> anyhow::Result<()> {
        let mut connection = self.target.connect().await?;
        connection.get(path).await?;
        let (before, started) = (self.usage(), Instant::now());
        let mut bytes = 0;
        for _ in 0..LISTS {
            bytes = connection.get(path).await?;
        }
        let (each, after) = (started.elapsed().as_secs_f64() / LISTS as f64, self.usage());
        let cpu = (after.cpu - before.cpu).as_secs_f64() / LISTS as f64;
        let megabytes = bytes as f64 / 1e6;
        self.print(
            name,
            json!({"ms": round(each * 1e3), "cpu_ms": round(cpu * 1e3), "mb": round(megabytes), "mb_per_second": (megabytes / each) as u64, "resident_mb": after.resident / 1024, "peak_mb": after.peak / 1024}),
        );
        Ok(())
    }

    /// Many watchers of all pods, while pods are created.
    async fn watch(&self) -> anyhow::Result<()> {
        let (watchers, events) = (self.options.watchers, self.options.watched_pods);
        let before_connecting = self.usage();
        let mut connection = self.target.connect().await?;
        let answer = connection.open(Method::GET, "/api/v1/pods?limit=1", JSON, Bytes::new()).await?;
        let list: Value = serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?;
        let version = list["metadata"]["resourceVersion"].as_str().context("a list without a version")?;
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods?watch=true&resourceVersion={version}");
        let mut tasks = Vec::new();
        for _ in 0..watchers {
            let mut connection = self.target.connect().await?;
            let answer = connection.open(Method::GET, &path, JSON, Bytes::new()).await?;
            if !answer.status().is_success() {
                bail!("watching: {}", answer.status());
            }
            tasks.push(tokio::spawn(async move {
                let _connection = connection; // the stream lives as long as it
                let mut body = answer.into_body();
                let (mut seen, mut pieces) = (0, 0);
                while seen < events {
                    let Some(frame) = body.frame().await else { bail!("a watch ended after {seen} events") };
                    if let Some(data) = frame?.data_ref() {
                        seen += data.iter().filter(|b| **b == b'\n').count();
                        pieces += 1;
                    }
                }
                Ok(pieces)
            }));
        }
        let (before, started) = (self.usage(), Instant::now());
        self.create_pods("", events).await?;
        let mut pieces = 0;
        for task in tasks {
            pieces += tokio::time::timeout(FAN_OUT_MAX, task).await.context("events were lost")???;
        }
        let (elapsed, after) = (started.elapsed().as_secs_f64(), self.usage());
        let total = (watchers * events) as f64;
        let cpu = (after.cpu - before.cpu).as_secs_f64() * 1e6 / total;
        self.print(
            "watch fan-out",
            json!({"events_per_second": (total / elapsed) as u64, "cpu_us_per_event": round(cpu), "events_per_piece": round(total / f64::from(pieces)), "resident_mb": after.resident / 1024,
                "kb_per_watcher": after.resident.saturating_sub(before_connecting.resident) / watchers as u64, "peak_mb": after.peak / 1024}),
        );
        Ok(())
    }

    /// Many connections that do nothing, and what a request costs beside them.
    async fn idle(&self) -> anyhow::Result<()> {
        const PATH: &str = "/livez/ping";
        let before = self.usage();
        let mut connections = Vec::new();
        for _ in 0..self.options.idle {
            let mut connection = self.target.connect().await?;
            connection.get(PATH).await?;
            connections.push(connection);
        }
        let after = self.usage();
        let started = Instant::now();
        self.target.connect().await?.get(PATH).await?;
        self.print(
            "idle connections",
            json!({"connections": connections.len(), "kb_each": after.resident.saturating_sub(before.resident) as f64 / connections.len() as f64,
                "new_one_answered_in_ms": round(started.elapsed().as_secs_f64() * 1e3), "resident_mb": after.resident / 1024}),
        );
        drop(connections);
        tokio::time::sleep(Duration::from_secs(15)).await;
        self.print("after they are closed", json!({"resident_mb": self.usage().resident / 1024}));
        Ok(())
    }
}

/// Three decimals are more than these figures are worth.
pub fn round(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}
