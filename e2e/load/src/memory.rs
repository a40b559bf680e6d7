//! Memory of the server over time: what it holds after objects came and went, after very many revisions of few objects, and while a
//! large collection is deleted. Each step is a function below, and the table of them is [`run`].

use crate::Options;
use crate::objects;
use crate::process::{forget_peak, usage};
use crate::server::Server;
use crate::steps::{JSON, NAMESPACE, Run, round};
use anyhow::bail;
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// Kinds that are created and deleted: group and version, kind, plural.
const CHURNED: [(&str, &str, &str); 5] = [
    ("v1", "ConfigMap", "configmaps"),
    ("v1", "Secret", "secrets"),
    ("v1", "ServiceAccount", "serviceaccounts"),
    ("coordination.k8s.io/v1", "Lease", "leases"),
    ("rbac.authorization.k8s.io/v1", "Role", "roles"),
];

/// Objects that are changed again and again.
const CHANGED: usize = 500;

/// Runs the steps and prints a line for each, and what the server holds every few seconds.
pub async fn run(options: &Options, server: &Server) -> anyhow::Result<()> {
    let run = Run::new(options, server);
    let wanted = |name: &str| name.contains(&options.only);
    run.target.connect().await?.create("/api/v1/namespaces", objects::namespace(NAMESPACE)).await?;
    run.memory("memory idle").await;
    if wanted("collection") {
        run.collection().await?;
    }
    if wanted("churn") {
        run.churn().await?;
    }
    if wanted("revisions") {
        run.revisions().await?;
    }
    Ok(())
}

/// The path of a churned resource.
fn path((version, _, plural): (&str, &str, &str)) -> String {
    let root = if version == "v1" { "api" } else { "apis" };
    format!("/{root}/{version}/namespaces/{NAMESPACE}/{plural}")
}

impl Run<'_> {
    /// Prints what the server holds every few seconds, until it is dropped.
    fn sample(&self, step: &'static str) -> AbortOnDropHandle<()> {
        let (pid, interval) = (self.pid, Duration::from_secs(self.options.sample_seconds.max(1)));
        let started = Instant::now();
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                let now = pid.and_then(usage).unwrap_or_default();
                eprintln!("{step}: {} s, {} MB", started.elapsed().as_secs(), now.resident / 1024);
            }
        }))
    }

    fn resident_mb(&self) -> u64 {
        self.pid.and_then(usage).unwrap_or_default().resident / 1024
    }

    /// Waits, and prints what is held at the end of it.
    async fn settle(&self, name: &str, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        self.print(name, json!({"after_s": seconds, "resident_mb": self.resident_mb()}));
    }

    /// Objects of five kinds are created, watched as JSON and as protobuf, and deleted.
    async fn churn(&self) -> anyhow::Result<()> {
        let _sample = self.sample("churn");
        let count = self.options.churn_objects;
        let mut watches = Vec::new();
        for kind in CHURNED {
            for accept in [JSON, PROTOBUF] {
                watches.push(self.drain(&format!("{}?watch=true&timeoutSeconds=3600", path(kind)), accept).await?);
            }
        }
        self.requests("churn, create", count, |mut connection, n| async move {
            let kind = CHURNED[n % CHURNED.len()];
            let body = objects::padded(kind.0, kind.1, &format!("c-{n}"));
            connection.send(Method::POST, &path(kind), JSON, body).await.map(|_| connection)
        })
        .await?;
        self.print("churn, all there", json!({"objects": count, "resident_mb": self.resident_mb()}));
        self.requests("churn, delete", count, |mut connection, n| async move {
            let path = format!("{}/c-{n}", path(CHURNED[n % CHURNED.len()]));
            connection.send(Method::DELETE, &path, JSON, Bytes::new()).await.map(|_| connection)
        })
        .await?;
        self.print("churn, all gone", json!({"resident_mb": self.resident_mb()}));
        self.settle("churn, a while later", 30).await;
        drop(watches);
        self.settle("churn, watches ended", self.options.settle_seconds).await;
        Ok(())
    }

    /// A watch that is read and forgotten until it is dropped.
    async fn drain(&self, path: &str, accept: &'static str) -> anyhow::Result<AbortOnDropHandle<()>> {
        let mut connection = self.target.connect().await?;
        let answer = connection.open_as(Method::GET, path, JSON, accept, Bytes::new()).await?;
        if !answer.status().is_success() {
            bail!("watching {path}: {}", answer.status());
        }
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            let _connection = connection; // the stream lives as long as it
            let mut body = answer.into_body();
            while let Some(Ok(_)) = body.frame().await {}
        })))
    }

    /// Few objects, very many revisions.
    async fn revisions(&self) -> anyhow::Result<()> {
        let _sample = self.sample("revisions");
        let maps = Arc::new(path(CHURNED[0]));
        let mut connection = self.target.connect().await?;
        for n in 0..CHANGED {
            connection.create(&maps, objects::config_map(&format!("r-{n}"))).await?;
        }
        let _watches = [
            self.drain(&format!("{maps}?watch=true&timeoutSeconds=36000"), JSON).await?,
            self.drain(&format!("{maps}?watch=true&timeoutSeconds=36000"), PROTOBUF).await?,
        ];
        self.requests("revisions", self.options.revisions, move |mut connection, n| {
            let path = format!("{maps}/r-{}", n % CHANGED);
            async move {
                let body = json!({"data": {"n": n.to_string()}}).to_string().into();
                connection.send(Method::PATCH, &path, "application/merge-patch+json", body).await?;
                Ok(connection)
            }
        })
        .await?;
        self.print(
            "revisions, at the end",
            json!({"revisions": self.options.revisions, "resident_mb": self.resident_mb()}),
        );
        self.settle("revisions, a while later", 30).await;
        Ok(())
    }

    /// One request deletes many pods.
    async fn collection(&self) -> anyhow::Result<()> {
        let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        self.create_pods("", self.options.collection_pods).await?;
        self.settle("collection, all there", 15).await;
        let _sample = self.sample("collection");
        forget_peak(self.pid);
        let before = self.resident_mb();
        let (mut connection, started) = (self.target.connect().await?, Instant::now());
        let bytes = connection.send(Method::DELETE, &pods, JSON, Bytes::new()).await?;
        let seconds = started.elapsed().as_secs_f64();
        let peak = self.pid.and_then(usage).unwrap_or_default().peak / 1024;
        self.print(
            "collection, deleted",
            json!({"pods": self.options.collection_pods, "seconds": round(seconds), "mb": round(bytes as f64 / 1e6), "resident_before_mb": before, "peak_mb": peak}),
        );
        self.settle("collection, a while later", 30).await;
        Ok(())
    }
}
