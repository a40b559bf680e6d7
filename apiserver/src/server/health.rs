//! `/healthz`, `/livez` and `/readyz`, whole and check by check.
//!
//! The checks have upstream's names, which dashboards and probes exclude and ask for; most are named after a step of upstream's start.
//! Here each is the state of the part that does that work.

use super::Server;
use component_base::serving::full;
use handlers::Response;
use handlers::response::respond;
use http::{HeaderValue, StatusCode};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a check asks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asks {
    /// Whether the server answers at all.
    Answer,
    /// Whether etcd does.
    Etcd,
    /// Whether the watch caches are loaded, of which authorization, admission, definitions, discovery and aggregation live.
    Caches,
    /// Whether the objects that every cluster has are in place.
    Bootstrap,
    /// Whether nobody told the server to stop.
    Stop,
}

struct Check {
    name: &'static str,
    /// Readiness only: a restart would not help.
    ready_only: bool,
    asks: Asks,
}

const fn check(name: &'static str, asks: Asks) -> Check {
    Check { name, ready_only: false, asks }
}

const fn ready(name: &'static str, asks: Asks) -> Check {
    Check { name, ready_only: true, asks }
}

/// In the order in which they are told.
const CHECKS: &[Check] = &[
    check("ping", Asks::Answer),
    check("log", Asks::Answer),
    check("etcd", Asks::Etcd),
    ready("etcd-readiness", Asks::Etcd),
    ready("informer-sync", Asks::Caches),
    check("poststarthook/start-apiserver-admission-initializer", Asks::Caches),
    check("poststarthook/generic-apiserver-start-informers", Asks::Caches),
    check("poststarthook/priority-and-fairness-config-consumer", Asks::Caches),
    check("poststarthook/priority-and-fairness-filter", Asks::Answer),
    check("poststarthook/storage-object-count-tracker-hook", Asks::Caches),
    check("poststarthook/start-apiextensions-informers", Asks::Caches),
    check("poststarthook/start-apiextensions-controllers", Asks::Caches),
    check("poststarthook/crd-informer-synced", Asks::Caches),
    check("poststarthook/start-system-namespaces-controller", Asks::Bootstrap),
    check("poststarthook/start-cluster-authentication-info-controller", Asks::Bootstrap),
    check("poststarthook/start-kube-apiserver-identity-lease-controller", Asks::Bootstrap),
    check("poststarthook/start-kube-apiserver-identity-lease-garbage-collector", Asks::Bootstrap),
    check("poststarthook/start-legacy-token-tracking-controller", Asks::Bootstrap),
    check("poststarthook/start-service-ip-repair-controllers", Asks::Bootstrap),
    check("poststarthook/rbac/bootstrap-roles", Asks::Bootstrap),
    check("poststarthook/scheduling/bootstrap-system-priority-classes", Asks::Bootstrap),
    check("poststarthook/priority-and-fairness-config-producer", Asks::Bootstrap),
    check("poststarthook/bootstrap-controller", Asks::Bootstrap),
    check("poststarthook/start-kubernetes-service-cidr-controller", Asks::Bootstrap),
    check("poststarthook/aggregator-reload-proxy-client-cert", Asks::Answer),
    check("poststarthook/start-kube-aggregator-informers", Asks::Caches),
    check("poststarthook/apiservice-status-local-available-controller", Asks::Caches),
    check("poststarthook/apiservice-status-remote-available-controller", Asks::Caches),
    check("poststarthook/apiservice-registration-controller", Asks::Caches),
    check("poststarthook/apiservice-discovery-controller", Asks::Caches),
    check("poststarthook/kube-apiserver-autoregistration", Asks::Bootstrap),
    check("autoregister-completion", Asks::Bootstrap),
    check("poststarthook/apiservice-openapi-controller", Asks::Caches),
    check("poststarthook/apiservice-openapiv3-controller", Asks::Caches),
    ready("shutdown", Asks::Stop),
];

/// How patient the checks are.
#[derive(Clone, Copy, Debug)]
pub struct HealthLimits {
    /// How long etcd may take to answer: for health, and for readiness.
    pub etcd: Duration,
    pub etcd_readiness: Duration,
    /// Until then a server that still starts is alive.
    pub live_from: Instant,
}

/// The query of a request for one of the three.
#[derive(Debug, Default, PartialEq)]
struct Options {
    verbose: bool,
    exclude: Vec<String>,
}

impl Options {
    fn parse(query: &str) -> Options {
        let mut options = Options::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "verbose" => options.verbose = true,
                "exclude" => options.exclude.push(value.into_owned()),
                _ => {}
            }
        }
        options
    }
}

/// Answers a path below one of the three; none if there is no such check.
pub async fn answer(server: &Server, path: &str, query: Option<&str>) -> Option<Response> {
    let (endpoint, name) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    let mut checks = CHECKS.iter().filter(|check| endpoint == "readyz" || !check.ready_only);
    let starts = endpoint == "livez" && Instant::now() < server.health.live_from;
    if !name.is_empty() {
        let check = checks.find(|check| check.name == name)?;
        return Some(match run(server, check, starts).await {
            Ok(()) => plain(StatusCode::OK, "ok".into()),
            Err(why) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
        });
    }
    let mut results = Vec::new();
    for check in checks {
        let result = run(server, check, starts).await;
        if let Err(why) = &result {
            tracing::debug!(check = check.name, why, "health check failed");
        }
        results.push((check.name, result.is_ok()));
    }
    Some(report(endpoint, &results, &Options::parse(query.unwrap_or(""))))
}

/// The answer of a whole endpoint. What failed is always told, why is not: everybody may ask.
fn report(endpoint: &str, results: &[(&str, bool)], options: &Options) -> Response {
    let mut text = String::new();
    let mut failed = false;
    let is_excluded = |name: &str| options.exclude.iter().any(|excluded| excluded == name);
    for (name, passed) in results {
        text += &match passed {
            _ if is_excluded(name) => format!("[+]{name} excluded: ok\n"),
            true => format!("[+]{name} ok\n"),
            false => format!("[-]{name} failed: reason withheld\n"),
        };
        failed |= !passed && !is_excluded(name);
    }
    let unknown = options.exclude.iter().filter(|name| !results.iter().any(|(known, _)| known == name));
    let mut unknown: Vec<String> = unknown.map(|name| format!("{name:?}")).collect();
    if !unknown.is_empty() {
        unknown.sort();
        unknown.dedup();
        text += &format!("warn: some health checks cannot be excluded: no matches for {}\n", unknown.join(","));
    }
    match (failed, options.verbose) {
        (true, _) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{text}{endpoint} check failed\n")),
        (false, true) => plain(StatusCode::OK, format!("{text}{endpoint} check passed\n")),
        (false, false) => plain(StatusCode::OK, "ok".into()),
    }
}

fn plain(code: StatusCode, text: String) -> Response {
    let mut response = respond(code, "text/plain; charset=utf-8", full(text));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// `starts`: what belongs to the start is not held against the server yet.
async fn run(server: &Server, check: &Check, starts: bool) -> Result<(), String> {
    match check.asks {
        Asks::Etcd => {
            let HealthLimits { etcd, etcd_readiness, .. } = server.health;
            let limit = if check.ready_only { etcd_readiness } else { etcd };
            let answer = tokio::time::timeout(limit, server.api.etcd.healthy()).await;
            answer.map_err(|_| "etcd does not answer".to_owned())?.map_err(|e| e.to_string())
        }
        Asks::Caches | Asks::Bootstrap if starts => Ok(()),
        Asks::Caches if server.api.progress.seen() == 0 => Err("the watch caches are not loaded yet".into()),
        Asks::Bootstrap if !server.bootstrapped.load(Ordering::Acquire) => Err("not finished".into()),
        Asks::Stop if server.closing.is_cancelled() => Err("process is shutting down".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn an_endpoint_tells_what_failed_and_what_was_left_out() {
        let results = [("ping", true), ("etcd", false)];
        for (query, results, want) in [
            ("", &results[..1], (200, "ok")),
            ("verbose", &results[..1], (200, "[+]ping ok\nlivez check passed\n")),
            ("", &results[..], (500, "[+]ping ok\n[-]etcd failed: reason withheld\nlivez check failed\n")),
            ("exclude=etcd", &results[..], (200, "ok")),
            (
                "exclude=etcd&verbose=false&exclude=a%20b",
                &results[..],
                (
                    200,
                    "[+]ping ok\n[+]etcd excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"a b\"\nlivez check passed\n",
                ),
            ),
        ] {
            let answer = report("livez", results, &Options::parse(query));
            let code = answer.status().as_u16();
            let text = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!((code, std::str::from_utf8(&text).unwrap()), want, "{query}");
        }
    }
}
