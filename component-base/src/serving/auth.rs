//! Who may call: authentication and authorization asked of the API server, as upstream's components do it.
//!
//! ```no_run
//! use component_base::serving::{Router, auth::{Attributes, Authenticator, Authorizer, Delegated}};
//! # fn demo(client: kube::Client, client_ca: Option<component_base::tls::CaBundle>) {
//! let auth = Delegated {
//!     authenticator: Authenticator::new(Some(client.clone()), client_ca, true),
//!     authorizer: Authorizer::new(client),
//!     always_allow: vec!["/healthz".into(), "/livez".into(), "/readyz".into()],
//! };
//! let handler = auth.layer(Router::new().with_metrics().into_handler(), Attributes::non_resource);
//! # }
//! ```
//!
//! Verdicts are kept for a short while, at most [`CACHE_MAX`] of them; a token is kept as its hash only.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Method, Request, Response, StatusCode, header::AUTHORIZATION};
use hyper::body::Incoming;
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    authorization::v1::{NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, api::PostParams};
use parking_lot::Mutex;

use super::{
    body::{Body, status},
    router::Handler,
};
use crate::client;
use crate::tls::{self, CaBundle, PeerCertificates};

/// Verdicts kept per cache.
pub const CACHE_MAX: usize = 4096;
const TOKEN_TTL: Duration = Duration::from_secs(10);
const ALLOWED_TTL: Duration = Duration::from_secs(10);
const DENIED_TTL: Duration = Duration::from_secs(10);

/// Who a request comes from; in the request's extensions behind [`Delegated::layer`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    pub fn anonymous() -> Self {
        Self { name: "system:anonymous".into(), groups: vec!["system:unauthenticated".into()], ..Self::default() }
    }
}

/// Why a request is turned away.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    #[error("Unauthorized")]
    Unauthorized,
    #[error("Forbidden (user={user}, verb={verb}, {what}){reason}")]
    Forbidden { user: String, verb: String, what: String, reason: String },
    #[error("cannot ask the API server: {}", client::describe(.0))]
    Unavailable(#[source] kube::Error),
}

impl Denied {
    pub fn response(&self) -> Response<Body> {
        let (code, reason) = match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Forbidden { .. } => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::Unavailable(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        };
        status(code, reason, &self.to_string())
    }
}

/// Finds out who calls: a client certificate of the CA, a bearer token that the API server knows, else nobody.
pub struct Authenticator {
    reviews: Option<Api<TokenReview>>,
    client_ca: Option<CaBundle>,
    anonymous: bool,
    tokens: Cache<Option<User>>,
}

impl Authenticator {
    /// Without `client` no token is accepted; with `anonymous`, who shows nothing is `system:anonymous`.
    pub fn new(client: Option<kube::Client>, client_ca: Option<CaBundle>, anonymous: bool) -> Self {
        Self { reviews: client.map(Api::all), client_ca, anonymous, tokens: Cache::default() }
    }

    /// As upstream's union: a certificate that is wrong does not stop a token that is right.
    pub async fn authenticate<B>(&self, request: &Request<B>) -> Result<User, Denied> {
        let shown = request.extensions().get::<PeerCertificates>();
        if let (Some(chain), Some(ca)) = (shown, &self.client_ca)
            && let Some(user) = by_certificate(chain, ca)
        {
            return Ok(user);
        }
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(bearer);
        if let (Some(token), Some(reviews)) = (token, &self.reviews) {
            return self.by_token(reviews, token).await?.ok_or(Denied::Unauthorized);
        }
        if token.is_some() || !self.anonymous { Err(Denied::Unauthorized) } else { Ok(User::anonymous()) }
    }

    async fn by_token(&self, reviews: &Api<TokenReview>, token: &str) -> Result<Option<User>, Denied> {
        let key = self.tokens.key(&token);
        if let Some(known) = self.tokens.get(key) {
            return Ok(known);
        }
        let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let status = reviews.create(&PostParams::default(), &review).await.map_err(Denied::Unavailable)?.status;
        let user = status.filter(|status| status.authenticated == Some(true)).and_then(|status| status.user);
        let user = user.map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        });
        self.tokens.put(key, user.clone(), TOKEN_TTL);
        Ok(user)
    }
}

fn by_certificate(chain: &PeerCertificates, ca: &CaBundle) -> Option<User> {
    if let Err(error) = ca.verify(&chain.0) {
        tracing::debug!(%error, "Unable to authenticate the request by its certificate");
        return None;
    }
    let subject = tls::subject(chain.0.first()?)?;
    let mut groups = subject.organizations;
    groups.push("system:authenticated".into());
    Some(User { name: subject.common_name, groups, ..User::default() })
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// What a request wants, in the API server's terms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attributes {
    NonResource { path: String, verb: String },
    Resource { verb: String, group: String, resource: String, subresource: String, namespace: String, name: String },
}

impl Attributes {
    /// A path that is no resource, with the verb of its method.
    pub fn non_resource<B>(request: &Request<B>) -> Self {
        let verb = match *request.method() {
            Method::POST => "post",
            Method::PUT => "put",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            Method::HEAD => "head",
            Method::OPTIONS => "options",
            _ => "get",
        };
        Self::NonResource { path: request.uri().path().to_owned(), verb: verb.to_owned() }
    }

    fn describe(&self) -> (String, String) {
        match self {
            Self::NonResource { path, verb } => (verb.clone(), format!("path={path}")),
            Self::Resource { verb, resource, subresource, .. } => {
                (verb.clone(), format!("resource={resource}, subresource={subresource}"))
            }
        }
    }

    fn review(&self, user: &User) -> SubjectAccessReview {
        let text = |value: &String| (!value.is_empty()).then(|| value.clone());
        let (resource_attributes, non_resource_attributes) = match self {
            Self::NonResource { path, verb } => {
                (None, Some(NonResourceAttributes { path: text(path), verb: text(verb) }))
            }
            Self::Resource { verb, group, resource, subresource, namespace, name } => {
                let attributes = ResourceAttributes {
                    verb: text(verb),
                    group: text(group),
                    version: Some("v1".into()),
                    resource: text(resource),
                    subresource: text(subresource),
                    namespace: text(namespace),
                    name: text(name),
                    ..ResourceAttributes::default()
                };
                (Some(attributes), None)
            }
        };
        let spec = SubjectAccessReviewSpec {
            user: text(&user.name),
            uid: text(&user.uid),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            resource_attributes,
            non_resource_attributes,
        };
        SubjectAccessReview { spec, ..SubjectAccessReview::default() }
    }
}

/// Asks the API server whether a user may.
pub struct Authorizer {
    reviews: Api<SubjectAccessReview>,
    verdicts: Cache<Result<(), String>>,
}

impl Authorizer {
    pub fn new(client: kube::Client) -> Self {
        Self { reviews: Api::all(client), verdicts: Cache::default() }
    }

    /// `system:masters` always may, also when the API server is away.
    pub async fn authorize(&self, user: &User, attributes: &Attributes) -> Result<(), Denied> {
        if user.groups.iter().any(|group| group == "system:masters") {
            return Ok(());
        }
        let key = self.verdicts.key(&(user, attributes));
        let verdict = match self.verdicts.get(key) {
            Some(verdict) => verdict,
            None => {
                let review = attributes.review(user);
                let answer = self.reviews.create(&PostParams::default(), &review).await;
                let status = answer.map_err(Denied::Unavailable)?.status.unwrap_or_default();
                let verdict = if status.allowed { Ok(()) } else { Err(status.reason.unwrap_or_default()) };
                let ttl = if verdict.is_ok() { ALLOWED_TTL } else { DENIED_TTL };
                self.verdicts.put(key, verdict.clone(), ttl);
                verdict
            }
        };
        verdict.map_err(|reason| {
            let (verb, what) = attributes.describe();
            let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
            Denied::Forbidden { user: user.name.clone(), verb, what, reason }
        })
    }
}

/// Both, in front of a handler.
pub struct Delegated {
    pub authenticator: Authenticator,
    pub authorizer: Authorizer,
    /// Paths open to anyone; one that ends in "/*" covers what is below.
    pub always_allow: Vec<String>,
}

impl Delegated {
    /// Answers those who may not; gives the rest to `inner`, with the [`User`] in the extensions.
    pub fn layer(
        self,
        inner: Handler,
        attributes: impl Fn(&Request<Incoming>) -> Attributes + Send + Sync + 'static,
    ) -> Handler {
        let (auth, attributes) = (Arc::new(self), Arc::new(attributes));
        Arc::new(move |mut request| {
            let (auth, inner, wanted) = (auth.clone(), inner.clone(), attributes(&request));
            Box::pin(async move {
                if auth.is_open(request.uri().path()) {
                    return inner(request).await;
                }
                let (parts, body) = request.into_parts();
                let head = Request::from_parts(parts, ());
                let user = match auth.authenticator.authenticate(&head).await {
                    Ok(user) => match auth.authorizer.authorize(&user, &wanted).await {
                        Ok(()) => user,
                        Err(denied) => return denied.response(),
                    },
                    Err(denied) => return denied.response(),
                };
                request = head.map(|()| body);
                request.extensions_mut().insert(user);
                inner(request).await
            })
        })
    }

    fn is_open(&self, path: &str) -> bool {
        self.always_allow.iter().any(|open| match open.strip_suffix("/*") {
            Some(prefix) => path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/')),
            None => path == open,
        })
    }
}

/// Verdicts by the keyed hash of what they are about. The key is random per process, so that no caller can make two
/// things collide on purpose.
struct Cache<V> {
    entries: Mutex<HashMap<u128, (Instant, V)>>,
    keys: [RandomState; 2],
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        Self { entries: Mutex::default(), keys: [RandomState::new(), RandomState::new()] }
    }
}

impl<V: Clone> Cache<V> {
    fn key(&self, what: &impl Hash) -> u128 {
        let [high, low] = &self.keys;
        u128::from(high.hash_one(what)) << 64 | u128::from(low.hash_one(what))
    }

    fn get(&self, key: u128) -> Option<V> {
        let entries = self.entries.lock();
        entries.get(&key).filter(|(until, _)| Instant::now() < *until).map(|(_, value)| value.clone())
    }

    fn put(&self, key: u128, value: V, ttl: Duration) {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        if entries.len() >= CACHE_MAX {
            entries.retain(|_, (until, _)| now < *until);
            if entries.len() >= CACHE_MAX {
                entries.clear();
            }
        }
        entries.insert(key, (now + ttl, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens() {
        for (header, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic abc", None),
            ("Bearer ", None),
            ("Bearer", None),
        ] {
            assert_eq!(bearer(header), token, "{header}");
        }
    }

    #[test]
    fn a_cache_is_bounded_and_forgets() {
        let cache = Cache::default();
        for number in 0..CACHE_MAX + 10 {
            cache.put(cache.key(&number), number, Duration::from_secs(60));
        }
        assert!(cache.entries.lock().len() <= CACHE_MAX);
        cache.put(1, 1, Duration::ZERO);
        assert_eq!(cache.get(1), None);
    }

    #[tokio::test]
    async fn without_credentials_one_is_anonymous_if_that_is_allowed() {
        let request = Request::new(());
        assert_eq!(Authenticator::new(None, None, true).authenticate(&request).await.unwrap(), User::anonymous());
        assert!(Authenticator::new(None, None, false).authenticate(&request).await.is_err());
        let request = Request::builder().header(AUTHORIZATION, "Bearer x").body(()).unwrap();
        assert!(Authenticator::new(None, None, true).authenticate(&request).await.is_err());
    }
}
