//! Counts of translated streams, under upstream's names.

use component_base::metrics::{IntCounterVec, int_counter_vec};
use std::sync::LazyLock;

pub static STREAM_TRANSLATOR_REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let name = "apiserver_stream_translator_requests_total";
    int_counter_vec(name, "Streams translated from WebSocket to SPDY, by how they ended.", &["code"])
});

pub static STREAM_TUNNEL_REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let name = "apiserver_stream_tunnel_requests_total";
    int_counter_vec(name, "SPDY connections tunnelled through WebSockets, by the answer.", &["code"])
});
