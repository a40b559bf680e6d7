//! Metrics of the certificates, under upstream's names.

use std::sync::LazyLock;

use component_base::metrics::{self, Gauge, Histogram, IntCounter};

const MINUTE: f64 = 60.0;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;

pub static CLIENT_RENEW_ERRORS: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::int_counter(
        "kubelet_certificate_manager_client_expiration_renew_errors",
        "[ALPHA] Counter of certificate renewal errors.",
    )
});

pub static SERVER_RENEW_ERRORS: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::int_counter("kubelet_server_expiration_renew_errors", "[ALPHA] Counter of certificate renewal errors.")
});

pub static CLIENT_TTL_SECONDS: LazyLock<Gauge> = LazyLock::new(|| {
    metrics::gauge(
        "kubelet_certificate_manager_client_ttl_seconds",
        "[ALPHA] Seconds until the client certificate expires, negative if it has; +INF if there is none.",
    )
});

pub static SERVER_TTL_SECONDS: LazyLock<Gauge> = LazyLock::new(|| {
    metrics::gauge(
        "kubelet_certificate_manager_server_ttl_seconds",
        "[ALPHA] Seconds until the serving certificate expires, negative if it has; +INF if there is none.",
    )
});

pub static SERVER_ROTATION_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    let buckets =
        [MINUTE, HOUR, 4.0 * HOUR, DAY, 7.0 * DAY, 30.0 * DAY, 90.0 * DAY, 180.0 * DAY, 360.0 * DAY, 1440.0 * DAY];
    metrics::histogram(
        "kubelet_certificate_manager_server_rotation_seconds",
        "[ALPHA] Histogram of the number of seconds the previous certificate lived before being rotated.",
        &buckets,
    )
});
