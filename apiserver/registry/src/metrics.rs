//! Times of compiling and evaluating expressions, under upstream's names.

use component_base::metrics::{Histogram, histogram};
use std::sync::LazyLock;
use std::time::Instant;

/// Bounds of Prometheus' client libraries, for what upstream gives none of its own.
const DEFAULT_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

static COMPILATIONS: LazyLock<Histogram> = LazyLock::new(|| {
    let help = "Time to compile the expressions of an object.";
    histogram("apiserver_cel_compilation_duration_seconds", help, DEFAULT_BUCKETS)
});

static EVALUATIONS: LazyLock<Histogram> = LazyLock::new(|| {
    let help = "Time to ask the expressions of an object about a write.";
    histogram("apiserver_cel_evaluation_duration_seconds", help, DEFAULT_BUCKETS)
});

/// Compiles the expressions of an object, and counts the time.
pub fn compiling<T>(compile: impl FnOnce() -> T) -> T {
    timed(&COMPILATIONS, compile)
}

/// Asks the expressions of an object, and counts the time.
pub fn evaluating<T>(evaluate: impl FnOnce() -> T) -> T {
    timed(&EVALUATIONS, evaluate)
}

fn timed<T>(histogram: &Histogram, run: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = run();
    histogram.observe(started.elapsed().as_secs_f64());
    result
}
