//! Counts and durations of requests, under upstream's names.

use component_base::metrics::{histogram_vec, register};
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Opts};
use std::sync::LazyLock;

const BUCKETS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

pub static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let opts = Opts::new("apiserver_request_total", "Requests by verb, resource and answer.");
    let labels = ["verb", "group", "version", "resource", "subresource", "scope", "code"];
    register(IntCounterVec::new(opts, &labels).unwrap_or_else(|e| panic!("a metric of our own: {e}")))
});

pub static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    let labels = ["verb", "group", "version", "resource", "subresource", "scope"];
    histogram_vec("apiserver_request_duration_seconds", "Time to answer, without watches.", &labels, BUCKETS)
});

pub static INFLIGHT: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let opts = Opts::new("apiserver_current_inflight_requests", "Requests that run now.");
    register(IntGaugeVec::new(opts, &["request_kind"]).unwrap_or_else(|e| panic!("a metric of our own: {e}")))
});
