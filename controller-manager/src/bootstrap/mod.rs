//! Bootstrap tokens: Secrets in kube-system with which new nodes join. [`signer`] vouches with them for the `cluster-info`
//! that nodes read before they trust anybody, [`cleaner`] removes them when their time is over.

pub mod cleaner;
pub mod signer;

use std::time::Duration;

use component_base::informer::{Scope, Store};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::{common::meta, context::Context};

const NAMESPACE: &str = "kube-system";
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// In front of the token's id in its Secret's name.
const NAME_PREFIX: &str = "bootstrap-token-";
const ID_LEN: usize = 6;

fn secrets(context: &Context) -> Store<Secret> {
    context.factory.store(Scope::fields(format!("metadata.namespace={NAMESPACE},type={SECRET_TYPE}")))
}

/// A token that may sign.
#[derive(Debug, PartialEq, Eq)]
struct Token<'a> {
    id: &'a str,
    secret: &'a [u8],
}

/// The token of a Secret; `None` if it is not one, not for signing, or over.
fn for_signing(secret: &Secret, now: Timestamp) -> Option<Token<'_>> {
    let id = meta::name(secret).strip_prefix(NAME_PREFIX)?;
    let is_id = id.len() == ID_LEN && id.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    let data = |name: &str| secret.data.as_ref()?.get(name).map(|bytes| bytes.0.as_slice());
    let token = data("token-secret").filter(|token| !token.is_empty())?;
    let valid = is_id
        && data("token-id") == Some(id.as_bytes())
        && data("usage-bootstrap-signing") == Some(b"true")
        && until_expiry(secret, now).is_none_or(|left| !left.is_zero());
    valid.then_some(Token { id, secret: token })
}

/// How long a token is good for yet; none if for ever. What cannot be read as a time has passed.
fn until_expiry(secret: &Secret, now: Timestamp) -> Option<Duration> {
    let text = secret.data.as_ref()?.get("expiration").filter(|text| !text.0.is_empty())?;
    let expiry = std::str::from_utf8(&text.0).ok().and_then(|text| text.parse::<Timestamp>().ok());
    Some(expiry.map_or(Duration::ZERO, |expiry| expiry.duration_since(now).try_into().unwrap_or(Duration::ZERO)))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(name: &str, data: &[(&str, &str)]) -> Secret {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), ByteString((*value).into())));
        let mut secret = Secret { data: Some(data.collect()), ..Secret::default() };
        secret.metadata.name = Some(name.into());
        secret
    }

    #[test]
    fn tokens_expire_when_they_say() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (expiration, left) in [
            (None, None),
            (Some(""), None),
            (Some("2026-01-01T00:01:00Z"), Some(60)),
            (Some("2026-01-01T02:00:30+02:00"), Some(30)),
            (Some("2025-01-01T00:00:00Z"), Some(0)),
            (Some("tomorrow"), Some(0)),
        ] {
            let data: Vec<_> = expiration.map(|text| ("expiration", text)).into_iter().collect();
            assert_eq!(until_expiry(&secret("a", &data), now), left.map(Duration::from_secs), "{expiration:?}");
        }
    }

    #[test]
    fn only_valid_tokens_for_signing_sign() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let good = ("bootstrap-token-abcdef", "abcdef", "s", "true", "");
        for (what, (name, id, token, usage, expiration), signs) in [
            ("good", good, true),
            ("another name", ("token-abcdef", "abcdef", "s", "true", ""), false),
            ("another id", ("bootstrap-token-abcdef", "abcdeg", "s", "true", ""), false),
            ("a short id", ("bootstrap-token-abc", "abc", "s", "true", ""), false),
            ("a long id", ("bootstrap-token-abcdefg", "abcdefg", "s", "true", ""), false),
            ("an id in capitals", ("bootstrap-token-ABCDEF", "ABCDEF", "s", "true", ""), false),
            ("no id", ("bootstrap-token-abcdef", "", "s", "true", ""), false),
            ("no secret", ("bootstrap-token-abcdef", "abcdef", "", "true", ""), false),
            ("for authentication", ("bootstrap-token-abcdef", "abcdef", "s", "false", ""), false),
            ("of no use", ("bootstrap-token-abcdef", "abcdef", "s", "", ""), false),
            ("of a use that is spelled otherwise", ("bootstrap-token-abcdef", "abcdef", "s", "True", ""), false),
            ("good for an hour", ("bootstrap-token-abcdef", "abcdef", "s", "true", "2026-01-01T01:00:00Z"), true),
            ("over", ("bootstrap-token-abcdef", "abcdef", "s", "true", "2025-01-01T00:00:00Z"), false),
            ("over this very moment", ("bootstrap-token-abcdef", "abcdef", "s", "true", "2026-01-01T00:00:00Z"), false),
            ("good until nobody knows when", ("bootstrap-token-abcdef", "abcdef", "s", "true", "tomorrow"), false),
        ] {
            let data = [
                ("token-id", id),
                ("token-secret", token),
                ("usage-bootstrap-signing", usage),
                ("expiration", expiration),
            ];
            assert_eq!(for_signing(&secret(name, &data), now).is_some(), signs, "{what}");
        }
    }
}
