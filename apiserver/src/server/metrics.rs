//! Counts and durations of requests and events, under upstream's names.

use component_base::metrics::{
    Gauge, HistogramVec, IntCounterVec, IntGaugeVec, exponential_buckets, gauge_vec, histogram_vec, int_counter_vec,
    int_gauge_vec, on_render,
};
use std::sync::{Arc, LazyLock};

const BUCKETS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
/// The labels by which upstream tells requests apart, besides the answer's code.
const REQUEST: [&str; 8] = ["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"];

pub static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let labels: Vec<&str> = REQUEST.iter().copied().chain(["code"]).collect();
    int_counter_vec("apiserver_request_total", "Requests by verb, resource and answer.", &labels)
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
    LazyLock::new(|| int_gauge_vec("apiserver_current_inflight_requests", "Requests that run now.", &["request_kind"]));

pub static DEPRECATED: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let labels = ["group", "version", "resource", "subresource", "removed_release"];
    int_gauge_vec(
        "apiserver_requested_deprecated_apis",
        "Deprecated APIs that somebody asked for, and when they go.",
        &labels,
    )
});

/// How many objects there are of each resource, counted when somebody looks.
pub fn count_objects(server: Arc<super::Server>) {
    let labels = ["group", "resource"];
    let objects = gauge_vec("apiserver_resource_objects", "Objects that are kept, by resource.", &labels);
    let by_name = gauge_vec("apiserver_storage_objects", "Objects that are kept, by resource.", &["resource"]);
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
