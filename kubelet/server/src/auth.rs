//! Who may do what on this port.
//!
//! Requests are put to the API server as access to `nodes/<subresource>` of this node. For some paths there is a fine
//! subresource beside the coarse "proxy" of old (KEP-2862); either grants access.

use std::path::PathBuf;
use std::sync::Arc;

use component_base::serving::Handler;
use component_base::serving::auth::{Attributes, Authenticator, Authorizer};
use component_base::tls::CaBundle;
use http::{Method, Request};
use pod_lifecycle::Lifecycle;

/// The bundle that client certificates are verified with.
pub fn client_ca(lifecycle: &Lifecycle) -> anyhow::Result<Option<CaBundle>> {
    match lifecycle.context.config.authentication.x509.client_ca_file.as_str() {
        "" => Ok(None),
        path => Ok(Some(CaBundle::from_file(PathBuf::from(path))?)),
    }
}

/// Path prefix and the subresources that grant it, the finest first. What is not listed is "proxy".
const SUBRESOURCES: [(&str, &[&str]); 9] = [
    ("/stats", &["stats"]),
    ("/metrics", &["metrics"]),
    ("/logs", &["log"]),
    ("/checkpoint", &["checkpoint"]),
    ("/spec", &["spec"]),
    ("/pods", &["pods", "proxy"]),
    ("/runningpods", &["pods", "proxy"]),
    ("/healthz", &["healthz", "proxy"]),
    ("/configz", &["configz", "proxy"]),
];

fn subresources(path: &str) -> &'static [&'static str] {
    let below = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    SUBRESOURCES.iter().find(|(prefix, _)| below(prefix)).map_or(&["proxy"], |(_, subresources)| subresources)
}

fn attributes<B>(request: &Request<B>, node_name: &str) -> Vec<Attributes> {
    let verb = match *request.method() {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    subresources(request.uri().path())
        .iter()
        .map(|subresource| Attributes::Resource {
            verb: verb.to_owned(),
            group: String::new(),
            resource: "nodes".into(),
            subresource: (*subresource).to_owned(),
            namespace: String::new(),
            name: node_name.to_owned(),
        })
        .collect()
}

/// Puts authentication and authorization in front of `inner`.
pub fn layer(lifecycle: &Lifecycle, client_ca: Option<CaBundle>, inner: Handler) -> Handler {
    let config = &lifecycle.context.config;
    let reviews = lifecycle.context.client.clone().filter(|_| config.authentication.webhook.enabled);
    let authenticator = Arc::new(Authenticator::new(reviews, client_ca, config.authentication.anonymous.enabled));
    let authorizer = match config.authorization.mode.as_str() {
        "AlwaysAllow" => None,
        _ => Some(lifecycle.context.client.clone().map(Authorizer::new)),
    }
    .map(Arc::new);
    let node_name = lifecycle.context.node_name.clone();
    Arc::new(move |request| {
        let (authenticator, authorizer, inner) = (authenticator.clone(), authorizer.clone(), inner.clone());
        let wanted = attributes(&request, &node_name);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let mut head = Request::from_parts(parts, ());
            let user = match authenticator.authenticate(&head).await {
                Ok(user) => user,
                Err(denied) => return denied.response(),
            };
            if let Some(authorizer) = authorizer {
                let mut refused = None;
                for wanted in &wanted {
                    let verdict = match authorizer.as_ref() {
                        Some(authorizer) => authorizer.authorize(&user, wanted).await,
                        // Without an API server there is nobody to ask; only those of system:masters need no asking.
                        None if user.groups.iter().any(|group| group == "system:masters") => Ok(()),
                        None => {
                            let message = "no API server to ask for authorization (no --kubeconfig)";
                            return super::failure(http::StatusCode::FORBIDDEN, message);
                        }
                    };
                    match verdict {
                        Ok(()) => {
                            refused = None;
                            break;
                        }
                        Err(denied) => refused = Some(denied),
                    }
                }
                if let Some(denied) = refused {
                    return denied.response();
                }
            }
            head.extensions_mut().insert(user);
            inner(head.map(|()| body)).await
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_upstreams_subresources() {
        for (path, expected) in [
            ("/metrics/resource", &["metrics"][..]),
            ("/stats/summary", &["stats"]),
            ("/logs/", &["log"]),
            ("/pods", &["pods", "proxy"]),
            ("/containerLogs/ns/p/c", &["proxy"]),
            ("/exec/ns/p/c", &["proxy"]),
            ("/podsfake", &["proxy"]),
        ] {
            assert_eq!(subresources(path), expected, "{path}");
        }
    }
}
