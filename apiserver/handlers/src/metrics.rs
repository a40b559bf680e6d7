//! Counts of watches, under upstream's names.

use component_base::metrics::{IntCounterVec, IntGaugeVec, int_counter_vec, int_gauge_vec};
use std::sync::LazyLock;

pub static LONG_RUNNING: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let labels = ["verb", "group", "version", "resource", "subresource", "scope", "component"];
    int_gauge_vec("apiserver_longrunning_requests", "Watches that run now.", &labels)
});

pub static WATCH_EVENTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    int_counter_vec("apiserver_watch_events_total", "Events sent to watchers.", &["group", "version", "resource"])
});
