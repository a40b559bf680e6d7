//! Bootstrap tokens: `id.secret`, kept in Secrets of kube-system, with which a new node joins.

use apimachinery::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use handlers::api::Api;
use request::User;
use request::status::Result;

/// The user of a bootstrap token; none if it is none, is wrong, has expired or may not authenticate.
pub async fn authenticate(api: &Api, token: &str) -> Result<Option<User>> {
    let Some((id, secret)) = token.split_once('.') else { return Ok(None) };
    let part = |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !part(id, 6) || !part(secret, 16) {
        return Ok(None);
    }
    let Some(secrets) = api.endpoint("", "v1", "secrets") else { return Ok(None) };
    let Ok(object) = api.fetch(&secrets, "kube-system", &format!("bootstrap-token-{id}")).await else {
        return Ok(None);
    };
    let tree = object.tree();
    let field = |name: &str| text(&tree["data"][name]);
    let valid = tree["type"] == "bootstrap.kubernetes.io/token"
        && tree["metadata"]["deletionTimestamp"].is_null()
        && field("token-id") == id
        && constant_time_eq(field("token-secret").as_bytes(), secret.as_bytes())
        && field("usage-bootstrap-authentication") == "true";
    if !valid || is_past(&field("expiration")) {
        return Ok(None);
    }
    let mut groups = vec!["system:bootstrappers".to_owned()];
    let extra = field("auth-extra-groups");
    groups
        .extend(extra.split(',').map(str::trim).filter(|g| g.starts_with("system:bootstrappers:")).map(str::to_owned));
    Ok(Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() }))
}

fn text(value: &Value) -> String {
    value.as_str().and_then(|s| STANDARD.decode(s).ok()).and_then(|b| String::from_utf8(b).ok()).unwrap_or_default()
}

fn is_past(expiration: &str) -> bool {
    if expiration.is_empty() {
        return false;
    }
    // A time that can't be read is no permission.
    expiration.parse::<jiff::Timestamp>().map_or(true, |t| t <= jiff::Timestamp::now())
}

/// Takes as long whatever the difference is.
fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}
