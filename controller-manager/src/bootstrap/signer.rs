//! bootstrap-signer-controller: signs the kubeconfig in the ConfigMap `cluster-info` with each bootstrap token, so that who
//! holds a token can tell that it is the cluster's. Off by default, as upstream's; kubeadm turns it on.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use component_base::{
    controller::{self, Action},
    informer::{ObjectKey, Scope},
    queue::WorkQueue,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, api::PostParams};
use ring::hmac;
use serde_json::json;

use super::Token;
use crate::{common::Doing, context::Context};

const MAP_NAMESPACE: &str = "kube-public";
const MAP: &str = "cluster-info";
const SIGNED: &str = "kubeconfig";
/// In front of a token's id, the key of its signature.
const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";

pub async fn run(context: Context) {
    let secrets = super::secrets(&context);
    let selector = format!("metadata.namespace={MAP_NAMESPACE},metadata.name={MAP}");
    let maps = context.factory.store::<ConfigMap>(Scope::fields(selector));
    let queue = WorkQueue::new("bootstrap_signer_queue");
    let map = || ObjectKey::namespaced(MAP_NAMESPACE, MAP);
    let feed = queue.clone();
    secrets.on_change(move |_| feed.add(map()));
    let feed = queue.clone();
    maps.on_change(move |_| feed.add(map()));
    tokio::join!(secrets.synced(), maps.synced());
    let (secrets, maps, client) = (&secrets, &maps, &context.client);
    controller::run(context.name, queue, 1, context.shutdown, |key: ObjectKey| async move {
        let Some(map) = maps.get(&key) else { return Ok(Action::Done) };
        let (now, secrets) = (Timestamp::now(), secrets.list());
        if let Some(data) = signed(map.data.as_ref(), &secrets, now) {
            let updated = ConfigMap { data: Some(data), ..ConfigMap::clone(&map) };
            let api: Api<ConfigMap> = Api::namespaced(client.clone(), &key.namespace);
            let written = api.replace(&key.name, &PostParams::default(), &updated).await;
            written.or_gone(|| format!("sign ConfigMap {key}"))?;
        }
        // A token that is over signs no more, whether it is cleaned up or not.
        let ends = secrets.iter().filter_map(|secret| super::until_expiry(secret, now)).filter(|left| !left.is_zero());
        Ok::<_, crate::common::Error>(ends.min().map_or(Action::Done, Action::After))
    })
    .await;
}

/// The ConfigMap's data with exactly the signatures of valid tokens; `None` if it is so, or there is nothing to sign.
fn signed(
    data: Option<&BTreeMap<String, String>>,
    secrets: &[Arc<Secret>],
    now: Timestamp,
) -> Option<BTreeMap<String, String>> {
    let data = data?;
    let content = data.get(SIGNED)?;
    let mut wanted = data.clone();
    wanted.retain(|key, _| !key.starts_with(SIGNATURE_PREFIX));
    for token in secrets.iter().filter_map(|secret| super::for_signing(secret, now)) {
        wanted.insert(format!("{SIGNATURE_PREFIX}{}", token.id), signature(content, &token));
    }
    (wanted != *data).then_some(wanted)
}

/// A JWS whose content is left out: header, nothing, HS256 signature. (RFC 7515, appendix F.)
fn signature(content: &str, token: &Token<'_>) -> String {
    // Verified by computing it again: the order of members is part of the format.
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":{}}}"#, json!(token.id)));
    let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token.secret), input.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn signatures_are_those_that_kubeadm_computes() {
        let joshua = Token { id: "joshua", secret: b"my voice is my passcode" };
        let usual = Token { id: "abcdef", secret: b"0123456789abcdef" };
        let kubeconfig =
            "apiVersion: v1\nkind: Config\nclusters:\n- name: \"\"\n  cluster: {server: \"https://10.0.0.1:6443\"}\n";
        // Computed by HMAC-SHA-256 and base64url of another implementation.
        for (token, content, expected) in [
            (
                &joshua,
                "Hello from the other side. I must have called a thousand times.",
                "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8",
            ),
            (&joshua, "", "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..7Ui1ALizW4jXphVUB7xUqC9vLYLL9RZeOFfVLoB7Tgk"),
            (
                &usual,
                kubeconfig,
                "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..-QNoYGkqw8_OuuKnAu6X-iqiKF6qXrl3ZqABvhg88-M",
            ),
        ] {
            assert_eq!(signature(content, token), expected);
        }
    }

    #[test]
    fn each_valid_token_has_a_signature_and_nothing_else_does() {
        let now = Timestamp::UNIX_EPOCH;
        let mut secret = Secret::default();
        secret.metadata.name = Some("bootstrap-token-abcdef".into());
        let text = |text: &str| ByteString(text.into());
        let data = [("token-id", "abcdef"), ("token-secret", "s"), ("usage-bootstrap-signing", "true")];
        secret.data = Some(data.map(|(key, value)| (key.to_owned(), text(value))).into());
        let secrets = [Arc::new(secret)];
        let map =
            |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), "x".to_owned())).collect::<BTreeMap<_, _>>();
        for (keys, signed_keys) in [
            (vec!["other"], None),
            (vec![SIGNED], Some(vec!["jws-kubeconfig-abcdef", SIGNED])),
            (vec![SIGNED, "jws-kubeconfig-gone00", "other"], Some(vec!["jws-kubeconfig-abcdef", SIGNED, "other"])),
        ] {
            let found = signed(Some(&map(&keys)), &secrets, now);
            let found_keys = found.as_ref().map(|data| data.keys().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(found_keys, signed_keys, "{keys:?}");
            if let Some(found) = found {
                assert_eq!(signed(Some(&found), &secrets, now), None, "done is done");
            }
        }
    }
}
