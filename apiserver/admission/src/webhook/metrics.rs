//! How webhooks fare, under upstream's names.

use component_base::metrics::{HistogramVec, IntCounterVec, histogram_vec, register};
use prometheus::Opts;
use std::sync::LazyLock;

const BUCKETS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];

fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let made = IntCounterVec::new(Opts::new(name, help), labels);
    register(made.unwrap_or_else(|e| panic!("a metric of our own: {e}")))
}

pub static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    let labels = ["name", "type", "operation", "rejected"];
    histogram_vec(
        "apiserver_admission_webhook_admission_duration_seconds",
        "Time that an admission webhook took, by name, kind, operation and whether the request was refused.",
        &labels,
        BUCKETS,
    )
});

pub static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let labels = ["name", "type", "operation", "code", "rejected"];
    counter(
        "apiserver_admission_webhook_request_total",
        "Requests to admission webhooks by the code of the answer.",
        &labels,
    )
});

pub static REJECTIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let labels = ["name", "type", "operation", "error_type", "rejection_code"];
    counter(
        "apiserver_admission_webhook_rejection_count",
        "Requests refused: by the webhook (no_error), because it could not be asked (calling_webhook_error) or because of us.",
        &labels,
    )
});

pub static FAIL_OPEN: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "Requests let pass because a webhook that may be ignored could not be asked.";
    counter("apiserver_admission_webhook_fail_open_count", help, &["name", "type"])
});
