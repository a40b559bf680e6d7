//! What etcd is asked, how often and how long it takes, under upstream's names.

use component_base::metrics::{HistogramVec, IntCounterVec, histogram_vec, register};
use prometheus::Opts;
use std::sync::LazyLock;

const BUCKETS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(IntCounterVec::new(Opts::new(name, help), labels).unwrap_or_else(|e| panic!("a metric of our own: {e}")))
}

/// Objects are named by the prefix of their keys, of which there is one for each resource.
pub static ETCD_DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    let labels = ["operation", "group", "resource"];
    histogram_vec("etcd_request_duration_seconds", "Time until etcd answered.", &labels, BUCKETS)
});

pub static ETCD_REQUESTS: LazyLock<IntCounterVec> =
    LazyLock::new(|| counter("etcd_requests_total", "Requests to etcd.", &["operation", "group", "resource"]));

pub static ETCD_ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter("etcd_request_errors_total", "Requests that etcd did not answer.", &["operation", "group", "resource"])
});
