//! Who is asking. Each authenticator is a file; they are asked in order and the first that knows the credentials answers.
//!
//! | credentials | file |
//! |---|---|
//! | headers of a front proxy that shows its own certificate | [`front_proxy`] |
//! | a client certificate of the client CA | [`x509`] |
//! | a bearer token of the token file | [`token_file`] |
//! | a service account's token | [`service_account`] |
//! | a bootstrap token | [`bootstrap_token`] |
//! | none | anonymous |

pub mod bootstrap_token;
pub mod front_proxy;
pub mod service_account;
pub mod token_file;
pub mod x509;

use component_base::tls::PeerCertificates;
use handlers::api::Api;
use http::Request;
use request::User;
use request::status::{Result, Status};
use request::user::{AUTHENTICATED, UNAUTHENTICATED};
use std::sync::Arc;

/// All ways to authenticate.
pub struct Authenticators {
    pub front_proxy: Option<front_proxy::FrontProxy>,
    pub x509: Option<x509::X509>,
    pub token_file: Option<token_file::TokenFile>,
    pub service_account: Option<Arc<service_account::Issuer>>,
    pub bootstrap_tokens: bool,
    pub anonymous: bool,
}

impl Authenticators {
    /// The user behind a request, with `system:authenticated` among the groups.
    pub async fn authenticate<B>(&self, api: &Api, request: &Request<B>) -> Result<User> {
        let peer = request.extensions().get::<PeerCertificates>();
        if let (Some(proxy), Some(peer)) = (&self.front_proxy, peer)
            && let Some(user) = proxy.authenticate(peer, request.headers())
        {
            return Ok(authenticated(user));
        }
        if let (Some(x509), Some(peer)) = (&self.x509, peer)
            && let Some(user) = x509.authenticate(peer)
        {
            return Ok(authenticated(user));
        }
        if let Some(token) = bearer(request) {
            return match self.token(api, &token).await? {
                Some((user, _)) => Ok(user),
                None => Err(Status::unauthorized()),
            };
        }
        if self.anonymous { Ok(User::anonymous()) } else { Err(Status::unauthorized()) }
    }

    /// The user behind a bearer token and the audiences it is good for; none if nobody knows it.
    pub async fn token(&self, api: &Api, token: &str) -> Result<Option<(User, Vec<String>)>> {
        if let Some(user) = self.token_file.as_ref().and_then(|f| f.authenticate(token)) {
            return Ok(Some((authenticated(user), self.audiences())));
        }
        if let Some(issuer) = &self.service_account
            && let Some((user, audiences)) = issuer.authenticate(api, token).await?
        {
            return Ok(Some((authenticated(user), audiences)));
        }
        if self.bootstrap_tokens
            && let Some(user) = bootstrap_token::authenticate(api, token).await?
        {
            return Ok(Some((authenticated(user), self.audiences())));
        }
        Ok(None)
    }

    /// What this server calls itself in tokens.
    pub fn audiences(&self) -> Vec<String> {
        self.service_account.as_ref().map(|i| i.audiences.clone()).unwrap_or_default()
    }
}

fn authenticated(mut user: User) -> User {
    if !user.is_in(AUTHENTICATED) && !user.is_in(UNAUTHENTICATED) {
        user.groups.push(AUTHENTICATED.into());
    }
    user
}

/// The token of an `Authorization: Bearer` header, or of a WebSocket's subprotocol, where browsers can't set headers.
fn bearer<B>(request: &Request<B>) -> Option<String> {
    if let Some(value) = request.headers().get(http::header::AUTHORIZATION).and_then(|v| v.to_str().ok()) {
        let (scheme, token) = value.trim().split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned());
    }
    let protocols = request.headers().get("sec-websocket-protocol")?.to_str().ok()?;
    let encoded = protocols.split(',').find_map(|p| p.trim().strip_prefix("base64url.bearer.authorization.k8s.io."))?;
    let bytes =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, encoded.trim_end_matches('='))
            .ok()?;
    String::from_utf8(bytes).ok()
}
