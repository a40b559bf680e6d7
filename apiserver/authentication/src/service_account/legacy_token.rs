//! Tokens of Secrets of the type `kubernetes.io/service-account-token`, which the controller manager signs and which have no end: good as
//! long as their Secret holds them and their account is there. The Secret is told the day on which it was last used, so that what nobody
//! uses can be found and, marked invalid, be refused. (KEP-2799.)

use super::{account, same_object};
use apimachinery::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use handlers::api::Api;
use handlers::write::Write;
use handlers::write::update::Preconditions;
use request::User;

/// `iss` of these tokens.
pub const ISSUER: &str = "kubernetes/serviceaccount";

const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// The account of a token whose signature and issuer are right; none if it is not good any more.
pub async fn authenticate(api: &Api, token: &str, claims: &Value) -> Option<User> {
    let claim = |name: &str| claims[format!("kubernetes.io/serviceaccount/{name}")].as_str().filter(|c| !c.is_empty());
    let (namespace, name) = (claim("namespace")?, claim("service-account.name")?);
    let (uid, secret_name) = (claim("service-account.uid")?, claim("secret.name")?);
    if claims["sub"] != format!("system:serviceaccount:{namespace}:{name}") {
        return None;
    }
    // A miss in the cache is looked up afresh: the token may be younger than the cache.
    let secrets = api.endpoint("", "v1", "secrets")?;
    let holds = |secret: &Value| {
        let data = secret["data"]["token"].as_str().and_then(|data| STANDARD.decode(data).ok());
        secret["metadata"]["deletionTimestamp"].is_null() && data.is_some_and(|data| data == token.as_bytes())
    };
    let cached = api.cached(&secrets, namespace, secret_name).ok().map(|object| object.tree()).filter(&holds);
    let secret = match cached {
        Some(secret) => secret,
        None => Some(api.fetch(&secrets, namespace, secret_name).await.ok()?.tree()).filter(&holds)?,
    };
    same_object(api, "serviceaccounts", namespace, name, uid).await?;
    remember_use(api, namespace, secret_name, &secret).await;
    let invalid_since = secret["metadata"]["labels"][INVALID_SINCE].as_str().unwrap_or("");
    if !invalid_since.is_empty() {
        tracing::info!(
            namespace,
            secret = secret_name,
            since = invalid_since,
            "a token that is marked invalid was used"
        );
        return None;
    }
    Some(account(namespace, name, uid))
}

/// Writes the day into the Secret, once a day.
async fn remember_use(api: &Api, namespace: &str, name: &str, secret: &Value) {
    let now = jiff::Timestamp::now();
    let day = |at: jiff::Timestamp| at.strftime("%Y-%m-%d").to_string();
    let today = day(now);
    // Of two servers one may already live in tomorrow.
    let tomorrow = now.checked_add(jiff::SignedDuration::from_hours(24)).map(day).unwrap_or_default();
    let known = secret["metadata"]["labels"][LAST_USED].as_str().unwrap_or("");
    if known == today || known == tomorrow {
        return;
    }
    let Some(secrets) = api.endpoint("", "v1", "secrets") else { return };
    let user = User::apiserver();
    let write = Write::internal(api, &secrets, &user, namespace, name);
    let uid = secret["metadata"]["uid"].as_str().map(str::to_owned);
    let mut mark = |secret: &Value| {
        let mut secret = secret.clone();
        secret["metadata"]["labels"][LAST_USED] = today.as_str().into();
        Ok(secret)
    };
    let preconditions = Preconditions { uid, resource_version: None };
    if let Err(status) = write.update(&preconditions, &mut Vec::new(), &mut mark).await {
        tracing::warn!(namespace, secret = name, error = status.message, "the use of a token was not written down");
    }
}
