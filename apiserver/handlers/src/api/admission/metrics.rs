//! How long admission takes, as a whole and by plugin, under upstream's names.
//!
//! Upstream counts a plugin where it takes part in a stage of an operation, whether or not the object concerns it: see
//! [`Plugin::operations`](super::Plugin::operations).

use super::Operation;
use component_base::metrics::{Histogram, HistogramVec, histogram_vec};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

const BUCKETS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];

static STEPS: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec(
        "apiserver_admission_step_admission_duration_seconds",
        "Time that a stage of admission took, with all its plugins.",
        &["type", "operation", "rejected"],
        BUCKETS,
    )
});

static PLUGINS: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec(
        "apiserver_admission_controller_admission_duration_seconds",
        "Time that a plugin took in a stage of admission.",
        &["name", "type", "operation", "rejected"],
        BUCKETS,
    )
});

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Admit,
    Validate,
}

impl Stage {
    fn label(self) -> &'static str {
        match self {
            Stage::Admit => "admit",
            Stage::Validate => "validate",
        }
    }
}

const OPERATIONS: usize = 4;

/// The series of one plugin, or of a stage as a whole; each is made when it first counts.
struct Series {
    /// Operations that count, by [`Operation`] as a number.
    counts: [bool; OPERATIONS],
    /// By operation, let pass and refused.
    made: [[OnceLock<Histogram>; 2]; OPERATIONS],
}

impl Series {
    fn new(letters: &str) -> Series {
        let counts = ['C', 'U', 'D', 'O'].map(|letter| letters.contains(letter));
        Series { counts, made: Default::default() }
    }

    fn observe(&self, operation: Operation, refused: bool, took: Duration, make: impl Fn(&'static str) -> Histogram) {
        let at = operation as usize;
        if !self.counts[at] {
            return;
        }
        let series = self.made[at][usize::from(refused)].get_or_init(|| make(if refused { "true" } else { "false" }));
        series.observe(took.as_secs_f64());
    }
}

/// The series of a chain of plugins.
pub struct ChainMetrics {
    steps: [Series; 2],
    /// In the order of the chain.
    plugins: Vec<(&'static str, [Series; 2])>,
}

/// One run of a stage through the plugins: a clock that each of them stops.
pub struct Clock<'a> {
    metrics: &'a ChainMetrics,
    stage: Stage,
    operation: Operation,
    last: Instant,
}

impl ChainMetrics {
    /// `plugins`: each with the operations in which it changes objects and in which it validates them.
    pub fn new(plugins: impl Iterator<Item = (&'static str, (&'static str, &'static str))>) -> ChainMetrics {
        let plugins = plugins.map(|(name, (admits, validates))| (name, [Series::new(admits), Series::new(validates)]));
        ChainMetrics { steps: [Series::new("CUDO"), Series::new("CUDO")], plugins: plugins.collect() }
    }

    pub fn clock(&self, stage: Stage, operation: Operation) -> Clock<'_> {
        Clock { metrics: self, stage, operation, last: Instant::now() }
    }

    /// Counts a stage that began at `since`, all rounds of it together.
    pub fn step(&self, stage: Stage, operation: Operation, since: Instant, refused: bool) {
        self.steps[stage as usize].observe(operation, refused, since.elapsed(), |rejected| {
            STEPS.with_label_values(&[stage.label(), operation.as_str(), rejected])
        });
    }
}

impl Clock<'_> {
    /// When it was started, or last stopped.
    pub fn started(&self) -> Instant {
        self.last
    }

    /// Counts the plugin at a place of the chain, which has just ended.
    pub fn passed(&mut self, place: usize, refused: bool) {
        let (stage, operation) = (self.stage, self.operation);
        let (name, series) = &self.metrics.plugins[place];
        let series = &series[stage as usize];
        if !series.counts[operation as usize] {
            return; // what it did took no time: it has no part in this
        }
        let now = Instant::now();
        series.observe(operation, refused, now - self.last, |rejected| {
            PLUGINS.with_label_values(&[*name, stage.label(), operation.as_str(), rejected])
        });
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_count_where_they_take_part() {
        let metrics = ChainMetrics::new([("ResourceQuota", ("", "CU")), ("Priority", ("CUD", "CUD"))].into_iter());
        let mut clock = metrics.clock(Stage::Validate, Operation::Delete);
        clock.passed(0, false);
        clock.passed(1, true);
        let text = component_base::metrics::render();
        let line = |name: &str, rejected: &str| {
            let labels = format!("name=\"{name}\",operation=\"DELETE\",rejected=\"{rejected}\",type=\"validate\"");
            text.contains(&format!("apiserver_admission_controller_admission_duration_seconds_count{{{labels}}}"))
        };
        assert!(line("Priority", "true") && !line("Priority", "false") && !line("ResourceQuota", "false"), "{text}");
    }
}
