//! token-cleaner-controller: deletes bootstrap tokens that have expired. Off by default, as upstream's; kubeadm turns it on.

use std::time::Duration;

use component_base::{
    controller::{self, Action},
    informer::{Change, ObjectKey, Scope},
    queue::WorkQueue,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use crate::{
    common::{Doing, Result, meta},
    context::Context,
};

const NAMESPACE: &str = "kube-system";
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";

pub async fn run(context: Context) {
    let selector = format!("metadata.namespace={NAMESPACE},type={SECRET_TYPE}");
    let secrets = context.factory.store::<Secret>(Scope::fields(selector));
    let queue = WorkQueue::new("token_cleaner");
    let feed = queue.clone();
    secrets.on_change(move |change| {
        if !matches!(change, Change::Deleted(_)) {
            feed.add(change.key());
        }
    });
    secrets.synced().await;
    let (secrets, client) = (&secrets, &context.client);
    controller::run(context.name, queue, 1, context.shutdown, |key: ObjectKey| async move {
        let Some(secret) = secrets.get(&key) else { return Ok(Action::Done) };
        match until_expiry(&secret, Timestamp::now()) {
            None => Ok(Action::Done),
            Some(left) if !left.is_zero() => Ok(Action::After(left)),
            Some(_) => delete(&Api::namespaced(client.clone(), &key.namespace), &key, &secret).await,
        }
    })
    .await;
}

async fn delete(api: &Api<Secret>, key: &ObjectKey, secret: &Secret) -> Result {
    let deleted = api.delete(&key.name, &meta::delete_exactly(secret)).await;
    deleted.or_gone(|| format!("delete expired bootstrap token {key}"))?;
    Ok(Action::Done)
}

/// How long a token is good for yet; none if for ever. What cannot be read as a time has passed.
fn until_expiry(secret: &Secret, now: Timestamp) -> Option<Duration> {
    let text = secret.data.as_ref()?.get("expiration").filter(|text| !text.0.is_empty())?;
    let expiry = std::str::from_utf8(&text.0).ok().and_then(|text| text.parse::<Timestamp>().ok());
    Some(expiry.map_or(Duration::ZERO, |expiry| expiry.duration_since(now).try_into().unwrap_or(Duration::ZERO)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

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
            let data = expiration.map(|text| [("expiration".to_owned(), ByteString(text.into()))].into());
            let secret = Secret { data, ..Secret::default() };
            assert_eq!(until_expiry(&secret, now), left.map(Duration::from_secs), "{expiration:?}");
        }
    }
}
