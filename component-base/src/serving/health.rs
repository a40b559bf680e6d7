//! `/healthz`, `/livez`, `/readyz` in upstream's format.

use std::sync::Arc;

use http::{Response, StatusCode, Uri};

use super::body::{Body, text};

/// A named check; an error says what is wrong, to an operator.
#[derive(Clone)]
pub struct Check {
    pub name: &'static str,
    pub check: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl Check {
    pub fn new(name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { name, check: Arc::new(check) }
    }
}

/// The checks of a process, in the order in which they are shown. `ping` is always among them.
#[derive(Clone)]
pub struct Checks(Vec<Check>);

impl Default for Checks {
    fn default() -> Self {
        Self(vec![Check::new("ping", || Ok(()))])
    }
}

impl Checks {
    pub fn with(mut self, check: Check) -> Self {
        self.0.push(check);
        self
    }

    /// The answer at `endpoint` (such as "/readyz"), for it or one check below it.
    pub(super) fn answer(&self, endpoint: &str, uri: &Uri) -> Response<Body> {
        let query = uri.query().unwrap_or_default();
        let parameters = || query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let excluded = |name: &str| parameters().any(|(key, value)| key == "exclude" && value == name);
        let one = uri.path().strip_prefix(endpoint).and_then(|rest| rest.strip_prefix('/')).filter(|s| !s.is_empty());

        if let Some(name) = one {
            return match self.0.iter().find(|check| check.name == name).map(|check| (check.check)()) {
                None => text(StatusCode::NOT_FOUND, "404 page not found\n"),
                Some(Ok(())) => text(StatusCode::OK, "ok"),
                Some(Err(reason)) => {
                    text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {reason}\n"))
                }
            };
        }
        let (mut lines, mut failed) = (String::new(), false);
        for check in &self.0 {
            if excluded(check.name) {
                lines.push_str(&format!("[+]{} excluded: ok\n", check.name));
                continue;
            }
            match (check.check)() {
                Ok(()) => lines.push_str(&format!("[+]{} ok\n", check.name)),
                Err(reason) => {
                    failed = true;
                    tracing::warn!(check = check.name, %reason, endpoint, "Health check failed");
                    // Reasons go to the log only: this endpoint may be open to anyone.
                    lines.push_str(&format!("[-]{} failed: reason withheld\n", check.name));
                }
            }
        }
        let name = endpoint.trim_start_matches('/');
        if failed {
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{name} check failed\n"))
        } else if parameters().any(|(key, _)| key == "verbose") {
            text(StatusCode::OK, format!("{lines}{name} check passed\n"))
        } else {
            text(StatusCode::OK, "ok")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_by_checks_and_query() {
        let checks = Checks::default().with(Check::new("etcd", || Err("gone".into())));
        for (uri, status) in [
            ("/readyz", 500),
            ("/readyz?exclude=etcd", 200),
            ("/readyz/ping", 200),
            ("/readyz/etcd", 500),
            ("/readyz/nope", 404),
            ("/readyz?verbose&exclude=etcd", 200),
        ] {
            assert_eq!(checks.answer("/readyz", &uri.parse().unwrap()).status(), status, "{uri}");
        }
    }
}
