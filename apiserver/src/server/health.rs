//! `/healthz`, `/livez` and `/readyz`, whole and check by check.

use super::Server;
use crate::handlers::Response;
use crate::handlers::render::respond;
use component_base::serving::full;
use http::StatusCode;
use std::sync::atomic::Ordering;

/// Names of the checks, and whether liveness depends on them.
const CHECKS: &[(&str, bool)] = &[
    ("ping", true),
    ("etcd", true),
    ("poststarthook/rbac/bootstrap-roles", true),
    ("informer-sync", false),
    ("shutdown", false),
];

const TEXT: &str = "text/plain; charset=utf-8";

/// Answers a path below one of the three; none if there is no such check.
pub async fn answer(server: &Server, path: &str, query: Option<&str>) -> Option<Response> {
    let (endpoint, check) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    let query = query.unwrap_or("");
    let excluded: Vec<&str> = query.split('&').filter_map(|p| p.strip_prefix("exclude=")).collect();
    let wanted = CHECKS.iter().filter(|(name, live)| {
        if check.is_empty() { (endpoint != "livez" || *live) && !excluded.contains(name) } else { *name == check }
    });
    let mut report = String::new();
    let (mut ran, mut failed) = (0, false);
    for (name, _) in wanted {
        ran += 1;
        match run(server, name).await {
            Ok(()) => report.push_str(&format!("[+]{name} ok\n")),
            Err(why) => {
                failed = true;
                tracing::debug!(check = name, why, "health check failed");
                report.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    if ran == 0 && !check.is_empty() {
        return None;
    }
    let verbose = query.split('&').any(|p| matches!(p, "verbose" | "verbose=1" | "verbose=true"));
    Some(match (failed, verbose && check.is_empty()) {
        (true, _) => {
            respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, full(format!("{report}{endpoint} check failed\n")))
        }
        (false, true) => respond(StatusCode::OK, TEXT, full(format!("{report}{endpoint} check passed\n"))),
        (false, false) => respond(StatusCode::OK, TEXT, full("ok")),
    })
}

async fn run(server: &Server, name: &str) -> Result<(), String> {
    match name {
        "etcd" => {
            let check = tokio::time::timeout(std::time::Duration::from_secs(2), server.api.etcd.healthy());
            check.await.map_err(|_| "etcd does not answer".to_owned())?.map_err(|e| e.to_string())
        }
        "poststarthook/rbac/bootstrap-roles" if !server.bootstrapped.load(Ordering::Acquire) => {
            Err("not finished".into())
        }
        "informer-sync" if server.api.progress.seen() == 0 => Err("the watch cache is not loaded yet".into()),
        "shutdown" if server.closing.is_cancelled() => Err("process is shutting down".into()),
        _ => Ok(()),
    }
}
