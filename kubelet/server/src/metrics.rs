//! Metrics: the process's own, and what pods and node use, under upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use component_base::metrics as registry;
use component_base::serving::{self, Body};
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use pod_lifecycle::Lifecycle;
use pod_state::spec;
use stats::{self, ContainerUsage};
use volumes::usage::VolumeUsage;

type Handler = fn(Arc<Lifecycle>, Request<Incoming>) -> BoxFuture<'static, Response<Body>>;

/// Paths and who answers them.
pub const ROUTES: [(&str, Handler); 6] = [
    ("/metrics", |lifecycle, _| Box::pin(own(lifecycle))),
    ("/metrics/probes", |_, _| Box::pin(async { text(registered(|name| name.starts_with(PROBES))) })),
    ("/metrics/resource", |lifecycle, _| Box::pin(resource(lifecycle))),
    ("/metrics/cadvisor", |lifecycle, _| Box::pin(cadvisor(lifecycle))),
    ("/stats/summary", |lifecycle, request| Box::pin(summary(lifecycle, request))),
    ("/stats/summary/", |lifecycle, request| Box::pin(summary(lifecycle, request))),
];

fn text(text: String) -> Response<Body> {
    let mut response = serving::text(StatusCode::OK, text);
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(registry::CONTENT_TYPE));
    response
}

async fn summary(lifecycle: Arc<Lifecycle>, request: Request<Incoming>) -> Response<Body> {
    let mut summary = stats::summary(&lifecycle).await;
    if super::Query::of(&request).flag("only_cpu_and_memory") {
        stats::only_cpu_and_memory(&mut summary);
    }
    serving::json(StatusCode::OK, &summary)
}

/// Families of `/metrics/probes`: they have a series for each probe of each pod, which not everyone who reads `/metrics`
/// wants.
const PROBES: &str = "prober_";

/// The registered families whose name is `wanted`.
fn registered(wanted: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    let mut keep = true;
    for line in registry::render().lines() {
        if let Some(name) = line.strip_prefix("# HELP ").and_then(|rest| rest.split(' ').next()) {
            keep = wanted(name);
        }
        if keep {
            text += line;
            text.push('\n');
        }
    }
    text
}

/// Text in Prometheus' format.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    /// One family; `samples` are labels (formatted) and values.
    fn family(&mut self, name: &str, kind: &str, help: &str, samples: impl IntoIterator<Item = (String, f64)>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = if labels.is_empty() {
                writeln!(self.0, "{name} {value}")
            } else {
                writeln!(self.0, "{name}{{{labels}}} {value}")
            };
        }
    }
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    pairs.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect::<Vec<_>>().join(",")
}

/// `/metrics`: the process, and counts of what it runs.
async fn own(lifecycle: Arc<Lifecycle>) -> Response<Body> {
    let mut out = Exposition(registered(|name| !name.starts_with(PROBES)));
    claims(&lifecycle, &mut out).await;
    let statuses: Vec<_> =
        lifecycle.pods.list().iter().filter_map(|pod| lifecycle.statuses.get(spec::uid(pod))).collect();
    let running = statuses.iter().filter(|status| status.phase.as_deref() == Some("Running")).count();
    out.family("kubelet_running_pods", "gauge", "[ALPHA] Pods whose sandbox runs", [(String::new(), running as f64)]);
    let containers = statuses.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let (mut up, mut created, mut exited) = (0, 0, 0);
    for state in containers.filter_map(|container| container.state.as_ref()) {
        match (&state.running, &state.terminated) {
            (Some(_), _) => up += 1,
            (_, Some(_)) => exited += 1,
            _ => created += 1,
        }
    }
    let sample = |state: &str, count: i32| (labels(&[("container_state", state)]), f64::from(count));
    out.family(
        "kubelet_running_containers",
        "gauge",
        "[ALPHA] Containers that run, by state",
        [sample("created", created), sample("exited", exited), sample("running", up)],
    );
    out.family(
        "kubelet_node_name",
        "gauge",
        "[ALPHA] The node's name. The count is always 1.",
        [(labels(&[("node", &lifecycle.context.node_name)]), 1.0)],
    );
    text(out.0)
}

/// Gauges of the volumes of claims: name, help, value.
type VolumeGauge = (&'static str, &'static str, fn(&VolumeUsage) -> u64);
const VOLUME_GAUGES: [VolumeGauge; 6] = [
    ("capacity_bytes", "Capacity in bytes of the volume", |v| v.filesystem.capacity_bytes),
    ("available_bytes", "Number of available bytes in the volume", |v| v.filesystem.available_bytes),
    ("used_bytes", "Number of used bytes in the volume", |v| v.used.bytes),
    ("inodes", "Maximum number of inodes in the volume", |v| v.filesystem.inodes),
    ("inodes_free", "Number of free inodes in the volume", |v| v.filesystem.inodes_free),
    ("inodes_used", "Number of used inodes in the volume", |v| v.used.inodes),
];

/// What the claims of the node's pods use; several pods may share one.
async fn claims(lifecycle: &Lifecycle, out: &mut Exposition) {
    let mut claims = BTreeMap::new();
    let claiming =
        |pod: &Arc<Pod>| spec::spec(pod).volumes.iter().flatten().any(|v| stats::claim(pod, &v.name).is_some());
    for pod in lifecycle.pods.list().into_iter().filter(claiming) {
        let usages =
            lifecycle.volumes.usage(spec::uid(&pod), lifecycle.context.config.volume_stats_agg_period.get()).await;
        for usage in usages.iter() {
            if let Some(claim) = stats::claim(&pod, &usage.name) {
                let pairs = [("namespace", spec::namespace(&pod)), ("persistentvolumeclaim", claim.as_str())];
                claims.insert(labels(&pairs), usage.clone());
            }
        }
    }
    for (name, help, value) in VOLUME_GAUGES {
        let samples = claims.iter().map(|(labels, usage)| (labels.clone(), value(usage) as f64));
        out.family(&format!("kubelet_volume_stats_{name}"), "gauge", &format!("[ALPHA] {help}"), samples);
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// `/metrics/resource`: what metrics-server reads.
async fn resource(lifecycle: Arc<Lifecycle>) -> Response<Body> {
    let containers = stats::containers(&lifecycle).await;
    let mut out = Exposition::default();
    let of = |c: &ContainerUsage| labels(&[("container", &c.container), ("namespace", &c.namespace), ("pod", &c.pod)]);
    out.family(
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] CPU time that the container has used, core-seconds",
        containers.iter().map(|c| (of(c), seconds(c.cpu_ns))),
    );
    out.family(
        "container_memory_working_set_bytes",
        "gauge",
        "[STABLE] Memory of the container that cannot be taken back at once, bytes",
        containers.iter().map(|c| (of(c), c.working_set as f64)),
    );
    let mut starts = Vec::new();
    for container in &containers {
        let status = lifecycle.statuses.get(&container.uid).unwrap_or_default();
        let own = status.container_statuses.into_iter().flatten().find(|s| s.name == container.container);
        let started = own.and_then(|own| own.state?.running?.started_at);
        starts.extend(started.map(|time| (of(container), time.0.as_second() as f64)));
    }
    out.family(
        "container_start_time_seconds",
        "gauge",
        "[STABLE] When the container started, seconds since 1970",
        starts,
    );
    let node = lifecycle.context.cgroups.root_usage();
    out.family(
        "node_cpu_usage_seconds_total",
        "counter",
        "[STABLE] CPU time that the node has used, core-seconds",
        [(String::new(), seconds(node.cpu_ns))],
    );
    out.family(
        "node_memory_working_set_bytes",
        "gauge",
        "[STABLE] Memory of the node that cannot be taken back at once, bytes",
        [(String::new(), node.working_set as f64)],
    );
    let pods: Vec<_> = lifecycle
        .pods
        .list()
        .into_iter()
        .filter(|pod| containers.iter().any(|container| container.uid == spec::uid(pod)))
        .map(|pod| {
            let usage = lifecycle.context.cgroups.pod_usage(&pod);
            (labels(&[("namespace", spec::namespace(&pod)), ("pod", spec::name(&pod))]), usage)
        })
        .collect();
    out.family(
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] CPU time that the pod has used, core-seconds",
        pods.iter().map(|(labels, usage)| (labels.clone(), seconds(usage.cpu_ns))),
    );
    out.family(
        "pod_memory_working_set_bytes",
        "gauge",
        "[STABLE] Memory of the pod that cannot be taken back at once, bytes",
        pods.iter().map(|(labels, usage)| (labels.clone(), usage.working_set as f64)),
    );
    out.family(
        "resource_scrape_error",
        "gauge",
        "[STABLE] Whether the runtime failed to tell of its containers (1) or not (0)",
        [(String::new(), 0.0)],
    );
    text(out.0)
}

/// `/metrics/cadvisor`: the best known of cAdvisor's families.
async fn cadvisor(lifecycle: Arc<Lifecycle>) -> Response<Body> {
    let containers = stats::containers(&lifecycle).await;
    let mut out = Exposition::default();
    let of = |c: &ContainerUsage| {
        let pairs = [
            ("container", &c.container),
            ("id", &c.id),
            ("image", &c.image),
            ("name", &c.id),
            ("namespace", &c.namespace),
            ("pod", &c.pod),
        ];
        labels(&pairs.map(|(key, value)| (key, value.as_str())))
    };
    type Value = fn(&ContainerUsage) -> f64;
    let families: [(&str, &str, &str, Value); 5] = [
        ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", |c| {
            seconds(c.cpu_ns)
        }),
        (
            "container_memory_usage_bytes",
            "gauge",
            "Current memory usage in bytes, including all memory regardless of when it was accessed",
            |c| c.usage as f64,
        ),
        ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", |c| c.working_set as f64),
        ("container_memory_rss", "gauge", "Size of RSS in bytes.", |c| c.rss as f64),
        (
            "container_fs_usage_bytes",
            "gauge",
            "Number of bytes that are consumed by the container on this filesystem.",
            |c| c.disk as f64,
        ),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help, containers.iter().map(|container| (of(container), value(container))));
    }
    out.family(
        "machine_cpu_cores",
        "gauge",
        "Number of logical CPU cores.",
        [(String::new(), lifecycle.context.machine.cpus as f64)],
    );
    out.family(
        "machine_memory_bytes",
        "gauge",
        "Amount of memory installed on the machine.",
        [(String::new(), lifecycle.context.machine.memory_bytes as f64)],
    );
    text(out.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_without_samples_are_left_out_and_labels_are_escaped() {
        let mut out = Exposition::default();
        out.family("none", "gauge", "Nothing.", []);
        out.family("one", "gauge", "One.", [(labels(&[("a", "x\"y")]), 1.5)]);
        assert_eq!(out.0, "# HELP one One.\n# TYPE one gauge\none{a=\"x\\\"y\"} 1.5\n");
    }
}
