//! Counts and durations of requests and events, under upstream's names.

use component_base::metrics::{
    Gauge, GaugeVec, HistogramVec, IntCounterVec, IntGaugeVec, exponential_buckets, histogram_vec, on_render, register,
};
use prometheus::Opts;
use std::sync::{Arc, LazyLock};

const BUCKETS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
/// The labels by which upstream tells requests apart, besides the answer's code.
const REQUEST: [&str; 8] = ["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"];

fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(IntCounterVec::new(Opts::new(name, help), labels).unwrap_or_else(|e| panic!("a metric of our own: {e}")))
}

fn gauge(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(IntGaugeVec::new(Opts::new(name, help), labels).unwrap_or_else(|e| panic!("a metric of our own: {e}")))
}

pub static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let labels: Vec<&str> = REQUEST.iter().copied().chain(["code"]).collect();
    counter("apiserver_request_total", "Requests by verb, resource and answer.", &labels)
});

pub static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec("apiserver_request_duration_seconds", "Time to answer, without watches.", &REQUEST, BUCKETS)
});

/// Only of answers whose size is known before they are sent: pieces of a streamed list are not counted together.
pub static RESPONSE_SIZES: LazyLock<HistogramVec> = LazyLock::new(|| {
    let labels = ["verb", "group", "version", "resource", "subresource", "scope", "component"];
    let buckets = exponential_buckets(1000.0, 10.0, 7).unwrap_or_default();
    histogram_vec("apiserver_response_sizes", "Bytes of answers to reads.", &labels, &buckets)
});

pub static INFLIGHT: LazyLock<IntGaugeVec> =
    LazyLock::new(|| gauge("apiserver_current_inflight_requests", "Requests that run now.", &["request_kind"]));

pub static LONG_RUNNING: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let labels = ["verb", "group", "version", "resource", "subresource", "scope", "component"];
    gauge("apiserver_longrunning_requests", "Watches that run now.", &labels)
});

pub static WATCH_EVENTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter("apiserver_watch_events_total", "Events sent to watchers.", &["group", "version", "resource"])
});

pub static DEPRECATED: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let labels = ["group", "version", "resource", "subresource", "removed_release"];
    gauge("apiserver_requested_deprecated_apis", "Deprecated APIs that somebody asked for, and when they go.", &labels)
});

pub static STREAM_TRANSLATOR_REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let name = "apiserver_stream_translator_requests_total";
    counter(name, "Streams translated from WebSocket to SPDY, by how they ended.", &["code"])
});

pub static STREAM_TUNNEL_REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let name = "apiserver_stream_tunnel_requests_total";
    counter(name, "SPDY connections tunnelled through WebSockets, by the answer.", &["code"])
});

/// How many objects there are of each resource, counted when somebody looks.
pub fn count_objects(server: Arc<super::Server>) {
    let labels = ["group", "resource"];
    let objects = register(
        GaugeVec::new(Opts::new("apiserver_resource_objects", "Objects that are kept, by resource."), &labels)
            .unwrap_or_else(|e| panic!("a metric of our own: {e}")),
    );
    let by_name = register(
        GaugeVec::new(Opts::new("apiserver_storage_objects", "Objects that are kept, by resource."), &["resource"])
            .unwrap_or_else(|e| panic!("a metric of our own: {e}")),
    );
    on_render(move || {
        objects.reset(); // a resource that is gone has no objects
        by_name.reset();
        for ((group, _), table) in &server.api.served.load().versions {
            for (plural, endpoint) in table {
                let Some(cache) = &endpoint.cache else { continue };
                let count = cache.snapshot().objects.len() as f64;
                let name = if group.is_empty() { plural.clone() } else { format!("{plural}.{group}") };
                let set = |gauge: Gauge| gauge.set(count);
                set(objects.with_label_values(&[group, plural]));
                set(by_name.with_label_values(&[&name]));
            }
        }
    });
}
