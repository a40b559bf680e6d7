//! Metrics of the controller, under upstream's names.

use std::{cmp::Ordering, sync::LazyLock, time::Duration};

use component_base::metrics::{self, CounterVec, Gauge, GaugeVec, HistogramVec, exponential_buckets};

const LABELS: [&str; 2] = ["action", "error"];
const METRIC_LABELS: [&str; 3] = ["action", "error", "metric_type"];

/// From a millisecond on, doubled.
fn buckets() -> Vec<f64> {
    exponential_buckets(0.001, 2.0, 15).expect("a positive start and a factor above one")
}

static RECONCILIATIONS: LazyLock<CounterVec> = LazyLock::new(|| {
    let help = "Number of reconciliations of HPA controller.";
    metrics::counter_vec("horizontal_pod_autoscaler_controller_reconciliations_total", help, &LABELS)
});
static RECONCILIATION_SECS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "The time(seconds) that the HPA controller takes to reconcile once.";
    let name = "horizontal_pod_autoscaler_controller_reconciliation_duration_seconds";
    metrics::histogram_vec(name, help, &LABELS, &buckets())
});
static COMPUTATIONS: LazyLock<CounterVec> = LazyLock::new(|| {
    let help = "Number of metric computations.";
    metrics::counter_vec("horizontal_pod_autoscaler_controller_metric_computation_total", help, &METRIC_LABELS)
});
static COMPUTATION_SECS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "The time(seconds) that the HPA controller takes to calculate one metric.";
    let name = "horizontal_pod_autoscaler_controller_metric_computation_duration_seconds";
    metrics::histogram_vec(name, help, &METRIC_LABELS, &buckets())
});
static AUTOSCALERS: LazyLock<Gauge> = LazyLock::new(|| {
    let help = "Current number of controlled HPA objects.";
    metrics::gauge("horizontal_pod_autoscaler_controller_num_horizontal_pod_autoscalers", help)
});
/// One for each object, as upstream; it goes with the object.
static DESIRED: LazyLock<GaugeVec> = LazyLock::new(|| {
    let help = "Current desired replica count for HPA objects.";
    metrics::gauge_vec("horizontal_pod_autoscaler_controller_desired_replicas", help, &["namespace", "hpa_name"])
});

/// How the wanted number compares with the one before; or an error, and whether the object is to blame.
pub(super) type Outcome = Result<Ordering, bool>;

fn labels(outcome: Outcome) -> [&'static str; 2] {
    match outcome {
        Ok(Ordering::Greater) => ["scale_up", "none"],
        Ok(Ordering::Less) => ["scale_down", "none"],
        Ok(Ordering::Equal) => ["none", "none"],
        Err(true) => ["none", "spec"],
        Err(false) => ["none", "internal"],
    }
}

pub(super) fn reconciled(outcome: Outcome, took: Duration) {
    let labels = labels(outcome);
    RECONCILIATIONS.with_label_values(&labels).inc();
    RECONCILIATION_SECS.with_label_values(&labels).observe(took.as_secs_f64());
}

pub(super) fn computed(kind: &str, outcome: Outcome, took: Duration) {
    // The API server admits only the five kinds there are: a bounded label.
    let [action, error] = labels(outcome);
    COMPUTATIONS.with_label_values(&[action, error, kind]).inc();
    COMPUTATION_SECS.with_label_values(&[action, error, kind]).observe(took.as_secs_f64());
}

pub(super) fn count(autoscalers: usize) {
    AUTOSCALERS.set(autoscalers as f64);
}

pub(super) fn desired(namespace: &str, name: &str, replicas: i32) {
    DESIRED.with_label_values(&[namespace, name]).set(f64::from(replicas));
}

pub(super) fn forget(namespace: &str, name: &str) {
    // There may never have been one.
    let _ = DESIRED.remove_label_values(&[namespace, name]);
}
