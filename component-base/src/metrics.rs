//! The process's Prometheus metrics: one registry, rendered as text at `/metrics`.
//!
//! ```
//! use std::sync::LazyLock;
//! use component_base::metrics::{self, CounterVec};
//!
//! static SYNCS: LazyLock<CounterVec> =
//!     LazyLock::new(|| metrics::counter_vec("demo_syncs_total", "Number of syncs.", &["result"]));
//!
//! SYNCS.with_label_values(&["ok"]).inc();
//! assert!(metrics::render().contains("demo_syncs_total{result=\"ok\"} 1"));
//! ```
//!
//! Names, labels and buckets are upstream's wherever upstream has the metric. A label's values must be bounded: never a
//! pod's name.

use std::sync::LazyLock;

use parking_lot::Mutex;
pub use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry, exponential_buckets,
};
use prometheus::{Encoder, HistogramOpts, Opts, TextEncoder, core::Collector};

use crate::version;

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);
type RenderHook = Box<dyn Fn() + Send>;
static HOOKS: Mutex<Vec<RenderHook>> = Mutex::new(Vec::new());

/// The registry of this process.
pub fn registry() -> &'static Registry {
    &REGISTRY
}

/// Adds a collector to the registry and gives it back.
///
/// # Panics
/// If a metric of this name exists or its name is malformed: both are mistakes in the program, found by its first run.
pub fn register<C: Collector + Clone + 'static>(collector: C) -> C {
    REGISTRY.register(Box::new(collector.clone())).expect("metrics have valid names and are registered once");
    collector
}

/// Calls `hook` before each rendering: for gauges whose value is cheaper to compute on demand.
pub fn on_render(hook: impl Fn() + Send + 'static) {
    HOOKS.lock().push(Box::new(hook));
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $plain:ident -> $Plain:ident, $vec:ident -> $Vec:ident;)*) => {$(
        $(#[$doc])*
        pub fn $plain(name: &str, help: &str) -> $Plain {
            register($Plain::new(name, help).expect("a valid metric name"))
        }

        $(#[$doc])*
        /// One for each set of label values.
        pub fn $vec(name: &str, help: &str, labels: &[&str]) -> $Vec {
            register($Vec::new(Opts::new(name, help), labels).expect("valid metric and label names"))
        }
    )*};
}

constructors! {
    /// A registered counter.
    counter -> Counter, counter_vec -> CounterVec;
    /// A registered counter of whole numbers.
    int_counter -> IntCounter, int_counter_vec -> IntCounterVec;
    /// A registered gauge.
    gauge -> Gauge, gauge_vec -> GaugeVec;
    /// A registered gauge of whole numbers.
    int_gauge -> IntGauge, int_gauge_vec -> IntGaugeVec;
}

/// A registered histogram with the given upper bounds (usually seconds).
pub fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(Histogram::with_opts(opts).expect("a valid metric name and sorted buckets"))
}

/// A registered histogram with labels.
pub fn histogram_vec(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(HistogramVec::new(opts, labels).expect("valid metric and label names and sorted buckets"))
}

/// Everything registered, and the process's own figures, in the text exposition format 0.0.4.
pub fn render() -> String {
    LazyLock::force(&BUILD_INFO);
    for hook in HOOKS.lock().iter() {
        hook();
    }
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&REGISTRY.gather(), &mut text) {
        tracing::error!(%error, "Cannot render metrics");
    }
    let mut text = String::from_utf8_lossy(&text).into_owned();
    process_metrics(&mut text);
    text
}

/// The media type of [`render`]'s answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

static BUILD_INFO: LazyLock<GaugeVec> = LazyLock::new(|| {
    let info = version::info();
    let labels = [
        ("build_date", info.build_date),
        ("compiler", info.compiler),
        ("git_commit", info.git_commit),
        ("git_tree_state", info.git_tree_state),
        ("git_version", info.git_version),
        ("go_version", info.go_version),
        ("major", info.major),
        ("minor", info.minor),
        ("platform", info.platform),
    ];
    let vec = gauge_vec(
        "kubernetes_build_info",
        "A metric with a constant '1' value labeled by the version, commit and platform this was built from.",
        &labels.map(|(name, _)| name),
    );
    vec.with_label_values(&labels.map(|(_, value)| value)).set(1.0);
    vec
});

/// The `process_*` family that Prometheus' client libraries share, from /proc/self.
fn process_metrics(out: &mut String) {
    use std::fmt::Write;
    let Some(process) = Process::read() else { return };
    for (name, kind, help, value) in [
        ("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", process.cpu_secs),
        ("process_open_fds", "gauge", "Number of open file descriptors.", process.open_fds),
        ("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", process.resident_bytes),
        ("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", process.virtual_bytes),
        (
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            process.start_secs,
        ),
        ("process_threads", "gauge", "Number of OS threads in the process.", process.threads),
    ] {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
}

struct Process {
    cpu_secs: f64,
    open_fds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    start_secs: f64,
    threads: f64,
}

impl Process {
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let boot_secs: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        // SAFETY: sysconf reads a constant and has no precondition.
        let (ticks, page) =
            unsafe { (libc::sysconf(libc::_SC_CLK_TCK) as f64, libc::sysconf(libc::_SC_PAGESIZE) as f64) };
        // proc(5): the name in parentheses may hold blanks; field 3 (state) follows the last ")".
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok());
        Some(Self {
            cpu_secs: (field(14)? + field(15)?) / ticks,
            open_fds: std::fs::read_dir("/proc/self/fd").map(|dir| dir.count() as f64).unwrap_or(0.0),
            resident_bytes: field(24)? * page,
            virtual_bytes: field(23)?,
            start_secs: boot_secs + field(22)? / ticks,
            threads: field(20)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_registered_process_and_build_metrics() {
        int_counter("test_renders_total", "Test.").inc();
        let text = render();
        for expected in [
            "test_renders_total 1",
            "process_resident_memory_bytes ",
            "kubernetes_build_info{",
            "process_cpu_seconds_total ",
        ] {
            assert!(text.contains(expected), "{expected} missing in\n{text}");
        }
    }
}
