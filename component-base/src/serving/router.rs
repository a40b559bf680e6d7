//! From a path to its handler.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{
    body::{Body, json, text, with_type},
    health::Checks,
};
use crate::{metrics, version};

/// Answers a request.
pub type Handler = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Boxes an async function as [`Handler`].
pub fn handler<F, Fut>(function: F) -> Handler
where
    F: Fn(Request<Incoming>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    Arc::new(move |request| Box::pin(function(request)))
}

/// Exact paths, and prefixes that end in "/"; the longest match answers. What matches none is 404.
#[derive(Clone, Default)]
pub struct Router {
    exact: BTreeMap<String, Handler>,
    prefixes: BTreeMap<String, Handler>,
}

impl Router {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a path; one that ends in "/" (and is not "/" alone) covers everything below it too.
    pub fn route(mut self, path: &str, handler: Handler) -> Self {
        let routes = if path.len() > 1 && path.ends_with('/') { &mut self.prefixes } else { &mut self.exact };
        routes.insert(path.to_owned(), handler);
        self
    }

    /// As [`route`](Self::route), from an async function.
    pub fn on<F, Fut>(self, path: &str, function: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response<Body>> + Send + 'static,
    {
        self.route(path, handler(function))
    }

    /// `/healthz`, `/livez`, `/readyz`, each with `/<check>` below it, `?verbose` and `?exclude=<check>`.
    pub fn with_health(self, checks: Checks) -> Self {
        ["/healthz", "/livez", "/readyz"].into_iter().fold(self, |router, path| {
            let answer = {
                let checks = checks.clone();
                handler(move |request: Request<Incoming>| {
                    let answer = checks.answer(path, request.uri());
                    async move { answer }
                })
            };
            router.route(path, answer.clone()).route(&format!("{path}/"), answer)
        })
    }

    /// `/metrics`.
    pub fn with_metrics(self) -> Self {
        self.on("/metrics", |_| async { with_type(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render().into()) })
    }

    /// `/version`.
    pub fn with_version(self) -> Self {
        self.on("/version", |_| async { json(StatusCode::OK, &version::info()) })
    }

    /// `/configz`: the configuration in effect, under its API group's name.
    pub fn with_configz(self, name: &'static str, config: serde_json::Value) -> Self {
        self.on("/configz", move |_| {
            let answer = json(StatusCode::OK, &serde_json::json!({ name: config }));
            async move { answer }
        })
    }

    /// The handler for `path`.
    pub fn find(&self, path: &str) -> Option<&Handler> {
        if let Some(handler) = self.exact.get(path) {
            return Some(handler);
        }
        path.rmatch_indices('/').find_map(|(slash, _)| self.prefixes.get(&path[..=slash]))
    }

    pub fn into_handler(self) -> Handler {
        Arc::new(move |request| match self.find(request.uri().path()) {
            Some(handler) => handler(request),
            None => Box::pin(async { text(StatusCode::NOT_FOUND, "404 page not found\n") }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_match_answers() {
        let named = |name: &'static str| handler(move |_| async move { text(StatusCode::OK, name) });
        let handlers = [named("a"), named("b"), named("c")];
        let router = Router::new()
            .route("/pods", handlers[0].clone())
            .route("/exec/", handlers[1].clone())
            .route("/exec/special/", handlers[2].clone());
        for (path, expected) in [
            ("/pods", Some(0)),
            ("/pods/", None),
            ("/exec/ns/pod/c", Some(1)),
            ("/exec/special/x", Some(2)),
            ("/exec", None),
            ("/", None),
        ] {
            let found = router.find(path).and_then(|found| handlers.iter().position(|h| Arc::ptr_eq(h, found)));
            assert_eq!(found, expected, "{path}");
        }
    }
}
