//! Bootstrap tokens: `id.secret`, kept in Secrets of kube-system, with which a new node joins.

use std::collections::BTreeSet;

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
    let Some(groups) = groups(&field("auth-extra-groups")) else {
        tracing::warn!(
            secret = format!("bootstrap-token-{id}"),
            "A bootstrap token names a group that is none of bootstrappers"
        );
        return Ok(None);
    };
    Ok(Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() }))
}

/// The groups of a token whose `auth-extra-groups` are these. `None` if one of them is not for bootstrappers: a token that
/// was meant to be more than it may be is nobody's.
fn groups(extra: &str) -> Option<Vec<String>> {
    let mut groups = BTreeSet::from(["system:bootstrappers"]);
    if !extra.is_empty() {
        let extra: Vec<&str> = extra.split(',').collect();
        if !extra.iter().all(|group| is_bootstrap_group(group)) {
            return None;
        }
        groups.extend(extra);
    }
    Some(groups.into_iter().map(str::to_owned).collect())
}

/// Upstream's `\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z`.
fn is_bootstrap_group(group: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let rest = group.strip_prefix("system:bootstrappers:").unwrap_or_default().as_bytes();
    rest.len() <= 256
        && rest.last().is_some_and(|last| alphanumeric(*last))
        && rest.iter().all(|byte| alphanumeric(*byte) || matches!(byte, b':' | b'-'))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_groups_are_those_of_bootstrappers_or_there_is_no_user() {
        let default = "system:bootstrappers";
        let longest = format!("{default}:{}", "a".repeat(256));
        for (extra, expected) in [
            ("", Some(vec![default])),
            (
                "system:bootstrappers:b,system:bootstrappers:a",
                Some(vec![default, "system:bootstrappers:a", "system:bootstrappers:b"]),
            ),
            ("system:bootstrappers:a,system:bootstrappers:a", Some(vec![default, "system:bootstrappers:a"])),
            (
                "system:bootstrappers:kubeadm:default-node-token",
                Some(vec![default, "system:bootstrappers:kubeadm:default-node-token"]),
            ),
            (longest.as_str(), Some(vec![default, longest.as_str()])),
            (&format!("{longest}a"), None),
            ("system:bootstrappers:a,system:masters", None),
            ("system:masters", None),
            ("system:bootstrappers", None),
            ("system:bootstrappers:", None),
            ("system:bootstrappers:a,", None),
            ("system:bootstrappers:a, system:bootstrappers:b", None),
            ("system:bootstrappers:A", None),
            ("system:bootstrappers:a-", None),
            ("system:bootstrappers:a\n", None),
        ] {
            let expected = expected.map(|groups| groups.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(groups(extra), expected, "{extra:?}");
        }
    }
}
